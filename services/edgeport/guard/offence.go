package guard

import (
	"net/netip"
	"sync"
	"time"
)

// Offence is what a source did on a connection that nobody does who means well, or does seldom.
type Offence uint8

// The offences. Each is something that only the far end of a connection can do, and none of a connection that we opened:
// a stranger may have chosen its address.
const (
	UnansweredChallenge Offence = iota + 1 // it asked, was challenged, and left, or went on asking
	WrongCredentials                       // a password that is wrong
	ForgedNonce                            // again a nonce that is not ours, after it was given one
	FailedHandshake                        // of TLS or WebSocket, or none in time
	Garbage                                // what is no SIP
	HTTP                                   // a request for a web page, where none is
	Scan                                   // a User-Agent of Config.Scanners
	offences
)

func (o Offence) String() string {
	return [...]string{"", "unanswered-challenge", "wrong-credentials", "forged-nonce", "failed-handshake", "garbage", "http", "scanner"}[o]
}

// OffenceOf is the offence of that name, if there is one.
func OffenceOf(name string) (Offence, bool) {
	for o := Offence(1); o < offences; o++ {
		if o.String() == name {
			return o, true
		}
	}
	return 0, false
}

// limit is how many points lead to a ban: 1,000, less what is forgiven within the seconds in which they come.
const limit = 990

// points of an offence: a ban follows 50 challenges unanswered, 20 wrong passwords, 20 forged nonces, 50 failed
// handshakes, 10 connections with garbage, 5 with HTTP, 4 scans.
func (o Offence) points() int {
	return [...]int{0, 20, 50, 50, 20, 100, 200, 250}[o]
}

// What is forgiven, to those who mean well and have a bad phone among them.
const (
	// decay is how long it takes until one point is forgiven: 100 a minute. One phone with an old password, which tries
	// twice a minute, never leads to a ban.
	decay = 600 * time.Millisecond
	// discount is what the offences of a source are divided by where somebody has authenticated lately. Ten phones with an
	// old password behind one address are no reason to lock out two hundred good ones.
	discount = 10
	// vouching is how long lately is. A phone registers again within an hour.
	vouching = time.Hour
	// memory is for how long after its last offence a ban makes the next one of the same source longer.
	memory = 24 * time.Hour
)

// maxRecords is how many sources with offences are remembered. Of more, one with few points is forgotten.
const maxRecords = 16384

// records are what sources have done. Everyone in it has opened a connection.
type records struct {
	mu    sync.Mutex
	known map[netip.Prefix]*record
}

type record struct {
	settled time.Duration // when all points are forgiven
	last    time.Duration // when the last offence was
	vouched time.Duration // until when somebody counts as authenticated
	bans    int           // lately
}

// Offend notes an offence of source, and says whether source is barred now. When its offences, of which 100 points are
// forgiven a minute, come to 1,000 points it is banned: for Config.BanTime, and four times as long each next time within
// a day. It must be called for connections that the source has opened only.
func (g *Guard) Offend(source netip.Addr, what Offence) (barred bool) {
	if g == nil || what == 0 || what >= offences {
		return false
	}
	source = plain(source)
	if g.allow.has(source) {
		return false
	}
	g.counts.offend(what, source)
	now := g.now()
	if g.barred(source, now, false) != passed {
		return true
	}
	if g.cfg.BanTime <= 0 || !source.IsValid() {
		return false
	}
	p := origin(source)
	times, over := g.records.add(p, what.points(), now)
	if !over {
		return false
	}
	length := g.cfg.BanTime
	for range times {
		length = min(4*length, g.cfg.MaxBanTime)
	}
	length = max(length, g.cfg.BanTime)
	b := Ban{Prefix: p, Reason: what.String(), By: automatic + g.cfg.Ref, Until: time.Now().Add(length).Round(0)}
	g.bans.set(entry{Ban: b, end: now + length, automatic: true}, now)
	g.counts.ban(source)
	if g.cfg.Banned != nil {
		g.cfg.Banned(b)
	}
	return true
}

// Vouch notes that somebody at source has authenticated, over any transport: what others do there counts for a tenth
// within the next hour.
func (g *Guard) Vouch(source netip.Addr) {
	if g == nil {
		return
	}
	g.records.vouch(origin(plain(source)), g.now())
}

// add adds points, and says whether they are too many now, and how many bans there were before. Then they begin anew.
func (r *records) add(p netip.Prefix, points int, now time.Duration) (times int, over bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.known[p]
	if c == nil {
		if len(r.known) >= maxRecords {
			r.makeRoom()
		}
		c = &record{}
		r.known[p] = c
	}
	if now < c.vouched {
		points /= discount
	}
	if now-c.last > memory {
		c.bans = 0
	}
	c.last = now
	c.settled = max(c.settled, now) + time.Duration(points)*decay
	if c.settled-now < limit*decay {
		return 0, false
	}
	c.settled = now
	c.bans++
	return c.bans - 1, true
}

// vouch has no effect on a source without offences: it has nothing to be forgiven, and there are many.
func (r *records) vouch(p netip.Prefix, now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.known[p]; c != nil {
		if now >= c.vouched { // what was before was among others too
			c.settled = now + max(c.settled-now, 0)/discount
		}
		c.vouched = now + vouching
	}
}

// makeRoom forgets, of some, the source that has the least to be forgiven.
func (r *records) makeRoom() {
	const sample = 16
	var least netip.Prefix
	seen := 0
	for p, c := range r.known { // in random order
		if seen == 0 || c.settled < r.known[least].settled {
			least = p
		}
		if seen++; seen == sample {
			break
		}
	}
	delete(r.known, least)
}

func (r *records) forget(p netip.Prefix) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, p)
}

// sweep forgets who has nothing left to be forgiven.
func (r *records) sweep(now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, c := range r.known {
		if c.settled <= now && c.vouched <= now && (c.bans == 0 || now-c.last > memory) {
			delete(r.known, p)
		}
	}
}
