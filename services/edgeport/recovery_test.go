package edgeport

import (
	"fmt"
	"testing"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// What an EdgePort does while something that it needs is gone, and that it needs no restart when it is back.

// The NATS server is lost under calls that stand, ring, and wait for a decision, at two EdgePorts.
func TestE9BusIsLostAndBack(t *testing.T) {
	srv := bustest.Server(t)
	conns := []*bus.Conn{bustest.Dial(t, srv, nil), bustest.Dial(t, srv, nil)}
	dispatcher := bustest.Dial(t, srv, nil)
	bob := udpClient(t)
	held := make(chan *bus.Request, 10) // requests that the dispatcher answers too late
	serve(t, dispatcher, func(r *bus.Request, req *processorpb.MessageRequest) {
		switch req.Method {
		case processorpb.Method_MESSAGE:
			held <- r
		case processorpb.Method_SUBSCRIBE:
			r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{
				MessageType: &sipmessagepb.SIPMessage_ResponseType{ResponseType: sipmessagepb.ResponseType_NOT_FOUND},
			}})})
		default:
			to(bob)(r, req)
		}
	})
	type edge struct {
		*system
		stands, rings *talk
		waiting       *client
	}
	var edges []*edge
	for i, conn := range conns {
		e := &edge{system: start(t, conn, nil, func(cfg *Config) { cfg.Ref = fmt.Sprint("edge-", i) }), waiting: udpClient(t)}
		e.stands = ring(e.system, udpClient(t), bob, fmt.Sprint("stands", i)).answer()
		e.rings = ring(e.system, udpClient(t), bob, fmt.Sprint("rings", i))
		e.waiting.send(e.system, e.waiting.request(e.system, "MESSAGE", "sip:bob@example.com", "z9hG4bKwaits", fmt.Sprint("Call-ID: waits", i)))
		late := <-held
		defer late.Fail(bus.Errorf(bus.Internal, "too late"))
		edges = append(edges, e)
	}

	srv.Shutdown()
	for i, e := range edges {
		refusedFor(t, e.waiting, "a request that waited for a decision")
		until(t, "noticed", func() bool { return conns[i].Connected() != nil })
		for j, method := range []string{"INVITE", "REGISTER"} {
			stranger := udpClient(t) // whom the 503 to an INVITE may reach again
			stranger.send(e.system, stranger.request(e.system, method, "sip:bob@example.com", fmt.Sprintf("z9hG4bKnew%d-%d", i, j), fmt.Sprintf("Call-ID: new%d-%d", i, j)))
			refusedFor(t, stranger, "new "+method)
		}
		stranger := udpClient(t)
		stranger.send(e.system, stranger.request(e.system, "OPTIONS", "sip:"+e.udp, "z9hG4bKoptions"))
		refusedFor(t, stranger, "OPTIONS of a load balancer")
		e.stands.passes("INFO")
		e.stands.passes("INVITE")
		e.rings.answer().passes("BYE")
		e.stands.passes("BYE")
		if err := e.edge.Alive(); err != nil {
			t.Errorf("Alive() = %v without a bus, want nil: a restart would not help", err)
		}
	}

	bustest.Restart(t, srv)
	for i, e := range edges {
		alice := udpClient(t)
		n := 0
		until(t, "taken again", func() bool { // the dispatcher is back when it is back
			n++
			alice.send(e.system, alice.request(e.system, "SUBSCRIBE", "sip:bob@example.com", fmt.Sprint("z9hG4bKback", n), fmt.Sprint("Call-ID: back", n)))
			return alice.next().Status() == 404
		})
		ring(e.system, udpClient(t), bob, fmt.Sprint("again", i)).answer().passes("BYE")
	}
}

// F2, F3: the dispatcher, and all behind it, ends while calls stand and ring. They go on without it; new ones are told to
// come back; and another dispatcher is all that it takes.
func TestE9F2F3DispatcherIsGone(t *testing.T) {
	srv := bustest.Server(t)
	conn, dispatcher := bustest.Dial(t, srv, nil), bustest.Dial(t, srv, nil)
	bob := udpClient(t)
	serve(t, dispatcher, to(bob))
	s := start(t, conn, nil, nil)
	stands := ring(s, udpClient(t), bob, "stands").answer()
	rings := ring(s, udpClient(t), bob, "rings")
	given := ring(s, udpClient(t), bob, "given-up")
	dispatcher.Close()

	stranger := udpClient(t)
	stranger.send(s, stranger.request(s, "INVITE", "sip:bob@example.com", "z9hG4bKnew", "Call-ID: new"))
	refusedFor(t, stranger, "new INVITE")
	stands.passes("INVITE")
	rings.answer().passes("BYE")
	given.caller.send(s, given.caller.request(s, "CANCEL", "sip:bob@example.com", "z9hG4bKgiven-up", "Call-ID: given-up"))
	given.caller.want("SIP/2.0 200")
	bob.send(s, response(bob.want("CANCEL"), 200, "b"))
	bob.send(s, response(given.invite, 487, "b"))
	bob.want("ACK")
	given.caller.want("SIP/2.0 487")
	stands.passes("BYE")

	serve(t, bustest.Dial(t, srv, nil), to(bob))
	ring(s, udpClient(t), bob, "again").answer().passes("BYE")
}

// F4: one method whose processor hangs does not keep others waiting, and its client knows at once that it is heard.
func TestF4SlowProcessor(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		held := make(chan *bus.Request, 100)
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			if req.Method == processorpb.Method_INVITE {
				held <- r
				return
			}
			to(bob)(r, req)
		}, nil)
		const calls = 20
		for i := range calls {
			alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", fmt.Sprint("z9hG4bKslow", i), fmt.Sprint("Call-ID: slow", i)))
			alice.want("SIP/2.0 100")
			late := <-held
			defer late.Fail(bus.Errorf(bus.Internal, "too late"))
		}
		carol := udpClient(t)
		for i := range 5 {
			carol.send(s, carol.request(s, "MESSAGE", "sip:bob@example.com", fmt.Sprint("z9hG4bKquick", i), fmt.Sprint("Call-ID: quick", i)))
			bob.send(s, response(bob.want("MESSAGE"), 200, "b"))
			carol.want("SIP/2.0 200")
		}
		if n := s.edge.proxy.Pending(); n < calls {
			t.Errorf("%d transactions pending, want the %d that wait for the slow processor", n, calls)
		}
	})
}
