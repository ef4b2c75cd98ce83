package message

import "bytes"

// Classes of bytes, RFC 3261 25.1.
const (
	isToken = 1 << iota // token
	isHost              // host name or IPv4 address; the underscore, though not of the grammar, is in daily use
	isV6                // inside an IPv6 reference
	isURI               // may stand in a URI; more lenient than the grammar: what breaks a line, a header or a bracket may not
	isDigit
)

// classes and lower are constant tables; lower holds 0 for what is not of a token.
var classes, lower = func() (c, l [256]byte) {
	for i := range 256 {
		b := byte(i)
		alpha := b|0x20 >= 'a' && b|0x20 <= 'z'
		digit := b >= '0' && b <= '9'
		if digit {
			c[i] |= isDigit
		}
		if alpha || digit || bytes.IndexByte([]byte("-.!%*_+`'~"), b) >= 0 {
			c[i] |= isToken
			l[i] = b
			if alpha {
				l[i] |= 0x20
			}
		}
		if alpha || digit || b == '-' || b == '.' || b == '_' {
			c[i] |= isHost
		}
		if b|0x20 >= 'a' && b|0x20 <= 'f' || digit || b == ':' || b == '.' {
			c[i] |= isV6
		}
		if b > ' ' && b != 0x7f && b != '"' && b != '<' && b != '>' {
			c[i] |= isURI
		}
	}
	return c, l
}()

// all says whether b is not empty and all its bytes are of the class.
func all(b []byte, class byte) bool {
	for _, c := range b {
		if classes[c]&class == 0 {
			return false
		}
	}
	return len(b) > 0
}

// IsToken says whether s is a token (RFC 3261 25.1), as a method and the name of a header are.
func IsToken(s string) bool {
	for i := range len(s) {
		if classes[s[i]]&isToken == 0 {
			return false
		}
	}
	return s != ""
}

// isLWS is true for the bytes of linear white space. A CR or LF inside a header can only be of a folded line, since
// Parse refuses every other.
func isLWS(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// skip is the first position from i on that is not white space.
func skip(b []byte, i int) int {
	for i < len(b) && isLWS(b[i]) {
		i++
	}
	return i
}

// trim takes the white space off both ends.
func trim(b []byte) []byte {
	i, j := 0, len(b)
	for i < j && isLWS(b[i]) {
		i++
	}
	for i < j && isLWS(b[j-1]) {
		j--
	}
	return b[i:j]
}

// equalFold compares with a lower-case ASCII string, whatever the case of b.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(s) {
		if toLower(b[i]) != s[i] {
			return false
		}
	}
	return true
}

func foldEqual(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if toLower(a[i]) != toLower(b[i]) {
			return false
		}
	}
	return true
}

func toLower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// number reads a decimal number of at most the given value; leading zeros are fine, all else is not.
func number(b []byte, most uint64) (uint64, bool) {
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n = n*10 + uint64(c-'0'); n > most {
			return 0, false
		}
	}
	return n, len(b) > 0
}

// quoted is the position behind the quoted-string that begins at b[i]; false if it does not end.
func quoted(b []byte, i int) (int, bool) {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1, true
		}
	}
	return len(b), false
}
