package edgeport

import (
	"net"
	"testing"
	"time"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
)

// quick are timers that end while a test waits, and not before a busy machine has done its part of it.
func quick() transaction.Timers {
	t := transaction.DefaultTimers()
	t.T1 = 200 * time.Millisecond
	return t
}

// P34: some callees take the CANCEL and never answer the INVITE. The caller gets 487 from us soon, and what the callee
// says late all the same, as long as it is a 2xx.
func TestP34CalleeOwes487(t *testing.T) {
	t.Parallel() // it waits for timers
	modes(t, func(t *testing.T, conn *bus.Conn) {
		t.Parallel()
		bob := tcpServer(t) // nothing is sent to it again
		s := startTimed(t, conn, to(bob), nil, quick())
		alice := s.tcpClient()
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		invite := bob.want("INVITE")
		bob.send(s, response(invite, 180, "b"))
		alice.want("SIP/2.0 180")
		alice.send(s, alice.request(s, "CANCEL", "sip:bob@example.com", "z9hG4bK1"))
		if m := alice.want("SIP/2.0 200"); m.CSeqMethod() != message.CANCEL {
			t.Fatalf("the 200 answers %v, want CANCEL", m.CSeqMethod())
		}
		bob.send(s, response(bob.want("CANCEL"), 200, "b"))
		refused := alice.want("SIP/2.0 487")
		alice.send(s, alice.request(s, "ACK", "sip:bob@example.com", "z9hG4bK1", "To: <sip:bob@example.com>;tag="+string(refused.ToTag())))

		bob.send(s, response(invite, 180, "b"))
		bob.send(s, response(invite, 200, "b", "Contact: <sip:bob@"+bob.addr()+";transport=tcp>"))
		ok := alice.want("SIP/2.0 200")
		if ok.CSeqMethod() != message.INVITE || string(ok.ToTag()) != "b" {
			t.Errorf("the late 200 answers %v with tag %s, want INVITE and b", ok.CSeqMethod(), ok.ToTag())
		}
		alice.quiet(s)
		bob.quiet(s)
	})
}

// P36: the CANCEL of an INVITE that the callee has not answered yet waits until it does.
func TestP36CalleeIsSlow(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), tcpServer(t)
		s := start(t, conn, to(bob), nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		invite := bob.want("INVITE")
		alice.send(s, alice.request(s, "CANCEL", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 200")
		bob.quiet(s)
		bob.send(s, response(invite, 180, "b"))
		bob.send(s, response(bob.want("CANCEL"), 200, "b"))
		bob.send(s, response(invite, 487, "b"))
		bob.want("ACK")
		alice.want("SIP/2.0 180")
		alice.want("SIP/2.0 487")
	})
}

// P38: who knows the branch of an INVITE and its sent-by, and is not where it came from, cancels nothing.
func TestP38CancelFromAnotherAddress(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), tcpServer(t)
		socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { socket.Close() })
		mallory := &client{t: t, udp: socket}
		s := start(t, conn, to(bob), nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		invite := bob.want("INVITE")
		bob.send(s, response(invite, 180, "b"))
		alice.want("SIP/2.0 180")
		mallory.send(s, alice.request(s, "CANCEL", "sip:bob@example.com", "z9hG4bK1"))
		mallory.want("SIP/2.0 481")
		bob.quiet(s)
		bob.send(s, response(invite, 200, "b"))
		alice.want("SIP/2.0 200")
	})
}

// P46: a callee that rings for ever is cancelled. The caller gets what becomes of that: the callee's 487, or 408.
func TestP46RingsForEver(t *testing.T) {
	t.Parallel() // it waits for timers
	timers := quick()
	timers.C = 300 * time.Millisecond
	for name, want := range map[string]string{"answers the CANCEL alone": "SIP/2.0 408", "answers both": "SIP/2.0 487"} {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, conn *bus.Conn) {
				t.Parallel()
				alice, bob := udpClient(t), tcpServer(t)
				s := startTimed(t, conn, to(bob), nil, timers)
				alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
				alice.want("SIP/2.0 100")
				invite := bob.want("INVITE")
				bob.send(s, response(invite, 180, "b"))
				alice.want("SIP/2.0 180")
				bob.send(s, response(bob.want("CANCEL"), 200, "b"))
				if name == "answers both" {
					bob.send(s, response(invite, 487, "b"))
					bob.want("ACK")
				}
				alice.want(want)
			})
		})
	}
}

// P44: nobody answers, on any branch.
func TestP44SilentTargets(t *testing.T) {
	t.Parallel() // it waits for timers
	timers := transaction.DefaultTimers()
	timers.T1 = 50 * time.Millisecond
	modes(t, func(t *testing.T, conn *bus.Conn) {
		t.Parallel()
		desk, mobile := udpClient(t), tcpServer(t)
		s := startTimed(t, conn, toAll([]*client{desk, mobile}), nil, timers)
		alice := s.tcpClient()
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		first := desk.want("INVITE")
		mobile.want("INVITE")
		if again, err := desk.read(patience); err != nil {
			t.Errorf("the INVITE was not sent again: %v", err)
		} else if string(again.Bytes()) != string(first.Bytes()) {
			t.Errorf("the INVITE was sent again as\n%s\nwant\n%s", again.Bytes(), first.Bytes())
		}
		alice.want("SIP/2.0 408")
		mobile.quiet(s)
	})
}
