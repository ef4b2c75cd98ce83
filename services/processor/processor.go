// Package processor is the kit for Message Processors written in Go: it takes the requests of one processor from the
// bus, hands each to a Handler, and sends the answer back, which is a response, a target set, or the message as it came.
// It has the header access and the digest authentication that processors share.
//
// It never touches a Via, a transaction or a socket: those are the EdgePort's (RFC 3261 16 to 18).
package processor

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
)

// Handler answers a request by exactly one of r.Respond, r.Forward, r.Reply and r.Fail, before it returns or later, from
// any goroutine. With Options.Workers 0 it must not block: what it needs from other services it asks for with r.Call.
// A Handler that panics fails its request, which the EdgePort answers with 500. ctx carries the trace context and the
// deadline.
type Handler func(ctx context.Context, r Request)

// Options of Run.
type Options struct {
	// Workers is how many requests are handled at a time by goroutines of their own, for handlers that block. 0: the
	// handler runs on the goroutine that delivers requests and must not block.
	Workers int
	// MaxPending is how many requests may be unanswered at a time; more are refused, which becomes a 503. 0: 16384.
	MaxPending int
	// Log is told of a callback that panicked, at most once a second. nil: nobody is.
	Log *slog.Logger
}

// drainTime is how long Run waits, once ctx has ended, for the answers to the requests that it took.
const drainTime = 5 * time.Second

// Run takes the requests that the Message Dispatcher sends to the processor ref, sharing them with the other instances
// of that ref, until ctx ends. It calls ready once it is subscribed. When ctx ends it takes no more requests, waits up to
// five seconds for the answers to those that it took, and returns.
func Run(ctx context.Context, conn *bus.Conn, ref string, h Handler, o Options, ready func()) error {
	p := &instance{conn: conn, log: o.Log}
	serve := func(ctx context.Context, call *bus.Request) {
		in, err := bus.Decode[processorpb.MessageRequest](call.Body)
		if err != nil {
			call.Fail(err)
			return
		}
		h(ctx, Request{MessageRequest: in, call: call, instance: p})
	}
	s, err := conn.Serve(bus.SubjectProcess(ref, bus.Every), bus.Token(ref), serve,
		bus.Options{Workers: o.Workers, MaxPending: o.MaxPending})
	if err != nil {
		return fmt.Errorf("serve the processor %s: %w", ref, err)
	}
	ready()
	<-ctx.Done()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := s.Drain(drain); err != nil {
		return fmt.Errorf("drain the processor %s: %w", ref, err)
	}
	return nil
}

// instance is what all requests of one Run share.
type instance struct {
	conn   *bus.Conn
	log    *slog.Logger
	logged atomic.Int64 // when a panic was logged last, in unix seconds
}

// recovered fails the request whose callback panicked. The bus does the same for a handler.
func (p *instance) recovered(call *bus.Request, v any) {
	now := time.Now().Unix()
	if last := p.logged.Load(); p.log != nil && last != now && p.logged.CompareAndSwap(last, now) {
		p.log.Error("callback of a processor panicked", "subject", call.Subject, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	}
	call.Fail(bus.Errorf(bus.Internal, "call %s: a callback of its handler panicked", call.Subject))
}

// Request is a request on its way through the fabric, or, for a processor whose scope includes responses, a response.
// The message must not be modified: in one process it is the EdgePort's own value, and taps read it too.
type Request struct {
	*processorpb.MessageRequest
	call     *bus.Request
	instance *instance
}

// Call sends m to another service, as a part of answering r: r's deadline is the deadline of the call. It returns at
// once; done runs exactly once, as the callback of bus.Conn.Call does, and must not block. If done panics, r fails.
func (r Request) Call(ctx context.Context, subject string, m proto.Message, done func(bus.Reply, error)) {
	r.callUntil(ctx, subject, bus.Value(m), r.call.Deadline, done)
}

// callUntil is Call with a body and a deadline of its own.
func (r Request) callUntil(ctx context.Context, subject string, body bus.Body, deadline time.Time, done func(bus.Reply, error)) {
	p, call := r.instance, r.call
	p.conn.Call(ctx, subject, body, deadline, func(reply bus.Reply, err error) {
		defer func() {
			if v := recover(); v != nil {
				p.recovered(call, v)
			}
		}()
		done(reply, err)
	})
}

// IsResponse reports whether the message of r is a response.
func (r Request) IsResponse() bool {
	m := r.GetMessage()
	return m.GetRequestUri() == nil && (m.GetResponseType() != 0 || m.GetStatusCode() != 0)
}

// MethodOf is the method of a request, or of the CSeq of a response, as written.
func MethodOf(req *processorpb.MessageRequest) string {
	if req.GetMethodName() != "" {
		return req.GetMethodName()
	}
	// The names of the enum are looked up by reflection, which a message on its way should not wait for.
	switch m := req.GetMethod(); m {
	case processorpb.Method_REGISTER:
		return "REGISTER"
	case processorpb.Method_INVITE:
		return "INVITE"
	case processorpb.Method_MESSAGE:
		return "MESSAGE"
	default:
		return m.String()
	}
}
