package location

import (
	"strings"

	"github.com/routr-fabric/routr/bus"
)

// maxAOR is how long an address-of-record may be, in bytes. It becomes a subject, which NATS limits.
const maxAOR = 512

// canonicalAOR is the form of an address-of-record under which its bindings are kept (RFC 3261 10.3 step 5): parameters
// and headers removed, escaped characters unescaped, and, as 19.1.4 compares them without case, the scheme and the host
// in lower case. The port stays: 19.1.4 does not equate an absent port with 5060. What follows backend: is a name and
// stays as it is, and so does %25: a canonical form is its own canonical form. The result is aor itself where it is
// canonical already. An error has the code InvalidArgument.
func canonicalAOR(aor string) (string, error) {
	if len(aor) > maxAOR {
		return "", bus.Errorf(bus.InvalidArgument, "aor has %d bytes, want at most %d", len(aor), maxAOR)
	}
	i := strings.IndexByte(aor, ':')
	if i < 0 {
		return "", invalidScheme(aor)
	}
	scheme, rest := aor[:i], aor[i+1:]
	switch scheme {
	case "sip", "sips", "backend":
	default:
		lower := strings.ToLower(scheme)
		if lower != "sip" && lower != "sips" && lower != "backend" {
			return "", invalidScheme(aor)
		}
		aor, scheme = lower+aor[i:], lower
	}
	if scheme == "backend" {
		if rest == "" {
			return "", bus.Errorf(bus.InvalidArgument, "aor %s has no name behind the scheme", aor)
		}
		return aor, nil
	}

	// A user may hold ';' and '?', a host may not, and neither may hold '@' (RFC 3261 25.1).
	at := strings.LastIndexByte(rest, '@')
	user, host := rest[:at+1], rest[at+1:]
	if end := strings.IndexAny(host, ";?"); end >= 0 {
		host = host[:end]
	}
	if host == "" {
		return "", bus.Errorf(bus.InvalidArgument, "aor %s has no host", aor)
	}
	plain := strings.IndexByte(user, '%') < 0 && len(user)+len(host) == len(rest)
	for i := 0; plain && i < len(host); i++ {
		plain = host[i] < 'A' || host[i] > 'Z'
	}
	if plain {
		return aor, nil
	}
	var b strings.Builder
	b.Grow(len(aor))
	b.WriteString(scheme)
	b.WriteByte(':')
	for i := 0; i < len(user); i++ {
		c := user[i]
		if c != '%' {
			b.WriteByte(c)
			continue
		}
		c, ok := unescape(user, i)
		if !ok {
			return "", bus.Errorf(bus.InvalidArgument, "aor %s has a '%%' without two hex digits", aor)
		}
		if c == '%' {
			b.WriteString("%25")
		} else {
			b.WriteByte(c)
		}
		i += 2
	}
	b.WriteString(strings.ToLower(host))
	return b.String(), nil
}

func invalidScheme(aor string) error {
	return bus.Errorf(bus.InvalidArgument,
		`aor %s has an invalid schema, only "sip:", "sips:" or "backend:" are allowed`, aor)
}

// unescape is the character that s[i:i+3] escapes as '%' and two hex digits; ok is false if it does not.
func unescape(s string, i int) (c byte, ok bool) {
	if s[i] != '%' || i+2 >= len(s) {
		return 0, false
	}
	hi, okHi := unhex(s[i+1])
	lo, okLo := unhex(s[i+2])
	return hi<<4 | lo, okHi && okLo
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
