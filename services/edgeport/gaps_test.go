package edgeport

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// The tests named G are of what SIP stacks are known to get wrong. What of it the transports have to get right is tested
// there, and names in the resolver.

// G1 and A12: 300 datagrams of 199 bytes that say to have 4 GiB take memory by what they are, not by what they say.
func TestG1A12HugeContentLength(t *testing.T) {
	s := startOrdeals(t, "127.0.0.1", udpClient)
	mallory := udpClient(t)
	send := func(n int) {
		for i := range n {
			text := mallory.request(s.system, "OPTIONS", "sip:a", fmt.Sprint("z9hG4bK", i))
			mallory.send(s.system, strings.Replace(text, "Content-Length: 0", "Content-Length: 4294967295", 1))
			mallory.want("SIP/2.0 400")
		}
	}
	send(10)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	send(300)
	runtime.ReadMemStats(&after)
	// The buffers of this test's own client are 128 KiB each.
	if n := (after.TotalAlloc - before.TotalAlloc) / 300; n > 256<<10 {
		t.Errorf("each took %d bytes, want what its answer takes", n)
	}
}

// G2: a WebSocket whose handshake stalls holds up no other one.
func TestG2StalledHandshake(t *testing.T) {
	s := start(t, bustest.Local(t), notFound, func(c *Config) { c.Spec.Transport = append(c.Spec.Transport, Transport{Protocol: "ws"}) })
	for range 20 {
		stalled, err := net.Dial("tcp", s.ws)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stalled.Close() })
	}
	s.page().quiet(s)
}

// G4: whether a call is cancelled is for the callee to say. A 200 that crosses the CANCEL is what the caller hears of the
// INVITE, and nothing else.
func TestG4CancelCrosses200(t *testing.T) {
	alice, bob := udpClient(t), udpClient(t)
	s := start(t, bustest.Local(t), to(bob), nil)
	alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
	alice.want("SIP/2.0 100")
	invite := bob.want("INVITE")
	bob.send(s, response(invite, 180, "b"))
	alice.want("SIP/2.0 180")
	alice.send(s, alice.request(s, "CANCEL", "sip:bob@example.com", "z9hG4bK1"))
	if m := alice.want("SIP/2.0 200"); m.CSeqMethod() != message.CANCEL {
		t.Errorf("200 to %v, want to CANCEL", m.CSeqMethod())
	}
	bob.want("CANCEL")
	alice.quiet(s) // no 487 that nobody has sent
	bob.send(s, response(invite, 200, "b"))
	if m := alice.want("SIP/2.0 200"); m.CSeqMethod() != message.INVITE {
		t.Errorf("200 to %v, want to INVITE", m.CSeqMethod())
	}
}

// G5: a connection is known by itself, and not by the address that it came to: who connects last gets nothing of it.
func TestG5ConnectionsAreNotMixed(t *testing.T) {
	var flow atomic.Value
	s := start(t, bustest.Local(t), func(r *bus.Request, req *processorpb.MessageRequest) {
		if req.Method == processorpb.Method_REGISTER {
			flow.Store(req.Flow)
			notFound(r, req)
			return
		}
		r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: "sip:bob@192.0.2.1", Flow: flow.Load().(string)}}})})
	}, nil)
	bob := s.tcpClient()
	bob.send(s, bob.request(s, "REGISTER", "sip:example.com", "z9hG4bKr"))
	bob.want("SIP/2.0 404")
	var others []*client
	for i := range 5 {
		c := s.tcpClient()
		c.quiet(s)
		others = append(others, c)
		alice := udpClient(t)
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", fmt.Sprint("z9hG4bK", i)))
		bob.send(s, response(bob.want("MESSAGE sip:bob@192.0.2.1"), 200, "b"))
		alice.want("SIP/2.0 200")
	}
	for _, c := range others {
		c.quiet(s)
	}
}

// G6, G7, G9, A16 to A19: what another element would read as more headers, or as another message, is passed on by nobody.
// On a stream nothing behind it is read.
func TestG6G7G9Smuggling(t *testing.T) {
	for _, tt := range []struct{ name, field string }{
		{"A17 LF in a value", "X-A: a\nP-Asserted-Identity: <sip:ceo@example.com>"},
		{"A17 CR in a value", "X-A: a\rP-Asserted-Identity: <sip:ceo@example.com>"},
		{"A17 LF and a folded line", "X-A: a\n b"},
		{"A17 LF at the end of the headers", "X-A: a\n"},
		{"A22 NUL", "X-A: a\x00b"},
		{"A16 compact From", "f: <sip:ceo@example.com>;tag=1"},
		{"A16 compact Content-Length", "l: 0"},
		{"A16 compact Call-ID", "i: other"},
		{"A18 no colon", "X-A"},
		{"A19 two From", "From: <sip:a@example.com>;tag=1\r\nFrom: <sip:ceo@example.com>;tag=1"},
		{"A19 two To", "To: <sip:a@example.com>\r\nTo: <sip:ceo@example.com>"},
		{"A19 two CSeq", "CSeq: 1 MESSAGE\r\nCSeq: 2 MESSAGE"},
		{"A19 two Call-ID", "Call-ID: 1\r\nCall-ID: 2"},
		{"A19 two Max-Forwards", "Max-Forwards: 70\r\nMax-Forwards: 255"},
		{"A19 two Content-Length", "Content-Length: 0"}, // behind which the request has its own
	} {
		t.Run(tt.name, func(t *testing.T) {
			bob := udpClient(t)
			s := start(t, bustest.Local(t), to(bob), nil)
			for i, alice := range []*client{udpClient(t), s.tcpClient()} {
				bad := alice.request(s, "MESSAGE", "sip:bob@example.com", fmt.Sprint("z9hG4bKbad", i), tt.field)
				alice.send(s, bad)
				if alice.tcp() {
					_, _ = alice.stream.Write([]byte(alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bKbehind"))) // may be closed
				}
				switch status, closed := s.statusBefore(alice); {
				case status != 0 && status != 400:
					t.Errorf("answer = %d, want 400 or none", status)
				case closed != alice.tcp():
					t.Errorf("closed = %v, want %v", closed, alice.tcp())
				}
			}
			if n := s.edge.proxy.Counts().Dispatched.Load(); n != 0 {
				t.Errorf("dispatched %d times, want never", n)
			}
			bob.quiet(s)
		})
	}
}

// G10: what limits a request over UDP limits no response.
func TestG10LargeResponse(t *testing.T) {
	alice, bob := udpClient(t), udpClient(t)
	s := start(t, bustest.Local(t), to(bob), nil)
	alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1"))
	large := strings.Repeat("x", 3000)
	bob.send(s, response(bob.want("MESSAGE"), 200, "b", "X-Large: "+large))
	if got := header(alice.want("SIP/2.0 200"), "X-Large"); got != large {
		t.Errorf("a header of %d bytes came, want %d", len(got), len(large))
	}
}

// G12, A26: what strangers send is in no log, whatever and however much it is.
func TestG12A26NothingIsLogged(t *testing.T) {
	log := new(journal)
	s := startLogging(t, bustest.Local(t), notFound, nil, slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	before := len(log.lines(""))
	mallory := udpClient(t)
	for i := range 500 {
		mallory.send(s, strings.Repeat("garbage ", i))
		mallory.send(s, "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: \x1b[31m%s\r\nCSeq: 1 INVITE\r\n\r\n")
		if i%50 == 0 {
			mallory.quiet(s) // so that none is lost for want of room
		}
	}
	for _, agent := range []string{"\x1b]0;x\x07", "%s%n", strings.Repeat("x", 60000), "a\u202eb", "\xff\xfe"} {
		mallory.send(s, mallory.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK"+fmt.Sprint(len(agent)), "User-Agent: "+agent))
		mallory.want("SIP/2.0 404")
	}
	c := s.tcpClient()
	_, _ = c.stream.Write([]byte("GET / HTTP/1.1\r\n\r\n")) // closed meanwhile
	c.wantEnd(0)
	mallory.quiet(s)
	if lines := log.lines(""); len(lines) != before {
		t.Errorf("logged\n%s\nwant nothing", strings.Join(lines[before:], ""))
	}
}

// G13: received tells where a request came from, asked for or not, and what a client wrote there itself is gone.
func TestG13Received(t *testing.T) {
	bob := udpClient(t)
	s := start(t, bustest.Local(t), to(bob), nil)
	for i, tt := range []struct{ params, want string }{
		{"", ";received=127.0.0.1"},
		{";received=192.0.2.99", ";received=127.0.0.1"},
		{";rport", ";received=127.0.0.1;rport=PORT"},
		{";rport=9;received=192.0.2.99", ";received=127.0.0.1;rport=PORT"},
	} {
		alice := udpClient(t)
		_, port, _ := net.SplitHostPort(alice.addr())
		via := fmt.Sprintf("SIP/2.0/UDP 192.0.2.1:%s;branch=z9hG4bK%d", port, i)
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "", "Via: "+via+tt.params))
		m := bob.want("MESSAGE")
		if got, want := values(m, message.KindVia)[1], via+strings.Replace(tt.want, "PORT", port, 1); got != want {
			t.Errorf("Via = %q, want %q", got, want)
		}
		bob.send(s, response(m, 200, "b"))
		alice.want("SIP/2.0 200")
	}
}

// G14: the ACK to a final response that is no 2xx ends at the transaction, over TCP too, and a transaction that waits for
// one costs no goroutine.
func TestG14TransactionsWithoutGoroutines(t *testing.T) {
	s := start(t, bustest.Local(t), notFound, nil)
	alice := s.tcpClient()
	invite := func(i int) *message.Message {
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", fmt.Sprint("z9hG4bK", i), fmt.Sprint("Call-ID: ", i)))
		for {
			if m := alice.next(); m.Status() != 100 {
				return m
			}
		}
	}
	to := invite(0).ToTag()
	alice.send(s, alice.request(s, "ACK", "sip:bob@example.com", "z9hG4bK0", "Call-ID: 0", fmt.Sprintf("To: <sip:bob@example.com>;tag=%s", to)))
	alice.quiet(s)
	if n, stray := s.edge.proxy.Counts().Dispatched.Load(), s.edge.proxy.Counts().StrayAcks.Load(); n != 1 || stray != 0 {
		t.Errorf("dispatched %d, %d stray ACKs, want the INVITE alone", n, stray)
	}
	before := runtime.NumGoroutine()
	for i := range 300 {
		if m := invite(1 + i); m.Status() != 404 {
			t.Fatalf("answer = %d, want 404", m.Status())
		}
	}
	if n := runtime.NumGoroutine() - before; n > 20 {
		t.Errorf("%d more goroutines for 300 transactions, want none", n)
	}
}

// G22: a datagram leaves nothing behind, from however many sources it comes.
func TestG22ManySources(t *testing.T) {
	s := startOrdeals(t, "127.0.0.1", udpClient)
	c := udpClient(t)
	send := func(i int) {
		socket, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 2, byte(i>>8), byte(i))}, c.resolve(s.system))
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		if _, err := socket.Write([]byte("junk")); err != nil {
			t.Fatal(err)
		}
	}
	send(0)
	c.quiet(s.system)
	before := live()
	const sources = 5000
	for i := range sources {
		if send(i); i%100 == 0 {
			c.quiet(s.system)
		}
	}
	c.quiet(s.system)
	if each := (live() - before) / sources; each > 40 {
		t.Errorf("%d bytes a source are left, want none", each)
	}
}

// resolve is where s listens.
func (c *client) resolve(s *system) *net.UDPAddr {
	c.t.Helper()
	addr, err := net.ResolveUDPAddr("udp", s.udp)
	if err != nil {
		c.t.Fatal(err)
	}
	return addr
}

// G27: two listeners of a transport are two.
func TestG27TwoListeners(t *testing.T) {
	s := start(t, bustest.Local(t), notFound, func(cfg *Config) {
		cfg.Spec.Transport = []Transport{{Protocol: "udp"}, {Protocol: "udp"}, {Protocol: "tcp"}, {Protocol: "tcp"}}
	})
	points := s.edge.Points()
	if len(points) != 4 {
		t.Fatalf("Points() = %q, want 4", points)
	}
	for _, p := range points {
		protocol, addr, _ := strings.Cut(p, ":")
		other := *s
		other.udp, other.tcp = addr, addr
		if protocol == "udp" {
			udpClient(t).quiet(&other)
		} else {
			other.tcpClient().quiet(&other)
		}
	}
}

// G29: no response has a status below 100 or above 699, or another version than ours.
func TestG29ImpossibleResponses(t *testing.T) {
	alice, bob := udpClient(t), udpClient(t)
	s := start(t, bustest.Local(t), to(bob), nil)
	alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1"))
	answer := response(bob.want("MESSAGE"), 200, "b")
	starts := []string{"SIP/2.0 000 Zero", "SIP/2.0 099 Low", "SIP/2.0 700 High", "SIP/2.0 999 High", "SIP/2.0 65535 High", "SIP/2.0 20 Short",
		"SIP/2.0 -200 OK", "SIP/2.0 2000 OK", "SIP/7.0 200 OK", "SIPX/2.0 200 OK", "SIP/2 200 OK", "SIP/2.0  200 OK"}
	for _, start := range starts {
		bob.send(s, strings.Replace(answer, "SIP/2.0 200 OK", start, 1))
	}
	bob.quiet(s)
	alice.quiet(s)
	if n := s.edge.counts.malformed.Load(); n != int64(len(starts)) {
		t.Errorf("%d malformed messages counted, want %d", n, len(starts))
	}
	bob.send(s, answer)
	if m := alice.want("SIP/2.0 200"); !bytes.HasPrefix(m.Bytes(), []byte("SIP/2.0 200 OK\r\n")) {
		t.Errorf("received\n%s\nwant the 200", m.Bytes())
	}
}
