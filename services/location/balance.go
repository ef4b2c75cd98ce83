package location

import (
	"hash/maphash"
	"sync"

	"github.com/routr-fabric/routr/bus"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
)

// balancer picks one binding of a backend.
//
// Nothing is shared between instances, so nothing can drift. Round-robin picks the binding whose last turn is longest
// ago, so a refresh, a new binding or a filter by labels does not disturb the rotation, and with n instances, each of
// which rotates on its own, no binding is ever more than n picks ahead of another. Least-sessions counts what the
// binding reported and what this instance has given it since. Affinity is rendezvous hashing, which all instances agree
// on, and a table that keeps it while bindings come and go.
type balancer struct {
	seed   maphash.Seed
	shards [balancerShards]balancerShard
}

type balancerShard struct {
	mu         sync.Mutex
	clock      uint64  // the last turn given
	calls      choices // by AOR and Call-ID
	affinities choices // by AOR and session_affinity_ref
}

const balancerShards = 64

func newBalancer() *balancer { return &balancer{seed: maphash.MakeSeed()} }

// pick chooses one of list, which holds at least one binding of req's AOR.
func (b *balancer) pick(list []*binding, aor string, req *locationpb.FindRoutesRequest) (*binding, error) {
	algorithm := req.Backend.Algorithm
	if algorithm != locationpb.FindRoutesRequest_Backend_ROUND_ROBIN &&
		algorithm != locationpb.FindRoutesRequest_Backend_LEAST_SESSIONS {
		return nil, bus.Errorf(bus.InvalidArgument,
			"balancing algorithm %d is not known, want 0 for round-robin or 1 for least-sessions", algorithm)
	}
	of := maphash.String(b.seed, aor)
	s := &b.shards[of%balancerShards]
	s.mu.Lock()
	defer s.mu.Unlock()

	var table *choices
	var key uint64
	affine := req.Backend.WithSessionAffinity && req.SessionAffinityRef != ""
	switch {
	case affine:
		table, key = &s.affinities, of^maphash.String(b.seed, req.SessionAffinityRef)*hashMultiplier
	case req.CallId != "":
		table, key = &s.calls, of^maphash.String(b.seed, req.CallId)*hashMultiplier
	}
	if table != nil {
		if id, ok := table.get(key); ok {
			for _, c := range list {
				if c.contact.id == id {
					return c, nil
				}
			}
		}
	}

	var chosen *binding
	switch {
	case affine:
		chosen = rendezvous(list, aor, req.SessionAffinityRef)
	case algorithm == locationpb.FindRoutesRequest_Backend_LEAST_SESSIONS:
		chosen = leastSessions(list)
	default:
		chosen = longestAgo(list)
	}
	s.clock++
	chosen.turn.Store(s.clock)
	chosen.reserved.Add(1)
	if table != nil {
		table.put(key, chosen.contact.id)
	}
	return chosen, nil
}

// hashMultiplier keeps a Call-ID that equals the AOR from cancelling it out.
const hashMultiplier = 0x9E3779B97F4A7C15

func longestAgo(list []*binding) *binding {
	best := list[0]
	for _, b := range list[1:] {
		if b.turn.Load() < best.turn.Load() {
			best = b
		}
	}
	return best
}

func leastSessions(list []*binding) *binding {
	best := list[0]
	for _, b := range list[1:] {
		if x, y := b.sessions(), best.sessions(); x < y || x == y && b.turn.Load() < best.turn.Load() {
			best = b
		}
	}
	return best
}

// sessions is how many sessions b has: its last report, where -1 is none, and what it was given since.
func (b *binding) sessions() int64 {
	return int64(max(b.route.SessionCount, 0)) + int64(b.reserved.Load())
}

// rendezvous is the binding with the highest hash together with the ref. Every instance finds the same, and only
// what belonged to a binding that goes moves to another.
func rendezvous(list []*binding, aor, ref string) *binding {
	key := newHash().text(aor).text(ref)
	best, most := list[0], uint64(0)
	for _, b := range list {
		if n := key.number(b.contact.id).sum(); n >= most {
			best, most = b, n
		}
	}
	return best
}

// choices remembers which binding was chosen for a key, for at least the last maxChoices keys. Both are hashes, so that
// an entry costs 16 bytes whatever a stranger writes into a Call-ID; a wrong hit is a binding of the same AOR.
type choices struct {
	young, old map[uint64]uint64
}

// maxChoices is the size of one generation of choices in one of 64 shards: 64k to 128k calls in all.
const maxChoices = 1024

func (c *choices) get(key uint64) (id uint64, ok bool) {
	if id, ok = c.young[key]; ok {
		return id, true
	}
	if id, ok = c.old[key]; ok {
		c.put(key, id)
	}
	return id, ok
}

func (c *choices) put(key, id uint64) {
	if len(c.young) >= maxChoices {
		c.young, c.old = nil, c.young
	}
	if c.young == nil {
		c.young = make(map[uint64]uint64)
	}
	c.young[key] = id
}
