package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	verbTap    = "tap"
	tapSeconds = 15 // of the lease of Tap, which renews it three times in that time
)

// lease is what a tap publishes on SubjectControl("tap"), as JSON, for as long as it wants copies of the calls that do
// not go through NATS.
type lease struct {
	Subject string `json:"subject"` // a subject of NATS, wildcards allowed
	Seconds int    `json:"seconds"`
}

// leases are those in force. Calls read them without a lock.
type leases struct {
	mu     sync.Mutex
	active atomic.Pointer[[]activeLease]
}

type activeLease struct {
	pattern string
	until   time.Time
}

// grant renews the lease of a pattern, or adds it, and forgets those that are over.
func (l *leases) grant(pattern string, d time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	next := []activeLease{{pattern, now.Add(min(d, maxLease))}}
	if old := l.active.Load(); old != nil {
		for _, a := range *old {
			if a.pattern != pattern && now.Before(a.until) {
				next = append(next, a)
			}
		}
	}
	if len(next) > maxLeases {
		return fmt.Errorf("%d leases are in force, no more are taken", maxLeases)
	}
	l.active.Store(&next)
	return nil
}

func (l *leases) match(subject string) bool {
	active := l.active.Load()
	if active == nil {
		return false
	}
	now := time.Now()
	live := false
	for _, a := range *active {
		if now.Before(a.until) {
			live = true
			if matches(a.pattern, subject) {
				return true
			}
		}
	}
	if !live {
		l.active.CompareAndSwap(active, nil)
	}
	return false
}

// Tapped says whether someone besides the responders of this connection listens on subject.
func (c *Conn) Tapped(subject string) bool {
	switch {
	case c.nc == nil:
		return false
	case c.cfg.Interest != nil:
		return c.cfg.Interest(subject) > c.local.count(subject)
	default:
		return c.leases.match(subject)
	}
}

// onLease follows a tap.
func (c *Conn) onLease(_ string, data []byte) {
	var l lease
	err := json.Unmarshal(data, &l)
	switch {
	case err != nil:
	case l.Seconds < 1:
		err = fmt.Errorf("seconds is %d, want 1 to %d", l.Seconds, int(maxLease.Seconds()))
	case !isPattern(l.Subject):
		err = fmt.Errorf("subject is %q, want one of NATS of up to %d bytes", clip(l.Subject), maxSubject)
	default:
		err = c.leases.grant(l.Subject, time.Duration(min(l.Seconds, int(maxLease.Seconds())))*time.Second)
	}
	if err != nil {
		c.log.Debug("tap lease refused", "err", err)
	}
}

// Tapped is a message that a tap has seen: a request, a reply (a Code says that it is a failed one), or an event.
type Tapped struct {
	Subject string
	Reply   string // of a request: the subject of its reply
	Data    []byte
	Code    Code
	Error   string // with Code
	Trace   string // traceparent; empty: no trace
}

// Tap runs h, on one goroutine, for every message whose subject matches pattern (SubjectAll, or any subject of NATS),
// those included that are handed over within a process: it keeps a lease that asks for copies. It returns once the
// server knows, and ends with ctx or the connection.
func (c *Conn) Tap(ctx context.Context, pattern string, h func(Tapped)) error {
	if !isPattern(pattern) {
		return Errorf(InvalidArgument, "tap %q: want a subject of NATS of up to %d bytes", pattern, maxSubject)
	}
	data, err := json.Marshal(lease{pattern, tapSeconds})
	if err != nil {
		return fmt.Errorf("tap %s: %w", pattern, err)
	}
	stop, err := c.subscribe(pattern, func(m *nats.Msg) {
		h(Tapped{Subject: m.Subject, Reply: m.Reply, Data: m.Data, Code: Code(m.Header.Get(headerCode)), Error: m.Header.Get(headerError), Trace: m.Header.Get(headerTrace)})
	})
	if err != nil {
		return err
	}
	renew := func() error { return c.Publish(SubjectControl(verbTap), data) }
	if err := renew(); err != nil {
		stop()
		return fmt.Errorf("tap %s: %w", pattern, err)
	}
	if err := c.settle(); err != nil {
		stop()
		return fmt.Errorf("tap %s: %w", pattern, err)
	}
	c.wg.Go(func() {
		defer stop()
		t := time.NewTicker(tapSeconds * time.Second / 3)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-c.ctx.Done():
				return
			case <-t.C:
				_ = renew() // without a server there is nothing to tap
			}
		}
	})
	return nil
}

// matches says whether subject, which has no wildcards, matches a subject of NATS that may have them.
func matches(pattern, subject string) bool {
	for {
		p, prest, pmore := strings.Cut(pattern, ".")
		if p == ">" && !pmore {
			return true
		}
		s, srest, smore := strings.Cut(subject, ".")
		if p != "*" && p != s || pmore != smore {
			return false
		}
		if !pmore {
			return true
		}
		pattern, subject = prest, srest
	}
}

// isPattern says whether NATS would take s as the subject of a subscription.
func isPattern(s string) bool {
	if len(s) > maxSubject {
		return false
	}
	tokens := strings.Split(s, ".")
	for i, t := range tokens {
		if t == "*" || t == ">" && i == len(tokens)-1 {
			continue
		}
		if checkSubject(t) != nil {
			return false
		}
	}
	return true
}
