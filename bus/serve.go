package bus

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/trace"
)

// Service is a subscription made by Serve.
type Service struct {
	conn    *Conn
	subject string
	queue   string
	handler Handler
	max     int64
	work    chan *Request // nil: no workers
	sub     *nats.Subscription
	serving *nats.Subscription // tells probes that someone is here; it ends when all is answered
	drained chan struct{}      // closed when sub has delivered its last message

	ctx    context.Context // ends with the service
	cancel context.CancelFunc
	wg     sync.WaitGroup // workers

	pending  atomic.Int64  // taken and not answered
	draining atomic.Bool   // takes no more requests that are handed over
	idle     chan struct{} // has a word when draining and pending fell to 0
	stopOnce sync.Once
}

// Serve subscribes h to subject (which may end in Every) as a member of queue; once it has returned, the server knows.
// A subject has one queue: a second one on the same connection is an error. A handler that panics fails its request
// with Internal. A request whose deadline has passed is dropped and counted.
//
// A responder that does not use this package takes part as any client of NATS does: it subscribes to the subject in the
// queue, answers to the reply subject, and, if it may take longer than 100 ms, subscribes to "_routr.serving." and the
// subject in the same queue as well, where it has nothing to do (see call.probe).
func (c *Conn) Serve(subject, queue string, h Handler, o Options) (*Service, error) {
	if err := checkSubject(strings.TrimSuffix(subject, "."+wildcard)); err != nil {
		return nil, fmt.Errorf("serve %s: %w", subject, err)
	}
	if err := checkSubject(queue); err != nil {
		return nil, fmt.Errorf("serve %s: queue %q: want a token", subject, queue)
	}
	if o.MaxPending <= 0 {
		o.MaxPending = defaultMaxPending
	}
	s := &Service{
		conn: c, subject: subject, queue: queue, handler: h, max: int64(o.MaxPending),
		drained: make(chan struct{}), idle: make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancel(c.ctx)
	if o.Workers > 0 {
		s.work = make(chan *Request, o.MaxPending)
		for range o.Workers {
			s.wg.Go(s.worker)
		}
	}
	if err := s.start(); err != nil {
		s.stop()
		return nil, fmt.Errorf("serve %s: %w", subject, err)
	}
	return s, nil
}

func (s *Service) start() error {
	c := s.conn
	closed := Errorf(Unavailable, "the connection to the bus is closed")
	if c.nc != nil {
		sub, err := c.nc.QueueSubscribe(s.subject, s.queue, s.receive)
		if errors.Is(err, nats.ErrConnectionClosed) {
			return closed
		}
		if err != nil {
			return err
		}
		sub.SetClosedHandler(func(string) { close(s.drained) })
		s.sub = sub
		if s.serving, err = c.nc.QueueSubscribe(serving(s.subject), s.queue, func(*nats.Msg) {}); err != nil {
			return err
		}
		// What waits here waits for a handler that does not keep up; deadlines thin it out.
		if err := sub.SetPendingLimits(max(int(s.max), defaultMaxPending), maxQueuedBytes); err != nil {
			return err
		}
		if err := c.settle(); err != nil {
			return err
		}
	} else {
		close(s.drained)
	}
	if err := c.local.add(s); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return closed
	}
	c.services[s] = struct{}{} // from here on Close stops it
	return nil
}

// Drain takes no more requests, waits until those that were taken are answered, or ctx ends, and unsubscribes.
func (s *Service) Drain(ctx context.Context) error {
	defer s.stop()
	s.conn.local.remove(s)
	s.draining.Store(true)
	// Without a server nothing comes any more. Drain fails when the connection is closed: then neither.
	if s.sub != nil && s.conn.nc.IsConnected() && s.sub.Drain() == nil {
		select {
		case <-s.drained:
		case <-ctx.Done():
			return s.undrained(ctx)
		}
	}
	for s.pending.Load() > 0 {
		select {
		case <-s.idle:
		case <-ctx.Done():
			return s.undrained(ctx)
		}
	}
	s.cancel()
	stopped := make(chan struct{})
	go func() { s.wg.Wait(); close(stopped) }()
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		return s.undrained(ctx)
	}
}

func (s *Service) undrained(ctx context.Context) error {
	return fmt.Errorf("drain %s: %d requests unanswered: %w", s.subject, s.pending.Load(), context.Cause(ctx))
}

// stop ends the service without waiting for anything.
func (s *Service) stop() {
	s.stopOnce.Do(func() {
		s.draining.Store(true)
		s.conn.local.remove(s)
		for _, sub := range []*nats.Subscription{s.sub, s.serving} {
			if sub != nil {
				_ = sub.Unsubscribe() // fails when the connection is gone, and the subscription with it
			}
		}
		s.cancel()
		s.conn.mu.Lock()
		delete(s.conn.services, s)
		s.conn.mu.Unlock()
	})
}

// receive takes a request that came through NATS.
func (s *Service) receive(m *nats.Msg) {
	if _, ok := m.Header[headerCopy]; ok || m.Reply == "" {
		return // a copy for taps, or nobody waits for an answer
	}
	r := &Request{Subject: m.Subject, Body: Raw(m.Data), conn: s.conn, service: s, reply: m.Reply}
	now := time.Now()
	if len(m.Header) > 0 {
		if v := m.Header.Get(headerDeadline); v != "" {
			if ms, err := strconv.ParseInt(v, 10, 64); err == nil {
				r.Deadline = time.UnixMilli(ms)
			}
		}
		if v := m.Header.Get(headerTrace); len(v) <= maxTraceparent {
			r.trace = v
		}
	}
	if r.Deadline.IsZero() {
		r.Deadline = now.Add(defaultTimeout)
	}
	if !now.Before(r.Deadline) {
		s.conn.stats.late.Add(1)
		return
	}
	s.take(r, s.pending.Add(1))
}

// take runs or queues a request, the one that brought s.pending to n.
func (s *Service) take(r *Request, n int64) {
	r.ctx.r = r
	s.conn.startServe(r)
	if n > s.max {
		s.refuse(r)
		return
	}
	if s.work == nil {
		s.run(r)
		if !r.answered.Load() {
			s.conn.calls.watch(r)
		}
		return
	}
	s.conn.calls.watch(r)
	select {
	case s.work <- r:
	default:
		s.refuse(r)
	}
}

func (s *Service) refuse(r *Request) {
	s.conn.stats.refused.Add(1)
	r.answer(Reply{}, &Error{Code: Unavailable, Text: "call " + r.Subject + ": its responder has too many requests pending"})
}

func (s *Service) worker() {
	for {
		select {
		case r := <-s.work:
			if !r.answered.Load() {
				s.run(r)
			}
		case <-s.ctx.Done():
			for {
				select {
				case r := <-s.work:
					r.answer(Reply{}, errNobody(r.Subject))
				default:
					return
				}
			}
		}
	}
}

func (s *Service) run(r *Request) {
	defer func() {
		if v := recover(); v != nil {
			c := s.conn
			c.stats.panics.Add(1)
			if n, ok := c.panics.allow(); ok {
				c.log.Error("handler panicked", "subject", s.subject, "panic", fmt.Sprint(v), "stack", string(debug.Stack()), "unlogged", n)
			}
			r.answer(Reply{}, &Error{Code: Internal, Text: "call " + r.Subject + ": its handler panicked"})
		}
	}()
	s.handler(&r.ctx, r)
}

// Request is a call as its responder sees it.
type Request struct {
	Subject  string
	Body     Body
	Deadline time.Time

	conn     *Conn
	service  *Service
	answered atomic.Bool
	reply    string             // where the answer goes through NATS
	done     func(Reply, error) // or the caller in this process
	caller   trace.Span         // span of the caller in this process; nil: none
	copyTo   string             // where taps get a copy of the answer; "": no copy
	trace    string             // traceparent of the caller, or of span
	span     trace.Span         // nil: no tracing
	ctx      requestContext
}

// Reply answers the request. Only the first of Reply and Fail counts.
func (r *Request) Reply(p Reply) { r.answer(p, nil) }

// Fail answers the request with err; CodeOf(err) travels along. A nil err is a bug of the handler, and answered with
// Internal.
func (r *Request) Fail(err error) {
	if err == nil {
		err = Errorf(Internal, "call %s: its handler failed without an error", r.Subject)
	}
	r.answer(Reply{}, err)
}

// Forward makes a call to subject with the same body (bytes that came off the wire are not touched), the same deadline
// and the trace context of r. It does not answer r: done must, by r.Reply or r.Fail. done is as in Call.
func (r *Request) Forward(subject string, done func(Reply, error)) {
	r.conn.Call(&r.ctx, subject, r.Body, r.Deadline, done)
}

func (r *Request) answer(p Reply, err error) {
	if !r.answered.CompareAndSwap(false, true) {
		return
	}
	defer r.service.finished() // though done panics
	endSpan(r.span, err)
	var e *Error
	if err != nil {
		e = asError(err)
	}
	if r.copyTo != "" {
		_ = r.conn.publishReply(r.copyTo, p, e, true) // a tap gets what it can
	}
	if r.done != nil {
		endSpan(r.caller, err)
		if e != nil {
			r.done(Reply{}, e)
		} else {
			r.done(p, nil)
		}
	} else if err := r.conn.publishReply(r.reply, p, e, false); err != nil && e == nil {
		// Too big, or not encodable: the caller must hear of it. Without a server its deadline tells.
		_ = r.conn.publishReply(r.reply, Reply{}, asError(err), false)
	}
}

// expire forgets a request that was not answered in time.
func (r *Request) expire() {
	if !r.answered.CompareAndSwap(false, true) {
		return
	}
	err := errDeadline(r.Subject)
	endSpan(r.span, err)
	if r.done != nil {
		endSpan(r.caller, err)
		r.done(Reply{}, err)
	}
	r.service.finished()
	r.conn.stats.expired.Add(1)
}

// finished counts a request down; Drain may wait for it.
func (s *Service) finished() {
	if s.pending.Add(-1) == 0 && s.draining.Load() {
		select {
		case s.idle <- struct{}{}:
		default:
		}
	}
}

func (c *Conn) publishReply(subject string, p Reply, e *Error, isCopy bool) error {
	var h nats.Header
	if e != nil || p.Interest != "" || isCopy {
		h = make(nats.Header, 3)
	}
	if isCopy {
		h[headerCopy] = []string{"1"}
	}
	if e != nil {
		h[headerCode] = []string{string(e.Code)}
		h[headerError] = []string{clip(e.Text)}
		return c.publish(subject, "", h, Body{})
	}
	if p.Interest != "" {
		h[headerInterest] = []string{p.Interest}
	}
	return c.publish(subject, "", h, p.Body)
}

// asError gives err the form in which it crosses the bus.
func asError(err error) *Error {
	code, text := CodeOf(err), err.Error()
	if e, ok := err.(*Error); ok {
		if e.Code != "" && len(e.Text) <= maxErrorText {
			return e
		}
		text = e.Text
	}
	if code == "" {
		code = Internal
	}
	return &Error{Code: code, Text: clip(text)}
}

func clip(s string) string {
	if len(s) > maxErrorText {
		return strings.ToValidUTF8(s[:maxErrorText], "")
	}
	return s
}
