package proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/routr-fabric/routr/services/edgeport/message"
)

// Hundreds of targets may send many challenges each; what is kept of them has a bound.
func TestChallengesAreBounded(t *testing.T) {
	rc := new(responseContext)
	rc.add()
	rc.add()
	text := "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=a\r\nTo: <sip:b@b>;tag=b\r\n" +
		"Call-ID: c\r\nCSeq: 1 INVITE\r\n"
	for i := range 100 {
		text += fmt.Sprintf("WWW-Authenticate: Digest realm=\"%d%s\"\r\n", i, strings.Repeat("x", 400))
	}
	resp := parse(t, text+"\r\n")
	for range 1000 {
		rc.keepChallenges(resp)
	}
	size := 0
	for _, f := range rc.others {
		if f.Name != message.KindWWWAuthenticate.String() {
			t.Fatalf("kept %s, want the challenges alone", f.Name)
		}
		size += len(f.Value)
	}
	if size == 0 || size > maxChallenges {
		t.Errorf("%d bytes of challenges are kept, want some and %d at most", size, maxChallenges)
	}
}
