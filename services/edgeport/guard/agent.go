package guard

import "bytes"

// lower appends the first bytes of text to dst, as many as it has room for, in lower case.
func lower(dst, text []byte) []byte {
	for _, c := range text[:min(len(text), cap(dst))] {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// contains says whether one of parts is in text.
func contains(text []byte, parts [][]byte) bool {
	for _, p := range parts {
		if bytes.Contains(text, p) {
			return true
		}
	}
	return false
}

// firstLine is how much of what is no SIP is looked at, in bytes.
const firstLine = 512

// Judge is what kind of offence bytes are that could not be read as a message: Garbage, HTTP, or none if they are SIP
// with a mistake in it, which anyone may make.
func Judge(data []byte) (Offence, bool) {
	line, _, _ := bytes.Cut(bytes.TrimLeft(data[:min(len(data), firstLine)], "\r\n\x00"), []byte("\n"))
	switch {
	case len(line) == 0, bytes.Contains(line, []byte("SIP/2.0")):
		return 0, false
	case bytes.Contains(line, []byte("HTTP/")):
		return HTTP, true
	}
	return Garbage, true
}
