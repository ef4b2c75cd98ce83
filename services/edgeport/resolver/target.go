package resolver

import (
	"net/netip"
	"strings"

	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// target is a Query that makes sense. Equal ones are one search.
type target struct {
	host     string // in lower case, without brackets and without the dot at the end
	addr     netip.Addr
	port     uint16
	secure   bool
	chosen   bool // protocol is set, by the URI or by RFC 3263 4.1
	protocol transport.Protocol
}

// parse is the part of RFC 3263 4.1 that needs no DNS.
func (r *Resolver) parse(q Query) (target, error) {
	t := target{host: q.Host, port: q.Port, secure: q.Secure}
	if n := len(t.host); n > 2 && t.host[0] == '[' && t.host[n-1] == ']' {
		t.host = t.host[1 : n-1]
	}
	if addr, err := netip.ParseAddr(t.host); err == nil && addr.Zone() == "" {
		t.addr = addr.Unmap()
		t.host = t.addr.String()
	} else if t.host = canonical(t.host); !isName(t.host) || isReserved(t.host) {
		return target{}, ErrNotFound
	}
	switch {
	case q.Transport != "":
		var ok bool
		if t.protocol, ok = transport.ParseProtocol(q.Transport); !ok {
			return target{}, ErrProtocol
		}
		if t.secure {
			// RFC 3261 26.2.2: the transport of a sips URI is what TLS runs over, and there is no TLS over UDP here.
			switch t.protocol {
			case transport.UDP:
				return target{}, ErrProtocol
			case transport.WS, transport.WSS:
				t.protocol = transport.WSS
			default:
				t.protocol = transport.TLS
			}
		}
		if !r.speaks[t.protocol] {
			return target{}, ErrProtocol
		}
		t.chosen = true
	case t.addr.IsValid() || t.port != 0:
		var ok bool
		if t.protocol, ok = r.fallback(t.secure, nil); !ok {
			return target{}, ErrProtocol
		}
		t.chosen = true
	case len(r.services(t.secure)) == 0:
		return target{}, ErrProtocol
	}
	return t, nil
}

// fallback is the protocol where nothing tells: UDP for sip, TLS over TCP for sips (RFC 3263 4.1), or the next one that
// is spoken here and not refused there.
func (r *Resolver) fallback(secure bool, refused map[transport.Protocol]bool) (transport.Protocol, bool) {
	for _, p := range [...]transport.Protocol{transport.UDP, transport.TCP, transport.TLS, transport.WS, transport.WSS} {
		if r.speaks[p] && !refused[p] && (p.Secure() || !secure) {
			return p, true
		}
	}
	return 0, false
}

// services are the protocols to ask SRV records for when there are no NAPTR ones: those of _sip for sip, unless only
// secure ones are spoken here, and those of _sips for sips.
func (r *Resolver) services(secure bool) []transport.Protocol {
	var all []transport.Protocol
	if !secure {
		all = r.spoken(transport.UDP, transport.TCP, transport.WS)
	}
	if len(all) == 0 {
		all = r.spoken(transport.TLS, transport.WSS)
	}
	return all
}

func (r *Resolver) spoken(all ...transport.Protocol) (spoken []transport.Protocol) {
	for _, p := range all {
		if r.speaks[p] {
			spoken = append(spoken, p)
		}
	}
	return spoken
}

// service is the owner name of the SRV records for a protocol (RFC 3263 4.2).
func service(p transport.Protocol, host string) string {
	switch p {
	case transport.UDP:
		return "_sip._udp." + host
	case transport.TCP:
		return "_sip._tcp." + host
	case transport.TLS:
		return "_sips._tcp." + host
	case transport.WS:
		return "_sip._ws." + host
	default:
		return "_sips._ws." + host
	}
}

// defaultPort is RFC 3261 19.1.2, and RFC 7118 for WebSocket.
func defaultPort(p transport.Protocol) uint16 {
	switch p {
	case transport.TLS:
		return 5061
	case transport.WS:
		return 80
	case transport.WSS:
		return 443
	default:
		return 5060
	}
}

// canonical is a name in lower case, without the dot at the end.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// isName says whether a canonical name may be asked for: labels of letters, digits, hyphens and, as in the names of
// services, underscores. The last one is no number (RFC 1123 2.1), so a mistaken address is not asked for.
func isName(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	return strings.Trim(last, "0123456789") != ""
}

// isReserved says whether a canonical name does not exist by definition (RFC 6761 6.4): browsers have no other name to
// give (RFC 7118).
func isReserved(name string) bool { return name == "invalid" || strings.HasSuffix(name, ".invalid") }

// isLoopback says whether a canonical name is this host's by definition (RFC 6761 6.3).
func isLoopback(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}
