package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
)

func TestServeRefused(t *testing.T) {
	tests := []struct{ name, subject, queue, want string }{
		{"wildcard in the middle", bus.SubjectProcess(bus.Every, bus.Every), "q", "no wildcard"},
		{"empty subject", "", "q", "no empty token"},
		{"empty queue", bus.SubjectDispatch(bus.Every), "", "queue"},
		{"queue with a space", bus.SubjectDispatch(bus.Every), "a b", "queue"},
	}
	bustest.Modes(t, func(t *testing.T, c *bus.Conn) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				_, err := c.Serve(tt.subject, tt.queue, answer(""), bus.Options{})
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Serve(%q, %q) = %v, want an error with %q", tt.subject, tt.queue, err, tt.want)
				}
			})
		}
	})
}

func TestServeSecondQueue(t *testing.T) {
	c := bustest.Local(t)
	s := serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{}, answer(""))
	if _, err := c.Serve(bus.SubjectDispatch(bus.Every), "other", answer(""), bus.Options{}); err == nil {
		t.Error("Serve in a second queue = nil, want an error")
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Serve(bus.SubjectDispatch(bus.Every), "other", answer(""), bus.Options{}); err != nil {
		t.Errorf("Serve after Drain = %v, want nil", err)
	}
}

func TestMaxPending(t *testing.T) {
	for _, workers := range []int{0, 1} {
		bustest.Modes(t, func(t *testing.T, c *bus.Conn) {
			taken := make(chan *bus.Request, 4)
			free := make(chan struct{})
			defer close(free)
			serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{Workers: workers, MaxPending: 2}, func(_ context.Context, r *bus.Request) {
				taken <- r
				if workers > 0 {
					<-free
				}
			})
			var pending []<-chan result
			for range 2 {
				pending = append(pending, call(t, c, bus.SubjectDispatch("INVITE"), "x", wait))
			}
			first := receive(t, "request", taken)
			got := receive(t, "Call", call(t, c, bus.SubjectDispatch("INVITE"), "x", wait))
			if !errors.Is(got.err, bus.ErrUnavailable) || !strings.Contains(got.err.Error(), "too many") {
				t.Errorf("Call over MaxPending = %v, want ErrUnavailable", got.err)
			}
			if n := c.Stats().Refused; n != 1 {
				t.Errorf("Stats().Refused = %d, want 1", n)
			}
			first.Reply(bus.Reply{})
			if got := receive(t, "Call", pending[0]); got.err != nil {
				t.Errorf("Call = %v, want nil", got.err)
			}
			if workers > 0 {
				free <- struct{}{}
			}
			receive(t, "request", taken).Reply(bus.Reply{})
			if got := receive(t, "Call", pending[1]); got.err != nil {
				t.Errorf("Call = %v, want nil", got.err)
			}
		})
	}
}

func TestWorkers(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, c *bus.Conn) {
		running := make(chan *bus.Request, 3)
		free := make(chan struct{})
		var most, now atomic.Int32
		s := serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{Workers: 2}, func(_ context.Context, r *bus.Request) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			running <- r
			<-free
			now.Add(-1)
			r.Reply(bus.Reply{})
		})
		var calls []<-chan result
		for range 3 {
			calls = append(calls, call(t, c, bus.SubjectDispatch("INVITE"), "x", wait))
		}
		receive(t, "first handler", running)
		receive(t, "second handler", running) // beside the first, which still blocks
		select {
		case <-running:
			t.Error("three handlers run, want two")
		default:
		}
		close(free)
		for _, ch := range calls {
			if got := receive(t, "Call", ch); got.err != nil {
				t.Errorf("Call = %v, want nil", got.err)
			}
		}
		if err := s.Drain(t.Context()); err != nil {
			t.Errorf("Drain = %v, want nil", err)
		}
		if n := most.Load(); n != 2 {
			t.Errorf("%d handlers ran at a time, want 2", n)
		}
	})
}

func TestDrain(t *testing.T) {
	for _, workers := range []int{0, 1} {
		bustest.Modes(t, func(t *testing.T, c *bus.Conn) {
			taken := make(chan *bus.Request, 1)
			s := serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{Workers: workers}, func(_ context.Context, r *bus.Request) { taken <- r })
			inflight := call(t, c, bus.SubjectDispatch("INVITE"), "x", time.Hour)
			r := receive(t, "request", taken)

			short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- s.Drain(t.Context()) }()
			if err := s.Drain(short); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 requests unanswered") {
				t.Errorf("Drain with an unanswered request = %v, want one that says so", err)
			}
			if got := receive(t, "Call", call(t, c, bus.SubjectDispatch("INVITE"), "x", time.Hour)); !errors.Is(got.err, bus.ErrUnavailable) {
				t.Errorf("Call while draining = %v, want ErrUnavailable", got.err)
			}
			select {
			case err := <-done:
				t.Errorf("Drain = %v before the request was answered", err)
			default:
			}
			r.Reply(bus.Reply{})
			if got := receive(t, "Call", inflight); got.err != nil {
				t.Errorf("Call in flight = %v, want nil", got.err)
			}
			if err := receive(t, "Drain", done); err != nil {
				t.Errorf("Drain = %v, want nil", err)
			}
		})
	}
}

// What was queued for workers when Drain gave up is failed, not lost.
func TestDrainGivesUp(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, c *bus.Conn) {
		taken := make(chan context.Context, 2)
		s := serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{Workers: 1}, func(ctx context.Context, r *bus.Request) {
			taken <- ctx
			<-ctx.Done() // the end of the service
			r.Fail(bus.Errorf(bus.Unavailable, "interrupted"))
		})
		first := call(t, c, bus.SubjectDispatch("INVITE"), "x", time.Hour)
		receive(t, "request", taken)
		second := call(t, c, bus.SubjectDispatch("INVITE"), "x", time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := s.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain = %v, want context.DeadlineExceeded", err)
		}
		for _, ch := range []<-chan result{first, second} {
			if got := receive(t, "Call", ch); !errors.Is(got.err, bus.ErrUnavailable) {
				t.Errorf("Call = %v, want ErrUnavailable", got.err)
			}
		}
	})
}

func TestMembersShare(t *testing.T) {
	const calls = 200
	bustest.Modes(t, func(t *testing.T, c *bus.Conn) {
		var n [2]atomic.Int32
		for i := range n {
			serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{}, func(_ context.Context, r *bus.Request) {
				n[i].Add(1)
				r.Reply(bus.Reply{})
			})
		}
		for range calls {
			if got := receive(t, "Call", call(t, c, bus.SubjectDispatch("INVITE"), "x", wait)); got.err != nil {
				t.Fatalf("Call = %v, want nil", got.err)
			}
		}
		a, b := n[0].Load(), n[1].Load()
		if a+b != calls || min(a, b) < calls/4 {
			t.Errorf("members handled %d and %d of %d calls, want about half each", a, b, calls)
		}
	})
}

// The loss of one of two responders loses no call that is made after it.
func TestResponderLost(t *testing.T) {
	srv := bustest.Server(t)
	caller := bustest.Dial(t, srv, nil)
	var responders [2]*bus.Conn
	for i := range responders {
		responders[i] = bustest.Dial(t, srv, nil)
		serve(t, responders[i], bus.SubjectDispatch(bus.Every), bus.Options{}, answer(fmt.Sprint(i)))
	}
	seen := make(map[string]bool)
	for i := range 200 {
		if i == 100 {
			responders[0].Close()
			clear(seen)
		}
		got := receive(t, "Call", call(t, caller, bus.SubjectDispatch("INVITE"), "", wait))
		if got.err != nil {
			t.Fatalf("Call %d = %v, want nil", i, got.err)
		}
		seen[got.text] = true
		if i == 99 && len(seen) != 2 {
			t.Fatalf("responders %v answered, want both", seen)
		}
	}
	if seen["0"] || !seen["1"] {
		t.Errorf("after the loss of 0, %v answered, want only 1", seen)
	}
	responders[1].Close()
	if got := receive(t, "Call", call(t, caller, bus.SubjectDispatch("INVITE"), "", time.Hour)); !errors.Is(got.err, bus.ErrUnavailable) {
		t.Errorf("Call after the loss of both = %v, want ErrUnavailable", got.err)
	}
}

// A handler that panics again and again does not fill the log.
func TestPanicLog(t *testing.T) {
	srv := bustest.Server(t)
	var log bytes.Buffer
	c := bustest.Dial(t, srv, func(cfg *bus.Config) {
		cfg.Local = true
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{}, func(context.Context, *bus.Request) { panic("boom") })
	for range 100 {
		receive(t, "Call", call(t, c, bus.SubjectDispatch("INVITE"), "x", wait))
	}
	if n := c.Stats().Panics; n != 100 {
		t.Errorf("Stats().Panics = %d, want 100", n)
	}
	if n := strings.Count(log.String(), "handler panicked"); n < 1 || n > 10 {
		t.Errorf("%d log lines about 100 panics, want about one a second", n)
	}
}

// A caller in this process whose callback panics costs the responder nothing.
func TestPanicOfCaller(t *testing.T) {
	c := bustest.Alone(t)
	serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{MaxPending: 1}, answer("to "))
	c.Call(t.Context(), bus.SubjectDispatch("INVITE"), bus.Raw(nil), time.Now().Add(wait), func(bus.Reply, error) { panic("boom") })
	if got := receive(t, "Call", call(t, c, bus.SubjectDispatch("INVITE"), "x", wait)); got.text != "to x" {
		t.Errorf("Call after the panic = %+v, want to x", got)
	}
}

func TestHandlerContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bustest.Alone(t)
		start := time.Now()
		ended := make(chan time.Duration, 1)
		serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{}, func(ctx context.Context, r *bus.Request) {
			d, ok := ctx.Deadline()
			if !ok || !d.Equal(r.Deadline) {
				t.Errorf("Deadline = %v, %v, want %v", d, ok, r.Deadline)
			}
			if err := ctx.Err(); err != nil {
				t.Errorf("Err = %v, want nil", err)
			}
			if v := ctx.Value("no such key"); v != nil {
				t.Errorf("Value = %v, want nil", v)
			}
			child, cancel := context.WithCancel(ctx) // as a client of a database does
			go func() {
				defer cancel()
				<-child.Done()
				if err := child.Err(); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Err = %v, want context.DeadlineExceeded", err)
				}
				ended <- time.Since(start)
				r.Fail(context.Cause(child))
			}()
		})
		got := <-call(t, c, bus.SubjectDispatch("INVITE"), "x", 2*time.Second)
		if !errors.Is(got.err, bus.ErrDeadline) {
			t.Errorf("Call = %v, want ErrDeadline", got.err)
		}
		if d := <-ended; d != 2*time.Second {
			t.Errorf("context of the handler ended after %s, want 2s", d)
		}
	})
}

// The deadline holds without a server, to within one look at the clock.
func TestDeadlineSweep(t *testing.T) {
	for _, workers := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			c := bustest.Alone(t)
			s := serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{Workers: workers}, func(ctx context.Context, r *bus.Request) {
				if workers > 0 {
					<-ctx.Done() // the others wait in the queue, and their deadlines pass there
				}
			})
			start := time.Now()
			for _, timeout := range []time.Duration{time.Millisecond, 60 * time.Millisecond, time.Second, 32 * time.Second} {
				got := <-call(t, c, bus.SubjectDispatch("INVITE"), "x", timeout)
				late := time.Since(start) - timeout
				if !errors.Is(got.err, bus.ErrDeadline) || late < 0 || late > 50*time.Millisecond {
					t.Errorf("Call with a deadline in %s = %v, %s late, want ErrDeadline within 50ms", timeout, got.err, late)
				}
				start = time.Now()
			}
			first := call(t, c, bus.SubjectDispatch("INVITE"), "x", time.Minute)
			second := call(t, c, bus.SubjectDispatch("INVITE"), "x", time.Second)
			start = time.Now()
			<-second
			if d := time.Since(start); d > time.Second+50*time.Millisecond {
				t.Errorf("deadline of 1s, behind one of 1m, noticed after %s", d)
			}
			<-first
			if err := s.Drain(t.Context()); err != nil {
				t.Errorf("Drain = %v, want nil", err)
			}
		})
	}
}
