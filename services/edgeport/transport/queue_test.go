package transport

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/routr-fabric/routr/services/edgeport/message"
)

// A peer that does not read is closed, all that it did not get has failed, and nobody else notices.
func TestPeerThatDoesNotRead(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit Limits
		want  Reason
	}{
		{"queue", Limits{Queue: 100 << 10}, queueFull},
		{"memory", Limits{Memory: 100 << 10}, noMemory},
		{"time", Limits{Write: 50 * time.Millisecond}, stalled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := on(TCP, "127.0.0.1")
			cfg.Limits = tt.limit
			e := serve(t, cfg, nil)
			other, c := e.client(t, "127.0.0.1"), e.client(t, "127.0.0.2")
			if err := c.SetReadBuffer(1024); err != nil {
				t.Fatal(err)
			}
			write(t, c, text("a", 0))
			f := e.want(t, text("a", 0))

			data := []byte(strings.Repeat("x", 4000))
			failed := make(chan error, 100000)
			fail := func(err error) { failed <- err }
			sent := 0
			for f.conn.alive() && (tt.want != stalled || queued(f) == 0) {
				f.Send(data, fail)
				sent++
			}
			e.wantClosed(t, tt.want)
			e.wantReleased(t)
			// Every message was either written or has failed.
			count := &e.counters[TCP]
			out, lost := count.messagesOut.Load(), count.sendFailed.Load()
			if lost == 0 || out+lost != int64(sent) {
				t.Errorf("%d written and %d failed, want %d in all", out, lost, sent)
			}
			for range lost {
				wait(t, failed, "a failure")
			}

			write(t, other, text("b", 0))
			e.want(t, text("b", 0)).Send([]byte("ok"), nil)
			read(t, other, "ok")
		})
	}
}

// Large messages cannot use up the memory that others need.
func TestLargeMessagesLeaveMemory(t *testing.T) {
	cfg := on(TCP, "127.0.0.1")
	cfg.Limits.Memory = 1 << 20
	e := serve(t, cfg, nil)
	large, usual := sized("large", 100000), sized("usual", 60000)
	for i := range 3 {
		write(t, e.client(t, "127.0.0.2"), large[:90000])
		until(t, "a buffer for it", func() bool { return e.memory.left.Load() == int64(1<<20-(i+1)*message.MaxSize) })
	}
	write(t, e.client(t, "127.0.0.2"), large[:90000]) // while it grows its buffer it needs the old one as well
	e.wantClosed(t, noMemory)
	c := e.client(t, "127.0.0.1")
	write(t, c, usual)
	e.want(t, usual)
}

func queued(f Flow) int {
	f.conn.mu.Lock()
	defer f.conn.mu.Unlock()
	return f.conn.queued
}

// A slow peer gets everything, in order.
func TestSlowPeer(t *testing.T) {
	cfg := on(TCP, "127.0.0.1")
	cfg.Limits.Queue = 64 << 20
	e := serve(t, cfg, nil)
	c := e.client(t, "127.0.0.1")
	write(t, c, text("a", 0))
	f := e.want(t, text("a", 0))
	var want strings.Builder
	data := make([]byte, 3000)
	sent := 0
	for ; queued(f) < 500<<10; sent++ {
		for j := range data { // the same array again and again
			data[j] = byte(sent)
		}
		want.Write(data)
		f.Send(data, func(err error) { t.Errorf("Send() failed: %v", err) })
	}
	read(t, c, want.String())
	// With nothing left to wait for, sends are direct again.
	f.conn.writers.Wait()
	if n := e.memory.left.Load(); n != int64(e.limits.Memory) || queued(f) != 0 || f.conn.draining {
		t.Errorf("memory left = %d, queued = %d, draining = %v, want %d, 0, false", n, queued(f), f.conn.draining, e.limits.Memory)
	}
	f.Send([]byte("end"), func(err error) { t.Errorf("Send() failed: %v", err) })
	read(t, c, "end")
	if n := e.counters[TCP].messagesOut.Load(); n != int64(sent)+1 {
		t.Errorf("messages out = %d, want %d", n, sent+1)
	}
}

// Many who send at once do not mix their bytes.
func TestSendConcurrently(t *testing.T) {
	e := serve(t, on(TCP, "127.0.0.1"), nil)
	c := e.client(t, "127.0.0.1")
	write(t, c, text("a", 0))
	f := e.want(t, text("a", 0))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				f.Send([]byte(strings.Repeat(string(rune('a'+i)), 1000)), func(err error) { t.Errorf("Send() failed: %v", err) })
			}
		})
	}
	buf := make([]byte, 1000)
	for range 800 {
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(buf), string(buf[0])); n != 1000 {
			t.Fatalf("%d bytes of one sender, want 1000", n)
		}
	}
	wg.Wait()
}

func TestDial(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		e, peer := serve(t, on(TCP, addr), nil), serve(t, on(TCP, addr), echo)
		f, err := e.Flow(TCP, peer.addr(), "")
		if err != nil {
			t.Fatal(err)
		}
		if !f.Local().Addr().IsLoopback() || f.Remote() != peer.addr() {
			t.Errorf("flow is from %v to %v, want a loopback address and %v", f.Local(), f.Remote(), peer.addr())
		}
		first := text("a", 100)
		f.Send([]byte(first), nil) // while it dials, maybe
		peer.want(t, first)
		if got := e.want(t, first); got != f {
			t.Errorf("the answer came on %v, want %v", got, f)
		}
		if f.Local().Port() == 0 {
			t.Error("Local() has no port, want one as the connection stands")
		}
		if again, err := e.Flow(TCP, peer.addr(), ""); err != nil || again != f {
			t.Errorf("second Flow() = %v, %v, want the same", again, err)
		}
		if again, ok := e.Lookup(f.ID()); !ok || again != f {
			t.Errorf("Lookup() = %v, %v, want the same", again, ok)
		}
		// The connection that the peer accepted is not one that the peer opened.
		back, err := peer.Flow(TCP, f.Local(), "")
		if err != nil {
			t.Fatal(err)
		}
		failed := make(chan error)
		back.Send([]byte(first), func(err error) { failed <- err })
		if err := wait(t, failed, "the failure"); !strings.Contains(err.Error(), "refused") {
			t.Errorf("Send() to a port that does not listen failed with %q, want refused", err)
		}
		peer.wantClosed(t, unreachable)

		// After its end there is a new one.
		peer.stop()
		if gone := wait(t, e.closed, "the end of a connection"); gone != f {
			t.Errorf("closed(%v), want %v", gone, f)
		}
		if next, err := e.Flow(TCP, peer.addr(), ""); err != nil || next == f {
			t.Errorf("Flow() after the end = %v, %v, want a new one", next, err)
		}
	}
}

// Serve ends when what waits is written, and not much later if nobody reads it.
func TestShutdown(t *testing.T) {
	e := serve(t, on(TCP, "127.0.0.1"), nil)
	patient, silent, idle := e.client(t, "127.0.0.1"), e.client(t, "127.0.0.2"), e.client(t, "127.0.0.3")
	data := strings.Repeat("x", 500<<10)
	send := func(c *net.TCPConn, fail func(error)) {
		write(t, c, text("a", 0))
		f := e.want(t, text("a", 0))
		for queued(f) == 0 { // the kernel takes some
			f.Send([]byte(data), fail)
		}
	}
	failed := make(chan error, 10)
	send(silent, func(err error) { failed <- err })
	send(patient, func(err error) { t.Errorf("Send() failed: %v", err) })
	write(t, idle, text("i", 0))
	f := e.want(t, text("i", 0))

	go e.stop()
	if got := readEnd(t, idle); got != "" {
		t.Errorf("an idle connection got %q, want its end", short(got))
	}
	if got := readEnd(t, patient); len(got)%len(data) != 0 || got == "" {
		t.Errorf("read %d bytes, want whole messages of %d", len(got), len(data))
	}
	wait(t, failed, "a failure")
	e.stop()
	if n := len(e.closed); n != 3 {
		t.Errorf("closed was called for %d connections, want 3", n)
	}
	if _, err := net.Dial("tcp", e.addr().String()); err == nil {
		t.Error("the layer still listens")
	}
	if _, ok := e.Lookup(f.ID()); ok {
		t.Error("Lookup() finds a connection after the end")
	}
	f.Send([]byte("x"), func(err error) { failed <- err })
	wait(t, failed, "a failure")
	if n := e.counters[TCP].open(); n != 0 {
		t.Errorf("open connections = %d, want 0", n)
	}
}
