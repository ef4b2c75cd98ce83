package edgeport

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// dialog is a call between two clients over one EdgePort.
type dialog struct {
	s          *system
	alice, bob *client
	invite     *message.Message // as bob got it
	route      string           // of both: where they speak the same transport there is one Record-Route
}

// earlyDialog starts a call that rings at bob's, over UDP or over TCP for both. Its 180 has formed an early dialog.
func earlyDialog(t *testing.T, conn *bus.Conn, bob *client) *dialog {
	t.Helper()
	d := &dialog{bob: bob}
	dispatched := false
	d.s = start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
		if dispatched {
			t.Errorf("dispatched %s, want the INVITE alone", req.Method)
		}
		dispatched = true
		to(bob)(r, req)
	}, nil)
	if d.alice = udpClient(t); bob.tcp() {
		d.alice = d.s.tcpClient()
	}
	d.alice.send(d.s, d.alice.request(d.s, "INVITE", "sip:bob@example.com", "z9hG4bKinvite"))
	d.alice.want("SIP/2.0 100")
	d.invite = bob.want("INVITE")
	bob.send(d.s, response(d.invite, 180, "bob-tag", d.contact()))
	d.route = "Route: " + values(d.alice.want("SIP/2.0 180"), message.KindRecordRoute)[0]
	return d
}

func (d *dialog) contact() string { return "Contact: <" + d.bobURI() + ">" }

func (d *dialog) bobURI() string {
	if d.bob.tcp() {
		return "sip:bob@" + d.bob.addr() + ";transport=tcp"
	}
	return "sip:bob@" + d.bob.addr()
}

// answer lets bob answer.
func (d *dialog) answer() {
	d.bob.send(d.s, response(d.invite, 200, "bob-tag", d.contact()))
	d.alice.want("SIP/2.0 200")
}

// fromAlice sends a request of alice to bob.
func (d *dialog) fromAlice(method, branch string) {
	d.alice.send(d.s, d.alice.request(d.s, method, d.bobURI(), branch, d.route, "CSeq: 9 "+method, "To: <sip:bob@example.com>;tag=bob-tag"))
}

// fromBob sends a request of bob to alice.
func (d *dialog) fromBob(method, branch string) {
	d.bob.send(d.s, d.bob.request(d.s, method, "sip:alice@"+d.alice.addr(), branch, d.route, "CSeq: 7 "+method,
		"From: <sip:bob@example.com>;tag=bob-tag", "To: <sip:alice@example.com>;tag=alice-tag"))
}

// exchange sends requests in both directions, each of which is answered.
func (d *dialog) exchange(t *testing.T, methods ...string) {
	t.Helper()
	for _, method := range methods {
		for name, way := range map[string]struct {
			from, to *client
			send     func(method, branch string)
		}{"to bob": {d.alice, d.bob, d.fromAlice}, "to alice": {d.bob, d.alice, d.fromBob}} {
			way.send(method, "z9hG4bK"+method+strings.ReplaceAll(name, " ", ""))
			if method == "INVITE" {
				way.from.want("SIP/2.0 100")
			}
			m := way.to.want(method)
			if m.Count(message.KindRoute) != 0 {
				t.Errorf("%s %s has Route %q, want none", method, name, values(m, message.KindRoute))
			}
			way.to.send(d.s, response(m, 200, ""))
			way.from.want("SIP/2.0 200")
		}
	}
}

// P58: every request of a dialog, from either side, is routed by its Route, with no question to the dispatcher.
func TestP58InDialog(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for name, bob := range map[string]func(*testing.T) *client{"UDP": udpClient, "TCP": tcpServer} {
			t.Run(name, func(t *testing.T) {
				d := earlyDialog(t, conn, bob(t))
				d.answer()
				d.fromAlice("ACK", "z9hG4bKack")
				d.bob.want("ACK")
				d.exchange(t, "INVITE", "UPDATE", "INFO", "PRACK", "REFER", "NOTIFY", "MESSAGE", "SUBSCRIBE", "OPTIONS", "BYE")
			})
		}
	})
}

// P59: so are those of a dialog that is still early.
func TestP59EarlyDialog(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for name, bob := range map[string]func(*testing.T) *client{"UDP": udpClient, "TCP": tcpServer} {
			t.Run(name, func(t *testing.T) {
				d := earlyDialog(t, conn, bob(t))
				d.exchange(t, "PRACK", "UPDATE", "INFO")
				d.answer()
			})
		}
	})
}

// P32, P33: each 2xx that the callee sends again reaches the caller, until an ACK has gone all the way. The ACK has a
// branch of its own, the same one when it is sent again.
func TestP32P33LostAck(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for name, bob := range map[string]func(*testing.T) *client{"UDP": udpClient, "TCP": tcpServer} {
			t.Run(name, func(t *testing.T) {
				d := earlyDialog(t, conn, bob(t))
				for range 3 { // whose ACKs are lost
					d.answer()
				}
				var branches []string
				for range 2 {
					d.fromAlice("ACK", "z9hG4bKack")
					ack := d.bob.want("ACK " + d.bobURI())
					branches = append(branches, string(ack.TopVia().Branch))
					d.answer()
				}
				if branches[0] != branches[1] || branches[0] == string(d.invite.TopVia().Branch) {
					t.Errorf("ACKs have branches %q, want one that is not the INVITE's", branches)
				}
			})
		}
	})
}

// P30, P31: a refusal is acknowledged once at each hop: by us to the callee, and by the caller to us.
func TestP30P31AckHopByHop(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		bob := udpClient(t)
		s := start(t, conn, to(bob), nil)
		for _, alice := range []*client{udpClient(t), s.tcpClient()} {
			alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
			alice.want("SIP/2.0 100")
			invite := bob.want("INVITE")
			bob.send(s, response(invite, 486, "b"))
			ack := bob.want("ACK sip:bob@" + bob.addr() + " SIP/2.0")
			if got, want := string(ack.TopVia().Branch), string(invite.TopVia().Branch); got != want || ack.Count(message.KindVia) != 1 {
				t.Errorf("ACK has Via %q, want ours alone with the INVITE's branch %s", values(ack, message.KindVia), want)
			}
			alice.want("SIP/2.0 486")
			alice.send(s, alice.request(s, "ACK", "sip:bob@example.com", "z9hG4bK1", "To: <sip:bob@example.com>;tag=b"))
			bob.quiet(s)
			alice.quiet(s)
		}
		if n := s.edge.proxy.Counts().StrayAcks.Load(); n != 0 {
			t.Errorf("%d ACKs were strays, want none", n)
		}
	})
}

// P56: the tag of a callee is its own; a final response of ours has one, and a 100 has none.
func TestP56ToTag(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		bob := udpClient(t)
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			if req.Method == processorpb.Method_MESSAGE {
				r.Fail(bus.Errorf(bus.NotFound, "as the test wants it"))
				return
			}
			to(bob)(r, req)
		}, nil)
		alice := udpClient(t)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		tags := []string{string(alice.want("SIP/2.0 100").ToTag())}
		invite := bob.want("INVITE")
		for _, status := range []int{180, 183, 200} {
			tag := fmt.Sprint("bob-", status)
			bob.send(s, response(invite, status, tag))
			tags = append(tags, string(alice.want(fmt.Sprint("SIP/2.0 ", status)).ToTag()))
		}
		if diff := cmp.Diff([]string{"", "bob-180", "bob-183", "bob-200"}, tags); diff != "" {
			t.Errorf("tags (-want +got):\n%s", diff)
		}
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK2"))
		if m := alice.want("SIP/2.0 404"); len(m.ToTag()) == 0 {
			t.Errorf("a 404 of ours has no To tag:\n%s", m.Bytes())
		}
	})
}

// P55: a response that is beyond what a message may have ends the connection that it came on, and nothing else.
func TestP55HugeResponse(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), tcpServer(t)
		s := start(t, conn, to(bob), nil)
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1"))
		text := response(bob.want("MESSAGE"), 200, "b")
		head, _, _ := strings.Cut(text, "Content-Length")
		huge := fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, message.MaxSize, strings.Repeat("x", message.MaxSize))
		_, _ = bob.stream.Write([]byte(huge)) // fails, as it may have been closed meanwhile
		if m, err := bob.read(patience); err == nil {
			t.Fatalf("bob received\n%s\nwant the end of the connection", m.Bytes())
		}
		bob.stream, bob.buf = nil, nil

		carol := udpClient(t)
		carol.send(s, carol.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK2"))
		bob.send(s, response(bob.want("MESSAGE"), 200, "b")) // on another connection
		carol.want("SIP/2.0 200")
	})
}

// E7: a 180 and a 200 that come back to back leave in that order, every time.
func TestE7Order(t *testing.T) {
	const pairs = 200
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for name, bob := range map[string]func(*testing.T) *client{"UDP": udpClient, "TCP": tcpServer} {
			t.Run(name, func(t *testing.T) {
				bob := bob(t)
				s := start(t, conn, to(bob), nil)
				alice := udpClient(t)
				if bob.tcp() {
					alice = s.tcpClient()
				}
				for i := range pairs {
					callID := fmt.Sprint("call-", i)
					alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", fmt.Sprint("z9hG4bK", i), "Call-ID: "+callID))
					alice.want("SIP/2.0 100")
					invite := bob.want("INVITE")
					for string(invite.CallID()) != callID { // of an earlier call, sent again
						invite = bob.want("INVITE")
					}
					ringing, ok := response(invite, 180, "b"), response(invite, 200, "b")
					if bob.tcp() {
						bob.send(s, ringing+ok)
					} else {
						bob.send(s, ringing)
						bob.send(s, ok)
					}
					alice.want("SIP/2.0 180")
					alice.want("SIP/2.0 200")
				}
			})
		}
	})
}
