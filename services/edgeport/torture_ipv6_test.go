package edgeport

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The twelve cases of RFC 5118, in messages of our own, over IPv6: addresses in brackets and without, in every place
// where one can stand. What can be read is passed on in the spelling that it came in.
func TestTortureIPv6(t *testing.T) {
	s := startOrdeals(t, "::1", func(t *testing.T) *client { return udpOn(t, "::1") })
	for _, o := range []ordeal{
		{"V1 good", "", dispatched, dispatched, false},
		{"V2 bad", "", 400, 400, true},
		{"V3 port-ambiguous", "", dispatched, dispatched, false},
		{"V4 port-unambiguous", "", dispatched, dispatched, false},
		{"V5 received-with-delimiters", "", dispatched, dispatched, false},
		{"V6 received-without-delimiters", "", dispatched, dispatched, false},
		{"V7 sdp", "", dispatched, dispatched, false},
		{"V8 addresses-of-both-in-headers", "", dispatched, dispatched, false},
		{"V9 addresses-of-both-in-sdp", "", dispatched, dispatched, false},
		{"V10 mapped", "", dispatched, dispatched, false},
		{"V11 three-colons", "", dispatched, dispatched, false},
		{"V12 two-colons", "", dispatched, dispatched, false},
	} {
		_, file, _ := strings.Cut(o.name, " ")
		data, err := os.ReadFile(filepath.Join("testdata/ipv6", file+".sip"))
		if err != nil {
			t.Fatal(err)
		}
		o.data = string(data)
		s.run(t, o)
	}
}
