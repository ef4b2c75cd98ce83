package resolver

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// How long what a server said is used.
const (
	ttlLeast      = time.Second
	ttlMost       = time.Hour
	negativeMost  = 30 * time.Second
	failureTime   = time.Second // RFC 9520 3.2
	staleTime     = time.Hour   // beyond its time, while the servers do not answer (RFC 8767): addresses of SIP servers seldom move
	staleInterval = 5 * time.Second
)

// key is a name, canonical, and a type of records.
type key struct {
	name string
	kind uint16
}

// records is a record set: one of the slices, or none if there is no such record. It is never changed.
type records struct {
	addrs  []netip.Addr
	srvs   []srv
	naptrs []naptr
	ttl    time.Duration
	failed bool // it could not be had
}

// srv is an SRV record. The target is canonical, empty for the dot that says "no such service".
type srv struct {
	priority, weight, port uint16
	target                 string
}

// naptr is a NAPTR record with the flag S or A. The replacement is canonical.
type naptr struct {
	order, preference uint16
	flag              byte
	service           string
	replacement       string
}

func (s records) empty() bool { return len(s.addrs)+len(s.srvs)+len(s.naptrs) == 0 }

// cache is the record sets that servers gave, and the ones that are being asked for.
type cache struct {
	mu      sync.Mutex
	entries map[key]entry
	fetches map[key]*fetch
	closed  bool
}

// entry is a record set in the cache.
type entry struct {
	records
	until time.Time
	retry time.Time // until when a stale one is used without asking
}

// fetch is a record set being asked for.
type fetch struct {
	done   chan struct{}
	cancel context.CancelFunc
	got    records
}

// fresh is the record set for k, if the cache has it and no one need be asked.
func (r *Resolver) fresh(k key) (records, bool) {
	r.cache.mu.Lock()
	defer r.cache.mu.Unlock()
	e, _ := r.cache.entries[k]
	now := r.now()
	switch {
	case now.Before(e.until):
		return e.records, true
	case e.stale(now) && (now.Before(e.retry) || r.health.down(now)):
		r.Counts.Stale.Add(1)
		return e.records, true
	}
	return records{}, false
}

// stale says whether an entry whose time is over can serve while there is nothing better.
func (e entry) stale(now time.Time) bool {
	return !e.failed && !e.until.IsZero() && now.Before(e.until.Add(staleTime))
}

// records is the record set for k, from the cache or from a server. All who want the same share one query, which goes
// on when they have lost patience, so that its answer is there the next time.
func (r *Resolver) records(ctx context.Context, k key) records {
	if set, ok := r.fresh(k); ok {
		return set
	}
	c := &r.cache
	c.mu.Lock()
	f := c.fetches[k]
	if f == nil && c.closed {
		c.mu.Unlock()
		return records{failed: true}
	}
	if f == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.limits.total)
		f = &fetch{done: make(chan struct{}), cancel: cancel}
		c.fetches[k] = f
		r.wg.Go(func() { r.fetch(ctx, k, f) })
	}
	old := c.entries[k]
	c.mu.Unlock()

	var patience <-chan time.Time
	if old.stale(r.now()) {
		timer := time.NewTimer(r.limits.staleWait)
		defer timer.Stop()
		patience = timer.C
	}
	select {
	case <-f.done:
		if !f.got.failed {
			return f.got
		}
	case <-patience:
	case <-ctx.Done():
	}
	now := r.now()
	if !old.stale(now) {
		return records{failed: true}
	}
	r.Counts.Stale.Add(1)
	c.mu.Lock()
	if e, ok := c.entries[k]; ok && e.until.Equal(old.until) {
		e.retry = now.Add(staleInterval)
		c.entries[k] = e
	}
	c.mu.Unlock()
	return old.records
}

// fetch asks for k and puts what came into the cache.
func (r *Resolver) fetch(ctx context.Context, k key, f *fetch) {
	defer f.cancel()
	f.got = records{failed: true}
	select {
	case r.fetches <- struct{}{}:
		f.got = r.chase(ctx, k)
		<-r.fetches
	case <-ctx.Done():
	}
	now := r.now()
	c := &r.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.fetches, k)
	close(f.done)
	e, known := c.entries[k]
	if f.got.failed && known && e.stale(now) {
		return
	}
	if !known && len(c.entries) >= r.limits.entries {
		// A flood of names that do not exist drives itself out: their time ends first.
		evict(c.entries, func(e entry) time.Time { return e.until })
		r.Counts.Evicted.Add(1)
	}
	c.entries[k] = entry{records: f.got, until: now.Add(lifetime(f.got))}
}

// lifetime is how long a record set is used.
func lifetime(s records) time.Duration {
	switch {
	case s.failed:
		return failureTime
	case s.empty():
		return min(max(s.ttl, ttlLeast), negativeMost)
	default:
		return min(max(s.ttl, ttlLeast), ttlMost)
	}
}

// close ends the fetches; there are no more.
func (c *cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, f := range c.fetches {
		f.cancel()
	}
}
