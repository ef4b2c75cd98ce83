package edgeport

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// What RFC 4475 has no message for.
func TestTortureMore(t *testing.T) {
	s := startOrdeals(t, "127.0.0.1", udpClient)
	lines := 0
	// message is a request with other headers, or another start line; {branch} is one that no other message has.
	message := func(start string, headers ...string) string {
		lines++
		all := []string{
			"Via: SIP/2.0/UDP 192.0.2.1;rport;branch={branch}", "Max-Forwards: 70", "From: <sip:alice@example.com>;tag=a",
			"To: <sip:bob@example.com>", "Call-ID: {branch}@192.0.2.1", "CSeq: 1 MESSAGE", "Content-Length: 0",
		}
	next:
		for _, h := range headers {
			name, _, _ := strings.Cut(h, ":")
			for i, have := range all {
				if strings.HasPrefix(have, name+":") {
					all[i] = h
					continue next
				}
			}
			all = append(all, h)
		}
		if start == "" {
			start = "MESSAGE sip:bob@example.com SIP/2.0"
		}
		text := start + "\r\n" + strings.Join(all, "\r\n") + "\r\n\r\n"
		return strings.ReplaceAll(text, "{branch}", fmt.Sprint("z9hG4bK-more-", lines))
	}
	for _, o := range []ordeal{
		{"X1 LF in a value", message("", "X-A: a\nP-Asserted-Identity: <sip:ceo@example.com>"), dropped, dropped, true},
		{"X1 CR in a value", message("", "X-A: a\rP-Asserted-Identity: <sip:ceo@example.com>"), dropped, dropped, true},
		{"X2 NUL in a display name", message("", "From: \"a\x00b\" <sip:alice@example.com>;tag=a"), dropped, dropped, true},
		{"X2 NUL in a URI", message("", "To: <sip:bo\x00b@example.com>"), dropped, dropped, true},
		{"X2 NUL in the Request-URI", message("MESSAGE sip:bo\x00b@example.com SIP/2.0"), dropped, dropped, true},
		{"X3 names of parameters in capitals", message("", "Via: SIP/2.0/UDP 192.0.2.1;RPORT;BRANCH={branch}", "From: <sip:alice@example.com>;TAG=a"), dispatched, dispatched, false},
		{"X4 comma and semicolon in quotes", message("", `Via: SIP/2.0/UDP 192.0.2.1;rport;x="1, SIP/2.0/UDP h;branch=2";branch={branch}`, `Contact: "a;b, c" <sip:alice@192.0.2.1>;x="y, <sip:z>;"`), dispatched, dispatched, false},
		{"X5 two Vias in a header", message("", "Via: SIP/2.0/UDP 192.0.2.1;rport;branch={branch},SIP/2.0/UDP a.example.com,SIP/2.0/TCP b.example.com:5061"), dispatched, dispatched, false},
		{"X6 port of Via is a word", message("", "Via: SIP/2.0/UDP 192.0.2.1:abc;rport;branch={branch}"), dropped, dropped, true},
		{"X6 port of Via is negative", message("", "Via: SIP/2.0/UDP 192.0.2.1:-5;rport;branch={branch}"), dropped, dropped, true},
		{"X6 port of Via is 99999", message("", "Via: SIP/2.0/UDP 192.0.2.1:99999;rport;branch={branch}"), dropped, dropped, true},
		{"X7 Via without a host", message("", "Via: SIP/2.0/UDP ;rport;branch={branch}"), dropped, dropped, true},
		{"X8 method in small letters", message("invite sip:bob@example.com SIP/2.0", "CSeq: 1 invite"), 405, 405, false},
		{"X9 5,000 parameters of Via", message("", "Via: SIP/2.0/UDP 192.0.2.1;rport"+strings.Repeat(";a=b", 5000)+";branch={branch}"), dropped, dropped, true},
		{"X10 a header of 64 KB", message("", "X: "+strings.Repeat("x", 64000)), dropped, dropped, true},
		{"X11 headers without end", strings.TrimSuffix(message("", "X: y"), "\r\n"), dropped, dropped, true},
		{"X12 emergency", message("MESSAGE urn:service:sos SIP/2.0"), dispatched, dispatched, false},
		{"X13 tel", message("MESSAGE tel:+1-201-555-0123;phone-context=example.com SIP/2.0"), dispatched, dispatched, false},
		{"X14 status line without its last space", message("SIP/2.0 200"), dropped, dropped, false},
		{"X15 version in small letters", message("MESSAGE sip:bob@example.com sip/2.0"), dispatched, dispatched, false},
		{"X16 quoted pair and comma in a name", message("", `Contact: "a\"b, c" <sip:alice@192.0.2.1>, "\\" <sip:d@192.0.2.1>`), dispatched, dispatched, false},
		{"X17 compact forms", message("", "k: path", "o: presence", "r: <sip:x@example.com>", "b: <sip:y@example.com>", "s: hi", "e: gzip",
			"a: *;audio", "u: presence", "x: 90", "y: id", "d: proxy", "j: *;video", "n: <https://example.com/c>"), dispatched, dispatched, false},
		{"X18 two Max-Forwards", message("", "max-forwards: 5"), 400, 400, true},
		{"X18 two Content-Types", message("", "c: text/plain", "Content-Type: text/plain"), 400, 400, true},
		{"X18 two CSeqs", message("", "cseq: 2 MESSAGE"), dropped, dropped, true},
		{"X18 two Content-Lengths", message("", "l: 0"), dropped, dropped, true},
	} {
		s.run(t, o)
	}
	// A response without the space behind its status is one all the same.
	t.Run("X14 such a response is relayed", func(t *testing.T) {
		alice, bob := udpClient(t), udpClient(t)
		s.callee.Store(bob)
		defer s.callee.Store(nil)
		alice.send(s.system, alice.request(s.system, "MESSAGE", "sip:bob@example.com", "z9hG4bK-x14"))
		answer := response(bob.want("MESSAGE"), 200, "b")
		bob.send(s.system, strings.Replace(answer, "SIP/2.0 200 OK", "SIP/2.0 200", 1))
		alice.want("SIP/2.0 200")
	})
}

// A20: datagrams as large as they can be, and pieces of some whose rest never comes, hold up nobody.
func TestA20LargeDatagrams(t *testing.T) {
	s := startOrdeals(t, "127.0.0.1", udpClient)
	at, err := net.ResolveUDPAddr("udp", s.udp)
	if err != nil {
		t.Fatal(err)
	}
	mallory := udpClient(t)
	if err := mallory.udp.SetWriteBuffer(1 << 20); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		head := mallory.request(s.system, "MESSAGE", "sip:bob@example.com", fmt.Sprint("z9hG4bK", i), "Content-Type: text/plain")
		head = strings.Replace(head, "Content-Length: 0", "Content-Length: 65507", 1)
		for _, data := range []string{
			strings.Repeat("x", 65507),
			head + strings.Repeat("x", 65507-len(head)), // the body ends too early
			head[:len(head)/2], head[len(head)/2:],      // what fragments without a whole would be
		} {
			if _, err := mallory.udp.WriteTo([]byte(data), at); err != nil {
				t.Fatal(err)
			}
		}
		udpClient(t).quiet(s.system)
	}
	if n := s.edge.proxy.Counts().Dispatched.Load(); n != 0 {
		t.Errorf("%d of them were dispatched, want none", n)
	}
}
