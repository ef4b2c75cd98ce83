package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
)

const wait = 10 * time.Second // for what must happen; a test that waits this long has failed

type text = wrapperspb.StringValue

type result struct {
	text     string
	interest string
	err      error
}

// call makes a call and returns a channel with its result. A second result fails the test.
func call(t *testing.T, c *bus.Conn, subject, body string, timeout time.Duration) <-chan result {
	t.Helper()
	return callAt(t, c, subject, body, time.Now().Add(timeout))
}

func callAt(t *testing.T, c *bus.Conn, subject, body string, deadline time.Time) <-chan result {
	t.Helper()
	ch := make(chan result, 1)
	var times atomic.Int32
	c.Call(t.Context(), subject, bus.Value(wrapperspb.String(body)), deadline, func(p bus.Reply, err error) {
		if n := times.Add(1); n > 1 {
			t.Errorf("Call(%s): done ran %d times, want once", subject, n)
			return
		}
		r := result{interest: p.Interest, err: err}
		if err == nil {
			m, err := bus.Decode[text](p.Body)
			if err != nil {
				t.Errorf("Call(%s): %v", subject, err)
			}
			r.text = m.GetValue()
		}
		ch <- r
	})
	return ch
}

func receive[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(wait):
		t.Fatalf("%s: nothing after %s", what, wait)
		panic("unreachable")
	}
}

func serve(t *testing.T, c *bus.Conn, subject string, o bus.Options, h bus.Handler) *bus.Service {
	t.Helper()
	s, err := c.Serve(subject, "q", h, o)
	if err != nil {
		t.Fatalf("Serve(%s): %v", subject, err)
	}
	return s
}

// answer is a handler that replies with prefix + what was asked.
func answer(prefix string) bus.Handler {
	return func(_ context.Context, r *bus.Request) {
		m, err := bus.Decode[text](r.Body)
		if err != nil {
			r.Fail(err)
			return
		}
		r.Reply(bus.Reply{Body: bus.Value(wrapperspb.String(prefix + m.GetValue()))})
	}
}

func TestCall(t *testing.T) {
	tests := []struct {
		name    string
		handler bus.Handler
		want    result
		code    bus.Code
	}{
		{name: "reply", handler: answer("to "), want: result{text: "to x"}},
		{
			name: "interest",
			handler: func(_ context.Context, r *bus.Request) {
				r.Reply(bus.Reply{Body: bus.Value(wrapperspb.String("y")), Interest: "responses"})
			},
			want: result{text: "y", interest: "responses"},
		},
		{
			name:    "empty reply",
			handler: func(_ context.Context, r *bus.Request) { r.Reply(bus.Reply{}) },
			want:    result{},
		},
		{
			name: "later, from another goroutine",
			handler: func(_ context.Context, r *bus.Request) {
				go r.Reply(bus.Reply{Body: bus.Value(wrapperspb.String("later"))})
			},
			want: result{text: "later"},
		},
		{
			name: "two answers: the first counts",
			handler: func(_ context.Context, r *bus.Request) {
				r.Reply(bus.Reply{Body: bus.Value(wrapperspb.String("first"))})
				r.Reply(bus.Reply{Body: bus.Value(wrapperspb.String("second"))})
				r.Fail(errors.New("third"))
			},
			want: result{text: "first"},
		},
		{
			name:    "error with a code",
			handler: func(_ context.Context, r *bus.Request) { r.Fail(bus.Errorf(bus.NotFound, "no such AOR")) },
			code:    bus.NotFound,
			want:    result{err: bus.Errorf(bus.NotFound, "no such AOR")},
		},
		{
			name: "wrapped error keeps its code",
			handler: func(_ context.Context, r *bus.Request) {
				r.Fail(fmt.Errorf("find: %w", bus.Errorf(bus.FailedPrecondition, "stale")))
			},
			code: bus.FailedPrecondition,
			want: result{err: bus.Errorf(bus.FailedPrecondition, "find: FAILED_PRECONDITION: stale")},
		},
		{
			name:    "error without a code",
			handler: func(_ context.Context, r *bus.Request) { r.Fail(errors.New("disk full")) },
			code:    bus.Internal,
			want:    result{err: bus.Errorf(bus.Internal, "disk full")},
		},
		{
			name:    "no error at all",
			handler: func(_ context.Context, r *bus.Request) { r.Fail(nil) },
			code:    bus.Internal,
			want:    result{err: bus.Errorf(bus.Internal, "call routr.v1.location.find: its handler failed without an error")},
		},
		{
			name:    "error with an empty code",
			handler: func(_ context.Context, r *bus.Request) { r.Fail(&bus.Error{Text: "odd"}) },
			code:    bus.Internal,
			want:    result{err: bus.Errorf(bus.Internal, "odd")},
		},
		{
			name:    "panic",
			handler: func(context.Context, *bus.Request) { panic("boom") },
			code:    bus.Internal,
			want:    result{err: bus.Errorf(bus.Internal, "call routr.v1.location.find: its handler panicked")},
		},
		{
			name: "panic after the answer",
			handler: func(_ context.Context, r *bus.Request) {
				r.Reply(bus.Reply{Body: bus.Value(wrapperspb.String("ok"))})
				panic("boom")
			},
			want: result{text: "ok"},
		},
		{
			name: "long error text is clipped",
			handler: func(_ context.Context, r *bus.Request) {
				r.Fail(bus.Errorf(bus.Internal, "%s", strings.Repeat("ä", 1000)))
			},
			code: bus.Internal,
			want: result{err: bus.Errorf(bus.Internal, "%s", strings.Repeat("ä", 256))},
		},
	}
	subject := bus.SubjectLocation(bus.LocationFind)
	for _, workers := range []int{0, 2} {
		bustest.Modes(t, func(t *testing.T, c *bus.Conn) {
			for _, tt := range tests {
				t.Run(fmt.Sprintf("%s, %d workers", tt.name, workers), func(t *testing.T) {
					s := serve(t, c, subject, bus.Options{Workers: workers}, tt.handler)
					got := receive(t, "Call", call(t, c, subject, "x", wait))
					if got.text != tt.want.text || got.interest != tt.want.interest || fmt.Sprint(got.err) != fmt.Sprint(tt.want.err) {
						t.Errorf("Call = %+v, want %+v", got, tt.want)
					}
					if code := bus.CodeOf(got.err); code != tt.code {
						t.Errorf("Call = code %q, want %q", code, tt.code)
					}
					if err := s.Drain(t.Context()); err != nil {
						t.Errorf("Drain = %v, want nil", err)
					}
				})
			}
		})
	}
}

func TestCallRefused(t *testing.T) {
	long := bus.SubjectDispatch(strings.Repeat("X", 300))
	tests := []struct {
		name    string
		subject string
		timeout time.Duration
		want    bus.Code
	}{
		{"nobody serves it", bus.SubjectDispatch("INVITE"), time.Hour, bus.Unavailable},
		{"deadline has passed", bus.SubjectDispatch("INVITE"), 0, bus.DeadlineExceeded},
		{"method is a wildcard", bus.SubjectDispatch(bus.Every), time.Hour, bus.InvalidArgument},
		{"method is too long", long, time.Hour, bus.InvalidArgument},
		{"empty subject", "", time.Hour, bus.InvalidArgument},
		{"empty token", "routr..x", time.Hour, bus.InvalidArgument},
		{"last token is empty", "routr.", time.Hour, bus.InvalidArgument},
		{"control character", "routr.a\r\nPUB", time.Hour, bus.InvalidArgument},
		{"tail wildcard", "routr.>", time.Hour, bus.InvalidArgument},
	}
	bustest.Modes(t, func(t *testing.T, c *bus.Conn) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				got := receive(t, "Call", call(t, c, tt.subject, "", tt.timeout))
				if code := bus.CodeOf(got.err); code != tt.want {
					t.Errorf("Call(%q) = %v, want %s", tt.subject, got.err, tt.want)
				}
			})
		}
		if err := c.Connected(); err != nil {
			t.Errorf("Connected = %v, want nil", err)
		}
		if n := c.Stats().Pending; n != 0 {
			t.Errorf("Stats().Pending = %d, want 0", n)
		}
	})
}

func TestAsk(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, c *bus.Conn) {
		subject := bus.SubjectLocation(bus.LocationAdd)
		serve(t, c, subject, bus.Options{}, answer("to "))
		got, err := bus.Ask[text](t.Context(), c, subject, wrapperspb.String("x"))
		if err != nil || got.GetValue() != "to x" {
			t.Errorf("Ask = %v, %v, want to x", got, err)
		}
		if _, err := bus.Ask[text](t.Context(), c, bus.SubjectLocation(bus.LocationFind), wrapperspb.String("x")); !errors.Is(err, bus.ErrUnavailable) {
			t.Errorf("Ask(nobody) = %v, want ErrUnavailable", err)
		}

		silent := bus.SubjectLocation(bus.LocationRemove)
		serve(t, c, silent, bus.Options{}, func(context.Context, *bus.Request) {})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := bus.Ask[text](ctx, c, silent, wrapperspb.String("x")); !errors.Is(err, bus.ErrDeadline) {
			t.Errorf("Ask(silent) = %v, want ErrDeadline", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		if _, err := bus.Ask[text](ctx, c, silent, wrapperspb.String("x")); !errors.Is(err, context.Canceled) {
			t.Errorf("Ask(cancelled) = %v, want context.Canceled", err)
		}
	})
}

// A reply that comes after the deadline is discarded: done ran once, with ErrDeadline.
func TestDeadline(t *testing.T) {
	for _, workers := range []int{0, 1} {
		bustest.Modes(t, func(t *testing.T, c *bus.Conn) {
			taken := make(chan *bus.Request, 1)
			serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{Workers: workers}, func(_ context.Context, r *bus.Request) { taken <- r })
			done := call(t, c, bus.SubjectDispatch("INVITE"), "x", 100*time.Millisecond)
			r := receive(t, "request", taken)
			if got := receive(t, "Call", done); !errors.Is(got.err, bus.ErrDeadline) {
				t.Errorf("Call = %v, want ErrDeadline", got.err)
			}
			r.Reply(bus.Reply{}) // call fails the test if this runs done again

			// What follows on the same way has overtaken nothing: the late reply was seen.
			serve(t, c, bus.SubjectLocation("find"), bus.Options{}, answer(""))
			receive(t, "Call", call(t, c, bus.SubjectLocation("find"), "x", wait))
		})
	}
}

// A handler that returns and never answers costs its caller the deadline, and nobody anything else.
func TestForgottenRequest(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, c *bus.Conn) {
		s := serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{MaxPending: 1}, func(context.Context, *bus.Request) {})
		for i := range uint64(2) { // the second one is taken, as the first one is forgotten
			got := receive(t, "Call", call(t, c, bus.SubjectDispatch("INVITE"), "x", 100*time.Millisecond))
			if !errors.Is(got.err, bus.ErrDeadline) {
				t.Errorf("Call = %v, want ErrDeadline", got.err)
			}
			eventually(t, "request expires", func() bool { return c.Stats().Expired == i+1 })
		}
		if err := s.Drain(t.Context()); err != nil {
			t.Errorf("Drain = %v, want nil", err)
		}
	})
}

// A message that arrives after its deadline is dropped. Its sender is another client, as ours does not send it.
func TestLateRequest(t *testing.T) {
	srv := bustest.Server(t)
	c := bustest.Dial(t, srv, nil)
	nc := plain(t, srv)
	handled := make(chan string, 2)
	serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{}, func(_ context.Context, r *bus.Request) {
		handled <- r.Subject
		r.Reply(bus.Reply{})
	})
	for _, m := range []struct{ method, deadline string }{
		{"LATE", fmt.Sprint(time.Now().Add(-time.Second).UnixMilli())},
		{"INTIME", fmt.Sprint(time.Now().Add(wait).UnixMilli())},
	} {
		msg := natsMsg(bus.SubjectDispatch(m.method), nil, map[string]string{"Routr-Deadline": m.deadline})
		msg.Reply = "elsewhere"
		if err := nc.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := receive(t, "request", handled), bus.SubjectDispatch("INTIME"); got != want {
		t.Errorf("handled %s, want %s", got, want)
	}
	if n := c.Stats().Late; n != 1 {
		t.Errorf("Stats().Late = %d, want 1", n)
	}
}

// A plain request of NATS, without our headers, is served too.
func TestForeignRequest(t *testing.T) {
	srv := bustest.Server(t)
	c := bustest.Dial(t, srv, nil)
	var left atomic.Int64
	serve(t, c, bus.SubjectLocation("find"), bus.Options{}, func(ctx context.Context, r *bus.Request) {
		left.Store(int64(time.Until(r.Deadline)))
		answer("to ")(ctx, r)
	})
	data, err := proto.Marshal(wrapperspb.String("x"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := plain(t, srv).Request(bus.SubjectLocation("find"), data, wait)
	if err != nil {
		t.Fatal(err)
	}
	got, err := bus.Decode[text](bus.Raw(m.Data))
	if err != nil || got.GetValue() != "to x" {
		t.Errorf("Request = %v, %v, want to x", got, err)
	}
	if d := time.Duration(left.Load()); d <= 0 || d > 5*time.Second {
		t.Errorf("deadline in %s, want within 5s", d)
	}
}

func TestMaxPayload(t *testing.T) {
	c := bustest.Connect(t)
	big := strings.Repeat("x", 2<<20)
	subject := bus.SubjectLocation("find")
	serve(t, c, subject, bus.Options{}, func(_ context.Context, r *bus.Request) {
		r.Reply(bus.Reply{Body: bus.Value(wrapperspb.String(big))})
	})
	for _, tt := range []struct{ name, body string }{{"request", big}, {"reply", "x"}} {
		t.Run(tt.name, func(t *testing.T) {
			got := receive(t, "Call", call(t, c, subject, tt.body, wait))
			if bus.CodeOf(got.err) != bus.InvalidArgument || !strings.Contains(got.err.Error(), "1048576") {
				t.Errorf("Call = %v, want INVALID_ARGUMENT that names the limit", got.err)
			}
		})
	}
}

func TestForward(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, c *bus.Conn) {
		var mu sync.Mutex
		var bodies [][]byte
		var deadlines []time.Time
		note := func(r *bus.Request) {
			b, err := r.Body.Bytes()
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			bodies, deadlines = append(bodies, b), append(deadlines, r.Deadline)
			mu.Unlock()
		}
		serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{}, func(_ context.Context, r *bus.Request) {
			note(r)
			r.Forward(bus.SubjectProcess("connect", "INVITE"), func(p bus.Reply, err error) {
				if err != nil {
					r.Fail(err)
					return
				}
				p.Interest = "midDialog"
				r.Reply(p)
			})
		})
		serve(t, c, bus.SubjectProcess("connect", bus.Every), bus.Options{}, func(ctx context.Context, r *bus.Request) {
			note(r)
			answer("to ")(ctx, r)
		})
		// Not what our encoder would write: fields out of order, one unknown. They must arrive as they are.
		raw := []byte("\x12\x01y\x0a\x01x")
		done := make(chan result, 1)
		c.Call(t.Context(), bus.SubjectDispatch("INVITE"), bus.Raw(raw), time.Now().Add(wait), func(p bus.Reply, err error) {
			if err != nil {
				done <- result{err: err}
				return
			}
			m, err := bus.Decode[text](p.Body)
			done <- result{text: m.GetValue(), interest: p.Interest, err: err}
		})
		if got, want := receive(t, "Call", done), (result{text: "to x", interest: "midDialog"}); got != want {
			t.Errorf("Call = %+v, want %+v", got, want)
		}
		mu.Lock()
		defer mu.Unlock()
		for i, b := range bodies {
			if string(b) != string(raw) {
				t.Errorf("hop %d got %q, want %q", i, b, raw)
			}
		}
		if len(deadlines) != 2 || deadlines[0].UnixMilli() != deadlines[1].UnixMilli() {
			t.Errorf("deadlines of the hops = %v, want the same twice", deadlines)
		}
	})
}

func TestForwardToNobody(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, c *bus.Conn) {
		serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{}, func(_ context.Context, r *bus.Request) {
			r.Forward(bus.SubjectProcess("connect", "INVITE"), func(_ bus.Reply, err error) { r.Fail(err) })
		})
		if got := receive(t, "Call", call(t, c, bus.SubjectDispatch("INVITE"), "x", time.Hour)); !errors.Is(got.err, bus.ErrUnavailable) {
			t.Errorf("Call = %v, want ErrUnavailable", got.err)
		}
	})
}

// Calls in flight fail when the connection closes, and so do calls made afterwards.
func TestCloseFailsCalls(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, c *bus.Conn) {
		taken := make(chan *bus.Request, 1)
		serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{}, func(_ context.Context, r *bus.Request) { taken <- r })
		done := call(t, c, bus.SubjectDispatch("INVITE"), "x", time.Hour)
		receive(t, "request", taken)
		c.Close()
		c.Close()
		if got := receive(t, "Call", done); !errors.Is(got.err, bus.ErrUnavailable) {
			t.Errorf("Call in flight = %v, want ErrUnavailable", got.err)
		}
		if got := receive(t, "Call", call(t, c, bus.SubjectDispatch("INVITE"), "x", time.Hour)); !errors.Is(got.err, bus.ErrUnavailable) {
			t.Errorf("Call after Close = %v, want ErrUnavailable", got.err)
		}
		if _, err := c.Serve(bus.SubjectDispatch(bus.Every), "q", answer(""), bus.Options{}); !errors.Is(err, bus.ErrUnavailable) {
			t.Errorf("Serve after Close = %v, want ErrUnavailable", err)
		}
	})
}
