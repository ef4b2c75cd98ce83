package guard

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// reason is why something is turned away.
type reason uint8

const (
	passed   reason = iota
	denied          // Config.Deny
	banned          // a ban
	listed          // Config.Feed
	overRate        // Config.Rate
	scanned         // Config.Scanners
	reasons
)

func (r reason) String() string {
	return [...]string{"", "denied", "banned", "feed", "rate", "scanner"}[r]
}

// counts are totals since New.
type counts struct {
	dropped [reasons]tally
	offence [offences]tally
	banned  tally
}

// tally counts something, and keeps one source that it is about for the log.
type tally struct {
	total   atomic.Int64
	has     atomic.Bool // an example
	mu      sync.Mutex
	example netip.Addr

	told int64         // of total; of Run, as next is
	next time.Duration // when it may be told again
}

func (t *tally) add(source netip.Addr) {
	t.total.Add(1)
	if t.has.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.has.Load() {
		t.example = source
		t.has.Store(true)
	}
}

func (c *counts) drop(why reason, source netip.Addr)     { c.dropped[why].add(source) }
func (c *counts) offend(what Offence, source netip.Addr) { c.offence[what].add(source) }
func (c *counts) ban(source netip.Addr)                  { c.banned.add(source) }

// tellEvery is between two lines of the log about the same.
const tellEvery = time.Minute

// tell writes what has happened, one line a minute at most for each reason, with nothing in it that a stranger wrote.
func (c *counts) tell(log *slog.Logger, now time.Duration) {
	for r := passed + 1; r < reasons; r++ {
		c.dropped[r].tell(log, now, "dropped", r.String())
	}
	for o := Offence(1); o < offences; o++ {
		c.offence[o].tell(log, now, "offence", o.String())
	}
	c.banned.tell(log, now, "banned", "offences")
}

func (t *tally) tell(log *slog.Logger, now time.Duration, action, why string) {
	total := t.total.Load()
	if total == t.told || now < t.next || !t.has.Load() {
		return
	}
	t.mu.Lock()
	source := t.example
	t.has.Store(false)
	t.mu.Unlock()
	log.Warn("guard", "action", action, "reason", why, "source", source.String(), "count", total-t.told)
	t.told, t.next = total, now+tellEvery
}

// observe registers the metrics, and returns what unregisters them.
func (g *Guard) observe() (unregister func(), err error) {
	var errs []error
	counter := func(name, unit, description string) metric.Int64ObservableCounter {
		c, err := g.meter.Int64ObservableCounter("routr.edgeport.guard."+name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	gauge := func(name, unit, description string) metric.Int64ObservableGauge {
		c, err := g.meter.Int64ObservableGauge("routr.edgeport.guard."+name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	dropped := counter("dropped", "{message}", "datagrams, messages and connections that were turned away, by reason")
	offended := counter("offences", "{offence}", "offences on connections, by kind")
	made := counter("bans.made", "{ban}", "bans that this guard made")
	live := gauge("bans", "{ban}", "bans in force, those made elsewhere among them")
	sizes := gauge("networks", "{network}", "networks in the lists")
	attr := func(key, value string) metric.MeasurementOption {
		return metric.WithAttributes(attribute.String(key, value))
	}
	registration, err := g.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for r := passed + 1; r < reasons; r++ {
			o.ObserveInt64(dropped, g.counts.dropped[r].total.Load(), attr("reason", r.String()))
		}
		for what := Offence(1); what < offences; what++ {
			o.ObserveInt64(offended, g.counts.offence[what].total.Load(), attr("offence", what.String()))
		}
		o.ObserveInt64(made, g.counts.banned.total.Load())
		o.ObserveInt64(live, g.bans.size())
		for _, l := range []*list{&g.allow, &g.deny, &g.feed.list} {
			o.ObserveInt64(sizes, l.size(), attr("list", l.name))
		}
		return nil
	}, dropped, offended, made, live, sizes)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	return func() { _ = registration.Unregister() }, nil // it has no error to give
}
