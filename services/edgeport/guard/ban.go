package guard

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// MaxBans is how many bans a Guard keeps. Of more, one of those that end soonest is dropped; one that never ends is not.
const MaxBans = 65536

// automatic is how By begins for a ban that a guard has made; the ref of its EdgePort follows.
const automatic = "guard/"

// Ban is that nothing is taken from a network for a time.
type Ban struct {
	Prefix netip.Prefix
	Reason string    // an Offence, or what a person says
	By     string    // who made it: guard/REF for the guard of the EdgePort REF
	Until  time.Time // zero: until it is lifted
}

// Automatic says whether a guard has made b, here or elsewhere.
func (b Ban) Automatic() bool { return strings.HasPrefix(b.By, automatic) }

// bans are looked up by each length of prefix that is in use, which are few: /32 and /64, and those of operators.
type bans struct {
	any     atomic.Bool // there are some
	mu      sync.RWMutex
	known   map[netip.Prefix]entry
	lengths [2][129]int // how many bans have that length, of IPv4 and of IPv6
	used    [2][]int    // those of the lengths that are not 0
}

type entry struct {
	Ban
	end       time.Duration // in the guard's time; forever: never
	automatic bool
}

const forever = time.Duration(1<<63 - 1)

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// Ban begins a ban, or replaces the one that there is of the same prefix. One that has ended, or of no valid prefix, does
// nothing. Bits of the address behind the prefix do not matter.
func (g *Guard) Ban(b Ban) {
	if b.Prefix = masked(b.Prefix); !b.Prefix.IsValid() {
		return
	}
	now, end := g.now(), forever
	if !b.Until.IsZero() {
		if end = now + time.Until(b.Until); end <= now {
			return
		}
	}
	g.bans.set(entry{Ban: b, end: end, automatic: b.Automatic()}, now)
}

// Unban ends the ban of exactly that prefix, if there is one, and forgets the offences of that source.
func (g *Guard) Unban(prefix netip.Prefix) {
	prefix = masked(prefix)
	g.bans.remove(prefix)
	g.records.forget(prefix)
}

// Bans are those in force, by prefix.
func (g *Guard) Bans() []Ban {
	now := g.now()
	g.bans.mu.RLock()
	defer g.bans.mu.RUnlock()
	list := make([]Ban, 0, len(g.bans.known))
	for _, e := range g.bans.known {
		if now < e.end {
			list = append(list, e.Ban)
		}
	}
	slices.SortFunc(list, func(a, b Ban) int { return a.Prefix.Compare(b.Prefix) })
	return list
}

// masked is p as bans have it: of IPv4 if it is that within IPv6, and without bits behind it. It is invalid if p is.
func masked(p netip.Prefix) netip.Prefix {
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// has says whether source is banned, for somebody known by a ban that is not automatic.
func (s *bans) has(source netip.Addr, now time.Duration, known bool) bool {
	if !s.any.Load() {
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, bits := range s.used[family(source)] {
		p, _ := source.Prefix(bits) // no length is used that the family does not have
		if e, ok := s.known[p]; ok && now < e.end && !(known && e.automatic) {
			return true
		}
	}
	return false
}

func (s *bans) set(e entry, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.known[e.Prefix]; !ok {
		if len(s.known) >= MaxBans && !s.makeRoom(now) {
			return
		}
		s.count(e.Prefix, 1)
	}
	s.known[e.Prefix] = e
	s.any.Store(true)
}

// makeRoom drops, of some, the ban that ends first, and says whether there was one.
func (s *bans) makeRoom(now time.Duration) bool {
	const sample = 16
	first, seen := entry{end: forever}, 0
	for _, e := range s.known { // in random order
		if e.end < first.end {
			first = e
		}
		if seen++; seen >= sample || first.end <= now {
			break
		}
	}
	if first.end == forever {
		return false
	}
	s.drop(first.Prefix)
	return true
}

func (s *bans) remove(p netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(p)
}

// drop is remove under the lock.
func (s *bans) drop(p netip.Prefix) {
	if _, ok := s.known[p]; !ok {
		return
	}
	delete(s.known, p)
	s.count(p, -1)
	s.any.Store(len(s.known) > 0)
}

// count keeps lengths and used.
func (s *bans) count(p netip.Prefix, n int) {
	f, bits := family(p.Addr()), p.Bits()
	s.lengths[f][bits] += n
	switch at := slices.Index(s.used[f], bits); {
	case s.lengths[f][bits] == 0:
		s.used[f] = slices.Delete(s.used[f], at, at+1)
	case at < 0:
		s.used[f] = append(s.used[f], bits)
	}
}

// size is how many there are.
func (s *bans) size() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return int64(len(s.known))
}

// sweep forgets what has ended.
func (s *bans) sweep(now time.Duration) {
	if !s.any.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, e := range s.known {
		if e.end <= now {
			s.drop(p)
		}
	}
}
