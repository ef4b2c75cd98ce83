// Package resolver finds where a SIP request is to be sent: it turns a next hop, as a URI has it, into the addresses to
// try, in order (RFC 3263 4, RFC 7118 for WebSocket). It asks for NAPTR, SRV, A and AAAA records itself, keeps what it
// was told in a bounded cache, and remembers for a while which addresses did not work.
//
// It never sends SIP, never decides what a failure is, and never makes a secure next hop an insecure one. It applies no
// search list, as a SIP host is a fully qualified name, and it never asks for a name below .invalid or localhost.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// Why a lookup gave nothing. Errors given to done wrap one of them.
var (
	ErrNotFound    = errors.New("no such name, or none with an address for SIP")
	ErrUnavailable = errors.New("DNS does not answer")
	ErrProtocol    = errors.New("no protocol that is spoken here")
	ErrBusy        = errors.New("too many names are being resolved")
	ErrClosed      = errors.New("the resolver is closed")
)

// Config is what a Resolver works with.
type Config struct {
	// Protocols that can be spoken; no candidate has another one.
	Protocols []transport.Protocol
	// Network is which addresses can be reached: ip4, ip6, or ip for both, the default.
	Network string
	// Servers to ask, as address:port; without any, those of /etc/resolv.conf, which is read again when it changes.
	Servers []string
}

// Query is a next hop as its URI has it (RFC 3263 4: TARGET).
type Query struct {
	// Host is a name or an address, the value of maddr if there is one.
	Host string
	// Port of the URI; 0 if it has none.
	Port uint16
	// Transport parameter of the URI, in any case; empty if it has none.
	Transport string
	// Secure is for sips.
	Secure bool
}

// Candidate is one place to send a request to.
type Candidate struct {
	Protocol transport.Protocol
	Addr     netip.AddrPort
	// ServerName is the host of the Query: the name for SNI, and the one that the certificate must have, whatever
	// names NAPTR and SRV lead to (RFC 3263 4.1, RFC 5922).
	ServerName string
}

// Counts are the metrics of a Resolver, from its start.
type Counts struct {
	Lookups  atomic.Int64 // calls of Lookup
	Shared   atomic.Int64 // of these, such as waited for another one's answer
	Cached   atomic.Int64 // searches that asked no server
	Refused  atomic.Int64 // lookups refused with ErrBusy
	Failed   atomic.Int64 // searches that gave no candidate
	Queries  atomic.Int64 // messages sent to servers
	Silent   atomic.Int64 // of these, such as got no answer
	TCP      atomic.Int64 // of these, such as went over TCP after a truncated answer
	Garbage  atomic.Int64 // datagrams that are no answer to the query
	Stale    atomic.Int64 // record sets used after their time
	Evicted  atomic.Int64 // record sets dropped for want of room
	Deferred atomic.Int64 // candidates put last since they failed before
}

// limits are the bounds of a Resolver; tests have smaller ones.
type limits struct {
	searches  int           // that ask servers at a time
	waiting   int           // lookups without an answer, shared ones among them
	fetches   int           // record sets asked for at a time, a socket each
	entries   int           // record sets in the cache, failed ones among them
	dead      int           // addresses remembered to have failed
	total     time.Duration // for a lookup
	naptr     time.Duration // after which a lookup goes on without NAPTR
	srv       time.Duration // after which a lookup goes on without SRV
	attempt   time.Duration // for a server to answer, twice that the second time
	staleWait time.Duration // for a server to answer while there are records whose time is over
	grace     time.Duration // for A or AAAA records when the other ones are there
}

const (
	maxChoices    = 8  // NAPTR records that one search follows
	maxTargets    = 16 // names that it asks for addresses
	maxCandidates = 32
)

func defaultLimits() limits {
	return limits{
		searches: 256, waiting: 4096, fetches: 512, entries: 8192, dead: 1024,
		total: 5 * time.Second, naptr: 2 * time.Second, srv: 3500 * time.Millisecond,
		attempt: time.Second, staleWait: time.Second, grace: 300 * time.Millisecond,
	}
}

// Resolver resolves names. It is safe for concurrent use.
type Resolver struct {
	Counts Counts

	log    *slog.Logger
	speaks [8]bool // by Protocol
	ip4    bool
	ip6    bool
	limits limits
	now    func() time.Time
	intn   func(n int) int

	system  system
	cache   cache
	dead    dead
	health  health
	good    atomic.Int32 // the server that answered last
	slots   chan struct{}
	fetches chan struct{}

	mu      sync.Mutex
	wg      sync.WaitGroup
	calls   map[target]*call
	waiting int
	closed  bool
}

// call is a search under way and those who wait for it.
type call struct {
	waiters []func([]Candidate, error)
	cancel  context.CancelFunc
}

// New makes a Resolver. It asks and reads nothing before the first Lookup.
func New(cfg Config, log *slog.Logger) (*Resolver, error) {
	r := &Resolver{
		log: log, limits: defaultLimits(), now: time.Now, intn: rand.IntN,
		calls: make(map[target]*call),
	}
	if len(cfg.Protocols) == 0 {
		return nil, errors.New("resolver: no protocols")
	}
	for _, p := range cfg.Protocols {
		if p.String() == "" {
			return nil, fmt.Errorf("resolver: protocol %d is not known", p)
		}
		r.speaks[p] = true
	}
	switch cfg.Network {
	case "", "ip":
		r.ip4, r.ip6 = true, true
	case "ip4":
		r.ip4 = true
	case "ip6":
		r.ip6 = true
	default:
		return nil, fmt.Errorf("resolver: network %q is not known, want ip, ip4 or ip6", cfg.Network)
	}
	for _, s := range cfg.Servers {
		host, port, err := net.SplitHostPort(s)
		if err == nil {
			_, err = netip.ParseAddr(host)
		}
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return nil, fmt.Errorf("resolver: server %q: %w", s, err)
		}
	}
	r.system = newSystem(cfg.Servers)
	r.health.log = log
	r.bound(r.limits)
	return r, nil
}

// bound makes what has the size of a limit.
func (r *Resolver) bound(l limits) {
	r.limits = l
	r.slots, r.fetches = make(chan struct{}, l.searches), make(chan struct{}, l.fetches)
	r.cache = cache{entries: make(map[key]entry), fetches: make(map[key]*fetch)}
	r.dead = dead{max: l.dead, entries: make(map[place]mark)}
}

// Lookup finds the candidates for q, the best first, and runs done with them, or with an error and none. done runs
// once, always on a goroutine of the Resolver, at most five seconds later, and must not wait for long: others that
// look up the same next hop come after it. Beyond 4,096 lookups without an answer it is ErrBusy.
func (r *Resolver) Lookup(q Query, done func([]Candidate, error)) {
	r.Counts.Lookups.Add(1)
	t, err := r.parse(q)

	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		go done(nil, ErrClosed)
		return
	case r.waiting >= r.limits.waiting:
		r.Counts.Refused.Add(1)
		r.wg.Go(func() { done(nil, ErrBusy) })
		return
	}
	r.waiting++
	if err != nil {
		r.Counts.Failed.Add(1)
		r.wg.Go(func() {
			defer r.leave(1)
			done(nil, fmt.Errorf("resolve %.255q: %w", q.Host, err))
		})
		return
	}
	if c, ok := r.calls[t]; ok {
		r.Counts.Shared.Add(1)
		c.waiters = append(c.waiters, done)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.limits.total)
	c := &call{waiters: []func([]Candidate, error){done}, cancel: cancel}
	r.calls[t] = c
	r.wg.Go(func() { r.run(ctx, t, c) })
}

// Close ends the lookups under way, with ErrClosed or what they had, and returns when the last done has.
func (r *Resolver) Close() {
	r.mu.Lock()
	r.closed = true
	for _, c := range r.calls {
		c.cancel()
	}
	r.mu.Unlock()
	r.cache.close()
	r.wg.Wait()
}

// run searches for t and tells those who wait.
func (r *Resolver) run(ctx context.Context, t target, c *call) {
	defer c.cancel()
	groups, err := r.search(ctx, t)

	r.mu.Lock()
	delete(r.calls, t)
	waiters := c.waiters
	if err != nil && r.closed {
		err = ErrClosed
	}
	r.mu.Unlock()
	if err != nil {
		r.Counts.Failed.Add(1)
		err = fmt.Errorf("resolve %s: %w", t.host, err)
	}
	for _, done := range waiters {
		if err != nil {
			done(nil, err)
		} else {
			done(r.order(groups, t.host), nil) // the dice are cast for each
		}
		r.leave(1)
	}
}

func (r *Resolver) leave(n int) {
	r.mu.Lock()
	r.waiting -= n
	r.mu.Unlock()
}

// search looks in the cache first: what is there needs no slot, so that it is found while DNS is slow.
func (r *Resolver) search(ctx context.Context, t target) ([]group, error) {
	s := search{r: r, t: t, cached: true}
	if groups, err := s.locate(ctx); !s.missed.Load() {
		r.Counts.Cached.Add(1)
		return groups, err
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, ErrBusy
	}
	s = search{r: r, t: t, started: time.Now()}
	return s.locate(ctx)
}
