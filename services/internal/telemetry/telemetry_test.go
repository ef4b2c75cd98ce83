package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
)

func start(t *testing.T, cfg Config) *Telemetry {
	t.Helper()
	tel, err := New(t.Context(), cfg, t.Output())
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { shutdown(t, tel) })
	return tel
}

func get(t *testing.T, tel *Telemetry, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + tel.Addr().String() + path)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return resp.StatusCode, string(body)
}

func TestNewErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	addr := taken.Addr().String()
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"format", Config{LogFormat: "xml"}, `log format "xml" is unknown, want text or json`},
		{"level", Config{LogLevel: "loud"}, `log level "loud" is unknown, want debug, info, warn or error`},
		{"endpoint", Config{OTLPEndpoint: "collector:4318"}, `otlp endpoint "collector:4318" is no URL, want one as http://collector:4318`},
		{"taken port", Config{HTTPAddr: addr}, "listen http " + addr + ": address already in use by another process, choose another port"},
		{"no port", Config{HTTPAddr: "localhost"}, "listen http localhost: listen tcp: address localhost: missing port in address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(t.Context(), tt.cfg, io.Discard)
			if err == nil || err.Error() != tt.want {
				t.Errorf("New = %v, want %s", err, tt.want)
			}
		})
	}
}

func TestNoServerNoTracer(t *testing.T) {
	tel := start(t, Config{})
	if tel.Addr() != nil {
		t.Errorf("Addr = %v, want nil", tel.Addr())
	}
	if tel.Tracer != nil {
		t.Error("Tracer is set, want nil without an endpoint")
	}
}

func TestHealth(t *testing.T) {
	tel := start(t, Config{HTTPAddr: "127.0.0.1:0"})
	var busErr, storeErr, timersErr error
	tel.CheckAlive("timers", func() error { return timersErr })
	tel.Check("bus", func() error { return busErr })
	tel.Check("store", func() error { return storeErr })
	lost, full := errors.New("no server since 10:00"), errors.New("the disk is full")
	stuck := errors.New("they stand still")
	tests := []struct {
		name       string
		path       string
		bus, store error
		timers     error
		code       int
		want       status
	}{
		{"alive", "/healthz", nil, nil, nil, 200, status{Status: "ok"}},
		{"ready", "/readyz", nil, nil, nil, 200, status{Status: "ready"}},
		{"one fails", "/readyz", lost, nil, nil, 503, status{Status: "not ready", Failed: map[string]string{"bus": lost.Error()}}},
		{"both fail", "/readyz", lost, full, nil, 503, status{Status: "not ready", Failed: map[string]string{"bus": lost.Error(), "store": full.Error()}}},
		{"alive without a bus", "/healthz", lost, full, nil, 200, status{Status: "ok"}},
		{"stuck", "/healthz", nil, nil, stuck, 503, status{Status: "not ok", Failed: map[string]string{"timers": stuck.Error()}}},
		{"ready again", "/readyz", nil, nil, nil, 200, status{Status: "ready"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			busErr, storeErr, timersErr = tt.bus, tt.store, tt.timers
			code, body := get(t, tel, tt.path)
			if code != tt.code {
				t.Errorf("GET %s = %d, want %d", tt.path, code, tt.code)
			}
			var got status
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatalf("GET %s = %q: %v", tt.path, body, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("GET %s differs (-want +got):\n%s", tt.path, diff)
			}
		})
	}
}

// Who has not got so far as to name what readiness depends on is not ready, but alive.
func TestStarting(t *testing.T) {
	tel := start(t, Config{HTTPAddr: "127.0.0.1:0"})
	if code, body := get(t, tel, "/readyz"); code != 503 || !strings.Contains(body, "it is starting") {
		t.Errorf("GET /readyz = %d %s, want 503 and that it is starting", code, body)
	}
	if code, body := get(t, tel, "/healthz"); code != 200 {
		t.Errorf("GET /healthz = %d %s, want 200", code, body)
	}
}

func TestMetrics(t *testing.T) {
	tel := start(t, Config{Service: "dispatcher", Ref: "d1", HTTPAddr: "127.0.0.1:0"})
	counter, err := tel.Meter.Int64Counter("routr.dispatcher.requests")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(t.Context(), 3, metric.WithAttributes(attribute.String("result", "ok")))
	code, body := get(t, tel, "/metrics")
	if code != 200 {
		t.Fatalf("GET /metrics = %d, want 200", code)
	}
	for _, want := range []string{
		`routr_dispatcher_requests_total{result="ok"} 3`,
		`target_info{service_instance_id="d1",service_name="routr-dispatcher"} 1`,
		"\ngo_goroutines ",
		"\nprocess_open_fds ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("GET /metrics lacks %q in:\n%s", want, body)
		}
	}
}

// Two in one process, as in tests and in a program that embeds us, do not meet.
func TestNothingGlobal(t *testing.T) {
	start(t, Config{HTTPAddr: "127.0.0.1:0", OTLPEndpoint: "http://127.0.0.1:1"})
	tel := start(t, Config{HTTPAddr: "127.0.0.1:0", OTLPEndpoint: "http://127.0.0.1:1"})
	if tel.metrics == otel.GetMeterProvider() || tel.traces == otel.GetTracerProvider() {
		t.Error("a provider is OpenTelemetry's global one")
	}
	if slog.Default() == tel.Log {
		t.Error("the logger is slog's default")
	}
}

func TestProfiles(t *testing.T) {
	tests := []struct {
		addr string
		want int
	}{{"127.0.0.1:0", 200}, {"0.0.0.0:0", 404}}
	for _, tt := range tests {
		tel := start(t, Config{HTTPAddr: tt.addr})
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine", "/debug/pprof/cmdline"} {
			if code, _ := get(t, tel, path); code != tt.want {
				t.Errorf("GET %s on %s = %d, want %d", path, tt.addr, code, tt.want)
			}
		}
	}
}

func TestShutdownTwice(t *testing.T) {
	tel := start(t, Config{HTTPAddr: "127.0.0.1:0", OTLPEndpoint: "http://127.0.0.1:1"})
	addr := tel.Addr().String()
	shutdown(t, tel) // the clean-up of start is the second
	if l, err := net.Listen("tcp", addr); err != nil {
		t.Errorf("listen on %s after Shutdown: %v", addr, err)
	} else {
		_ = l.Close()
	}
}

// The collector is a real HTTP server that reads the protobuf of OTLP.
func TestTraces(t *testing.T) {
	received := make(chan *tracepb.TracesData, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var data tracepb.TracesData // has the fields of an ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &data)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("collector got %s %s: %v, want POST /v1/traces", r.Method, r.URL.Path, err)
		}
		received <- &data
	}))
	defer collector.Close()

	tel := start(t, Config{Service: "edgeport", Ref: "e1", OTLPEndpoint: collector.URL})
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	ctx := tel.Propagator.Extract(t.Context(), propagation.MapCarrier{"traceparent": parent})
	ctx, span := tel.Tracer.Start(ctx, "dispatch INVITE", trace.WithSpanKind(trace.SpanKindClient))
	carrier := propagation.MapCarrier{}
	tel.Propagator.Inject(ctx, carrier)
	if got, want := carrier["traceparent"], "00-4bf92f3577b34da6a3ce929d0e0e4736-"+span.SpanContext().SpanID().String()+"-01"; got != want {
		t.Errorf("traceparent = %s, want %s", got, want)
	}
	span.End()
	shutdown(t, tel) // flushes

	data := <-received
	rs := data.GetResourceSpans()[0]
	attrs := make(map[string]string)
	for _, kv := range rs.GetResource().GetAttributes() {
		attrs[kv.GetKey()] = kv.GetValue().GetStringValue()
	}
	if diff := cmp.Diff(map[string]string{"service.name": "routr-edgeport", "service.instance.id": "e1"}, attrs); diff != "" {
		t.Errorf("resource differs (-want +got):\n%s", diff)
	}
	got := rs.GetScopeSpans()[0].GetSpans()[0]
	if got.GetName() != "dispatch INVITE" || got.GetKind() != tracepb.Span_SPAN_KIND_CLIENT {
		t.Errorf("span = %s %v, want dispatch INVITE, a client's", got.GetName(), got.GetKind())
	}
	if id := trace.SpanID(got.GetParentSpanId()).String(); id != "00f067aa0ba902b7" {
		t.Errorf("parent of the span = %s, want 00f067aa0ba902b7", id)
	}
}

// A collector that fails costs one line, however many batches are lost.
func TestTracesLost(t *testing.T) {
	fail := true
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if fail {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer collector.Close()
	tel, out := logTo(t, Config{OTLPEndpoint: collector.URL})
	for range 3 {
		_, span := tel.Tracer.Start(t.Context(), "lost")
		span.End()
		if err := tel.traces.ForceFlush(context.Background()); err != nil {
			t.Fatalf("ForceFlush: %v", err)
		}
	}
	if got := strings.Count(out.String(), "traces cannot be sent"); got != 1 {
		t.Errorf("log = %q has %d lines on the loss, want 1", out, got)
	}
	fail = false
	_, span := tel.Tracer.Start(t.Context(), "kept")
	span.End()
	if err := tel.traces.ForceFlush(context.Background()); err != nil {
		t.Fatalf("ForceFlush: %v", err)
	}
	if !strings.Contains(out.String(), `msg="traces are sent again"`) || !strings.Contains(out.String(), "lost=3") {
		t.Errorf("log = %q, want a line that 3 were lost", out)
	}
}

// A process that has lost the bus is alive, and not ready until the bus is back.
func TestReadyNeedsTheBus(t *testing.T) {
	server := bustest.Server(t)
	events := make(logged, 64)
	conn := bustest.Dial(t, server, func(cfg *bus.Config) { cfg.Log = slog.New(slog.NewTextHandler(events, nil)) })
	tel := start(t, Config{HTTPAddr: "127.0.0.1:0"})
	tel.Check("bus", conn.Connected)

	// The connection logs a line when it is lost and when it is back: ask again behind each line.
	expect := func(want int) (body string) {
		t.Helper()
		code, body := get(t, tel, "/readyz")
		for code != want {
			select {
			case <-events:
			case <-time.After(20 * time.Second):
				t.Fatalf("GET /readyz = %d %s, want %d", code, body, want)
			}
			code, body = get(t, tel, "/readyz")
		}
		return body
	}
	expect(200)
	server.Shutdown()
	if body := expect(503); !strings.Contains(body, `"bus":"`) {
		t.Errorf("GET /readyz = %s, want what is wrong with the bus", body)
	}
	if code, _ := get(t, tel, "/healthz"); code != 200 {
		t.Errorf("GET /healthz = %d, want 200", code)
	}
	bustest.Restart(t, server)
	expect(200)
}

// logged is a log whose lines are events.
type logged chan []byte

func (l logged) Write(line []byte) (int, error) {
	select {
	case l <- line:
	default: // nobody waits
	}
	return len(line), nil
}
