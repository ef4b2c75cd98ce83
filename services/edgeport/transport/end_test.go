package transport

import (
	"net"
	"strings"
	"sync"
	"testing"
)

// What Flow.Close leaves out: nothing that was sent before, and everything that comes behind.
func TestFlowClose(t *testing.T) {
	for _, protocol := range streams() {
		for _, tt := range []struct {
			name string
			why  Reason
			code uint16
		}{
			{"malformed", Malformed, 1007},
			{"unwanted", Unwanted, 1008},
		} {
			t.Run(protocol.String()+" "+tt.name, func(t *testing.T) {
				bad, answer := text("bad", 10), "answer"+strings.Repeat("x", 200000)
				var e *edge
				ready := make(chan struct{})
				e = serve(t, on(protocol, "127.0.0.1"), func(f Flow, data []byte) {
					if string(data) != bad {
						return
					}
					<-ready
					f.Send([]byte(answer), func(err error) { t.Errorf("Send() before Close failed: %v", err) })
					f.Close(tt.why)
					f.Close(Unwanted) // the first one counts
					if _, ok := e.Lookup(f.ID()); ok {
						t.Error("Lookup() finds a connection that is closed")
					}
				})
				p := e.phone(t)
				p.send(t, text("a", 0), bad, text("after", 0))
				e.want(t, text("a", 0))
				p.send(t, strings.Repeat(text("later", 900), 200)) // lies unread when the end comes
				close(ready)
				e.want(t, bad)
				p.want(t, answer)
				p.wantEnd(t, tt.code)
				p.raw.Close()
				f := e.wantClosed(t, tt.why)
				if n := len(e.got); n != 0 {
					t.Errorf("%d more messages, want none", n)
				}
				failed := make(chan error, 1)
				f.Send([]byte("x"), func(err error) { failed <- err })
				wait(t, failed, "the failure")
				f.Close(Malformed)
				e.wantReleased(t)
				if n := len(e.closed); n != 0 {
					t.Errorf("closed was called %d times more", n)
				}
			})
		}
	}
}

// Close ends a connection that is silent, and one that is not made yet.
func TestFlowCloseOfSilent(t *testing.T) {
	e := serve(t, on(TCP, "127.0.0.1"), nil)
	p := e.phone(t)
	p.send(t, text("a", 0))
	e.want(t, text("a", 0)).Close(Unwanted)
	p.wantEnd(t, 0)
	p.raw.Close()
	e.wantClosed(t, Unwanted)

	mute, err := net.Listen("tcp", "127.0.0.1:0") // connects, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	f, err := e.Flow(TLS, addrPort(mute.Addr()), "")
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	f.Send([]byte("x"), func(err error) { failed <- err })
	f.Close(Unwanted)
	if err := wait(t, failed, "the failure"); !strings.Contains(err.Error(), errLeft.Error()) {
		t.Errorf("Send() failed with %v, want %v", err, errLeft)
	}
	e.wantClosed(t, Unwanted)
}

func TestFlowCloseUDP(t *testing.T) {
	e := serve(t, on(UDP, "127.0.0.1"), nil)
	c := udpClient(t, "127.0.0.1")
	datagram(t, c, e.addr(), "a")
	f := e.want(t, "a")
	f.Close(Malformed)
	f.Send([]byte("b"), nil)
	wantDatagram(t, c, "b", e.addr())
	datagram(t, c, e.addr(), "c")
	e.want(t, "c")
}

// F15: at the end each peer gets what was sent to it, and then the end that its protocol has, however much of what it
// sent is unread.
func TestF15Shutdown(t *testing.T) {
	for _, protocol := range streams() {
		t.Run(protocol.String(), func(t *testing.T) {
			answer := strings.Repeat("x", 300000)
			busy, finish := make(chan Flow, 1), make(chan struct{})
			e := serve(t, on(protocol, "127.0.0.1"), func(f Flow, _ []byte) {
				f.Send([]byte(answer), func(err error) { t.Errorf("Send() failed: %v", err) })
				busy <- f
				<-finish
			})
			p := e.phone(t)
			p.send(t, text("a", 0))
			f := wait(t, busy, "the message")
			p.send(t, strings.Repeat(text("unread", 900), 200))
			var stopped sync.WaitGroup
			stopped.Go(e.stop)
			until(t, "the shutdown", func() bool { return f.conn.leaving.Load() == uint32(byShutdown) })
			close(finish)
			p.want(t, answer)
			p.wantEnd(t, 1001)
			p.raw.Close()
			stopped.Wait()
			e.want(t, text("a", 0))
			if n := len(e.got); n != 0 {
				t.Errorf("%d messages after the end, want none", n)
			}
			e.wantClosed(t, byShutdown)
		})
	}
}
