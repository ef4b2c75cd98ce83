package dispatcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// patience is a deadline that no test reaches unless it fails.
const patience = 20 * time.Second

func config(processors ...Processor) Config {
	c := Default()
	c.Spec.Processors = processors
	return c
}

// start runs a dispatcher until the test ends.
func start(t testing.TB, conn *bus.Conn, cfg Config) *Service {
	t.Helper()
	s, err := New(cfg, conn, slog.New(slog.DiscardHandler), noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	return s
}

// run runs s and returns a function that stops it; the end of the test calls it too.
func run(t testing.TB, s *Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("Run: %v", err)
	}
	stop = func() {
		cancel()
		if err, first := <-done; first {
			close(done)
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

// serve answers on subject as ref does.
func serve(t testing.TB, conn *bus.Conn, subject, ref string, h bus.Handler) {
	t.Helper()
	if _, err := conn.Serve(subject, ref, h, bus.Options{}); err != nil {
		t.Fatal(err)
	}
}

func serveProcessor(t testing.TB, conn *bus.Conn, ref string, h bus.Handler) {
	t.Helper()
	serve(t, conn, bus.SubjectProcess(ref, bus.Every), ref, h)
}

// echo is a processor that answers with its own name as the target.
func echo(ref string) bus.Handler {
	return func(_ context.Context, r *bus.Request) {
		r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: "sip:" + ref}}})})
	}
}

type outcome struct {
	reply bus.Reply
	err   error
}

func send(conn *bus.Conn, subject string, body bus.Body, deadline time.Duration) <-chan outcome {
	c := make(chan outcome, 1)
	conn.Call(context.Background(), subject, body, time.Now().Add(deadline), func(reply bus.Reply, err error) {
		c <- outcome{reply, err}
	})
	return c
}

func (o outcome) message(t testing.TB) *processorpb.MessageResponse {
	t.Helper()
	if o.err != nil {
		t.Fatalf("dispatched request failed: %v", o.err)
	}
	m, err := bus.Decode[processorpb.MessageResponse](o.reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// String is the outcome in short: the target, the status, or the error.
func (o outcome) String() string {
	if o.err != nil {
		return o.err.Error()
	}
	m, err := bus.Decode[processorpb.MessageResponse](o.reply.Body)
	switch {
	case err != nil:
		return err.Error()
	case len(m.Targets) > 0:
		return m.Targets[0].Uri
	case m.Message != nil:
		return fmt.Sprint(m.Message.StatusCode)
	}
	return "nothing"
}

func TestDispatch(t *testing.T) {
	cfg := config(
		Processor{Ref: "im", Methods: []string{"MESSAGE", "INVITE"}, MatchFunc: "req => req.method === 'MESSAGE'"},
		Processor{Ref: "twilio", Methods: []string{"INVITE"}, MatchFunc: `req => req.message.requestUri.host === "twilio.com"`},
		Processor{Ref: "never", Methods: []string{"INVITE"}, MatchFunc: `req => req.message.expires.expires > 0`},
		Processor{Ref: "connect", Methods: []string{"REGISTER", "INVITE", "MESSAGE"}, MatchFunc: `req => req.ref !== "x"`},
		Processor{Ref: "lab", Methods: []string{"FOO", "a.b", "c%d"}, MatchFunc: `req => req.method === "UNKNOWN"`},
	)
	to := func(host string) *processorpb.MessageRequest {
		req := invite()
		req.Message.MessageType = &sipmessagepb.SIPMessage_RequestUri{RequestUri: &sipmessagepb.SipURI{Host: host}}
		return req
	}
	tests := []struct {
		name, method string
		req          *processorpb.MessageRequest
		want         string
	}{
		{"first of two", "MESSAGE", invite(), "sip:im"},
		{"second of two", "INVITE", to("example.com"), "sip:connect"},
		{"by content", "INVITE", to("twilio.com"), "sip:twilio"},
		{"only one", "REGISTER", invite(), "sip:connect"},
		{"no method", "OPTIONS", invite(), "405"},
		{"no match", "REGISTER", &processorpb.MessageRequest{Ref: "x"}, "405"},
		{"case", "invite", invite(), "405"},
		{"extension method", "FOO", &processorpb.MessageRequest{MethodName: "FOO"}, "sip:lab"},
		{"method with a dot", "a.b", &processorpb.MessageRequest{MethodName: "a.b"}, "sip:lab"},
		{"method with a percent sign", "c%d", &processorpb.MessageRequest{MethodName: "c%d"}, "sip:lab"},
		{"unknown extension method", "BAR", &processorpb.MessageRequest{MethodName: "BAR"}, "405"},
	}
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, p := range cfg.Spec.Processors {
			serveProcessor(t, conn, p.Ref, echo(p.Ref))
		}
		start(t, conn, cfg)
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				got := <-send(conn, bus.SubjectDispatch(tt.method), bus.Value(tt.req), patience)
				if got.String() != tt.want {
					t.Errorf("Dispatch(%s) = %s, want %s", tt.method, got, tt.want)
				}
				if got.reply.Interest != "" {
					t.Errorf("Interest = %q, want none", got.reply.Interest)
				}
			})
		}
	})
}

func TestMethodNotAllowed(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		start(t, conn, config(
			Processor{Ref: "im", Methods: []string{"MESSAGE"}},
			Processor{Ref: "connect", Methods: []string{"REGISTER", "MESSAGE", "INVITE"}},
		))
		got := (<-send(conn, bus.SubjectDispatch("SUBSCRIBE"), bus.Value(invite()), patience)).message(t)
		want := &processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{
			MessageType: &sipmessagepb.SIPMessage_ResponseType{ResponseType: sipmessagepb.ResponseType_METHOD_NOT_ALLOWED},
			StatusCode:  405,
			Extensions:  []*sipmessagepb.Extension{{Name: "Allow", Value: "MESSAGE, REGISTER, INVITE"}},
		}}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("Dispatch(SUBSCRIBE) differs (-want +got):\n%s", diff)
		}
	})
}

// The error of a processor keeps its code and says which processor it was.
func TestProcessorFails(t *testing.T) {
	tests := []struct {
		name    string
		handler bus.Handler // nil: nobody serves
		want    string
	}{
		{"unreachable", nil, "UNAVAILABLE: processor connect: "},
		{"internal", func(_ context.Context, r *bus.Request) { r.Fail(errors.New("no database")) }, "INTERNAL: processor connect: no database"},
		{"panic", func(context.Context, *bus.Request) { panic("bug") }, "INTERNAL: processor connect: "},
		{
			"precondition", func(_ context.Context, r *bus.Request) { r.Fail(bus.Errorf(bus.FailedPrecondition, "not now")) },
			"FAILED_PRECONDITION: processor connect: not now",
		},
	}
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		var processors []Processor
		for i, tt := range tests {
			ref := fmt.Sprintf("connect%d", i)
			processors = append(processors, Processor{Ref: ref, Methods: []string{fmt.Sprintf("M%d", i)}})
			if tt.handler != nil {
				serveProcessor(t, conn, ref, tt.handler)
			}
		}
		start(t, conn, config(processors...))
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				got := <-send(conn, bus.SubjectDispatch(fmt.Sprintf("M%d", i)), bus.Value(invite()), patience)
				want := strings.Replace(tt.want, "connect", fmt.Sprintf("connect%d", i), 1)
				if !strings.HasPrefix(got.String(), want) {
					t.Errorf("Dispatch = %s, want %s", got, want)
				}
			})
		}
	})
}

func TestDeadline(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		taken := make(chan *bus.Request, 1)
		serveProcessor(t, conn, "connect", func(_ context.Context, r *bus.Request) { taken <- r })
		start(t, conn, Default())
		got := <-send(conn, bus.SubjectDispatch("INVITE"), bus.Value(invite()), 100*time.Millisecond)
		if !errors.Is(got.err, bus.ErrDeadline) {
			t.Errorf("Dispatch(INVITE) = %s, want a deadline exceeded", got)
		}
		r := <-taken
		if left := time.Until(r.Deadline); left > 100*time.Millisecond {
			t.Errorf("processor has %v left, want no more than the caller had", left)
		}
		r.Reply(bus.Reply{}) // too late
	})
}

// A processor that takes its time holds up nobody else, and Run waits for it.
func TestAsynchronous(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		held := make(chan *bus.Request, 100)
		serveProcessor(t, conn, "slow", func(_ context.Context, r *bus.Request) { held <- r })
		serveProcessor(t, conn, "fast", echo("fast"))
		s, err := New(config(
			Processor{Ref: "slow", Methods: []string{"INVITE"}},
			Processor{Ref: "fast", Methods: []string{"MESSAGE"}},
		), conn, slog.New(slog.DiscardHandler), noop.Meter{})
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, s)
		var waiting []<-chan outcome
		for range cap(held) {
			waiting = append(waiting, send(conn, bus.SubjectDispatch("INVITE"), bus.Value(invite()), patience))
		}
		if got := <-send(conn, bus.SubjectDispatch("MESSAGE"), bus.Value(invite()), patience); got.String() != "sip:fast" {
			t.Errorf("Dispatch(MESSAGE) = %s, want sip:fast", got)
		}
		var requests []*bus.Request
		for range cap(held) {
			requests = append(requests, <-held)
		}
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		for _, r := range requests {
			select {
			case <-stopped:
				t.Fatal("Run has returned before its requests were answered")
			default:
			}
			echo("slow")(context.Background(), r)
		}
		for _, w := range waiting {
			if got := <-w; got.String() != "sip:slow" {
				t.Errorf("Dispatch(INVITE) = %s, want sip:slow", got)
			}
		}
		<-stopped
	})
}

// The processor gets the bytes of the EdgePort, with the fields that this version does not know.
func TestBytesUntouched(t *testing.T) {
	sent, err := proto.Marshal(invite())
	if err != nil {
		t.Fatal(err)
	}
	sent = append(sent, 0xa2, 0x3f, 0x03, 'n', 'e', 'w') // field 1012, bytes
	answer := append([]byte(nil), sent[len(sent)-6:]...)
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		serveProcessor(t, conn, "connect", func(_ context.Context, r *bus.Request) {
			got, err := r.Body.Bytes()
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("processor got %x, %v, want %x", got, err, sent)
			}
			r.Reply(bus.Reply{Body: bus.Raw(answer)})
		})
		cfg := Default()
		cfg.Spec.Processors[0].MatchFunc = "req => req.ref"
		start(t, conn, cfg)
		got := <-send(conn, bus.SubjectDispatch("INVITE"), bus.Raw(sent), patience)
		if got.err != nil {
			t.Fatal(got.err)
		}
		if data, err := got.reply.Body.Bytes(); err != nil || !bytes.Equal(data, answer) {
			t.Errorf("answer = %x, %v, want %x", data, err, answer)
		}
	})
}

func TestGarbage(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		cfg := Default()
		cfg.Spec.Processors[0].MatchFunc = "req => req.ref"
		start(t, conn, cfg)
		for _, subject := range []string{bus.SubjectDispatch("INVITE"), bus.SubjectResponse("INVITE")} {
			got := <-send(conn, subject, bus.Raw([]byte("garbage")), patience)
			if bus.CodeOf(got.err) != bus.InvalidArgument {
				t.Errorf("call of %s = %s, want an invalid argument", subject, got)
			}
		}
	})
}

// Two dispatchers share the work, and one goes on alone when the other stops.
func TestTwo(t *testing.T) {
	server := bustest.Server(t)
	edge := bustest.Dial(t, server, nil)
	serveProcessor(t, edge, "connect", echo("connect"))
	var services []*Service
	var stops []func()
	for range 2 {
		s, err := New(Default(), bustest.Dial(t, server, nil), slog.New(slog.DiscardHandler), noop.Meter{})
		if err != nil {
			t.Fatal(err)
		}
		services = append(services, s)
		stops = append(stops, run(t, s))
	}
	for range 100 {
		if got := <-send(edge, bus.SubjectDispatch("INVITE"), bus.Value(invite()), patience); got.String() != "sip:connect" {
			t.Fatalf("Dispatch(INVITE) = %s, want sip:connect", got)
		}
	}
	for i, s := range services {
		if n := s.counts[resultOK].Load(); n == 0 {
			t.Errorf("dispatcher %d has answered %d of 100 requests, want some", i, n)
		}
	}
	stops[0]()
	for range 20 {
		if got := <-send(edge, bus.SubjectDispatch("INVITE"), bus.Value(invite()), patience); got.String() != "sip:connect" {
			t.Fatalf("Dispatch(INVITE) with one dispatcher = %s, want sip:connect", got)
		}
	}
	stops[1]()
	if got := <-send(edge, bus.SubjectDispatch("INVITE"), bus.Value(invite()), patience); !errors.Is(got.err, bus.ErrUnavailable) {
		t.Errorf("Dispatch(INVITE) without a dispatcher = %s, want unavailable", got)
	}
}

func TestRunFails(t *testing.T) {
	conn := bustest.Connect(t)
	s, err := New(Default(), conn, slog.New(slog.DiscardHandler), noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := s.Run(t.Context(), func() { t.Error("ready on a closed connection") }); err == nil {
		t.Error("Run on a closed connection = nil, want an error")
	}
}

func TestMetrics(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	var log bytes.Buffer
	conn := bustest.Connect(t)
	serveProcessor(t, conn, "connect", echo("connect"))
	s, err := New(config(
		Processor{Ref: "thrower", Methods: []string{"INVITE"}, MatchFunc: "req => req.message.expires.expires"},
		Processor{Ref: "looper", Methods: []string{"INVITE"}, MatchFunc: "req => { for (;;); }"},
		Processor{Ref: "connect", Methods: []string{"INVITE"}},
		Processor{Ref: "absent", Methods: []string{"MESSAGE"}},
	), conn, slog.New(slog.NewTextHandler(&log, nil)), meter)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, s)
	for range 3 {
		<-send(conn, bus.SubjectDispatch("INVITE"), bus.Value(invite()), patience)
		<-send(conn, bus.SubjectDispatch("MESSAGE"), bus.Value(invite()), patience)
	}
	<-send(conn, bus.SubjectDispatch("BYE"), bus.Value(invite()), patience)
	<-send(conn, bus.SubjectResponse("BYE"), bus.Value(ringing()), patience)
	stop()

	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int64)
	for _, m := range data.ScopeMetrics[0].Metrics {
		for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
			name := m.Name
			for _, kv := range p.Attributes.ToSlice() {
				name += " " + kv.Value.AsString()
			}
			got[name] = p.Value
		}
	}
	want := map[string]int64{
		"routr.dispatcher.requests ok":                  3,
		"routr.dispatcher.requests not_allowed":         1,
		"routr.dispatcher.requests unseen":              1,
		"routr.dispatcher.requests unavailable":         3,
		"routr.dispatcher.requests deadline":            0,
		"routr.dispatcher.requests error":               0,
		"routr.dispatcher.match.failures thrower threw": 3,
		"routr.dispatcher.match.failures thrower limit": 0,
		"routr.dispatcher.match.failures looper threw":  0,
		"routr.dispatcher.match.failures looper limit":  3,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics differ (-want +got):\n%s", diff)
	}
	for _, line := range []string{"processor=thrower", "processor=looper", `name="processor absent"`} {
		if n := strings.Count(log.String(), line); n != 1 {
			t.Errorf("log has %d lines with %s, want 1:\n%s", n, line, &log)
		}
	}
}

func request(method string) *bus.Request {
	return &bus.Request{Subject: bus.SubjectDispatch(method), Body: bus.Value(invite())}
}

func BenchmarkDispatch(b *testing.B) {
	for _, mode := range []struct {
		name    string
		connect func(testing.TB) *bus.Conn
	}{{"nats", bustest.Connect}, {"local", bustest.Local}} {
		for _, chain := range []bool{false, true} {
			name := mode.name + "/forward"
			cfg := Default()
			if chain {
				name = mode.name + "/middleware"
				cfg.Spec.Middlewares = []Middleware{{Ref: "mid"}}
			}
			b.Run(name, func(b *testing.B) {
				conn := mode.connect(b)
				serveProcessor(b, conn, "connect", echo("connect"))
				serve(b, conn, bus.SubjectMiddleware("mid", bus.Every), "mid", func(_ context.Context, r *bus.Request) {
					r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{})})
				})
				start(b, conn, cfg)
				body, subject := bus.Value(invite()), bus.SubjectDispatch("INVITE")
				slots := make(chan struct{}, 64)
				b.ReportAllocs()
				for b.Loop() {
					slots <- struct{}{}
					conn.Call(context.Background(), subject, body, time.Now().Add(patience), func(_ bus.Reply, err error) {
						if err != nil {
							b.Error(err)
						}
						<-slots
					})
				}
				for range cap(slots) {
					slots <- struct{}{}
				}
			})
		}
	}
}
