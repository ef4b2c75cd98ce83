package bus

import (
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
)

const (
	// tick is how often deadlines are looked at while something waits for one. A deadline is noticed at most this late.
	tick = 50 * time.Millisecond
	// probeAfter is how long a call waits before it asks whether anybody serves its subject.
	probeAfter = 100 * time.Millisecond
)

// call waits for its reply through NATS.
type call struct {
	subject  string
	deadline time.Time
	done     func(Reply, error)
	span     trace.Span // nil: no tracing
	// probe is when to ask whether anybody serves the subject; zero: asked, or no need to. NATS tells at once that a
	// subject has no subscriber, but a tap is a subscriber too, and must not turn an ErrUnavailable into an ErrDeadline.
	// So responders subscribe to serving(subject) as well, where no tap listens, and the probe is a message to it with the
	// reply subject of the call: nobody answers it, but NATS does if nobody is there.
	probe time.Time
}

func (cl *call) finish(p Reply, err error) {
	endSpan(cl.span, err)
	cl.done(p, err)
}

// waiting holds what has a deadline: calls that wait for a reply through NATS, and requests that wait for the answer of
// a handler. There is no timer per call: one coarse sweep looks at all of them, and only while there are any. Whoever
// removes a call from the map is the one that finishes it, so it is finished exactly once.
type waiting struct {
	conn *Conn

	mu       sync.Mutex
	closed   bool
	sweeping bool
	last     uint64
	calls    map[uint64]call
	open     []*Request // answered ones are dropped by the sweep
}

func (w *waiting) init(c *Conn) {
	w.conn = c
	w.calls = make(map[uint64]call)
}

// add keeps cl until take or its deadline.
func (w *waiting) add(cl call) (id uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, errClosed(cl.subject)
	}
	if len(w.calls) >= maxCalls {
		w.conn.stats.refused.Add(1)
		return 0, Errorf(Unavailable, "call %s: %d calls wait for a reply, no more are made", cl.subject, maxCalls)
	}
	w.last++
	if cl.probe = time.Now().Add(probeAfter); !cl.probe.Before(cl.deadline) {
		cl.probe = time.Time{}
	}
	w.calls[w.last] = cl
	w.arm()
	return w.last, nil
}

// take removes the call with that id, if it still waits.
func (w *waiting) take(id uint64) (call, bool) {
	w.mu.Lock()
	cl, ok := w.calls[id]
	if ok {
		delete(w.calls, id)
	}
	w.mu.Unlock()
	return cl, ok
}

// watch lets r expire at its deadline, if it is not answered before.
func (w *waiting) watch(r *Request) {
	w.mu.Lock()
	closed := w.closed
	if !closed {
		w.open = append(w.open, r)
		w.arm()
	}
	w.mu.Unlock()
	if closed {
		r.answer(Reply{}, errClosed(r.Subject))
	}
}

func (w *waiting) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.calls)
}

// arm is called with w.mu held.
func (w *waiting) arm() {
	if !w.sweeping {
		w.sweeping = true
		time.AfterFunc(tick, w.sweep)
	}
}

type probe struct {
	id      uint64
	subject string
}

func (w *waiting) sweep() {
	// Replies to what was asked before the connection was lost do not come: nobody keeps them.
	lost := w.conn.nc != nil && !w.conn.nc.IsConnected()
	var cut map[uint64]call
	w.mu.Lock()
	late, probes, expired := w.due(time.Now())
	if lost && !w.closed {
		cut, w.calls = w.calls, make(map[uint64]call)
		probes = nil
	}
	w.sweeping = false
	if len(w.calls)+len(w.open) > 0 && !w.closed {
		w.arm()
	} else {
		w.open = nil // after a burst
	}
	w.mu.Unlock()
	for _, cl := range late {
		cl.finish(Reply{}, errDeadline(cl.subject))
	}
	for _, cl := range cut {
		cl.finish(Reply{}, w.conn.disconnected(cl.subject))
	}
	for _, r := range expired {
		r.expire()
	}
	for _, p := range probes {
		_ = w.conn.publish(serving(p.subject), w.conn.replySubject(p.id), nil, Body{}) // else the deadline tells
	}
}

// due removes what has passed its deadline, and says which calls to probe for. It is called with w.mu held.
func (w *waiting) due(now time.Time) (late []call, probes []probe, expired []*Request) {
	for id, cl := range w.calls {
		switch {
		case !now.Before(cl.deadline):
			delete(w.calls, id)
			late = append(late, cl)
		case !cl.probe.IsZero() && !now.Before(cl.probe):
			cl.probe = time.Time{}
			w.calls[id] = cl
			probes = append(probes, probe{id, cl.subject})
		}
	}
	keep := w.open[:0]
	for _, r := range w.open {
		switch {
		case r.answered.Load():
		case !now.Before(r.Deadline):
			expired = append(expired, r)
		default:
			keep = append(keep, r)
		}
	}
	clear(w.open[len(keep):])
	w.open = keep
	return late, probes, expired
}

// close fails everything that waits, now and later.
func (w *waiting) close() {
	w.mu.Lock()
	w.closed = true
	calls, open := w.calls, w.open
	w.calls, w.open = nil, nil
	w.mu.Unlock()
	for _, cl := range calls {
		cl.finish(Reply{}, errClosed(cl.subject))
	}
	for _, r := range open {
		r.answer(Reply{}, errClosed(r.Subject))
	}
}

func errClosed(subject string) error {
	return &Error{Code: Unavailable, Text: "call " + subject + ": the connection to the bus is closed"}
}

func errDeadline(subject string) error {
	return &Error{Code: DeadlineExceeded, Text: "call " + subject + ": no reply by the deadline"}
}

func errNobody(subject string) error {
	return &Error{Code: Unavailable, Text: "call " + subject + ": nobody serves it"}
}
