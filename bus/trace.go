package bus

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// requestContext is the context of a handler. It costs nothing until someone asks for Done or Err: only then is there
// a context with a timer behind it.
type requestContext struct {
	r      *Request
	values context.Context // holds the span; nil: no tracing
	once   sync.Once
	inner  context.Context
	cancel context.CancelFunc
}

type requestKey struct{}

// Deadline is that of the request.
func (x *requestContext) Deadline() (time.Time, bool) { return x.r.Deadline, true }

// Done is closed at the deadline, or when the service ends.
func (x *requestContext) Done() <-chan struct{} { return x.wait().Done() }

// Err says why Done is closed.
func (x *requestContext) Err() error { return x.wait().Err() }

// Value gives the span of the request to OpenTelemetry, and the request to Call.
func (x *requestContext) Value(key any) any {
	if key == (requestKey{}) {
		return x.r
	}
	if x.values != nil {
		return x.values.Value(key)
	}
	return nil
}

func (x *requestContext) wait() context.Context {
	x.once.Do(func() {
		// It ends at the deadline, which is seconds away, or with the service; nothing ends it earlier.
		x.inner, x.cancel = context.WithDeadline(x.r.service.ctx, x.r.Deadline) //nolint:gosec // G118: see above
	})
	return x.inner
}

// traceparent is a carrier of that one header.
type traceparent string

func (p *traceparent) Get(key string) string {
	if key == headerTrace {
		return string(*p)
	}
	return ""
}

func (p *traceparent) Set(key, value string) {
	if key == headerTrace {
		*p = traceparent(value)
	}
}

func (p *traceparent) Keys() []string { return []string{headerTrace} }

// startCall starts the client span of a call, and returns what the responder sees as its parent. Without a Tracer the
// context of others is passed on: of a span in ctx, or that of the request whose ctx this is.
func (c *Conn) startCall(ctx context.Context, subject string) (parent string, span trace.Span) {
	if c.tracer == nil {
		if !trace.SpanContextFromContext(ctx).IsValid() {
			if r, ok := ctx.Value(requestKey{}).(*Request); ok {
				parent = r.trace
			}
			return parent, nil
		}
	} else {
		ctx, span = c.tracer.Start(ctx, "call "+subject, trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(attribute.String("messaging.system", "nats"), attribute.String("messaging.destination.name", subject)))
	}
	var p traceparent
	propagation.TraceContext{}.Inject(ctx, &p)
	return string(p), span
}

// startServe starts the server span of a request, as a child of the caller's.
func (c *Conn) startServe(r *Request) {
	if c.tracer == nil {
		return
	}
	p := traceparent(r.trace)
	ctx := propagation.TraceContext{}.Extract(context.Background(), &p)
	ctx, r.span = c.tracer.Start(ctx, "serve "+r.service.subject, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("messaging.system", "nats"), attribute.String("messaging.destination.name", r.Subject)))
	r.ctx.values = ctx
	propagation.TraceContext{}.Inject(ctx, &p)
	r.trace = string(p)
}

func endSpan(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil {
		span.SetStatus(codes.Error, string(CodeOf(err)))
	}
	span.End()
}
