package processor

import (
	"strings"

	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// Credentials are the parameters of an Authorization or Proxy-Authorization header with the scheme Digest (RFC 7616
// 3.4, RFC 3261 20.7), without quotation marks and with quoted pairs resolved; NC is the text of the nonce count.
type Credentials struct {
	Username, Realm, Nonce, URI, Response string
	Algorithm, CNonce, Opaque, QOP, NC    string
}

// ParseCredentials reads the value of an Authorization or Proxy-Authorization header. ok is false for another scheme, a
// parameter that is there twice, and broken syntax. Parameters that are not in Credentials are skipped. The strings of
// the result are part of value, except where quoted pairs had to be resolved.
func ParseCredentials(value string) (c Credentials, ok bool) {
	rest := skipLWS(value)
	end := tokenEnd(rest)
	if !strings.EqualFold(rest[:end], "Digest") {
		return Credentials{}, false
	}
	rest = rest[end:]
	if rest == "" || skipLWS(rest) == rest {
		return Credentials{}, false
	}
	var seen uint
	for {
		// An element of a list may be empty (RFC 9110 5.6.1).
		rest = skipLWS(rest)
		for strings.HasPrefix(rest, ",") {
			rest = skipLWS(rest[1:])
		}
		if rest == "" {
			return c, true
		}
		end := tokenEnd(rest)
		name := rest[:end]
		rest = skipLWS(rest[end:])
		if name == "" || !strings.HasPrefix(rest, "=") {
			return Credentials{}, false
		}
		var v string
		if v, rest, ok = parseValue(skipLWS(rest[1:])); !ok {
			return Credentials{}, false
		}
		if rest = skipLWS(rest); rest != "" && rest[0] != ',' {
			return Credentials{}, false
		}
		if field, bit := c.field(name); field != nil {
			if seen&bit != 0 {
				return Credentials{}, false
			}
			seen |= bit
			*field = v
		}
	}
}

// field is where the parameter name belongs, and a bit of its own; nil for a parameter that Credentials does not have.
func (c *Credentials) field(name string) (*string, uint) {
	is := func(other string) bool { return strings.EqualFold(name, other) }
	switch len(name) {
	case len("nc"):
		if is("nc") {
			return &c.NC, 1 << 0
		}
	case len("uri"), len("realm"): // and qop, nonce
		switch {
		case is("uri"):
			return &c.URI, 1 << 1
		case is("qop"):
			return &c.QOP, 1 << 2
		case is("realm"):
			return &c.Realm, 1 << 3
		case is("nonce"):
			return &c.Nonce, 1 << 4
		}
	case len("cnonce"): // and opaque
		switch {
		case is("cnonce"):
			return &c.CNonce, 1 << 5
		case is("opaque"):
			return &c.Opaque, 1 << 6
		}
	case len("username"): // and response
		switch {
		case is("username"):
			return &c.Username, 1 << 7
		case is("response"):
			return &c.Response, 1 << 8
		}
	case len("algorithm"):
		if is("algorithm") {
			return &c.Algorithm, 1 << 9
		}
	}
	return nil, 0
}

// parseValue reads a quoted-string or what reaches to the next comma or blank at the start of s.
func parseValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := 0
		for end < len(s) && s[end] != ',' && s[end] != '"' && !isBlank(s[end]) {
			end++
		}
		return s[:end], s[end:], end > 0
	}
	escaped := false
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			if value = s[1:i]; escaped {
				value = unquotePairs(value)
			}
			return value, s[i+1:], true
		}
	}
	return "", "", false
}

// unquotePairs resolves the quoted pairs of s, which does not end with a lone backslash (RFC 3261 25.1).
func unquotePairs(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

// tokenEnd is the length of the token at the start of s.
func tokenEnd(s string) int {
	end := 0
	for end < len(s) && !isBlank(s[end]) && strings.IndexByte(`=,";\`, s[end]) < 0 {
		end++
	}
	return end
}

// skipLWS removes linear white space, folded or not, from the start of s.
func skipLWS(s string) string {
	i := 0
	for i < len(s) && isBlank(s[i]) {
		i++
	}
	return s[i:]
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// credentialsOf are the credentials of an Authorization header that the EdgePort has read. A nonce count is written with
// eight hex digits in lower case, as RFC 7616 3.4 has it; of one that was not, the original text is lost.
func credentialsOf(a *sipmessagepb.Authorization) (c Credentials, ok bool) {
	if !strings.EqualFold(a.GetScheme(), "Digest") {
		return Credentials{}, false
	}
	c = Credentials{
		Username: a.Username, Realm: a.Realm, Nonce: a.Nonce, URI: a.Uri, Response: a.Response,
		Algorithm: a.Algorithm, CNonce: a.CNonce, Opaque: a.Opaque, QOP: a.Qop,
	}
	if n := uint32(a.NonceCount); n != 0 {
		var nc [8]byte
		for i := len(nc) - 1; i >= 0; i-- {
			nc[i] = "0123456789abcdef"[n&15]
			n >>= 4
		}
		c.NC = string(nc[:])
	}
	return c, true
}
