package bus_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
)

func TestConnectFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := "nats://user:secret@" + l.Addr().String()
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = bus.Connect(ctx, bus.Config{URL: free})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("Connect = %v, want one that names the address", err)
	}
	if strings.Contains(fmt.Sprint(err), "secret") {
		t.Errorf("Connect = %v, with the password in it", err)
	}
	if _, err := bus.Connect(t.Context(), bus.Config{URL: "nats://127.0.0.1:port"}); err == nil {
		t.Error("Connect with a broken URL = nil, want an error")
	}
	if _, err := bus.Connect(t.Context(), bus.Config{URL: bus.NoServer}); err == nil {
		t.Error("Connect without a server and without Local = nil, want an error")
	}
}

// Connect waits for a server that comes up later, as services and NATS are started together.
func TestConnectWaits(t *testing.T) {
	srv := bustest.Server(t)
	srv.Shutdown()
	type connected struct {
		c   *bus.Conn
		err error
	}
	ch := make(chan connected, 1)
	go func() {
		c, err := bus.Connect(t.Context(), bus.Config{URL: srv.URL()})
		ch <- connected{c, err}
	}()
	bustest.Restart(t, srv)
	got := receive(t, "Connect", ch)
	if got.err != nil {
		t.Fatal(got.err)
	}
	got.c.Close()
}

func TestE9ServerRestart(t *testing.T) {
	bustestRestart := func(t *testing.T, local bool) {
		srv := bustest.Server(t)
		local1 := func(cfg *bus.Config) { cfg.Local = local }
		responder, caller := bustest.Dial(t, srv, local1), bustest.Dial(t, srv, nil)
		taken := make(chan *bus.Request, 1)
		serve(t, responder, bus.SubjectDispatch("SLOW"), bus.Options{}, func(_ context.Context, r *bus.Request) { taken <- r })
		serve(t, responder, bus.SubjectDispatch("INVITE"), bus.Options{}, answer("to "))
		inflight := call(t, caller, bus.SubjectDispatch("SLOW"), "x", time.Hour)
		receive(t, "request", taken)

		srv.Shutdown()
		for _, c := range []*bus.Conn{caller, responder} {
			eventually(t, "loss is noticed", func() bool { return c.Connected() != nil })
		}
		if err := caller.Connected(); !errors.Is(err, bus.ErrUnavailable) || !strings.Contains(err.Error(), srv.Config().Listen) {
			t.Errorf("Connected = %v, want ErrUnavailable with the address", err)
		}
		if got := receive(t, "Call", call(t, caller, bus.SubjectDispatch("INVITE"), "x", time.Hour)); !errors.Is(got.err, bus.ErrUnavailable) {
			t.Errorf("Call without a server = %v, want ErrUnavailable", got.err)
		}
		if err := caller.Publish("routr.call.started", nil); !errors.Is(err, bus.ErrUnavailable) {
			t.Errorf("Publish without a server = %v, want ErrUnavailable", err)
		}
		if local { // what is handed over needs no server
			if got := receive(t, "Call", call(t, responder, bus.SubjectDispatch("INVITE"), "x", wait)); got.text != "to x" {
				t.Errorf("Call = %+v, want to x", got)
			}
		}
		if got := receive(t, "Call", inflight); !errors.Is(got.err, bus.ErrUnavailable) {
			t.Errorf("Call in flight = %v, want ErrUnavailable, as its reply cannot come any more", got.err)
		}
		if n := caller.Stats().Pending; n != 0 {
			t.Errorf("%d calls wait for a reply, want none", n)
		}

		bustest.Restart(t, srv)
		for _, c := range []*bus.Conn{caller, responder} {
			eventually(t, "connection is restored", func() bool { return c.Connected() == nil })
		}
		eventually(t, "subscription is renewed", func() bool {
			return (<-call(t, caller, bus.SubjectDispatch("INVITE"), "x", wait)).text == "to x"
		})
	}
	t.Run("nats", func(t *testing.T) { bustestRestart(t, false) })
	t.Run("local", func(t *testing.T) { bustestRestart(t, true) })
}

// Drain returns at once when there is no server to drain from.
func TestDrainWithoutServer(t *testing.T) {
	srv := bustest.Server(t)
	c := bustest.Dial(t, srv, nil)
	s := serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{}, answer(""))
	srv.Shutdown()
	eventually(t, "loss is noticed", func() bool { return c.Connected() != nil })
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if err := s.Drain(ctx); err != nil {
		t.Errorf("Drain = %v, want nil", err)
	}
	if err := s.Drain(ctx); err != nil {
		t.Errorf("second Drain = %v, want nil", err)
	}
}

func TestEvents(t *testing.T) {
	srv := bustest.Server(t)
	a, b := bustest.Dial(t, srv, nil), bustest.Dial(t, srv, nil)
	type event struct{ subject, data string }
	got := make(chan event, 4)
	stop, err := b.Subscribe("routr.call.*", func(subject string, data []byte) {
		if string(data) == "panic" {
			panic("boom")
		}
		got <- event{subject, string(data)}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{"panic", "1", "2"} {
		if err := a.Publish("routr.call.started", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []event{{"routr.call.started", "1"}, {"routr.call.started", "2"}} {
		if e := receive(t, "event", got); e != want {
			t.Errorf("event = %+v, want %+v", e, want)
		}
	}
	stop()
	stop()
	if n := srv.Interest("routr.call.started"); n != 0 {
		eventually(t, "subscription ends", func() bool { return srv.Interest("routr.call.started") == 0 })
	}
	if err := a.Publish("routr.call.*", nil); bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("Publish to a wildcard = %v, want INVALID_ARGUMENT", err)
	}
	alone := bustest.Alone(t)
	if err := alone.Publish("routr.call.started", nil); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("Publish without a server = %v, want ErrUnavailable", err)
	}
	if _, err := alone.Subscribe("routr.call.*", nil); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("Subscribe without a server = %v, want ErrUnavailable", err)
	}
}

// Interest sees every subscription, whatever it has in common with another one.
func TestInterest(t *testing.T) {
	srv := bustest.Server(t)
	c := bustest.Dial(t, srv, nil)
	var interest func(string) int = srv.Interest
	want := func(subject string, n int) {
		t.Helper()
		if got := interest(subject); got != n {
			t.Errorf("Interest(%s) = %d, want %d", subject, got, n)
		}
	}
	want("routr.v1.dispatch.INVITE", 0)
	serve(t, c, "routr.v1.dispatch.*", bus.Options{}, answer(""))
	want("routr.v1.dispatch.INVITE", 1)
	serve(t, c, "routr.v1.dispatch.INVITE", bus.Options{}, answer(""))
	want("routr.v1.dispatch.INVITE", 2)
	want("routr.v1.dispatch.BYE", 1)
	for i, pattern := range []string{"routr.v1.>", "routr.>", "routr.*.dispatch.>", "*.*.*.INVITE"} {
		if _, err := c.Subscribe(pattern, func(string, []byte) {}); err != nil {
			t.Fatal(err)
		}
		want("routr.v1.dispatch.INVITE", 3+i)
	}
	want("routr.v1.dispatch.BYE", 4)
	want("routr.v1", 1)
	for i := range 10_000 { // names of a stranger push nothing out that matters
		interest(fmt.Sprintf("routr.v1.dispatch.X%d", i))
	}
	want("routr.v1.dispatch.INVITE", 6)
}
