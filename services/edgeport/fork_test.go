package edgeport

import (
	"strings"
	"testing"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// toAll is the decision to send a request to several clients; ranks are their q-values in thousandths.
func toAll(clients []*client, q ...int32) decider {
	answer := new(processorpb.MessageResponse)
	for i, c := range clients {
		t := toTarget(c).Targets[0]
		t.Q = 1000
		if len(q) > 0 {
			t.Q = q[i]
		}
		answer.Targets = append(answer.Targets, t)
	}
	return func(r *bus.Request, _ *processorpb.MessageRequest) { r.Reply(bus.Reply{Body: bus.Value(answer)}) }
}

// fork starts an EdgePort whose calls go to all of the phones, and a call of alice.
func fork(t *testing.T, conn *bus.Conn, phones []*client, q ...int32) (s *system, alice *client) {
	t.Helper()
	alice = udpClient(t)
	s = start(t, conn, toAll(phones, q...), nil)
	alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
	alice.want("SIP/2.0 100")
	return s, alice
}

// P39, P40: two phones ring; the one that answers gets the call, the other one a CANCEL.
func TestP39P40FirstToAnswer(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		desk, mobile := udpClient(t), udpClient(t)
		s, alice := fork(t, conn, []*client{desk, mobile})
		a, b := desk.want("INVITE"), mobile.want("INVITE")
		if x, y := string(a.TopVia().Branch), string(b.TopVia().Branch); x == y {
			t.Errorf("both copies have branch %s, want two", x)
		}
		desk.send(s, response(a, 180, "desk"))
		alice.want("SIP/2.0 180")
		mobile.send(s, response(b, 183, "mobile"))
		alice.want("SIP/2.0 183")
		desk.send(s, response(a, 200, "desk"))
		if ok := alice.want("SIP/2.0 200"); string(ok.ToTag()) != "desk" {
			t.Errorf("200 has tag %s, want desk", ok.ToTag())
		}
		cancel := mobile.want("CANCEL")
		mobile.send(s, response(cancel, 200, "mobile"))
		mobile.send(s, response(b, 487, "mobile"))
		mobile.want("ACK")
		alice.quiet(s)
		desk.quiet(s)
	})
}

// P40: both answer before the CANCEL arrives. The caller gets both 200s (RFC 3261 16.7 step 5), one dialog each.
func TestP40BothAnswer(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		desk, mobile := udpClient(t), udpClient(t)
		s, alice := fork(t, conn, []*client{desk, mobile})
		a, b := desk.want("INVITE"), mobile.want("INVITE")
		desk.send(s, response(a, 200, "desk"))
		alice.want("SIP/2.0 200")
		mobile.send(s, response(b, 200, "mobile"))
		if ok := alice.want("SIP/2.0 200"); string(ok.ToTag()) != "mobile" {
			t.Errorf("the second 200 has tag %s, want mobile", ok.ToTag())
		}
	})
}

// P41: a 6xx ends the call for all phones, when they have heard of it.
func TestP41Decline(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		desk, mobile, never := udpClient(t), udpClient(t), udpClient(t)
		s, alice := fork(t, conn, []*client{desk, mobile, never}, 1000, 1000, 500)
		a, b := desk.want("INVITE"), mobile.want("INVITE")
		mobile.send(s, response(b, 180, "mobile"))
		alice.want("SIP/2.0 180")
		desk.send(s, response(a, 603, "desk"))
		desk.want("ACK")
		cancel := mobile.want("CANCEL")
		mobile.send(s, response(cancel, 200, "mobile"))
		mobile.send(s, response(b, 487, "mobile"))
		mobile.want("ACK")
		alice.want("SIP/2.0 603")
		never.quiet(s)
	})
}

// P42: the best response goes back, and the client gets every challenge.
func TestP42BestResponse(t *testing.T) {
	challenge := func(realm string) string { return `Proxy-Authenticate: Digest realm="` + realm + `", nonce="n"` }
	tests := []struct {
		name   string
		first  int
		second int
		want   string
	}{
		{"lowest class", 500, 404, "SIP/2.0 404"},
		{"3xx is below 4xx", 486, 302, "SIP/2.0 302"},
		{"6xx wins", 404, 600, "SIP/2.0 600"},
		{"what can be mended", 486, 407, "SIP/2.0 407"},
		{"an answer is better than a timeout", 408, 486, "SIP/2.0 486"},
		{"the first of equals", 486, 480, "SIP/2.0 486"},
		{"P43: 503 becomes 500", 503, 503, "SIP/2.0 500"},
	}
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				desk, mobile := udpClient(t), udpClient(t)
				s, alice := fork(t, conn, []*client{desk, mobile})
				a, b := desk.want("INVITE"), mobile.want("INVITE")
				desk.send(s, response(a, tt.first, "desk"))
				desk.want("ACK")
				mobile.send(s, response(b, tt.second, "mobile"))
				mobile.want("ACK")
				alice.want(tt.want)
			})
		}
		t.Run("all challenges", func(t *testing.T) {
			desk, mobile := udpClient(t), udpClient(t)
			s, alice := fork(t, conn, []*client{desk, mobile})
			a, b := desk.want("INVITE"), mobile.want("INVITE")
			desk.send(s, response(a, 407, "desk", challenge("a")))
			desk.want("ACK")
			mobile.send(s, response(b, 407, "mobile", challenge("b")))
			got := values(alice.want("SIP/2.0 407"), message.KindProxyAuthenticate)
			if len(got) != 2 || !strings.Contains(got[0], `"a"`) || !strings.Contains(got[1], `"b"`) {
				t.Errorf("Proxy-Authenticate = %q, want those of a and b", got)
			}
		})
	})
}

// P39, serial forking: a lower q is tried when all of the higher ones have refused, a lower priority value before all.
func TestP39SerialForking(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		low, high := udpClient(t), udpClient(t)
		s, alice := fork(t, conn, []*client{low, high}, 300, 700)
		invite := high.want("INVITE")
		low.quiet(s)
		high.send(s, response(invite, 486, "high"))
		high.want("ACK")
		invite = low.want("INVITE")
		low.send(s, response(invite, 200, "low"))
		alice.want("SIP/2.0 200")
	})
}

// P47: a target that cannot be reached is passed over.
func TestP47NextTarget(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		gone, there := tcpServer(t), udpClient(t)
		gone.listener.Close()
		s, alice := fork(t, conn, []*client{gone, there}, 1000, 500)
		there.send(s, response(there.want("INVITE"), 200, "there"))
		alice.want("SIP/2.0 200")
	})
}

// P34: a CANCEL reaches every phone that rings, and none that does not yet.
func TestP34CancelOfFork(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		desk, mobile, never := udpClient(t), udpClient(t), udpClient(t)
		s, alice := fork(t, conn, []*client{desk, mobile, never}, 1000, 1000, 1)
		invites := map[*client]*message.Message{desk: desk.want("INVITE"), mobile: mobile.want("INVITE")}
		for phone, invite := range invites {
			phone.send(s, response(invite, 180, "x"))
			alice.want("SIP/2.0 180")
		}
		alice.send(s, alice.request(s, "CANCEL", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 200")
		for phone, invite := range invites {
			phone.send(s, response(phone.want("CANCEL"), 200, "x"))
			phone.send(s, response(invite, 487, "x"))
			phone.want("ACK")
		}
		alice.want("SIP/2.0 487")
		never.quiet(s)
	})
}

// Requests other than INVITE fork too: the first 2xx is the answer, and later ones go nowhere.
func TestForkOfMessage(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, desk, mobile := udpClient(t), udpClient(t), udpClient(t)
		s := start(t, conn, toAll([]*client{desk, mobile}), nil)
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1"))
		a, b := desk.want("MESSAGE"), mobile.want("MESSAGE")
		desk.send(s, response(a, 480, "desk"))
		mobile.send(s, response(b, 200, "mobile"))
		alice.want("SIP/2.0 200")
		alice.quiet(s)
	})
}
