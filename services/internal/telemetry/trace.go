package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// newTracerProvider sends spans to endpoint in batches. It does not wait for the collector: what cannot be sent is
// dropped, and the queue is bounded.
func newTracerProvider(ctx context.Context, endpoint string, res *resource.Resource, log *slog.Logger) (*sdktrace.TracerProvider, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("otlp endpoint %q is no URL, want one as http://collector:4318", endpoint)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces" // the path of OTLP/HTTP
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()),
		otlptracehttp.WithTimeout(exportTimeout), otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}))
	if err != nil {
		return nil, fmt.Errorf("otlp exporter to %s: %w", u.Redacted(), err)
	}
	return sdktrace.NewTracerProvider(
		sdktrace.WithResource(res),
		sdktrace.WithBatcher(&loggedExporter{SpanExporter: exporter, log: log.With("endpoint", u.Redacted())}),
	), nil
}

const exportTimeout = 5 * time.Second

// loggedExporter logs that spans are lost when it starts and when it ends, not each batch. Left alone, the SDK would
// report each one to the global error handler of OpenTelemetry, which prints past our log.
type loggedExporter struct {
	sdktrace.SpanExporter
	log  *slog.Logger
	lost atomic.Int64 // since the collector last took a batch
}

func (e *loggedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		if before := e.lost.Add(int64(len(spans))) - int64(len(spans)); before == 0 {
			e.log.Warn("traces cannot be sent", "err", err)
		}
	} else if lost := e.lost.Swap(0); lost > 0 {
		e.log.Info("traces are sent again", "lost", lost)
	}
	return nil
}
