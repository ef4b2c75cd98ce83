package bus

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// responders are the services of this connection, to be found by subject without a lock: writers replace the map.
type responders struct {
	mu    sync.Mutex // of writers
	table atomic.Pointer[map[string]*group]
}

// group is the members of one queue that serve one subject of Serve.
type group struct {
	queue   string
	members []*Service
	turn    atomic.Uint32
}

func (l *responders) init() { l.table.Store(&map[string]*group{}) }

func (l *responders) add(s *Service) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := *l.table.Load()
	g := &group{queue: s.queue}
	if old := t[s.subject]; old != nil {
		if old.queue != s.queue {
			return fmt.Errorf("queue %s serves it already on this connection; a subject has one queue, got %s", old.queue, s.queue)
		}
		g.members = old.members
	}
	g.members = append(slices.Clip(g.members), s)
	l.replace(t, s.subject, g)
	return nil
}

// remove is idempotent.
func (l *responders) remove(s *Service) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := *l.table.Load()
	old := t[s.subject]
	if old == nil || !slices.Contains(old.members, s) {
		return
	}
	g := &group{queue: old.queue}
	for _, m := range old.members {
		if m != s {
			g.members = append(g.members, m)
		}
	}
	l.replace(t, s.subject, g)
}

func (l *responders) replace(t map[string]*group, subject string, g *group) {
	next := make(map[string]*group, len(t)+1)
	for k, v := range t {
		next[k] = v
	}
	if next[subject] = g; len(g.members) == 0 {
		delete(next, subject)
	}
	l.table.Store(&next)
}

// match returns those who serve subject by its name, and those who serve all in its place (Every); nil: nobody.
func (l *responders) match(subject string) (exact, every *group) {
	t := *l.table.Load()
	if len(t) == 0 {
		return nil, nil
	}
	exact = t[subject]
	if i := strings.LastIndexByte(subject, '.'); i > 0 {
		var a [maxSubject]byte
		every = t[string(append(append(a[:0], subject[:i+1]...), wildcard...))] // no allocation: only a look-up
	}
	return exact, every
}

// pick takes the next member of those who serve subject, and counts the request as pending there.
func (l *responders) pick(subject string) (s *Service, pending int64) {
	exact, every := l.match(subject)
	for _, g := range [...]*group{exact, every} {
		if g == nil {
			continue
		}
		turn := uint32(0)
		if len(g.members) > 1 {
			turn = g.turn.Add(1)
		}
		for i := range g.members {
			s := g.members[(turn+uint32(i))%uint32(len(g.members))]
			n := s.pending.Add(1)
			if !s.draining.Load() {
				return s, n
			}
			s.finished() // Drain has begun, and may wait for this count
		}
	}
	return nil, 0
}

// count is how many subscriptions of this connection match subject.
func (l *responders) count(subject string) int {
	n := 0
	exact, every := l.match(subject)
	if exact != nil {
		n += len(exact.members)
	}
	if every != nil {
		n += len(every.members)
	}
	return n
}

// handOver gives the request to a responder of this connection, if there is one.
func (c *Conn) handOver(cl call, body Body, parent string) bool {
	s, pending := c.local.pick(cl.subject)
	if s == nil {
		return false
	}
	r := &Request{
		Subject: cl.subject, Body: body, Deadline: cl.deadline,
		conn: c, service: s, done: cl.done, caller: cl.span, trace: parent,
	}
	if c.Tapped(cl.subject) {
		r.copyTo = c.inbox + "copy." + strconv.FormatUint(c.copyID.Add(1), 36) // two tokens: not one of our calls
		h := nats.Header{headerCopy: {"1"}, headerDeadline: {strconv.FormatInt(cl.deadline.UnixMilli(), 10)}}
		if parent != "" {
			h[headerTrace] = []string{parent}
		}
		_ = c.publish(cl.subject, r.copyTo, h, body) // a tap gets what it can
	}
	s.take(r, pending)
	return true
}
