package edgeport

import (
	"sync/atomic"
	"testing"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
)

// R23, W12, W18: a phone whose connection ends while it rings is given up at once, not after the minutes of Timer C: the
// next target is tried, or the caller hears 480.
func TestR23W18FlowDiesWhileRinging(t *testing.T) {
	for _, next := range []bool{true, false} {
		modes(t, func(t *testing.T, conn *bus.Conn) {
			flows := make(chan string, 1)
			var phone atomic.Value
			desk := udpClient(t)
			s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
				answer := new(processorpb.MessageResponse)
				if req.Method == processorpb.Method_REGISTER {
					flows <- req.Flow
					answer.Targets = []*processorpb.Target{{Uri: "sip:nobody.invalid"}}
				} else {
					answer.Targets = []*processorpb.Target{{Uri: "sip:bob@bob.invalid;transport=ws", Flow: phone.Load().(string), Priority: -1}}
					if next {
						answer.Targets = append(answer.Targets, toTarget(desk).Targets[0])
					}
				}
				r.Reply(bus.Reply{Body: bus.Value(answer)})
			}, nil)
			alice, bob := udpClient(t), s.tcpClient()
			bob.send(s, bob.request(s, "REGISTER", "sip:example.com", "z9hG4bKr", "Call-ID: reg"))
			phone.Store(<-flows)
			bob.want("SIP/2.0 480")
			alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
			alice.want("SIP/2.0 100")
			bob.send(s, response(bob.want("INVITE"), 180, "bob"))
			alice.want("SIP/2.0 180")
			bob.stream.Close()
			if next {
				desk.send(s, response(desk.want("INVITE"), 486, "desk"))
				desk.want("ACK")
				alice.want("SIP/2.0 486")
			} else {
				alice.want("SIP/2.0 480")
			}
		})
	}
}

// A caller whose connection ends while the phone rings would never hear the answer: the phone gets a CANCEL.
func TestCallerIsGone(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		bob := udpClient(t)
		s := start(t, conn, to(bob), nil)
		alice := s.tcpClient()
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		invite := bob.want("INVITE")
		bob.send(s, response(invite, 180, "bob"))
		alice.want("SIP/2.0 180")
		alice.stream.Close()
		cancel := bob.want("CANCEL")
		bob.send(s, response(cancel, 200, "bob"))
		bob.send(s, response(invite, 487, "bob"))
		bob.want("ACK")
	})
}
