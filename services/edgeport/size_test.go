package edgeport

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
)

// body is a field that makes a message large.
func body(size int) string { return "\r\n" + strings.Repeat("x", size) }

// both are a UDP and a TCP client that have the same address.
func both(t *testing.T) (udp, tcp *client) {
	t.Helper()
	for range 500 { // connections of others take TCP ports
		udp = udpClient(t)
		l, err := net.Listen("tcp", udp.addr())
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return udp, &client{t: t, listener: l}
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// noConnection fails if somebody has connected to c.
func (c *client) noConnection() {
	c.t.Helper()
	own, err := net.Dial("tcp", c.addr())
	if err != nil {
		c.t.Fatal(err)
	}
	defer own.Close()
	conn, err := c.listener.Accept() // in the order in which they came
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	if got, want := conn.RemoteAddr().String(), own.LocalAddr().String(); got != want {
		c.t.Errorf("%s has connected to %s, want nobody", got, c.addr())
	}
}

// bare is the decision for a contact that says nothing of transports.
func bare(c *client) decider {
	return func(r *bus.Request, _ *processorpb.MessageRequest) {
		reply(r, &processorpb.Target{Uri: "sip:bob@" + c.addr()})
	}
}

// P54, RFC 3261 18.1.1: a call whose INVITE is too large for UDP goes over TCP, which the Via and the Record-Route of
// that side say; so does a large ACK, and what is small goes over UDP.
func TestP54LargeRequest(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice := udpClient(t)
		udp, tcp := both(t)
		s := start(t, conn, bare(udp), nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bKinvite", body(8000)))
		alice.want("SIP/2.0 100")
		invite := tcp.want("INVITE sip:bob@" + udp.addr() + " SIP/2.0\r\n")
		if got := string(invite.TopVia().Transport); got != "TCP" || len(invite.Body()) != 8000 {
			t.Errorf("Via has transport %s and the body %d bytes, want TCP and 8000", got, len(invite.Body()))
		}
		rr := values(invite, message.KindRecordRoute)
		if len(rr) != 2 || !strings.HasSuffix(rr[0], "@"+s.tcp+";transport=tcp;lr>") || !strings.HasSuffix(rr[1], "@"+s.udp+";lr>") {
			t.Errorf("Record-Route = %q, want TCP on top of UDP", rr)
		}
		tcp.send(s, response(invite, 200, "b", "Contact: <sip:bob@"+udp.addr()+">"))
		alice.want("SIP/2.0 200")
		fields := []string{"Route: " + rr[1] + ", " + rr[0], "To: <sip:bob@example.com>;tag=b"}
		alice.send(s, alice.request(s, "ACK", "sip:bob@"+udp.addr(), "z9hG4bKack", append(fields, body(2000))...))
		if ack := tcp.want("ACK"); string(ack.TopVia().Transport) != "TCP" {
			t.Errorf("ACK has Via %s, want TCP", ack.TopVia().Text)
		}
		alice.send(s, alice.request(s, "BYE", "sip:bob@"+udp.addr(), "z9hG4bKbye", fields...))
		bye := udp.want("BYE")
		if got := string(bye.TopVia().Transport); got != "UDP" {
			t.Errorf("BYE has transport %s in its Via, want UDP", got)
		}
		udp.send(s, response(bye, 200, ""))
		alice.want("SIP/2.0 200")
	})
}

// P54: where nobody listens on TCP the request arrives by UDP, and TCP is not tried again soon.
func TestP54LargeRequestToUDPOnly(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for name, uri := range map[string]string{"address": "sip:bob@", "name": "sip:bob@host.test:"} {
			t.Run(name, func(t *testing.T) {
				alice := udpClient(t)
				udp, tcp := both(t)
				tcp.listener.Close()
				if name == "address" {
					uri += udp.addr()
				} else {
					_, port, _ := net.SplitHostPort(udp.addr())
					uri += port
				}
				s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) { reply(r, &processorpb.Target{Uri: uri}) }, nil)
				alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bKinvite", body(3000)))
				alice.want("SIP/2.0 100")
				invite := udp.want("INVITE " + uri)
				if got := string(invite.TopVia().Transport); got != "UDP" || len(invite.Body()) != 3000 {
					t.Errorf("Via has transport %s and the body %d bytes, want UDP and 3000", got, len(invite.Body()))
				}
				if rr := values(invite, message.KindRecordRoute); len(rr) != 1 {
					t.Errorf("Record-Route = %q, want one", rr)
				}
				udp.send(s, response(invite, 200, "b"))
				alice.want("SIP/2.0 200")
				alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bKagain", "Call-ID: again", body(3000)))
				udp.want("MESSAGE " + uri)
				if n := s.edge.proxy.Transactions().TransportErrors.Load(); n != 1 {
					t.Errorf("TCP was refused %d times, want once: the second request has to go over UDP at once", n)
				}
			})
		}
	})
}

// P54: a large ACK is the first that finds TCP refused.
func TestP54LargeAckToUDPOnly(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, bare(bob), nil)
		route := "Route: " + call(s, alice, bob)[0]
		alice.send(s, alice.request(s, "ACK", "sip:bob@"+bob.addr(), "z9hG4bKack", route, "To: <sip:bob@example.com>;tag=b", body(3000)))
		if ack := bob.want("ACK"); string(ack.TopVia().Transport) != "UDP" || len(ack.Body()) != 3000 {
			t.Errorf("ACK has Via %s and a body of %d bytes, want UDP and 3000", ack.TopVia().Text, len(ack.Body()))
		}
	})
}

// P54: what was asked to go over UDP does, however large it is.
func TestP54FixedToUDP(t *testing.T) {
	targets := map[string]func(udp *client) *processorpb.MessageResponse{
		"transport parameter": func(udp *client) *processorpb.MessageResponse {
			return &processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: "sip:bob@" + udp.addr() + ";transport=udp"}}}
		},
		"next hop": toTarget,
		"changed request": func(udp *client) *processorpb.MessageResponse {
			uri := &sipmessagepb.SipURI{User: "bob", TransportParam: "udp"}
			uri.Host, uri.Port = hostPort(udp.addr())
			return &processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{MessageType: &sipmessagepb.SIPMessage_RequestUri{RequestUri: uri}}}
		},
		"no TCP here": func(udp *client) *processorpb.MessageResponse {
			return &processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: "sip:bob@" + udp.addr()}}}
		},
	}
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for name, target := range targets {
			t.Run(name, func(t *testing.T) {
				alice := udpClient(t)
				udp, tcp := both(t)
				s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) {
					r.Reply(bus.Reply{Body: bus.Value(target(udp))})
				}, func(cfg *Config) {
					if name == "no TCP here" {
						cfg.Spec.Transport = []Transport{{Protocol: "udp"}}
					}
				})
				alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1", body(3000)))
				udp.send(s, response(udp.want("MESSAGE"), 200, "b"))
				alice.want("SIP/2.0 200")
				tcp.noConnection()
			})
		}
	})
}

// P54: 1300 bytes are the most, counted as the request leaves.
func TestP54Boundary(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice := udpClient(t)
		udp, tcp := both(t)
		s := start(t, conn, bare(udp), nil)
		send := func(branch string, size int) {
			alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", branch, body(size)))
		}
		send("z9hG4bK1", 100)
		m := udp.want("MESSAGE")
		room := 1300 - len(m.Bytes())
		udp.send(s, response(m, 200, "b"))
		alice.want("SIP/2.0 200")
		send("z9hG4bK2", 100+room)
		m = udp.want("MESSAGE")
		if n := len(m.Bytes()); n != 1300 {
			t.Fatalf("the request has %d bytes, want 1300", n)
		}
		udp.send(s, response(m, 200, "b"))
		alice.want("SIP/2.0 200")
		send("z9hG4bK3", 100+room+1)
		tcp.send(s, response(tcp.want("MESSAGE"), 200, "b"))
		alice.want("SIP/2.0 200")
	})
}

// P54: a response always goes out the way its request came, in as many fragments as it takes.
func TestP54LargeResponse(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), tcpServer(t)
		s := start(t, conn, to(bob), nil)
		for i, size := range []int{8000, 60000} {
			branch := "z9hG4bK" + string(rune('a'+i))
			alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", branch))
			m := bob.want("MESSAGE")
			bob.send(s, string(message.AppendResponse(nil, m, &message.Response{Status: 200, ToTag: "b", Body: make([]byte, size)})))
			if n := len(alice.want("SIP/2.0 200").Body()); n != size {
				t.Errorf("the 200 has a body of %d bytes, want %d", n, size)
			}
		}
	})
}

// P55: a response that no datagram can carry does not get lost on its way to a caller over UDP: a final one is a 502,
// after which nothing else comes.
func TestP55TooLargeForUDP(t *testing.T) {
	const size = 100000
	modes(t, func(t *testing.T, conn *bus.Conn) {
		large := func(req *message.Message, status int) string {
			return string(message.AppendResponse(nil, req, &message.Response{Status: status, ToTag: "b", Body: make([]byte, size)}))
		}
		counted := func(t *testing.T, s *system, want int64) {
			t.Helper()
			if n := s.edge.proxy.Transactions().TooLarge.Load(); n != want {
				t.Errorf("%d responses counted as too large, want %d", n, want)
			}
		}
		t.Run("MESSAGE", func(t *testing.T) {
			alice, bob := udpClient(t), tcpServer(t)
			s := start(t, conn, to(bob), nil)
			text := alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1")
			alice.send(s, text)
			bob.send(s, large(bob.want("MESSAGE"), 200))
			first := alice.want("SIP/2.0 502 Bad Gateway")
			if len(first.ToTag()) == 0 || len(first.Body()) > 0 {
				t.Errorf("received\n%s\nwant a To tag and no body", first.Bytes())
			}
			alice.send(s, text)
			if again := alice.want("SIP/2.0 502"); !bytes.Equal(again.Bytes(), first.Bytes()) {
				t.Errorf("the MESSAGE that is sent again is answered with\n%s\nwant\n%s", again.Bytes(), first.Bytes())
			}
			counted(t, s, 1)
		})
		for _, status := range []int{200, 486, 603} {
			t.Run(fmt.Sprint("INVITE ", status), func(t *testing.T) {
				alice, bob := udpClient(t), tcpServer(t)
				timers := transaction.DefaultTimers()
				timers.T1 = patience // the 502 does not come again before its ACK
				s := startTimed(t, conn, to(bob), nil, timers)
				alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
				alice.want("SIP/2.0 100")
				invite := bob.want("INVITE")
				bob.send(s, large(invite, 183)+large(invite, status))
				refused := alice.want("SIP/2.0 502")
				alice.send(s, alice.request(s, "ACK", "sip:bob@example.com", "z9hG4bK1", "To: <sip:bob@example.com>;tag="+string(refused.ToTag())))
				if status == 200 { // unacknowledged, it comes again
					bob.send(s, large(invite, status))
				} else {
					bob.want("ACK")
				}
				bob.quiet(s)
				alice.quiet(s)
				counted(t, s, map[bool]int64{true: 3, false: 2}[status == 200])
			})
		}
		t.Run("a byte more than a datagram has", func(t *testing.T) {
			alice, bob := udpClient(t), tcpServer(t)
			s := start(t, conn, to(bob), nil)
			body := 65000
			answer := func(branch string) *message.Message {
				alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", branch))
				bob.send(s, string(message.AppendResponse(nil, bob.want("MESSAGE"), &message.Response{Status: 200, ToTag: "b", Body: make([]byte, body)})))
				return alice.next()
			}
			body += 65507 - len(answer("z9hG4bKa").Bytes())
			if m := answer("z9hG4bKb"); m.Status() != 200 || len(m.Bytes()) != 65507 {
				t.Errorf("received a %d of %d bytes, want a 200 of 65507", m.Status(), len(m.Bytes()))
			}
			body++
			if m := answer("z9hG4bKc"); m.Status() != 502 {
				t.Errorf("received a %d of %d bytes, want a 502", m.Status(), len(m.Bytes()))
			}
		})
		t.Run("TCP takes it", func(t *testing.T) {
			bob := tcpServer(t)
			s := start(t, conn, to(bob), nil)
			alice := s.tcpClient()
			alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1"))
			bob.send(s, large(bob.want("MESSAGE"), 200))
			if n := len(alice.want("SIP/2.0 200").Body()); n != size {
				t.Errorf("the 200 has a body of %d bytes, want %d", n, size)
			}
			counted(t, s, 0)
		})
	})
}

// P54: a request that no datagram can carry, to who has nothing but UDP, is a 500 at once.
func TestP54TooLargeForUDP(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		bob := udpClient(t)
		s := start(t, conn, to(bob), nil)
		alice := s.tcpClient()
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1", body(100000)))
		alice.want("SIP/2.0 500")
		bob.quiet(s)
	})
}
