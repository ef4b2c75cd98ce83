package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	"github.com/routr-fabric/routr/bus/embed"
)

// message is what a tap sees.
type message struct {
	subject string
	text    string
	code    string
}

// tap listens to all calls by the client's own means, and returns what it sees.
func tap(t *testing.T, c *bus.Conn) <-chan message {
	t.Helper()
	seen := make(chan message, 4096)
	err := c.Tap(t.Context(), bus.SubjectAll, func(got bus.Tapped) {
		if strings.HasPrefix(got.Subject, "routr.v1.control.") {
			return
		}
		m, err := bus.Decode[text](bus.Raw(got.Data))
		if err != nil {
			t.Errorf("tap on %s: %v", got.Subject, err)
		}
		seen <- message{got.Subject, m.GetValue(), string(got.Code)}
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

func TestTap(t *testing.T) {
	tests := []struct {
		name string
		cfg  func(*bus.Config, *embed.Server)
	}{
		{"nats", func(*bus.Config, *embed.Server) {}},
		{"local, interest of the embedded server", func(cfg *bus.Config, s *embed.Server) { cfg.Local, cfg.Interest = true, s.Interest }},
		{"local, lease", func(cfg *bus.Config, s *embed.Server) { cfg.Local = true }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := bustest.Server(t)
			c := bustest.Dial(t, srv, func(cfg *bus.Config) { tt.cfg(cfg, srv) })
			serve(t, c, bus.SubjectProcess("connect", bus.Every), bus.Options{}, func(ctx context.Context, r *bus.Request) {
				if strings.HasSuffix(r.Subject, ".BYE") {
					r.Fail(bus.Errorf(bus.NotFound, "no such dialog"))
					return
				}
				answer("to ")(ctx, r)
			})
			serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{}, func(_ context.Context, r *bus.Request) {
				r.Forward(strings.Replace(r.Subject, "dispatch", "process.connect", 1), func(p bus.Reply, err error) {
					if err != nil {
						r.Fail(err)
						return
					}
					r.Reply(p)
				})
			})
			if c.Tapped(bus.SubjectDispatch("INVITE")) {
				t.Error("Tapped = true before there is a tap")
			}
			seen := tap(t, bustest.Dial(t, srv, nil))
			if !strings.HasPrefix(tt.name, "nats") {
				eventually(t, "tap is known", func() bool { return c.Tapped(bus.SubjectDispatch("INVITE")) })
			}
			for _, m := range []struct{ method, reply, code string }{{"INVITE", "to x", ""}, {"BYE", "", "NOT_FOUND"}} {
				receive(t, "Call", call(t, c, bus.SubjectDispatch(m.method), "x", wait))
				for i, want := range []message{
					{bus.SubjectDispatch(m.method), "x", ""},
					{bus.SubjectProcess("connect", m.method), "x", ""},
					{"reply", m.reply, m.code},
					{"reply", m.reply, m.code},
				} {
					got := receive(t, "tap", seen)
					if strings.HasPrefix(got.subject, "routr.v1.reply.bustest.") {
						got.subject = "reply"
					}
					if got != want {
						t.Errorf("tap saw %+v as message %d of %s, want %+v", got, i, m.method, want)
					}
				}
			}
			if n := c.Stats().LateReplies; n != 0 {
				t.Errorf("Stats().LateReplies = %d, want 0: copies are not replies", n)
			}
		})
	}
}

// A copy for taps reaches the queue members of other processes too. They do not handle it.
func TestCopyIsNotHandled(t *testing.T) {
	const calls = 100
	srv := bustest.Server(t)
	var near, far atomic.Int32
	count := func(n *atomic.Int32) bus.Handler {
		return func(_ context.Context, r *bus.Request) {
			n.Add(1)
			r.Reply(bus.Reply{})
		}
	}
	local := func(cfg *bus.Config) { cfg.Local, cfg.Interest = true, srv.Interest }
	a, b := bustest.Dial(t, srv, local), bustest.Dial(t, srv, local)
	serve(t, a, bus.SubjectDispatch(bus.Every), bus.Options{}, count(&near))
	serve(t, b, bus.SubjectDispatch(bus.Every), bus.Options{}, count(&far))
	seen := tap(t, bustest.Dial(t, srv, nil))
	for range calls {
		receive(t, "Call", call(t, a, bus.SubjectDispatch("INVITE"), "x", wait))
	}
	for range 2 * calls {
		receive(t, "tap", seen) // so the server has delivered every copy
	}
	// Through NATS, until b has had one: what was in its queue before is behind it.
	c := bustest.Dial(t, srv, nil)
	made := int32(0)
	for far.Load() == 0 {
		if made++; made > 10_000 {
			t.Fatal("the second member never had a call")
		}
		receive(t, "Call", call(t, c, bus.SubjectDispatch("INVITE"), "x", wait))
	}
	if got, want := near.Load()+far.Load(), int32(calls)+made; got != want || far.Load() != 1 {
		t.Errorf("%d requests handled, %d of them by the far member, want %d and 1", got, far.Load(), want)
	}
}

// With a tap, NATS no longer says that nobody serves a subject. The call must fail soon all the same.
func TestNobodyBehindTap(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, c *bus.Conn) {
		var times atomic.Int32
		err := c.Tap(t.Context(), bus.SubjectAll, func(bus.Tapped) { times.Add(1) })
		if err != nil {
			t.Fatal(err)
		}
		if got := receive(t, "Call", call(t, c, bus.SubjectDispatch("INVITE"), "x", time.Hour)); !errors.Is(got.err, bus.ErrUnavailable) {
			t.Errorf("Call = %v, want ErrUnavailable", got.err)
		}

		// A slow responder is there, and is waited for, even while it drains.
		taken := make(chan *bus.Request, 1)
		s := serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{}, func(_ context.Context, r *bus.Request) { taken <- r })
		slow := call(t, c, bus.SubjectDispatch("INVITE"), "x", time.Hour)
		r := receive(t, "request", taken)
		drained := make(chan error, 1)
		go func() { drained <- s.Drain(t.Context()) }()
		for range 2 { // the second of these is probed for later than the slow call
			receive(t, "Call", call(t, c, bus.SubjectLocation("find"), "x", time.Hour))
		}
		select {
		case got := <-slow:
			t.Errorf("Call = %v while its responder still works", got.err)
		default:
		}
		r.Reply(bus.Reply{})
		if got := receive(t, "Call", slow); got.err != nil {
			t.Errorf("Call = %v, want nil", got.err)
		}
		if err := receive(t, "Drain", drained); err != nil {
			t.Errorf("Drain = %v, want nil", err)
		}
	})
}

func TestTapRefused(t *testing.T) {
	c := bustest.Connect(t)
	for _, pattern := range []string{"", ">.a", "a..b", "a b", strings.Repeat("x", 300)} {
		if err := c.Tap(t.Context(), pattern, nil); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("Tap(%q) = %v, want INVALID_ARGUMENT", pattern, err)
		}
	}
}

// A tap ends with its context.
func TestTapEnds(t *testing.T) {
	srv := bustest.Server(t)
	c := bustest.Dial(t, srv, nil)
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Tap(ctx, "routr.call.*", func(bus.Tapped) {}); err != nil {
		t.Fatal(err)
	}
	if n := srv.Interest("routr.call.started"); n != 1 {
		t.Errorf("Interest = %d, want 1", n)
	}
	cancel()
	eventually(t, "subscription ends", func() bool { return srv.Interest("routr.call.started") == 0 })
}

// Leases come from the network: only so many are kept, and none that is not understood.
func TestLeaseBounds(t *testing.T) {
	srv := bustest.Server(t)
	c := bustest.Dial(t, srv, func(cfg *bus.Config) { cfg.Local = true })
	nc := plain(t, srv)
	publish := func(data string) {
		t.Helper()
		if err := nc.Publish(bus.SubjectControl("tap"), []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{``, `{`, `[]`, `{"subject":"bad.>"}`, `{"subject":"bad.>","seconds":-1}`, `{"subject":"bad..x","seconds":9}`, `{"subject":"","seconds":9}`, `{"subject":7,"seconds":9}`} {
		publish(bad)
	}
	for i := range 1000 {
		b, err := json.Marshal(map[string]any{"subject": fmt.Sprintf("s%d", i), "seconds": 1 << 40})
		if err != nil {
			t.Fatal(err)
		}
		publish(string(b))
	}
	publish(`{"subject":"s0","seconds":9}`) // one in force is renewed, though there are as many as are kept
	eventually(t, "leases are known", func() bool { return c.Tapped("s63") })
	if err := c.Publish("barrier", nil); err != nil {
		t.Fatal(err)
	}
	for subject, want := range map[string]bool{"s0": true, "s63": true, "s64": false, "s999": false, "bad.x": false, "": false} {
		if got := c.Tapped(subject); got != want {
			t.Errorf("Tapped(%q) = %v, want %v", subject, got, want)
		}
	}
}
