package edgeport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/routr-fabric/routr/bus"
)

// An EdgePort that drains takes no new requests: they are answered with 503 and a Retry-After, OPTIONS of load balancers
// too, and /readyz says no. What has begun goes on: responses, CANCEL, ACK, and every request within a dialog. It begins
// when the process is told to stop, and ends then when no transaction is pending, or after spec.drainTime; or by word of
// an operator on bus.SubjectDrain, who may take it back.
//
// There is no dialog to wait for, as an EdgePort keeps none: its Routes say all that the rest of a call needs. A call over
// UDP goes on through the EdgePort that listens on the address next; one on a connection ends with the connection.

// State is what an EdgePort does.
type State string

// The states, in the order of a life; an operator can take Draining back to Serving.
const (
	Starting State = "starting" // it does not listen yet
	Serving  State = "serving"
	Draining State = "draining"
	Stopping State = "stopping" // it drains, and ends then
)

// DrainRequest is what an operator asks on bus.SubjectDrain, as JSON. Without Drain it is the question for the status.
type DrainRequest struct {
	Drain *bool `json:"drain,omitempty"` // true: take no new requests; false: take them again
}

// DrainStatus is the answer, as JSON.
type DrainStatus struct {
	Ref     string `json:"ref"`
	State   State  `json:"state"`
	Pending int    `json:"pending"` // transactions that have to end before a stop cuts anything off
}

const (
	// drainPoll is how often a stopping EdgePort looks whether it is done: each time at every transaction.
	drainPoll = 50 * time.Millisecond
	// hushTime is how long the answers to operators may take when the EdgePort ends.
	hushTime = time.Second
	// stuckTime is how long the timers of the transactions may stand still before the EdgePort takes itself for dead. No
	// pause of a healthy process is so long, and an orchestrator asks several times.
	stuckTime = 10 * time.Second
)

// life is the state of an EdgePort, and since when.
type life struct {
	mu    sync.Mutex
	state State
	since time.Time
}

func (l *life) set(s State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != s {
		l.state, l.since = s, time.Now()
	}
}

func (l *life) get() (State, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == "" {
		return Starting, l.since
	}
	return l.state, l.since
}

// Ready is nil while the EdgePort takes new requests, else a sentence for /readyz.
func (e *EdgePort) Ready() error {
	switch s, since := e.life.get(); s {
	case Serving:
		return nil
	case Starting:
		return errors.New("it does not listen yet")
	default:
		return fmt.Errorf("%s since %s: it takes no new requests", s, since.Format(time.RFC3339))
	}
}

// Alive is nil while the EdgePort gets through its transactions, else a sentence for /healthz: only a new process helps.
func (e *EdgePort) Alive() error {
	if s, _ := e.life.get(); s != Serving && s != Draining {
		return nil // e.proxy is not there yet, or its timers end
	}
	if lag := e.proxy.Lag(); lag > stuckTime {
		return fmt.Errorf("the timers of the transactions have stood still for %v", lag)
	}
	return nil
}

// drain begins or ends draining by word of an operator. Who stops is not called back.
func (e *EdgePort) drain(on bool) error {
	e.life.mu.Lock()
	defer e.life.mu.Unlock()
	to := Serving
	if on {
		to = Draining
	}
	switch e.life.state {
	case to:
		return nil
	case Stopping:
		if on {
			return nil
		}
		return bus.Errorf(bus.FailedPrecondition, "edgeport %s is stopping", e.cfg.Ref)
	}
	e.life.state, e.life.since = to, time.Now()
	e.proxy.Drain(on)
	if on {
		e.log.Info("edgeport drains by word of an operator", "pending", e.proxy.Pending())
	} else {
		e.log.Info("edgeport takes new requests again by word of an operator")
	}
	return nil
}

// listenToOperators serves bus.SubjectDrain until the function that it returns was called.
func (e *EdgePort) listenToOperators() (hush func(), err error) {
	service, err := e.conn.Serve(bus.SubjectDrain(e.cfg.Ref), bus.QueueControl, e.obey, bus.Options{})
	if err != nil {
		return nil, err
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), hushTime)
		defer cancel()
		if err := service.Drain(ctx); err != nil {
			e.log.Debug("operators were left without an answer", "err", err)
		}
	}, nil
}

func (e *EdgePort) obey(_ context.Context, r *bus.Request) {
	var asked DrainRequest
	data, err := r.Body.Bytes()
	if err == nil && len(data) > 0 {
		if err = json.Unmarshal(data, &asked); err != nil {
			err = bus.Errorf(bus.InvalidArgument, `%v, want {"drain": true}, {"drain": false} or {}`, err)
		}
	}
	if err == nil && asked.Drain != nil {
		err = e.drain(*asked.Drain)
	}
	if err != nil {
		r.Fail(err)
		return
	}
	state, _ := e.life.get()
	answer, err := json.Marshal(DrainStatus{Ref: e.cfg.Ref, State: state, Pending: e.proxy.Pending()})
	if err != nil {
		r.Fail(err)
		return
	}
	r.Reply(bus.Reply{Body: bus.Raw(answer)})
}

// finish drains until no transaction is pending, or spec.drainTime is over.
func (e *EdgePort) finish() {
	limit := time.Duration(e.cfg.Spec.DrainTime) * time.Second
	e.life.set(Stopping)
	e.proxy.Drain(true)
	begin, pending := time.Now(), e.proxy.Pending()
	if pending > 0 && limit > 0 {
		e.log.Info("edgeport drains", "pending", pending, "limit", limit)
		end := time.NewTimer(limit)
		defer end.Stop()
		poll := time.NewTicker(drainPoll)
		defer poll.Stop()
		for over := false; pending > 0 && !over; pending = e.proxy.Pending() {
			select {
			case <-poll.C:
			case <-end.C:
				over = true
			}
		}
	}
	if pending > 0 {
		e.log.Warn("edgeport ends with transactions pending", "pending", pending, "after", time.Since(begin).Round(time.Millisecond))
	}
}
