package sipconv

import (
	"math"
	"strconv"
	"strings"

	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// authParams runs f for each name=value of a challenge or of credentials (RFC 3261 25.1) and returns the scheme. It
// stops at what is malformed.
func authParams(s string, f func(name, value string)) (scheme string) {
	scheme, rest, _ := strings.Cut(s, " ")
	for n := 0; n < message.MaxParams; n++ {
		rest = trimLeft(rest, " \t,")
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			break
		}
		name, after = strings.TrimSpace(name), trimLeft(after, " \t")
		if !strings.HasPrefix(after, `"`) {
			var value string
			value, rest, _ = strings.Cut(after, ",")
			f(name, strings.TrimSpace(value))
			continue
		}
		end := 1
		for end < len(after) && after[end] != '"' {
			if after[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(after) {
			break
		}
		f(name, unquote(after[1:end]))
		rest = after[end+1:]
	}
	return scheme
}

// trimLeft is strings.TrimLeft, for a cutset so short that it is not worth an index.
func trimLeft(s, cutset string) string {
	for s != "" && strings.IndexByte(cutset, s[0]) >= 0 {
		s = s[1:]
	}
	return s
}

// credentials reads the value of an Authorization header.
func credentials(s string) *sipmessagepb.Authorization {
	a := new(sipmessagepb.Authorization)
	a.Scheme = authParams(s, func(name, value string) {
		var to *string
		switch strings.ToLower(name) {
		case "username":
			to = &a.Username
		case "realm":
			to = &a.Realm
		case "nonce":
			to = &a.Nonce
		case "uri":
			to = &a.Uri
		case "response":
			to = &a.Response
		case "algorithm":
			to = &a.Algorithm
		case "cnonce":
			to = &a.CNonce
		case "opaque":
			to = &a.Opaque
		case "qop":
			to = &a.Qop
		case "nc":
			if n, err := strconv.ParseUint(value, 16, 32); err == nil && n <= math.MaxInt32 {
				a.NonceCount = int32(n)
			}
			return
		default:
			return
		}
		if *to == "" {
			*to = value
		}
	})
	return a
}

// challenge reads the value of a WWW-Authenticate header.
func challenge(s string) *sipmessagepb.WWWAuthenticate {
	w := new(sipmessagepb.WWWAuthenticate)
	w.Scheme = authParams(s, func(name, value string) {
		switch strings.ToLower(name) {
		case "realm":
			w.Realm = value
		case "domain":
			w.Domain = value
		case "nonce":
			w.Nonce = value
		case "algorithm":
			w.Algorithm = value
		case "qop":
			w.Qop = value
		case "opaque":
			w.Opaque = value
		case "stale":
			w.Stale = strings.EqualFold(value, "true")
		}
	})
	return w
}

// authText builds a challenge or credentials.
type authText struct {
	b     []byte
	first bool
}

func newAuthText(scheme string) *authText {
	if scheme == "" {
		scheme = "Digest"
	}
	return &authText{b: append([]byte(scheme), ' '), first: true}
}

// add writes a parameter unless it is empty.
func (t *authText) add(name, value string, quoted bool) {
	if value == "" {
		return
	}
	if !t.first {
		t.b = append(t.b, ", "...)
	}
	t.first = false
	t.b = append(append(t.b, name...), '=')
	if quoted {
		t.b = appendQuoted(t.b, value)
	} else {
		t.b = append(t.b, value...)
	}
}

func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

// challengeText is the value of a WWW-Authenticate or Proxy-Authenticate header.
func challengeText(w *sipmessagepb.WWWAuthenticate) []byte {
	if w == nil {
		return nil
	}
	t := newAuthText(w.Scheme)
	t.add("realm", w.Realm, true)
	t.add("domain", w.Domain, true)
	t.add("nonce", w.Nonce, true)
	t.add("opaque", w.Opaque, true)
	if w.Stale {
		t.add("stale", "TRUE", false)
	}
	t.add("algorithm", w.Algorithm, false)
	t.add("qop", w.Qop, true)
	return t.b
}

// credentialsText is the value of an Authorization header.
func credentialsText(a *sipmessagepb.Authorization) []byte {
	if a == nil {
		return nil
	}
	t := newAuthText(a.Scheme)
	t.add("username", a.Username, true)
	t.add("realm", a.Realm, true)
	t.add("nonce", a.Nonce, true)
	t.add("uri", a.Uri, true)
	t.add("response", a.Response, true)
	t.add("algorithm", a.Algorithm, false)
	t.add("cnonce", a.CNonce, true)
	t.add("opaque", a.Opaque, true)
	t.add("qop", a.Qop, false)
	if a.NonceCount > 0 {
		const digits = "00000000"
		nc := strconv.FormatInt(int64(a.NonceCount), 16)
		t.add("nc", digits[len(nc):]+nc, false)
	}
	return t.b
}
