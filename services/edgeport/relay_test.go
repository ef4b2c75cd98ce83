package edgeport

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

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
