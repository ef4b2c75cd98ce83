package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	ringTime = 50 * time.Millisecond
	talkTime = 20 * time.Millisecond
	patience = 10 * time.Second // for the last answers
)

// traffic is callers and callees on links, and what goes on between them. It does what call.xml, answer.xml and
// register.xml have SIPp do, over every transport, and takes the time.
type traffic struct {
	epoch            time.Time // what all times count from
	callers, callees []*link
	readers          sync.WaitGroup
	round            atomic.Pointer[round]
}

// round is a load while it is made, and what became of it.
type round struct {
	epoch time.Time
	what  string
	users int
	ops   []op
	left  atomic.Int64
	ended chan struct{} // closed when none is left
	why   atomic.Pointer[string]
}

// op is one call, or one request and its response.
type op struct {
	state    atomic.Int32
	sent     atomic.Int64 // when the request left its client
	answered atomic.Int64 // when the 200 left the callee; 0 if there is no callee

	request, response atomic.Int64 // how long they were on their way, in nanoseconds
}

// The states of an op.
const (
	begun int32 = iota
	reached
	confirmed
	over
	refused
)

// connect makes links, n of each kind, through a server or, if direct, from caller to callee.
func connect(ctx context.Context, transport string, n int, direct bool) (*traffic, error) {
	t := &traffic{epoch: time.Now()}
	to := ""
	for _, p := range ports() {
		if p.transport == transport {
			to = net.JoinHostPort(host, strconv.Itoa(p.port))
		}
	}
	for range n {
		var a, b *link
		var err error
		if direct {
			a, b, err = pair(ctx, transport)
		} else if a, err = dial(ctx, transport, to); err == nil {
			b, err = dial(ctx, transport, to)
		}
		if err != nil {
			t.close()
			return nil, err
		}
		a.server, b.server = to, to
		t.callers, t.callees = append(t.callers, a), append(t.callees, b)
	}
	for _, l := range slices.Concat(t.callers, t.callees) {
		t.readers.Go(func() { t.read(l) })
	}
	return t, nil
}

func (t *traffic) close() {
	for _, l := range slices.Concat(t.callers, t.callees) {
		l.Close()
	}
	t.readers.Wait()
}

// play has n ops of a kind go on, so many a second, and waits for their end. What is not over by then, or was refused, is
// an error.
func (t *traffic) play(ctx context.Context, what string, from []*link, rate, n, users int) (*round, error) {
	r := &round{epoch: t.epoch, what: what, users: users, ops: make([]op, n), ended: make(chan struct{})}
	r.left.Store(int64(n))
	t.round.Store(r)
	limit, cancel := context.WithTimeout(ctx, time.Duration(n/rate)*time.Second+patience)
	defer cancel()
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for i, begin := 0, time.Now(); i < n; {
		for due := int(time.Since(begin).Seconds() * float64(rate)); i < min(due, n); i++ {
			r.ops[i].sent.Store(r.now())
			l := from[i%len(from)]
			if err := l.send(requestText(l, what, i, i%users+1)); err != nil {
				return r, err
			}
		}
		select {
		case <-pace.C:
		case <-limit.Done():
			return r, limit.Err()
		}
	}
	select {
	case <-r.ended:
	case <-limit.Done():
	}
	if failed := r.left.Load(); failed > 0 {
		why := "they had no answer"
		if text := r.why.Load(); text != nil {
			why = *text
		}
		return r, fmt.Errorf("%d of %d failed: %s", failed, n, why)
	}
	return r, ctx.Err()
}

func (r *round) now() int64 { return int64(time.Since(r.epoch)) }

// read takes what arrives on a link until it is closed.
func (t *traffic) read(l *link) {
	for {
		data, err := l.receive()
		if err != nil {
			if r := t.round.Load(); r != nil && !errors.Is(err, net.ErrClosed) {
				r.explain("a connection ended: " + err.Error())
			}
			return
		}
		r := t.round.Load()
		if r == nil {
			continue
		}
		arrived := r.now()
		number, what, _ := bytes.Cut(value(data, "Call-ID"), []byte("-"))
		i, err := strconv.Atoi(string(number))
		if err != nil || string(what) != r.what || i < 0 || i >= len(r.ops) {
			continue // of an earlier load, sent again
		}
		if status, ok := bytes.CutPrefix(data, []byte("SIP/2.0 ")); ok {
			r.response(l, i, status, data, arrived)
		} else {
			r.serve(l, i, data, arrived)
		}
	}
}

// serve is the callee.
func (r *round) serve(l *link, i int, req []byte, arrived int64) {
	o := &r.ops[i]
	method, _, _ := bytes.Cut(req, []byte(" "))
	switch string(method) {
	case "INVITE":
		if !o.state.CompareAndSwap(begun, reached) {
			return // sent again
		}
		o.request.Store(arrived - o.sent.Load())
		r.send(l, answerText(l, req, "180 Ringing", ""))
		if r.what == "ring" {
			return
		}
		ok := answerText(l, req, "200 OK", calleeSDP)
		time.AfterFunc(ringTime, func() {
			o.answered.Store(r.now())
			r.send(l, ok)
		})
	case "MESSAGE":
		if o.state.CompareAndSwap(begun, reached) {
			o.request.Store(arrived - o.sent.Load())
			o.answered.Store(r.now())
		}
		r.send(l, answerText(l, req, "200 OK", ""))
	case "BYE":
		r.send(l, answerText(l, req, "200 OK", ""))
	}
}

// response is the caller.
func (r *round) response(l *link, i int, status, resp []byte, arrived int64) {
	o := &r.ops[i]
	invite := bytes.HasSuffix(value(resp, "CSeq"), []byte("INVITE"))
	switch {
	case status[0] == '1':
		if r.what == "ring" && bytes.HasPrefix(status, []byte("180")) {
			o.response.Store(arrived - o.sent.Load())
			r.end(o, over)
		}
	case status[0] != '2':
		line, _, _ := bytes.Cut(resp, []byte("\r\n"))
		r.explain(string(line))
		r.end(o, refused)
	case invite:
		if !o.state.CompareAndSwap(reached, confirmed) {
			return // sent again
		}
		o.response.Store(arrived - o.answered.Load())
		r.send(l, inDialogText(l, i, resp, "ACK", 1))
		bye := inDialogText(l, i, resp, "BYE", 2)
		time.AfterFunc(talkTime, func() { r.send(l, bye) })
	default:
		if r.what != "call" {
			o.response.Store(arrived - max(o.answered.Load(), o.sent.Load()))
		}
		r.end(o, over)
	}
}

func (r *round) send(l *link, data []byte) {
	if err := l.send(data); err != nil {
		r.explain(err.Error())
	}
}

// end ends an op once. One that was refused stays on the count of those that are left.
func (r *round) end(o *op, state int32) {
	if was := o.state.Swap(state); was == over || was == refused || state == refused {
		return
	}
	if r.left.Add(-1) == 0 {
		close(r.ended)
	}
}

// explain keeps the first reason of a failure.
func (r *round) explain(why string) { r.why.CompareAndSwap(nil, &why) }
