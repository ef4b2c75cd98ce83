package edgeport

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// P1: an INVITE that waits for its decision has its 100 already.
func TestP1Trying(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		bob := udpClient(t)
		held := make(chan *bus.Request, 1)
		s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) { held <- r }, nil)
		for _, alice := range []*client{udpClient(t), s.tcpClient()} {
			alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1", "Timestamp: 54.21"))
			trying := alice.want("SIP/2.0 100 Trying")
			if got := header(trying, "Timestamp"); got != "54.21" || len(trying.ToTag()) != 0 {
				t.Errorf("100 has Timestamp %q and To tag %q, want 54.21 and none", got, trying.ToTag())
			}
			(<-held).Reply(bus.Reply{Body: bus.Value(toTarget(bob))})
			bob.send(s, response(bob.want("INVITE"), 486, "b"))
			bob.want("ACK")
			alice.want("SIP/2.0 486")
		}
	})
}

// P4: what the callee reads.
func TestP4MaxForwards(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		for i, tt := range []struct{ in, want string }{
			{"Max-Forwards: 70", "69"},
			{"Max-Forwards: 255", "254"},
			{"Max-Forwards: 1", "0"},
			{"", "70"},
		} {
			text := alice.request(s, "MESSAGE", "sip:bob@example.com", fmt.Sprint("z9hG4bK", i))
			if text = strings.Replace(text, "Max-Forwards: 70\r\n", tt.in+"\r\n", 1); tt.in == "" {
				text = strings.Replace(text, "\r\n\r\n", "\r\n", 1)
			}
			alice.send(s, text)
			m := bob.want("MESSAGE")
			if got := header(m, "Max-Forwards"); got != tt.want {
				t.Errorf("Max-Forwards of the copy of %q = %s, want %s", tt.in, got, tt.want)
			}
			bob.send(s, response(m, 200, "b"))
			alice.want("SIP/2.0 200")
		}
	})
}

// P5: a Max-Forwards that is none is refused, on whatever it would wrap around to.
func TestP5MaxForwardsIsNone(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		for i, value := range []string{"256", "4294967296", "18446744073709551617", "-1", "seventy", "7 0", ""} {
			alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", fmt.Sprint("z9hG4bK", i), "Max-Forwards: "+value))
			if m := alice.next(); m.Status() != 400 {
				t.Errorf("answer to Max-Forwards: %s is\n%s\nwant 400", value, m.Bytes())
			}
		}
		bob.quiet(s)
	})
}

// P10: whatever of the Route names us is gone when the request leaves, one value or two, in one header or in two.
func TestP10RouteNamesUs(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		us := "<sip:" + s.udp + ";lr>"
		for i, routes := range [][]string{
			{"Route: " + us},
			{"Route: " + us + ", " + us},
			{"Route: " + us, "Route: <sip:" + s.tcp + ";transport=tcp;lr>;x=y"},
		} {
			alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", fmt.Sprint("z9hG4bK", i), routes...))
			m := bob.want("MESSAGE")
			if got := values(m, message.KindRoute); len(got) != 0 {
				t.Errorf("%q left as Route %q, want none", routes, got)
			}
			bob.send(s, response(m, 200, "b"))
			alice.want("SIP/2.0 200")
		}
	})
}

// P17: the Request-URI is the target's, without the headers that a URI may have elsewhere.
func TestP17RequestURI(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		target := toTarget(bob)
		target.Targets[0].Uri = "sip:%62ob;day=tuesday@" + bob.addr() + ";Unknown=Param?Route=%3Csip:evil.test%3E&Subject=x"
		s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) { r.Reply(bus.Reply{Body: bus.Value(target)}) }, nil)
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1"))
		m := bob.want("MESSAGE sip:%62ob;day=tuesday@" + bob.addr() + ";Unknown=Param SIP/2.0\r\n")
		if m.Count(message.KindRoute) != 0 || header(m, "Subject") != "" {
			t.Errorf("the headers of the contact have become headers of the request:\n%s", m.Bytes())
		}
	})
}

// P18, P21: who gets a Record-Route, where, and that it comes back as it went.
func TestP18P21RecordRoute(t *testing.T) {
	const above = "<sip:192.0.2.1;lr>"
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		for method, want := range map[string]int{
			"INVITE": 2, "SUBSCRIBE": 2, "REFER": 2, "NOTIFY": 2,
			"MESSAGE": 1, "OPTIONS": 1, "PUBLISH": 1, "REGISTER": 1, "INFO": 1,
		} {
			alice.send(s, alice.request(s, method, "sip:bob@example.com", "z9hG4bK"+method, "Record-Route: "+above, "Call-ID: "+method))
			if method == "INVITE" {
				alice.want("SIP/2.0 100")
			}
			m := bob.want(method)
			got := values(m, message.KindRecordRoute)
			if len(got) != want || got[want-1] != above || want == 2 && !strings.HasSuffix(got[0], "@"+s.udp+";lr>") {
				t.Errorf("%s has Record-Route %q, want %d, the last of them %s and the other one ours with lr", method, got, want, above)
			}
			bob.send(s, response(m, 200, "b"))
			if diff := cmp.Diff(got, values(alice.want("SIP/2.0 200"), message.KindRecordRoute)); diff != "" {
				t.Errorf("Record-Route of the 200 to %s (-sent +received):\n%s", method, diff)
			}
		}
	})
}

// P22: the Via of a copy.
func TestP22Via(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice := udpClient(t)
		for _, bob := range []*client{udpClient(t), tcpServer(t)} {
			s := start(t, conn, nil, nil)
			stop := serveUntil(t, conn, to(bob))
			want := "SIP/2.0/UDP " + s.udp + ";branch=z9hG4bK"
			if bob.tcp() {
				want = "SIP/2.0/TCP " + s.tcp + ";branch=z9hG4bK"
			}
			var seen []string
			for i := range 10 {
				alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", fmt.Sprint("z9hG4bK", i)))
				m := bob.want("MESSAGE")
				vias := values(m, message.KindVia)
				if len(vias) != 2 || !strings.HasPrefix(vias[0], want) || slices.Contains(seen, vias[0]) {
					t.Errorf("Via = %q, want %s and a branch of its own on top of the sender's", vias, want)
				}
				seen = append(seen, vias[0])
				bob.send(s, response(m, 200, "b"))
				alice.want("SIP/2.0 200")
			}
			stop()
		}
	})
}

// serveUntil is serve for a part of a test.
func serveUntil(t *testing.T, conn *bus.Conn, decide decider) (stop func()) {
	t.Helper()
	service, err := conn.Serve(bus.SubjectDispatch(bus.Every), bus.QueueDispatcher, func(_ context.Context, r *bus.Request) { decide(r, nil) }, bus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := service.Drain(ctx); err != nil {
			t.Error(err)
		}
	}
}

// P23, P25: what the callee is told of where the request came from is what we have seen, whatever the sender claims.
func TestP23P25Received(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		_, port, _ := net.SplitHostPort(alice.addr())
		for i, tt := range []struct{ name, in, want string }{
			{"another address", "192.0.2.1:" + port, "192.0.2.1:" + port + ";received=127.0.0.1"},
			{"a name", "alice.example.com:" + port, "alice.example.com:" + port + ";received=127.0.0.1"},
			{"received of a stranger", alice.addr() + ";received=192.0.2.9", alice.addr()},
			{"received and rport of a stranger", alice.addr() + ";RECEIVED=192.0.2.9;rport=9", alice.addr() + ";received=127.0.0.1;rport=" + port},
			{"rport", alice.addr() + ";rport", alice.addr() + ";rport=" + port + ";received=127.0.0.1"},
		} {
			via := fmt.Sprintf("Via: SIP/2.0/UDP %s;branch=z9hG4bK%d", tt.in, i)
			alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "", via))
			m := bob.want("MESSAGE")
			got := strings.Replace(values(m, message.KindVia)[1], fmt.Sprintf(";branch=z9hG4bK%d", i), "", 1)
			if sortedParams(got) != sortedParams("SIP/2.0/UDP "+tt.want) {
				t.Errorf("%s: Via = %s, want %s", tt.name, got, tt.want)
			}
			bob.send(s, response(m, 200, "b"))
			alice.want("SIP/2.0 200") // so nobody else has got it
		}
	})
}

// sortedParams is a Via whose parameters, names in lower case, are in order.
func sortedParams(via string) string {
	params := strings.Split(strings.ToLower(via), ";")
	slices.Sort(params[1:])
	return strings.Join(params, ";")
}

// P24: the response to a request with rport leaves from the socket that the request came to, which is what a NAT lets in.
func TestP24RPort(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		bob := udpClient(t)
		s := start(t, conn, to(bob), func(cfg *Config) {
			cfg.Spec.Transport = []Transport{{Protocol: "udp"}, {Protocol: "udp"}, {Protocol: "tcp"}}
		})
		for i, point := range s.edge.Points()[:2] {
			s.udp = strings.TrimPrefix(point, "udp:")
			server, err := net.ResolveUDPAddr("udp", s.udp)
			if err != nil {
				t.Fatal(err)
			}
			socket, err := net.DialUDP("udp", nil, server) // takes what comes from there alone
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { socket.Close() })
			alice := &client{t: t, udp: socket}
			via := fmt.Sprintf("Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK%d;rport", i)
			if _, err := socket.Write([]byte(alice.request(s, "MESSAGE", "sip:bob@example.com", "", via))); err != nil {
				t.Fatal(err)
			}
			bob.send(s, response(bob.want("MESSAGE"), 200, "b"))
			_, port, _ := net.SplitHostPort(alice.addr())
			got := values(alice.want("SIP/2.0 200"), message.KindVia)
			want := fmt.Sprintf("SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK%d;received=127.0.0.1;rport=%s", i, port)
			if len(got) != 1 || sortedParams(got[0]) != sortedParams(want) {
				t.Errorf("Via = %q, want %s", got, want)
			}
		}
	})
}

// P26: without rport a response goes to the port of the Via.
func TestP26PortOfVia(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, home, bob := udpClient(t), udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "", "Via: SIP/2.0/UDP "+home.addr()+";branch=z9hG4bK1"))
		bob.send(s, response(bob.want("MESSAGE"), 200, "b"))
		home.want("SIP/2.0 200")
		alice.quiet(s)
	})
}

// P26: a response whose connection has gone reaches nobody, above all nobody else.
func TestP26ConnectionHasGone(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		bob := udpClient(t)
		s := start(t, conn, to(bob), nil)
		alice := s.tcpClient()
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		invite := bob.want("INVITE")
		alice.stream.Close()
		mallory := s.tcpClient()
		mallory.quiet(s)
		bob.send(s, response(invite, 180, "b"))
		bob.send(s, response(invite, 200, "b"))
		mallory.quiet(s)
	})
}

// P27: a maddr in a Via is an address that a stranger would have us send to.
func TestP27Maddr(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob, victim := udpClient(t), udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		host, port, _ := net.SplitHostPort(victim.addr())
		for i, via := range []string{";maddr=" + host + ";rport", ";maddr=239.255.255.1;ttl=1;rport", ":" + port + ";maddr=" + host + ";rport"} {
			alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "", fmt.Sprintf("Via: SIP/2.0/UDP 10.0.0.1%s;branch=z9hG4bK%d", via, i)))
			bob.send(s, response(bob.want("MESSAGE"), 200, "b"))
			alice.want("SIP/2.0 200")
		}
		victim.quiet(s)
	})
}

// P52: one request that comes by two ways, with two branches, is two requests for us. What they are one of is for the
// callee to say.
func TestP52Merged(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		for _, branch := range []string{"z9hG4bK1", "z9hG4bK2"} {
			alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", branch))
		}
		for _, status := range []int{200, 482} {
			m := bob.want("MESSAGE")
			bob.send(s, response(m, status, "b"))
			answer := alice.want(fmt.Sprint("SIP/2.0 ", status))
			if got, want := string(answer.TopVia().Branch), values(m, message.KindVia)[1]; !strings.Contains(want, ";branch="+got) {
				t.Errorf("%d has branch %s, want that of %s", status, got, want)
			}
		}
	})
}

// P53: a datagram needs no Content-Length, and a stream does.
func TestP53ContentLength(t *testing.T) {
	const body = "Grüße, \x00\xff\r\n\r\n日本"
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), tcpServer(t)
		s := start(t, conn, to(bob), nil)
		text := alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1", "\r\n"+body)
		alice.send(s, strings.Replace(text, fmt.Sprintf("Content-Length: %d\r\n", len(body)), "", 1))
		m := bob.want("MESSAGE")
		if got := header(m, "Content-Length"); string(m.Body()) != body || got != fmt.Sprint(len(body)) {
			t.Errorf("Content-Length = %s, body %q, want %d and %q", got, m.Body(), len(body), body)
		}
	})
}

// T2: a request by another transport is another request, whatever its branch.
func TestT2TransportAndSource(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		mallory := s.tcpClient()
		socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { socket.Close() })
		text := alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1")
		for status, from := range []*client{alice, mallory, {t: t, udp: socket}} {
			from.send(s, text)
			bob.send(s, response(bob.want("MESSAGE"), 480+status, "b"))
			from.want(fmt.Sprint("SIP/2.0 ", 480+status))
		}
	})
}
