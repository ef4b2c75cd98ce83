package proxy

import (
	"bytes"
	"strings"
	"testing"

	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
)

// FuzzCopy takes any request the way from 16.3 to 16.6 of RFC 3261: what leaves is a message that can be read again, with
// the identity and the body of what came.
func FuzzCopy(f *testing.F) {
	p := newProxy(f)
	from, to := udpFlow(f, p, "127.0.0.1:5080"), udpFlow(f, p, "127.0.0.1:5090")
	at := from.Local().String()
	inDialog := strings.Replace(invite, "To: <sip:bob@example.com>", "To: <sip:bob@example.com>;tag=b", 1)
	token := string(p.appendToken(nil, token{}, []byte("a84b4c76e66710@pc33.example.com")))
	with := func(text, uri, headers string) string {
		return strings.Replace(strings.Replace(text, "sip:bob@example.com SIP", uri+" SIP", 1), "\r\nFrom", "\r\n"+headers+"From", 1)
	}
	for _, text := range []string{
		invite,
		with(invite, "sip:bob@example.com:5060;maddr=127.0.0.1;transport=udp;x", "Max-Breadth: 5\r\n"),
		with(invite, "sips:bob@"+at+";maddr="+at, "Route: <sip:"+at+";lr>, <sips:192.0.2.1>\r\n"),
		with(inDialog, "sip:"+token+"@"+at+";lr", "Route: <sip:"+token+"@"+at+";lr>, <sip:bob@192.0.2.1?X=1>\r\n"),
		with(inDialog, "sip:bob@192.0.2.1", "Route: <sip:"+token+"@"+at+";lr>\r\nRoute: <sip:strict@192.0.2.2;method=BYE?a=b>, <sip:192.0.2.3>\r\n"),
		with(inDialog, "sip:bob@192.0.2.1", "Via: SIP/2.0/UDP "+at+";branch=z9hG4bK0000000000001.00000000\r\n"),
	} {
		f.Add([]byte(text), "sip:bob@127.0.0.1:5090;method=BYE?X=1", "<sip:192.0.2.9>")
		f.Add([]byte(text), "sips:bob@127.0.0.1", "")
	}
	f.Fuzz(func(t *testing.T, data []byte, uri, path string) {
		m := new(message.Message)
		lim := message.DefaultLimits()
		lim.Size -= 4 << 10 // as an EdgePort takes it
		lim.Headers -= 16
		if m.Parse(data, lim) != nil || !m.IsRequest() {
			return
		}
		if _, err := message.ParseURI([]byte(uri)); err != nil || len(uri)+len(path) > 1024 {
			return
		}
		callID, body := bytes.Clone(m.CallID()), bytes.Clone(m.Body())
		m = p.received(from, m)
		r, status := p.readRoute(from, m)
		if status != 0 {
			return
		}
		c := copyOf{request: m, from: from, to: to, branch: 2, mark: p.mark(m, r), breadth: breadthOf(m), route: r}
		if looped(m, c.mark) {
			t.Fatalf("looped = true, want false: no copy was made\n%s", data)
		}
		if !r.signed {
			c.uri, c.record, c.route.popped = uri, true, m.Count(message.KindRoute)
			if path != "" {
				c.path = []string{path}
			}
		}
		s := p.scratch.New().(*scratch)
		p.write(s, c)
		out := new(message.Message)
		if err := out.Parse(s.buf, message.OwnLimits()); err != nil {
			t.Fatalf("the copy cannot be read: %v\n%q\nof\n%q", err, s.buf, data)
		}
		if !bytes.Equal(out.CallID(), callID) || !bytes.Equal(out.Body(), body) || out.Count(message.KindVia) != m.Count(message.KindVia)+1 {
			t.Fatalf("the copy is\n%q\nof\n%q", s.buf, data)
		}
		if mark, ok := transaction.MarkOf(out.TopVia().Branch); !ok || mark != c.mark {
			t.Fatalf("the copy has branch %s, want mark %d", out.TopVia().Branch, c.mark)
		}
	})
}
