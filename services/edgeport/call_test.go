package edgeport

import (
	"strings"
	"testing"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// A whole call through the proxy: who gets which message, and what the proxy adds to it.
func TestCall(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		seen := make(chan *processorpb.MessageRequest, 10)
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			seen <- req
			to(bob)(r, req)
		}, nil)

		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bKinvite", "X-Odd :  kept as it is", "\r\nbody"))
		alice.want("SIP/2.0 100 Trying")
		invite := bob.want("INVITE sip:bob@" + bob.addr() + " SIP/2.0")
		if n, _ := invite.MaxForwards(); n != 69 {
			t.Errorf("P4: Max-Forwards = %d, want 69", n)
		}
		vias := values(invite, message.KindVia)
		_, alicePort, _ := strings.Cut(alice.addr(), ":")
		if len(vias) != 2 || !strings.HasPrefix(vias[0], "SIP/2.0/UDP "+s.udp+";branch=z9hG4bK") {
			t.Errorf("P22: Via = %q, want that of %s on top", vias, s.udp)
		} else if !strings.Contains(vias[1], ";received=127.0.0.1") || !strings.Contains(vias[1], ";rport="+alicePort) {
			t.Errorf("P23, P24: the caller's Via = %q, want received and rport", vias[1])
		}
		if rr := values(invite, message.KindRecordRoute); len(rr) != 1 || !strings.HasSuffix(rr[0], "@"+s.udp+";lr>") {
			t.Errorf("P18: Record-Route = %q, want one of %s", rr, s.udp)
		}
		if !strings.Contains(string(invite.Bytes()), "\r\nX-Odd :  kept as it is\r\n") || string(invite.Body()) != "body" {
			t.Errorf("P16: what the proxy does not understand has changed:\n%s", invite.Bytes())
		}

		bob.send(s, response(invite, 180, "bob-tag"))
		alice.want("SIP/2.0 180 Ringing")
		bob.send(s, response(invite, 200, "bob-tag", "Contact: <sip:bob@"+bob.addr()+">"))
		ok := alice.want("SIP/2.0 200 OK")
		if v := values(ok, message.KindVia); len(v) != 1 {
			t.Errorf("200 has Via %q, want the caller's alone", v)
		}

		route := "Route: " + values(ok, message.KindRecordRoute)[0]
		toTag := "To: <sip:bob@example.com>;tag=bob-tag"
		alice.send(s, alice.request(s, "ACK", "sip:bob@"+bob.addr(), "z9hG4bKack", route, toTag))
		if ack := bob.want("ACK sip:bob@" + bob.addr()); ack.Count(message.KindRoute) != 0 {
			t.Errorf("P10: ACK has Route %q, want none", values(ack, message.KindRoute))
		}
		// P58: requests in both directions.
		alice.send(s, alice.request(s, "INFO", "sip:bob@"+bob.addr(), "z9hG4bKinfo", route, toTag, "CSeq: 2 INFO"))
		bob.send(s, response(bob.want("INFO sip:bob@"), 200, ""))
		alice.want("SIP/2.0 200 OK")
		bob.send(s, bob.request(s, "BYE", "sip:alice@"+alice.addr(), "z9hG4bKbye", route,
			"From: <sip:bob@example.com>;tag=bob-tag", "To: <sip:alice@example.com>;tag=alice-tag"))
		alice.send(s, response(alice.want("BYE sip:alice@"+alice.addr()), 200, ""))
		bob.want("SIP/2.0 200 OK")

		if req := <-seen; req.Sender.Host != "127.0.0.1" || req.EdgePortRef != "edge-under-test" || req.Ref != "call-1" {
			t.Errorf("dispatched %v, want sender 127.0.0.1, edge-under-test, call-1", req)
		}
		if n := len(seen); n != 0 {
			t.Errorf("%d requests of the dialog were dispatched, want none: it has a signed Route", n)
		}
	})
}

// P19: where the sides differ in transport, each gets a Record-Route of its own, and requests take the right leg both
// ways. A client that opened its connection is reached on it, whatever its Contact says.
func TestP19TransportChange(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, name := range []string{"TCP to UDP", "UDP to TCP"} {
			t.Run(name, func(t *testing.T) {
				var s *system
				var alice, bob *client
				if name == "TCP to UDP" {
					bob = udpClient(t)
					s = start(t, conn, to(bob), nil)
					alice = s.tcpClient()
				} else {
					alice, bob = udpClient(t), tcpServer(t)
					s = start(t, conn, to(bob), nil)
				}
				contact := "Contact: <sip:alice@nowhere.invalid;transport=tcp>"
				if !alice.tcp() {
					contact = "Contact: <sip:alice@" + alice.addr() + ">"
				}
				alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bKinvite", contact))
				alice.want("SIP/2.0 100")
				invite := bob.want("INVITE")
				rr := values(invite, message.KindRecordRoute)
				if len(rr) != 2 || strings.Contains(rr[0], "transport=tcp") != bob.tcp() || strings.Contains(rr[1], "transport=tcp") != alice.tcp() {
					t.Fatalf("Record-Route = %q, want the callee's side on top of the caller's", rr)
				}
				bob.send(s, response(invite, 200, "bob-tag"))
				alice.want("SIP/2.0 200")
				bobURI := "sip:bob@" + bob.addr()
				if bob.tcp() {
					bobURI += ";transport=tcp"
				}
				fromAlice := []string{"Route: " + rr[1] + ", " + rr[0], "To: <sip:bob@example.com>;tag=bob-tag"}
				alice.send(s, alice.request(s, "ACK", bobURI, "z9hG4bKack", fromAlice...))
				if ack := bob.want("ACK"); ack.Count(message.KindRoute) != 0 {
					t.Errorf("ACK has Route %q, want none", values(ack, message.KindRoute))
				}
				bob.send(s, bob.request(s, "BYE", "sip:alice@nowhere.invalid;transport=tcp", "z9hG4bKbye", "Route: "+rr[0], "Route: "+rr[1],
					"From: <sip:bob@example.com>;tag=bob-tag", "To: <sip:alice@example.com>;tag=alice-tag"))
				if !alice.tcp() {
					bob.want("SIP/2.0 404") // no flow in the token, and no address in the Request-URI
					return
				}
				alice.send(s, response(alice.want("BYE"), 200, ""))
				bob.want("SIP/2.0 200")
			})
		}
	})
}

// P60: a Route that we did not sign for this Call-ID is no way around the dispatcher, and none to anywhere.
func TestP60ForgedRouteIsDispatched(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob, victim := udpClient(t), udpClient(t), udpClient(t)
		asked := make(chan string, 10)
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			asked <- req.Ref
			to(bob)(r, req)
		}, nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		invite := bob.want("INVITE")
		bob.send(s, response(invite, 180, "bob-tag")) // or it comes again
		alice.want("SIP/2.0 180")
		rr := values(invite, message.KindRecordRoute)[0]
		<-asked
		token, host, _ := strings.Cut(strings.TrimPrefix(rr, "<sip:"), "@")
		flipped := []byte(token)
		if c := &flipped[len(flipped)-3]; *c == 'A' {
			*c = 'B'
		} else {
			*c = 'A'
		}
		for name, route := range map[string]string{
			"of another call":  "Route: " + rr,
			"one byte flipped": "Route: <sip:" + string(flipped) + "@" + host,
			"no token":         "Route: <sip:" + s.udp + ";lr>",
			"to a stranger":    "Route: <sip:" + victim.addr() + ";lr>",
			"us, and then him": "Route: <sip:" + s.udp + ";lr>, <sip:" + victim.addr() + ";lr>",
		} {
			callID := "call-" + strings.ReplaceAll(name, " ", "-")
			alice.send(s, alice.request(s, "MESSAGE", "sip:victim@"+victim.addr(), "z9hG4bK"+callID, "Call-ID: "+callID, route))
			m := bob.want("MESSAGE")
			if got := <-asked; got != callID || m.Count(message.KindRoute) != 0 {
				t.Errorf("%s: dispatched %s and forwarded with Route %q, want %s and none", name, got, values(m, message.KindRoute), callID)
			}
			bob.send(s, response(m, 200, "b"))
			alice.want("SIP/2.0 200")
		}
		victim.quiet(s)
	})
}

// P34, P30, P31: CANCEL while it rings. 200 to the CANCEL, then the callee's 487, each ACK hop by hop.
func TestP30P31P34CancelWhileRinging(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		invite := bob.want("INVITE")
		bob.send(s, response(invite, 180, "b"))
		alice.want("SIP/2.0 180")
		alice.send(s, alice.request(s, "CANCEL", "sip:bob@example.com", "z9hG4bK1"))
		if m := alice.want("SIP/2.0 200"); m.CSeqMethod() != message.CANCEL {
			t.Fatalf("the 200 answers %v, want CANCEL", m.CSeqMethod())
		}
		cancel := bob.want("CANCEL sip:bob@" + bob.addr())
		if got, want := string(cancel.TopVia().Branch), string(invite.TopVia().Branch); got != want {
			t.Errorf("CANCEL has branch %s, want the INVITE's %s", got, want)
		}
		bob.send(s, response(cancel, 200, "b"))
		bob.send(s, response(invite, 487, "b"))
		bob.want("ACK")
		alice.want("SIP/2.0 487")
		alice.send(s, alice.request(s, "ACK", "sip:bob@example.com", "z9hG4bK1", "To: <sip:bob@example.com>;tag=b"))
		bob.quiet(s)
		alice.quiet(s)
	})
}

// P37: a CANCEL that crosses the 200. The caller gets the 200, not a 487.
func TestP37CancelCrosses200(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		invite := bob.want("INVITE")
		bob.send(s, response(invite, 180, "b"))
		alice.want("SIP/2.0 180")
		alice.send(s, alice.request(s, "CANCEL", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 200")
		cancel := bob.want("CANCEL")
		bob.send(s, response(invite, 200, "b"))
		ok := alice.want("SIP/2.0 200")
		if ok.CSeqMethod() != message.INVITE {
			t.Errorf("the second 200 answers %v, want INVITE", ok.CSeqMethod())
		}
		bob.send(s, response(cancel, 481, "b"))
		alice.quiet(s)
		for _, method := range []string{"ACK", "BYE"} {
			alice.send(s, alice.request(s, method, "sip:bob@"+bob.addr(), "z9hG4bK"+method, "Route: "+values(ok, message.KindRecordRoute)[0],
				"To: <sip:bob@example.com>;tag=b"))
			bob.want(method)
		}
	})
}

// P34: a CANCEL that comes before the decision ends the request at once: the callee never hears of it.
func TestP34CancelBeforeDecision(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		held := make(chan *bus.Request, 1)
		s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) { held <- r }, nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		r := <-held
		alice.send(s, alice.request(s, "CANCEL", "sip:bob@example.com", "z9hG4bK1"))
		if m := alice.want("SIP/2.0 200"); m.CSeqMethod() != message.CANCEL {
			t.Fatalf("the 200 answers %v, want CANCEL", m.CSeqMethod())
		}
		alice.want("SIP/2.0 487")
		r.Reply(bus.Reply{Body: bus.Value(toTarget(bob))})
		bob.quiet(s)
	})
}

// P38: a CANCEL from another address than the INVITE's matches nothing.
func TestP38ForgedCancel(t *testing.T) {
	alice, bob := udpClient(t), udpClient(t)
	modes(t, func(t *testing.T, conn *bus.Conn) {
		s := start(t, conn, to(bob), nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		invite := bob.want("INVITE")
		mallory := s.tcpClient()
		mallory.send(s, strings.Replace(alice.request(s, "CANCEL", "sip:bob@example.com", "z9hG4bK1"), "/UDP", "/TCP", 1))
		mallory.want("SIP/2.0 481")
		bob.send(s, response(invite, 486, "b"))
		bob.want("ACK")
		alice.want("SIP/2.0 486")
	})
}

// A target that answers without the Vias below ours, as a broken one did with 487: the caller hears of it all the same.
func TestResponseWithoutVias(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1"))
		text := response(bob.want("MESSAGE"), 486, "b", "X-Reason: lunch")
		vias := strings.SplitAfter(text, "\r\n")
		if !strings.HasPrefix(vias[2], "Via: ") {
			t.Fatalf("response has no second Via:\n%s", text)
		}
		bob.send(s, strings.Join(append(vias[:2:2], vias[3:]...), ""))
		if m := alice.want("SIP/2.0 486 Busy Here"); header(m, "X-Reason") != "lunch" || m.Count(message.KindVia) != 1 {
			t.Errorf("alice received\n%s\nwant X-Reason and her own Via", m.Bytes())
		} else if string(m.ToTag()) != "b" {
			t.Errorf("P56: To tag = %s, want the target's", m.ToTag())
		}
	})
}
