package edgeport

import (
	"testing"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
)

// oneUA is the decision to send a request to flows of one instance, in this order.
func oneUA(t *testing.T, conn *bus.Conn, flows ...*client) (s *system, alice *client) {
	t.Helper()
	answer := new(processorpb.MessageResponse)
	for _, c := range flows {
		target := toTarget(c).Targets[0]
		target.Q, target.Instance = 1000, "<urn:uuid:1>"
		answer.Targets = append(answer.Targets, target)
	}
	alice = udpClient(t)
	s = start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) { r.Reply(bus.Reply{Body: bus.Value(answer)}) }, nil)
	alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
	alice.want("SIP/2.0 100")
	return s, alice
}

// R22, RFC 5626 7: of several flows to one UA one is used at a time, and the next one only if the UA was not reached.
func TestR22OneFlowAtATime(t *testing.T) {
	tests := []struct {
		name   string
		status int    // of the first flow
		next   bool   // the second flow gets the request
		want   string // what alice gets, if the second flow answers with 200
	}{
		{"it answers", 200, false, "SIP/2.0 200"},
		{"it is busy", 486, false, "SIP/2.0 486"},
		{"it declines", 603, false, "SIP/2.0 603"},
		{"it is temporarily unavailable", 480, false, "SIP/2.0 480"},
		{"the flow has failed", 430, true, "SIP/2.0 200"},
		{"nobody answered the next hop", 408, true, "SIP/2.0 200"},
	}
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				first, second := tcpServer(t), udpClient(t)
				s, alice := oneUA(t, conn, first, second)
				first.send(s, response(first.want("INVITE"), tt.status, "first"))
				if tt.next {
					second.send(s, response(second.want("INVITE"), 200, "second"))
				}
				alice.want(tt.want)
				if !tt.next {
					second.quiet(s)
				}
			})
		}
	})
}

// A flow that cannot be used at all is no answer either, and when all of them have failed the caller hears of it at once.
func TestR22DeadFlows(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		first, gone, third := tcpServer(t), tcpServer(t), udpClient(t)
		gone.listener.Close()
		s, alice := oneUA(t, conn, first, gone, third)
		first.send(s, response(first.want("INVITE"), 430, "first"))
		first.want("ACK")
		third.send(s, response(third.want("INVITE"), 430, "third"))
		alice.want("SIP/2.0 430")
	})
}

// Another UA is rung beside the first, and a flow of the first takes the place of one that has failed meanwhile.
func TestR22ForkToTwoInstances(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		first, second, desk := tcpServer(t), udpClient(t), tcpServer(t)
		answer := new(processorpb.MessageResponse)
		for i, c := range []*client{first, second, desk} {
			target := toTarget(c).Targets[0]
			target.Q, target.Instance = 1000, []string{"a", "a", "b"}[i]
			answer.Targets = append(answer.Targets, target)
		}
		alice := udpClient(t)
		s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) { r.Reply(bus.Reply{Body: bus.Value(answer)}) }, nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		ringing := desk.want("INVITE")
		desk.send(s, response(ringing, 180, "desk"))
		alice.want("SIP/2.0 180")
		first.send(s, response(first.want("INVITE"), 430, "first"))
		second.send(s, response(second.want("INVITE"), 200, "second"))
		alice.want("SIP/2.0 200")
		desk.want("CANCEL")
	})
}

// A CANCEL ends the call: no further flow is tried, whatever the first one says then.
func TestR22CancelTriesNoFurtherFlow(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		first, second := tcpServer(t), udpClient(t)
		s, alice := oneUA(t, conn, first, second)
		invite := first.want("INVITE")
		first.send(s, response(invite, 180, "first"))
		alice.want("SIP/2.0 180")
		alice.send(s, alice.request(s, "CANCEL", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 200")
		first.send(s, response(first.want("CANCEL"), 200, "first"))
		first.send(s, response(invite, 430, "first"))
		first.want("ACK")
		alice.want("SIP/2.0 430")
		second.quiet(s)
	})
}
