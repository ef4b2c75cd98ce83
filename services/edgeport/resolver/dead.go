package resolver

import (
	"net/netip"
	"sync"
	"time"

	"github.com/routr-fabric/routr/services/edgeport/transport"
)

const (
	deadFirst = 30 * time.Second
	deadMost  = 5 * time.Minute
)

// dead is the places that failed of late.
type dead struct {
	mu      sync.Mutex
	max     int
	entries map[place]mark
}

// place is a Candidate whatever it is called.
type place struct {
	protocol transport.Protocol
	addr     netip.AddrPort
}

// mark is until when a place is dead, and for how long it was declared so.
type mark struct {
	until time.Time
	time  time.Duration
}

func placeOf(c Candidate) place { return place{c.Protocol, c.Addr} }

// Failed says that c did not answer, refused the connection or answered 503 (RFC 3263 4.3): it comes last for 30 s,
// and for twice as long, up to five minutes, each time that it fails again after that. 1,024 places are remembered.
func (r *Resolver) Failed(c Candidate) {
	now, p, d := r.now(), placeOf(c), &r.dead
	d.mu.Lock()
	defer d.mu.Unlock()
	m, known := d.entries[p]
	switch {
	case known && now.Before(m.until):
		return // one of the requests that were under way
	case known && now.Before(m.until.Add(deadMost)):
		m.time = min(2*m.time, deadMost)
	default:
		m.time = deadFirst
	}
	if !known && len(d.entries) >= d.max {
		evict(d.entries, func(m mark) time.Time { return m.until })
	}
	m.until = now.Add(m.time)
	d.entries[p] = m
}

// Worked says that c answered: it is as good as any from now on.
func (r *Resolver) Worked(c Candidate) {
	r.dead.mu.Lock()
	defer r.dead.mu.Unlock()
	delete(r.dead.entries, placeOf(c))
}

func (d *dead) has(c Candidate, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, ok := d.entries[placeOf(c)]
	return ok && now.Before(m.until)
}

// evict drops of eight entries, which the map chooses, the one that ends first.
func evict[K comparable, V any](entries map[K]V, end func(V) time.Time) {
	var worst K
	n := 0
	for k, v := range entries {
		if n == 0 || end(v).Before(end(entries[worst])) {
			worst = k
		}
		if n++; n == 8 {
			break
		}
	}
	delete(entries, worst)
}
