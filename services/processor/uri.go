package processor

import (
	"strconv"
	"strings"

	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// URI is a sip: or sips: URI (RFC 3261 19.1.1) as parts of its text.
type URI struct {
	Secure bool   // sips:
	User   string // as written, with escapes, without the password; empty if there is none
	Host   string // IPv6 addresses with their brackets
	Port   int    // 0 if there is none
	Params string // name=value;name…, without the first semicolon
	Query  string // the headers, without the question mark
}

// ParseURI splits a sip: or sips: URI. ok is false for another scheme, an empty host, a bad port, a second '@', and control
// characters, blanks, quotation marks or angle brackets anywhere. The strings of the result are parts of text.
func ParseURI(text string) (u URI, ok bool) {
	for i := 0; i < len(text); i++ {
		if c := text[i]; c <= ' ' || c == 0x7f || c == '"' || c == '<' || c == '>' {
			return URI{}, false
		}
	}
	var rest string
	switch {
	case len(text) > 4 && strings.EqualFold(text[:4], "sip:"):
		rest = text[4:]
	case len(text) > 5 && strings.EqualFold(text[:5], "sips:"):
		u.Secure, rest = true, text[5:]
	default:
		return URI{}, false
	}
	// A user may hold ';' and '?', a host may not, and neither may hold '@' (RFC 3261 25.1): with two of them it would be
	// anybody's choice which host is meant.
	if at := strings.IndexByte(rest, '@'); at >= 0 {
		u.User, _, _ = strings.Cut(rest[:at], ":")
		rest = rest[at+1:]
		if strings.IndexByte(rest, '@') >= 0 {
			return URI{}, false
		}
	}
	rest, u.Query, _ = strings.Cut(rest, "?")
	rest, u.Params, _ = strings.Cut(rest, ";")
	u.Host = rest
	if colon := strings.LastIndexByte(rest, ':'); colon > strings.IndexByte(rest, ']') {
		port, err := strconv.ParseUint(rest[colon+1:], 10, 16)
		if err != nil || port == 0 {
			return URI{}, false
		}
		u.Host, u.Port = rest[:colon], int(port)
	}
	if u.Host == "" || strings.ContainsAny(u.Host, "[]") != (u.Host[0] == '[' && u.Host[len(u.Host)-1] == ']') {
		return URI{}, false
	}
	return u, true
}

// URIText is the URI as it stood on the wire where that is known, else made of the fields.
func URIText(u *sipmessagepb.SipURI) string {
	if u.GetRaw() != "" || u.GetHost() == "" {
		return u.GetRaw()
	}
	b := make([]byte, 0, 64)
	b = append(b, "sip"...)
	if u.Secure {
		b = append(b, 's')
	}
	b = append(b, ':')
	if u.User != "" {
		b = append(append(b, u.User...), '@')
	}
	b = append(b, u.Host...)
	if u.Port > 0 {
		b = strconv.AppendInt(append(b, ':'), int64(u.Port), 10)
	}
	for _, p := range [...]struct{ name, value string }{
		{";transport=", u.TransportParam}, {";maddr=", u.MAddrParam}, {";user=", u.UserParam}, {";method=", u.MethodParam},
	} {
		if p.value != "" {
			b = append(append(b, p.name...), p.value...)
		}
	}
	if u.LrParam {
		b = append(b, ";lr"...)
	}
	return string(b)
}

// Unescape resolves the escapes of a user part (RFC 3261 19.1.2). What is no escape stays. It allocates only where there
// is one.
func Unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(n))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// equalURI reports whether text designates the resource u as RFC 3261 19.1.4 compares URIs, whatever characters are
// escaped. A URI that is neither sip: nor sips: equals only its own text.
func equalURI(text string, u *sipmessagepb.SipURI) bool {
	if text == u.GetRaw() && text != "" {
		return true
	}
	p, ok := ParseURI(text)
	if !ok || u.GetHost() == "" ||
		p.Secure != u.Secure || p.Port != int(max(u.Port, 0)) || !strings.EqualFold(p.Host, bracketed(u.Host)) ||
		Unescape(p.User) != Unescape(u.User) || p.Query != "" {
		return false
	}
	// A parameter that both have must be the same in both. These four count where only one has them, too.
	var maddr, method, user, ttl bool
	for param := range strings.SplitSeq(p.Params, ";") {
		name, value, _ := strings.Cut(param, "=")
		if name == "" {
			continue
		}
		equal := true
		switch name = strings.ToLower(name); name {
		case "transport":
			equal = u.TransportParam == "" || strings.EqualFold(value, u.TransportParam)
		case "maddr":
			maddr, equal = true, strings.EqualFold(value, u.MAddrParam)
		case "method":
			method, equal = true, value == u.MethodParam
		case "user":
			user, equal = true, strings.EqualFold(value, u.UserParam)
		case "ttl":
			ttl, equal = true, value == strconv.Itoa(int(u.TtlParam))
		case "lr", "bnc":
		default:
			if other, both := u.Parameters[name]; both {
				equal = strings.EqualFold(Unescape(value), Unescape(other))
			}
		}
		if !equal {
			return false
		}
	}
	return maddr == (u.MAddrParam != "") && method == (u.MethodParam != "") && user == (u.UserParam != "") &&
		ttl == (u.TtlParam > 0)
}

// bracketed is an IPv6 address in the brackets that it has in a URI, and every other host as it is.
func bracketed(host string) string {
	if strings.IndexByte(host, ':') >= 0 && host[0] != '[' {
		return "[" + host + "]"
	}
	return host
}
