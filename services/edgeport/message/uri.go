package message

import (
	"bytes"
	"iter"
)

// URI is a parsed URI (RFC 3261 19.1). Its slices are parts of the text it was parsed from, escapes as written.
type URI struct {
	Text     []byte
	Scheme   []byte
	Opaque   []byte // of a URI that is neither sip: nor sips:, what follows the scheme; then all below is empty
	User     []byte
	Password []byte
	Host     []byte // an IPv6 address without its brackets
	Port     uint16 // 0 if absent
	Params   []byte // from the first ';' on: ";transport=tcp;lr"
	Headers  []byte // behind the '?'

	hostText []byte // with brackets
}

// schemeLen is the length of the scheme that text begins with, without its colon; 0 if there is none (RFC 3986 3.1).
func schemeLen(text []byte) int {
	for i, c := range text {
		switch {
		case c == ':':
			return i
		case c|0x20 >= 'a' && c|0x20 <= 'z':
		case i > 0 && (c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return 0
		}
	}
	return 0
}

// ParseURI reads a URI of any scheme. A sip: or sips: one has to be well-formed, although any visible character is taken
// in the user part and the parameters, as phones write them. The error is an *Error.
func ParseURI(text []byte) (URI, error) {
	u := URI{Text: text}
	n := schemeLen(text)
	if n == 0 || !all(text, isURI) {
		return u, errURI
	}
	u.Scheme = text[:n]
	b := text[n+1:]
	if !equalFold(u.Scheme, "sip") && !equalFold(u.Scheme, "sips") {
		u.Opaque = b
		if len(b) == 0 {
			return u, errURI
		}
		return u, nil
	}
	// The user part ends at the first '@', whatever else is in it; nothing behind it may hold another.
	if at := bytes.IndexByte(b, '@'); at >= 0 {
		u.User = b[:at]
		if colon := bytes.IndexByte(u.User, ':'); colon >= 0 {
			u.User, u.Password = u.User[:colon], u.User[colon+1:]
		}
		b = b[at+1:]
		if len(u.User) == 0 || bytes.IndexByte(b, '@') >= 0 {
			return u, errURI
		}
	}
	host, i, ok := parseHost(b, 0)
	if !ok {
		return u, errURI
	}
	u.Host, u.hostText = host, b[:i]
	if i < len(b) && b[i] == ':' {
		from := i + 1
		for i++; i < len(b) && classes[b[i]]&isDigit != 0; i++ {
		}
		port, ok := number(b[from:i], 65535)
		if !ok || port == 0 {
			return u, errURI
		}
		u.Port = uint16(port)
	}
	b = b[i:]
	if q := bytes.IndexByte(b, '?'); q >= 0 {
		b, u.Headers = b[:q], b[q+1:]
		if len(u.Headers) == 0 {
			return u, errURI
		}
	}
	if bytes.Count(u.Headers, []byte{'&'}) >= MaxParams {
		return u, errURI
	}
	if u.Params = b; len(b) > 0 && (b[0] != ';' || bytes.Count(b, []byte{';'}) > MaxParams) {
		return u, errURI
	}
	return u, nil
}

// Secure says whether the scheme is sips.
func (u *URI) Secure() bool { return equalFold(u.Scheme, "sips") }

// SIP says whether the scheme is sip or sips.
func (u *URI) SIP() bool { return u.Opaque == nil && u.Host != nil }

// HostText is the host as written, an IPv6 address in its brackets.
func (u *URI) HostText() []byte { return u.hostText }

// Param is the value of the first URI parameter of that lower-case name; empty if it has none.
func (u *URI) Param(name string) (value []byte, ok bool) {
	for rest := u.Params; len(rest) > 0; {
		var n, v []byte
		n, v, rest = nextURIParam(rest)
		if equalFold(n, name) {
			return v, true
		}
	}
	return nil, false
}

// All are the URI parameters, in order.
func (u *URI) All() iter.Seq[Param] {
	return func(yield func(Param) bool) {
		for rest := u.Params; len(rest) > 0; {
			text := rest
			var n, v []byte
			n, v, rest = nextURIParam(rest)
			if len(n) > 0 && !yield(Param{n, v, text[:len(text)-len(rest)]}) {
				return
			}
		}
	}
}

// nextURIParam splits the first parameter off b, which begins with ';'.
func nextURIParam(b []byte) (name, value, rest []byte) {
	b = b[1:]
	if end := bytes.IndexByte(b, ';'); end >= 0 {
		b, rest = b[:end], b[end:]
	}
	if eq := bytes.IndexByte(b, '='); eq >= 0 {
		return b[:eq], b[eq+1:], rest
	}
	return b, b[len(b):], rest
}

// unescape is the first character of b, which is not empty, and how many bytes it takes.
func unescape(b []byte) (c byte, size int) {
	if b[0] == '%' && len(b) > 2 {
		hi, ok1 := unhex(b[1])
		lo, ok2 := unhex(b[2])
		if ok1 && ok2 {
			return hi<<4 | lo, 3
		}
	}
	return b[0], 1
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	default:
		return 0, false
	}
}

// equalEscaped compares what a and b mean. A reserved character is not the same as its escape (RFC 3261 19.1.4).
func equalEscaped(a, b []byte, fold bool) bool {
	for len(a) > 0 && len(b) > 0 {
		x, n := unescape(a)
		y, m := unescape(b)
		if n != m && bytes.IndexByte([]byte(";/?:@&=+$,"), x) >= 0 {
			return false
		}
		if x != y && (!fold || toLower(x) != toLower(y)) {
			return false
		}
		a, b = a[n:], b[m:]
	}
	return len(a) == len(b)
}

// Equal compares two URIs by RFC 3261 19.1.4: not a string comparison, and not transitive where a parameter is absent
// from one of them. URIs of other schemes are equal if they are the same but for the case of the scheme.
func (u *URI) Equal(v *URI) bool {
	if !foldEqual(u.Scheme, v.Scheme) {
		return false
	}
	if !u.SIP() || !v.SIP() {
		return bytes.Equal(u.Opaque, v.Opaque) && u.SIP() == v.SIP()
	}
	if !equalEscaped(u.User, v.User, false) || !equalEscaped(u.Password, v.Password, false) ||
		(u.Password == nil) != (v.Password == nil) || !foldEqual(u.Host, v.Host) || u.Port != v.Port {
		return false
	}
	return u.paramsAgree(v) && v.paramsAgree(u) && u.headersIn(v) && v.headersIn(u)
}

// paramsAgree says whether no parameter of u contradicts v.
func (u *URI) paramsAgree(v *URI) bool {
	for rest := u.Params; len(rest) > 0; {
		var name, value, other []byte
		if name, value, rest = nextURIParam(rest); len(name) == 0 {
			continue // it is no parameter: see All
		}
		found := false
		for r := v.Params; len(r) > 0 && !found; {
			var n []byte
			n, other, r = nextURIParam(r)
			found = equalEscaped(name, n, true)
		}
		if found && !equalEscaped(value, other, true) {
			return false
		}
		if !found { // these four are never ignored
			for _, must := range [...]string{"user", "ttl", "method", "maddr"} {
				if equalFold(name, must) {
					return false
				}
			}
		}
	}
	return true
}

// headersIn says whether each header of u is one of v as well.
func (u *URI) headersIn(v *URI) bool {
	for rest := u.Headers; len(rest) > 0; {
		var h []byte
		h, rest, _ = bytes.Cut(rest, []byte{'&'})
		found := false
		for r := v.Headers; len(r) > 0 && !found; {
			var o []byte
			o, r, _ = bytes.Cut(r, []byte{'&'})
			found = equalEscaped(h, o, true)
		}
		if !found {
			return false
		}
	}
	return true
}
