// Package telemetry is what operators see of a service: its log, its metrics and traces, and an HTTP server that says
// whether it is alive and ready. It sets nothing global: who wants to log, count or trace gets a logger, a meter or a
// tracer handed in.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/attribute"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Config says what a process tells, and where.
type Config struct {
	Service string // edgeport, dispatcher, processor, location, gateway, one; the service.name is routr-<Service>
	Ref     string // which of them; the service.instance.id
	// LogFormat is text or json; empty: text.
	LogFormat string
	// LogLevel is debug, info, warn or error; empty: info.
	LogLevel string
	// HTTPAddr is the host:port of /healthz, /readyz and /metrics, and of /debug/pprof/ if it is a loopback address.
	// Port 0 takes a free one. Empty: no server.
	HTTPAddr string
	// OTLPEndpoint is the URL of an OTLP/HTTP collector, as http://collector:4318. Empty: no traces.
	OTLPEndpoint string
}

// Telemetry is the telemetry of one process.
type Telemetry struct {
	// Log writes one line per record, safe to read in a terminal whatever a stranger sent.
	Log *slog.Logger
	// Meter makes the instruments that /metrics shows.
	Meter metric.Meter
	// Tracer is nil when there is no endpoint to send traces to.
	Tracer trace.Tracer
	// Propagator reads and writes W3C trace context (traceparent, tracestate).
	Propagator propagation.TextMapPropagator

	metrics *sdkmetric.MeterProvider
	traces  *sdktrace.TracerProvider
	server  *server
	alive   checks
	ready   checks
}

const scope = "github.com/routr-fabric/routr"

// New opens the log on w, and starts the HTTP server and the trace exporter if cfg asks for them. ctx bounds New only;
// Shutdown stops what it started. An error says which field of cfg is wrong, or which address is taken.
func New(ctx context.Context, cfg Config, w io.Writer) (*Telemetry, error) {
	log, err := newLogger(cfg, w)
	if err != nil {
		return nil, err
	}
	t := &Telemetry{Log: log, Propagator: propagation.TraceContext{}, ready: checks{needed: true}}
	res := resource.NewSchemaless(
		attribute.String("service.name", "routr-"+cfg.Service),
		attribute.String("service.instance.id", cfg.Ref),
	)

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := promexporter.New(promexporter.WithRegisterer(registry), promexporter.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("prometheus exporter: %w", err)
	}
	t.metrics = sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithResource(res))
	t.Meter = t.metrics.Meter(scope)

	if cfg.OTLPEndpoint != "" {
		if t.traces, err = newTracerProvider(ctx, cfg.OTLPEndpoint, res, log); err != nil {
			return nil, errors.Join(err, t.Shutdown(ctx))
		}
		t.Tracer = t.traces.Tracer(scope)
	}
	if cfg.HTTPAddr != "" {
		if t.server, err = listen(ctx, cfg.HTTPAddr, &t.alive, &t.ready, registry, log); err != nil {
			return nil, errors.Join(err, t.Shutdown(ctx))
		}
	}
	return t, nil
}

// Check adds a condition of /readyz, which says no before there is one: check returns nil, or a sentence for the operator.
// It must return at once and be safe for concurrent use. A second check of the same name replaces the first.
func (t *Telemetry) Check(name string, check func() error) { t.ready.add(name, check) }

// CheckAlive adds a condition of /healthz, which says whether the process has to be started anew. Otherwise it is as Check.
func (t *Telemetry) CheckAlive(name string, check func() error) { t.alive.add(name, check) }

// Addr is where the HTTP server listens, nil without one.
func (t *Telemetry) Addr() net.Addr {
	if t.server == nil {
		return nil
	}
	return t.server.listener.Addr()
}

// Shutdown stops the HTTP server and sends the traces that are still held back. It gives up when ctx ends. A second
// call does nothing.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	var errs []error
	if t.server != nil {
		errs = append(errs, t.server.shutdown(ctx))
	}
	if t.traces != nil {
		errs = append(errs, t.traces.Shutdown(ctx))
	}
	if err := t.metrics.Shutdown(ctx); !errors.Is(err, sdkmetric.ErrReaderShutdown) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
