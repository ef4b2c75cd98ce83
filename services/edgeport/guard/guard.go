// Package guard keeps what is not wanted away from an EdgePort, by where it comes from and before anyone reads it: lists
// of networks, bans, and a rate for each source. What it turns away gets no answer.
//
// Only what nobody can do in the name of another leads to a ban: offences on a connection, whose far end has shown that
// it is there. A datagram proves nothing about its sender, so UDP alone never bans.
//
// The guard never reads a SIP message, and never remembers a source that did not use up any of its rate.
package guard

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// Config is what a Guard lets pass. The zero value limits nothing, and bans who offends, for no time.
type Config struct {
	Ref string // the EdgePort that the bans made here name
	// Allow are the networks that the guard lets alone, whatever else is said of them. Deny are those that are always
	// dropped. The files have an address or a network a line, and comments behind a #; they are read again when they
	// change.
	Allow, Deny           []netip.Prefix
	AllowFiles, DenyFiles []string
	// Feed names a list of addresses in the format of APIBAN: the path of a file, or an https URL that is asked every
	// FeedInterval. Empty: none.
	Feed         string
	FeedInterval time.Duration
	// Rate is how many messages a second one source may send, Burst how many at once. 0: no limit.
	Rate, Burst int
	// BanTime is how long the first automatic ban of a source lasts, and MaxBanTime how long any. 0: there are none.
	BanTime, MaxBanTime time.Duration
	// Scanners are parts of the User-Agent of programs that look for SIP servers to attack, in any case.
	Scanners []string
	// Banned is told of every ban that the guard makes itself, on the goroutine of Offend and under no lock. It may be
	// nil.
	Banned func(Ban)
}

// Guard decides what an EdgePort takes. Its methods may be called from any goroutine, and those of a nil Guard turn
// nothing away.
type Guard struct {
	cfg      Config
	log      *slog.Logger
	meter    metric.Meter
	epoch    time.Time // what now counts from
	allow    list
	deny     list
	feed     feed
	rates    rates
	bans     bans
	records  records
	scanners [][]byte
	counts   counts
}

// New makes a guard. It fails if a file of cfg cannot be read. The feed is asked by Run.
func New(cfg Config, log *slog.Logger, meter metric.Meter) (*Guard, error) {
	g := &Guard{cfg: cfg, log: log, meter: meter, epoch: time.Now(), rates: newRates(cfg.Rate, cfg.Burst)}
	g.feed.from(cfg.Feed)
	g.bans.known = make(map[netip.Prefix]entry)
	g.records.known = make(map[netip.Prefix]*record)
	for _, s := range cfg.Scanners {
		if s != "" {
			g.scanners = append(g.scanners, []byte(strings.ToLower(s)))
		}
	}
	g.allow.name, g.allow.inline, g.allow.files = "allow", cfg.Allow, cfg.AllowFiles
	g.deny.name, g.deny.inline, g.deny.files = "deny", cfg.Deny, cfg.DenyFiles
	if err := errors.Join(g.allow.read(), g.deny.read(), g.feed.read()); err != nil {
		return nil, err
	}
	return g, nil
}

// now is the time since the guard was made, by a clock that does not jump.
func (g *Guard) now() time.Duration { return time.Since(g.epoch) }

// Admit says whether a message from source is taken, and counts it against its rate. It is asked for every datagram, and
// every message of a connection, before anything is read of it.
func (g *Guard) Admit(source netip.Addr) bool { return g.admit(source, 1, false) == passed }

// AdmitOn is Admit for a message on a connection, and says as well whether source is barred, so that the connection has
// to end. One that is known, as somebody has authenticated on it, outlives a ban that was made automatically, so that the
// one bad phone of an office does not end the calls of all others. A ban by a person ends it.
func (g *Guard) AdmitOn(source netip.Addr, known bool) (taken, barred bool) {
	why := g.admit(source, 1, known)
	return why == passed, why == denied || why == banned || why == listed
}

// connectionCost is what a connection counts: the handshake of TLS costs about what ten messages do.
const connectionCost = 10

// Accept says whether a new connection from source is taken, and counts it as ten messages.
func (g *Guard) Accept(source netip.Addr) bool {
	return g.admit(source, connectionCost, false) == passed
}

// admit counts what it turns away, and says why.
func (g *Guard) admit(source netip.Addr, cost int64, known bool) reason {
	if g == nil {
		return passed
	}
	source = plain(source)
	if g.allow.has(source) {
		return passed
	}
	now := g.now()
	why := g.barred(source, now, known)
	if why == passed && !g.rates.take(keyOf(source), now, cost) {
		why = overRate
	}
	if why != passed {
		g.counts.drop(why, source)
	}
	return why
}

// Barred says whether nothing from source is taken: it is denied, banned or in the feed, and not allowed. It counts
// nothing.
func (g *Guard) Barred(source netip.Addr) bool {
	if g == nil {
		return false
	}
	source = plain(source)
	return !g.allow.has(source) && g.barred(source, g.now(), false) != passed
}

func (g *Guard) barred(source netip.Addr, now time.Duration, known bool) reason {
	switch {
	case g.deny.has(source):
		return denied
	case g.bans.has(source, now, known):
		return banned
	case g.feed.has(source):
		return listed
	}
	return passed
}

// scannerRead is how much of a User-Agent is looked at, in bytes.
const scannerRead = 256

// Scanner says whether a message from source is of a program that looks for SIP servers to attack, by its User-Agent,
// which is nil if it has none. Such a message is dropped, and counted here.
func (g *Guard) Scanner(source netip.Addr, userAgent []byte) bool {
	if g == nil || len(userAgent) == 0 || len(g.scanners) == 0 {
		return false
	}
	var space [scannerRead]byte
	if !contains(lower(space[:0], userAgent), g.scanners) {
		return false
	}
	if source = plain(source); g.allow.has(source) {
		return false
	}
	g.counts.drop(scanned, source)
	return true
}

const (
	// every is how often files are looked at, and the log is written.
	every = 2 * time.Second
	// sweepEvery is how often what has ended is forgotten. It has no effect any more before.
	sweepEvery = time.Minute
)

// Run reads files that have changed, asks the feed, forgets what has expired, and writes what was turned away to the log,
// until ctx ends.
func (g *Guard) Run(ctx context.Context) {
	unregister, err := g.observe()
	if err != nil {
		g.log.Error("guard metrics are missing", "err", err)
	} else {
		defer unregister()
	}
	var wait sync.WaitGroup
	wait.Go(func() { g.follow(ctx) })
	defer wait.Wait()
	tick := time.NewTicker(every)
	defer tick.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.allow.refresh(g.log)
			g.deny.refresh(g.log)
			g.feed.refresh(g.log)
			g.counts.tell(g.log, g.now())
		case <-sweep.C:
			g.bans.sweep(g.now())
			g.records.sweep(g.now())
		}
	}
}

// plain is an address as lists and bans have it: IPv4 as such, and without a zone, which is a matter of this host.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// origin is what counts as one source: an IPv4 address, or an IPv6 /64, which is the least that a host has.
func origin(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the address has that many bits
	return p
}
