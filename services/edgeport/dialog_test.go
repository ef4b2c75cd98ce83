package edgeport

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// A signed Route is for requests within its dialog. One without a To tag would begin a new dialog, such as a call to a
// gateway that trusts us, without anyone having decided that it may: it is dispatched.
func TestRouteWithoutDialogIsDispatched(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob, victim := udpClient(t), udpClient(t), udpClient(t)
		asked := make(chan string, 10)
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			asked <- req.Method.String()
			to(bob)(r, req)
		}, nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		invite := bob.want("INVITE")
		<-asked
		bob.send(s, response(invite, 486, "b"))
		alice.want("SIP/2.0 486")
		bob.want("ACK")
		alice.send(s, alice.request(s, "MESSAGE", "sip:victim@"+victim.addr(), "z9hG4bK2", "Route: "+values(invite, message.KindRecordRoute)[0]))
		bob.want("MESSAGE")
		if got := <-asked; got != "MESSAGE" {
			t.Errorf("dispatched %s, want MESSAGE", got)
		}
		victim.quiet(s)
	})
}

// Within a dialog a callee that can be reached at its Contact is reached there, whatever way the INVITE took to it.
func TestP32AckFollowsContact(t *testing.T) {
	decisions := map[string]func(c *client) *processorpb.MessageResponse{
		"target": toTarget,
		"changed request": func(c *client) *processorpb.MessageResponse {
			host, port, _ := net.SplitHostPort(c.addr())
			uri := &sipmessagepb.SipURI{User: "bob", Host: host}
			fmt.Sscan(port, &uri.Port)
			return &processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{
				MessageType: &sipmessagepb.SIPMessage_RequestUri{RequestUri: uri},
			}}
		},
		"name": func(c *client) *processorpb.MessageResponse {
			_, port, _ := net.SplitHostPort(c.addr())
			return &processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: "sip:bob@localhost:" + port}}}
		},
	}
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for name, decision := range decisions {
			t.Run(name, func(t *testing.T) {
				alice, bob, phone := udpClient(t), udpClient(t), udpClient(t)
				s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) {
					r.Reply(bus.Reply{Body: bus.Value(decision(bob))})
				}, nil)
				alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
				alice.want("SIP/2.0 100")
				invite := bob.want("INVITE")
				bob.send(s, response(invite, 200, "b", "Contact: <sip:bob@"+phone.addr()+">"))
				route := "Route: " + values(alice.want("SIP/2.0 200"), message.KindRecordRoute)[0]
				alice.send(s, alice.request(s, "ACK", "sip:bob@"+phone.addr(), "z9hG4bK2", route, "To: <sip:bob@example.com>;tag=b"))
				bob.quiet(s)
				phone.want("ACK sip:bob@" + phone.addr())
			})
		}
	})
}

// Of a callee behind a NAT the Contact is of no use: the rest of the dialog goes where the INVITE went.
func TestAckToCalleeBehindNAT(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) {
			answer := toTarget(bob)
			answer.Targets[0].Uri = "sip:bob@192.0.2.1"
			r.Reply(bus.Reply{Body: bus.Value(answer)})
		}, nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		bob.send(s, response(bob.want("INVITE"), 200, "b", "Contact: <sip:bob@192.0.2.1>"))
		route := "Route: " + values(alice.want("SIP/2.0 200"), message.KindRecordRoute)[0]
		alice.send(s, alice.request(s, "ACK", "sip:bob@192.0.2.1", "z9hG4bK2", route, "To: <sip:bob@example.com>;tag=b"))
		bob.want("ACK sip:bob@192.0.2.1")
	})
}

// P2, RFC 4320 4: nobody but the next hop hears a provisional response to a request that is not an INVITE, and a 408 to
// it is not sent on.
func TestP2NonInvite(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1"))
		m := bob.want("MESSAGE")
		bob.send(s, response(m, 183, "b"))
		bob.send(s, response(m, 200, "b"))
		alice.want("SIP/2.0 200")
		alice.send(s, alice.request(s, "INFO", "sip:bob@example.com", "z9hG4bK2"))
		m = bob.want("INFO")
		bob.send(s, response(m, 408, "b"))
		bob.send(s, response(m, 200, "b"))
		bob.quiet(s) // so both were received
		alice.quiet(s)
		if n := s.edge.proxy.Transactions().Servers.Load(); n != 1 {
			t.Errorf("%d server transactions, want that of the MESSAGE alone", n)
		}
	})
}

// The Route set that a processor returns is the one that leaves, also what it has kept of the sender's; but not the
// sender's Route to ourselves.
func TestRouteOfProcessor(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, name := range []string{"takes ours away", "puts another before ours"} {
			t.Run(name, func(t *testing.T) {
				alice, bob := udpClient(t), udpClient(t)
				s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
					changed := proto.Clone(req.Message).(*sipmessagepb.SIPMessage)
					if name == "takes ours away" {
						changed.Route = changed.Route[1:]
					} else {
						next := &sipmessagepb.SipURI{Host: "127.0.0.1", LrParam: true}
						_, port, _ := net.SplitHostPort(bob.addr())
						fmt.Sscan(port, &next.Port)
						changed.Route = append([]*sipmessagepb.Route{{Address: &sipmessagepb.Address{Uri: next}}}, changed.Route...)
					}
					r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Message: changed})})
				}, nil)
				want := "<sip:" + bob.addr() + ";lr>"
				route := "Route: <sip:" + s.udp + ";lr>"
				if name == "takes ours away" {
					route += ", " + want
				}
				alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1", route))
				if got := values(bob.want("MESSAGE sip:bob@example.com"), message.KindRoute); len(got) != 1 || got[0] != want {
					t.Errorf("Route = %q, want %q", got, want)
				}
			})
		}
	})
}

// A target that is this EdgePort is told from another one by its address, even if the EdgePort listens on all of them,
// or by the address that the world reaches us by: the request would come back until its Max-Forwards is used up.
func TestTargetIsOurselves(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for name, tt := range map[string]struct {
			bind, external, target string
		}{
			"one address":      {"127.0.0.1", "", "127.0.0.1"},
			"all addresses":    {"0.0.0.0", "", "127.0.0.1"},
			"external address": {"127.0.0.1", "192.0.2.1", "192.0.2.1"},
		} {
			t.Run(name, func(t *testing.T) {
				alice := udpClient(t)
				s := start(t, conn, nil, func(cfg *Config) {
					cfg.Spec.BindAddr = tt.bind
					if tt.external != "" {
						cfg.Spec.ExternalAddrs = []string{tt.external}
					}
				})
				_, port, _ := net.SplitHostPort(s.udp)
				s.udp = "127.0.0.1:" + port
				serve(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) {
					r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: "sip:bob@" + tt.target + ":" + port}}})})
				})
				alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1"))
				alice.want("SIP/2.0 482")
				if n := s.edge.proxy.Counts().Dispatched.Load(); n != 1 {
					t.Errorf("dispatched %d times, want once", n)
				}
			})
		}
	})
}

// A phone may have the UDP port whose number is that of a TCP port of ours, on the same address.
func TestTargetHasOurNumber(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice := udpClient(t)
		bob, place := both(t)
		place.listener.Close()
		s := start(t, conn, to(bob), func(cfg *Config) {
			_, port, _ := net.SplitHostPort(bob.addr())
			tcp := Transport{Protocol: "tcp"}
			fmt.Sscan(port, &tcp.Port)
			cfg.Spec.Transport = []Transport{tcp, {Protocol: "udp"}}
		})
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1"))
		bob.send(s, response(bob.want("MESSAGE"), 200, "b"))
		alice.want("SIP/2.0 200")
	})
}

// A request that the additions of the proxy would push over a limit is not taken in: the copy that was sent on has to be
// read again to make its ACK and its CANCEL.
func TestNoRoomForAdditions(t *testing.T) {
	var full []string
	for i := range 256 - 8 { // besides the 7 that every request has, and Content-Length
		full = append(full, fmt.Sprintf("X-Field: %d", i))
	}
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, tt := range []struct {
			name   string
			fields []string
			answer string // none: it is dropped
		}{
			{"headers", full, ""},
			{"bytes of headers", []string{"X: " + strings.Repeat("x", message.MaxHead-1000)}, ""},
			{"bytes", []string{"\r\n" + strings.Repeat("x", message.MaxSize-1000)}, "SIP/2.0 513"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				s := start(t, conn, nil, nil)
				alice := s.tcpClient()
				alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1", tt.fields...))
				if tt.answer != "" {
					alice.want(tt.answer)
				}
				alice.wantEnd(0)
				if n := s.edge.proxy.Counts().Dispatched.Load(); n != 0 {
					t.Errorf("dispatched %d requests, want none", n)
				}
			})
		}
	})
}

// EdgePorts share the keys of their tokens, but each takes its own Route and no other: a call through two of them goes
// through both to its end.
func TestRouteOfAnotherEdgePort(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		second := start(t, conn, nil, func(cfg *Config) { cfg.Ref = "second" })
		first := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			if req.EdgePortRef == "second" {
				to(bob)(r, req)
				return
			}
			r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: "sip:bob@" + second.udp}}})})
		}, nil)
		alice.send(first, alice.request(first, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		bob.send(second, response(bob.want("INVITE"), 200, "b", "Contact: <sip:bob@"+bob.addr()+">"))
		rr := values(alice.want("SIP/2.0 200"), message.KindRecordRoute)
		if len(rr) != 2 {
			t.Fatalf("Record-Route = %q, want one of each EdgePort", rr)
		}
		alice.send(first, alice.request(first, "ACK", "sip:bob@"+bob.addr(), "z9hG4bK2", "Route: "+rr[1], "Route: "+rr[0], "To: <sip:bob@example.com>;tag=b"))
		if vias := values(bob.want("ACK"), message.KindVia); len(vias) != 3 || !strings.Contains(vias[0], second.udp) {
			t.Errorf("ACK came by way of %q, want both EdgePorts", vias)
		}
	})
}

// Our own address in a network behind a NAT, as localnets gives it, is ours in a Route as well.
func TestRouteToAddressInLocalnet(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), func(cfg *Config) { cfg.Spec.Localnets = []string{"127.0.0.77/8"} })
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		bob.send(s, response(bob.want("INVITE"), 200, "b"))
		route := values(alice.want("SIP/2.0 200"), message.KindRecordRoute)[0]
		if !strings.Contains(route, "@127.0.0.77:") {
			t.Fatalf("Record-Route = %s, want it at 127.0.0.77", route)
		}
		alice.send(s, alice.request(s, "ACK", "sip:bob@"+bob.addr(), "z9hG4bK2", "Route: "+route, "To: <sip:bob@example.com>;tag=b"))
		bob.want("ACK")
	})
}

// A connection that we opened has a port of its own, and may have an address of its own: what the callee is told is where
// we listen, on TCP if anywhere.
func TestConnectionThatWeOpened(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for name, change := range map[string]func(cfg *Config){
			"no TCP listener":                  func(cfg *Config) { cfg.Spec.Transport = []Transport{{Protocol: "udp"}} },
			"listening on another address":     func(cfg *Config) { cfg.Spec.BindAddr = "127.0.0.2" },
			"listening on all of this machine": func(cfg *Config) { cfg.Spec.BindAddr = "0.0.0.0" },
		} {
			t.Run(name, func(t *testing.T) {
				alice, bob := udpClient(t), tcpServer(t)
				s := start(t, conn, to(bob), change)
				s.udp = strings.Replace(s.udp, "0.0.0.0", "127.0.0.1", 1)
				alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
				alice.want("SIP/2.0 100")
				bob.send(s, response(bob.want("INVITE"), 200, "b"))
				rr := values(alice.want("SIP/2.0 200"), message.KindRecordRoute)
				if len(rr) != 2 {
					t.Fatalf("Record-Route = %q, want one for each side", rr)
				}
				alice.send(s, alice.request(s, "ACK", "sip:bob@"+bob.addr()+";transport=tcp", "z9hG4bK2", "Route: "+rr[1], "Route: "+rr[0], "To: <sip:bob@example.com>;tag=b"))
				bob.want("ACK")
				bob.send(s, bob.request(s, "BYE", "sip:alice@"+alice.addr(), "z9hG4bK3", "Route: "+rr[0], "Route: "+rr[1],
					"From: <sip:bob@example.com>;tag=b", "To: <sip:alice@example.com>;tag=alice-tag"))
				alice.want("BYE")
			})
		}
	})
}
