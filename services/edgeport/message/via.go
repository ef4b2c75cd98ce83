package message

import (
	"net/netip"
	"strconv"
)

// Via is one value of a Via header (RFC 3261 20.42). Its slices are parts of the text it was parsed from.
type Via struct {
	Text      []byte // the whole value
	Protocol  []byte // "SIP/2.0", white space and all
	Transport []byte // "UDP", as written
	Host      []byte // of sent-by; an IPv6 address without its brackets
	Branch    []byte
	Received  []byte // an address; an IPv6 one as written, with or without brackets (RFC 5118 4.5)
	Maddr     []byte
	TTL       uint8
	Port      uint16 // of sent-by, 0 if absent
	RPort     uint16 // the value of rport, 0 if absent
	HasRPort  bool   // rport stands there, with a value or without (RFC 3581 3)

	// Where sent-by and what follows it stand in Text; a Via is part of every Message, and a slice has three words.
	sentBy, sentByEnd uint32
}

// SentBy is host and port as written; empty if v was not parsed.
func (v *Via) SentBy() []byte { return v.Text[v.sentBy:v.sentByEnd] }

// params are the parameters, from the first ';' or the white space before it on.
func (v *Via) params() []byte { return v.Text[v.sentByEnd:] }

// ParseVia reads one value of a Via header. The error is an *Error.
func ParseVia(text []byte) (Via, error) {
	b := trim(text)
	v := Via{Text: b}
	// sent-protocol = name SLASH version SLASH transport
	i := token(b, 0)
	nameEnd := i
	if i = skip(b, i); nameEnd == 0 || i >= len(b) || b[i] != '/' {
		return v, errVia
	}
	i = skip(b, i+1)
	version := i
	i = token(b, i)
	protocolEnd := i
	if i = skip(b, i); protocolEnd == version || i >= len(b) || b[i] != '/' {
		return v, errVia
	}
	v.Protocol = b[:protocolEnd]
	i = skip(b, i+1)
	from := i
	i = token(b, i)
	v.Transport = b[from:i]
	from = skip(b, i)
	if len(v.Transport) == 0 || from == i {
		return v, errVia
	}
	// sent-by = host [COLON port]
	if !v.parseSentBy(b, from) || !v.parseParams() {
		return v, errVia
	}
	return v, nil
}

func token(b []byte, i int) int {
	for i < len(b) && classes[b[i]]&isToken != 0 {
		i++
	}
	return i
}

func (v *Via) parseSentBy(b []byte, from int) bool {
	host, i, ok := parseHost(b, from)
	if !ok {
		return false
	}
	v.Host, v.sentBy, v.sentByEnd = host, uint32(from), uint32(i)
	j := skip(b, i)
	if j >= len(b) || b[j] != ':' {
		return true
	}
	j = skip(b, j+1)
	i = j
	for i < len(b) && classes[b[i]]&isDigit != 0 {
		i++
	}
	port, ok := number(b[j:i], 65535)
	v.Port, v.sentByEnd = uint16(port), uint32(i)
	return ok && port > 0
}

// parseHost reads a host name, an IPv4 address or an IPv6 reference, whose brackets it takes off.
func parseHost(b []byte, i int) (host []byte, next int, ok bool) {
	from := i
	if i < len(b) && b[i] == '[' {
		for i++; i < len(b) && classes[b[i]]&isV6 != 0; i++ {
		}
		if i >= len(b) || b[i] != ']' || i == from+1 {
			return nil, 0, false
		}
		return b[from+1 : i], i + 1, true
	}
	for i < len(b) && classes[b[i]]&isHost != 0 {
		i++
	}
	return b[from:i], i, i > from
}

func (v *Via) parseParams() bool {
	p := params{b: v.params()}
	for p.next() {
		switch len(p.name) {
		case 0:
			return false
		case len("ttl"):
			if equalFold(p.name, "ttl") {
				n, _ := number(p.value, 255)
				v.TTL = uint8(n)
			}
		case len("rport"): // and maddr
			if equalFold(p.name, "maddr") {
				v.Maddr = p.value
			} else if equalFold(p.name, "rport") {
				n, ok := number(p.value, 65535)
				if !ok && len(p.value) > 0 {
					return false
				}
				v.HasRPort, v.RPort = true, uint16(n)
			}
		case len("branch"):
			if equalFold(p.name, "branch") {
				if v.Branch != nil { // which one would identify the transaction?
					return false
				}
				v.Branch = p.value
			}
		case len("received"):
			if equalFold(p.name, "received") {
				v.Received = p.value
			}
		}
	}
	return !p.bad
}

// AppendVia writes v as the one who received it over UDP or a connection does (RFC 3261 18.2.1, RFC 3581 4): without
// the received and the rport that its sender put there; with received, if it is valid and either not what sent-by says
// or rport was asked for; with the number of rport, if it is not 0 and was asked for. Everything else stays as it is.
func AppendVia(dst []byte, v *Via, received netip.Addr, rport uint16) []byte {
	dst = append(dst, v.Text[:v.sentByEnd]...)
	for p := (params{b: v.params()}); p.next(); {
		if !equalFold(p.name, "received") && !equalFold(p.name, "rport") {
			dst = append(dst, p.text...)
		}
	}
	received = received.Unmap().WithZone("")
	if received.IsValid() && (v.HasRPort || !v.sentFrom(received)) {
		dst = append(dst, ";received="...)
		dst = received.AppendTo(dst)
	}
	if v.HasRPort {
		dst = append(dst, ";rport"...)
		if rport != 0 {
			dst = append(dst, '=')
			dst = strconv.AppendUint(dst, uint64(rport), 10)
		}
	}
	return dst
}

// sentFrom says whether the host of sent-by is that address.
func (v *Via) sentFrom(a netip.Addr) bool {
	var space [64]byte // longer than an address can be
	if len(v.Host) > len(space) || len(v.Host) == 0 || classes[v.Host[0]]&isV6 == 0 {
		return false
	}
	// The conversion does not escape, so it does not allocate.
	sent, err := netip.ParseAddr(string(append(space[:0], v.Host...)))
	return err == nil && sent.Unmap() == a
}
