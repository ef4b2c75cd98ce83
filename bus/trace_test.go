package bus_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
)

// recorder is a tracer and what it recorded.
func recorder() (trace.Tracer, *tracetest.SpanRecorder) {
	rec := tracetest.NewSpanRecorder()
	return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec)).Tracer("bus"), rec
}

// chain serves dispatch by a forward to process, and process by a call to location, which fails.
func chain(t *testing.T, c *bus.Conn) {
	t.Helper()
	serve(t, c, bus.SubjectDispatch(bus.Every), bus.Options{}, func(_ context.Context, r *bus.Request) {
		r.Forward(bus.SubjectProcess("connect", "INVITE"), func(p bus.Reply, err error) {
			if err != nil {
				r.Fail(err)
				return
			}
			r.Reply(p)
		})
	})
	serve(t, c, bus.SubjectProcess("connect", bus.Every), bus.Options{}, func(ctx context.Context, r *bus.Request) {
		ctx, cancel := context.WithCancel(ctx) // the trace survives what is derived from the context
		c.Call(ctx, bus.SubjectLocation("find"), r.Body, r.Deadline, func(_ bus.Reply, err error) {
			cancel()
			r.Reply(bus.Reply{})
		})
	})
	serve(t, c, bus.SubjectLocation("find"), bus.Options{}, func(ctx context.Context, r *bus.Request) {
		r.Fail(bus.Errorf(bus.NotFound, "no such AOR"))
	})
}

func TestTrace(t *testing.T) {
	for _, local := range []bool{false, true} {
		tracer, rec := recorder()
		c := bustest.Dial(t, bustest.Server(t), func(cfg *bus.Config) { cfg.Tracer, cfg.Local = tracer, local })
		chain(t, c)
		ctx, root := tracer.Start(t.Context(), "root")
		if _, err := bus.Ask[text](ctx, c, bus.SubjectDispatch("INVITE"), &text{}); err != nil {
			t.Fatal(err)
		}
		root.End()
		eventually(t, "spans end", func() bool { return len(rec.Ended()) == 7 })

		// One trace, each span the child of the one before.
		names := []string{
			"root",
			"call routr.v1.dispatch.INVITE", "serve routr.v1.dispatch.*",
			"call routr.v1.process.connect.INVITE", "serve routr.v1.process.connect.*",
			"call routr.v1.location.find", "serve routr.v1.location.find",
		}
		var got []string
		parent := trace.SpanID{}
		for range names {
			for _, s := range rec.Ended() {
				if s.Parent().SpanID() == parent && s.SpanContext().TraceID() == root.SpanContext().TraceID() {
					got = append(got, s.Name())
					parent = s.SpanContext().SpanID()
					failed := s.Status().Code == codes.Error
					if want := len(got) > 5; failed != want {
						t.Errorf("span %s failed = %v, want %v", s.Name(), failed, want)
					}
					break
				}
			}
		}
		if diff := cmp.Diff(names, got); diff != "" {
			t.Errorf("spans with Local = %v (-want +got):\n%s", local, diff)
		}
	}
}

// A connection without a tracer passes on the trace of others, by Forward and by calls.
func TestTracePassesThrough(t *testing.T) {
	tests := []struct {
		name  string
		local bool
	}{{"nats", false}, {"local", true}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := bustest.Server(t)
			c := bustest.Dial(t, srv, func(cfg *bus.Config) {
				if cfg.Local = tt.local; tt.local {
					cfg.Interest = srv.Interest
				}
			})
			chain(t, c)
			headers := make(chan string, 16)
			err := bustest.Dial(t, srv, nil).Tap(t.Context(), "routr.v1.location.>", func(m bus.Tapped) {
				headers <- m.Trace
			})
			if err != nil {
				t.Fatal(err)
			}
			const parent = "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-01"
			id, _ := trace.TraceIDFromHex("0102030405060708090a0b0c0d0e0f10")
			span, _ := trace.SpanIDFromHex("0102030405060708")
			ctx := trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
				TraceID: id, SpanID: span, TraceFlags: trace.FlagsSampled, Remote: true,
			}))
			if _, err := bus.Ask[text](ctx, c, bus.SubjectDispatch("INVITE"), &text{}); err != nil {
				t.Fatal(err)
			}
			if got := receive(t, "tap", headers); got != parent {
				t.Errorf("traceparent at the end of the chain = %q, want %q", got, parent)
			}
		})
	}
}

// The span of a call that nobody answers ends too.
func TestTraceOfFailure(t *testing.T) {
	tracer, rec := recorder()
	c := bustest.Dial(t, bustest.Server(t), func(cfg *bus.Config) { cfg.Tracer, cfg.Local = tracer, true })
	if _, err := bus.Ask[text](t.Context(), c, bus.SubjectDispatch("INVITE"), &text{}); !errors.Is(err, bus.ErrUnavailable) {
		t.Fatalf("Ask = %v, want ErrUnavailable", err)
	}
	ended := rec.Ended()
	if len(ended) != 1 || ended[0].Status().Code != codes.Error || ended[0].Status().Description != "UNAVAILABLE" {
		t.Errorf("spans = %v, want one that failed with UNAVAILABLE", ended)
	}
}
