package location

import (
	"context"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
)

// store keeps the bindings of each AOR. AORs are canonical. Errors that are not a change's own have the code
// Unavailable: the store cannot be reached, and nothing can be said of the AOR.
type store interface {
	// lookup is the record of aor, if it can be had without waiting. ok false: read says.
	lookup(aor string) (rec *record, ok bool)
	// read is the record of aor as the last acknowledged update left it, nil if there is none. It may wait.
	read(ctx context.Context, aor string) (*record, error)
	// update applies c, alone: no other update of aor comes between what it reads and what it writes. It returns once
	// the record is kept as safely as this store keeps anything.
	update(ctx context.Context, aor string, c *change) (*record, error)
}

// record is the bindings of one AOR, in the order in which a request tries them. It never changes.
type record struct {
	aor         string
	bindings    []*binding
	all         locationpb.FindRoutesResponse // the routes of bindings, ready to be sent
	first, last int64                         // when the first and the last of them expire, unix ms
	revision    uint64                        // of the value in the bucket
	one         [1]*locationpb.Route          // the memory of all.Routes where it has one, as most often
}

// newRecord is nil if there are no bindings.
func newRecord(aor string, bindings []*binding) *record {
	if len(bindings) == 0 {
		return nil
	}
	r := &record{aor: aor, bindings: bindings, first: bindings[0].expires}
	r.all.Routes = r.one[:]
	if len(bindings) > 1 {
		r.all.Routes = make([]*locationpb.Route, len(bindings))
	}
	for i, b := range bindings {
		r.all.Routes[i] = b.route
		r.first, r.last = min(r.first, b.expires), max(r.last, b.expires)
	}
	return r
}

// next is the record that follows r, which may be nil, after c. It is r itself if nothing changes.
func (r *record) next(aor string, c *change) (*record, error) {
	var old []*binding
	if r != nil {
		aor, old = r.aor, r.bindings
	}
	bindings, changed, err := c.apply(old)
	if err != nil || !changed {
		return r, err
	}
	if r == nil {
		aor = strings.Clone(aor) // the one that came is part of a message many times larger
	}
	return newRecord(aor, bindings), nil
}

// routes are the routes that have not expired at now, unix ms.
func (r *record) routes(now int64) []*locationpb.Route {
	if r == nil || now >= r.last {
		return nil
	}
	if now < r.first {
		return r.all.Routes
	}
	var list []*locationpb.Route
	for _, b := range r.bindings {
		if now < b.expires {
			list = append(list, b.route)
		}
	}
	return list
}

// table maps AORs to records, in shards with a lock each.
type table struct {
	seed   maphash.Seed
	shards [tableShards]tableShard
}

type tableShard struct {
	mu sync.RWMutex
	m  map[string]*record
	_  [64 - 32]byte // a cache line to itself
}

const tableShards = 256

func newTable() *table {
	t := &table{seed: maphash.MakeSeed()}
	for i := range t.shards {
		t.shards[i].m = make(map[string]*record)
	}
	return t
}

func (t *table) shard(aor string) *tableShard {
	return &t.shards[maphash.String(t.seed, aor)%tableShards]
}

func (t *table) get(aor string) *record {
	s := t.shard(aor)
	s.mu.RLock()
	r := s.m[aor]
	s.mu.RUnlock()
	return r
}

// set makes r, or nothing, the record of aor. The lock of the shard is held.
func (s *tableShard) set(aor string, r *record) {
	if r == nil {
		delete(s.m, aor)
	} else {
		s.m[r.aor] = r
	}
}

// clear empties the table.
func (t *table) clear() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		s.m = make(map[string]*record)
		s.mu.Unlock()
	}
}

// len is the number of AORs, those with only expired bindings included until they are swept.
func (t *table) len() (n int64) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		n += int64(len(s.m))
		s.mu.RUnlock()
	}
	return n
}

// sweepEvery is how often one shard is swept: all of them in about a minute, none for long enough to be felt.
const sweepEvery = 250 * time.Millisecond

// sweep forgets records whose bindings have all expired, shard after shard, until ctx ends.
func (t *table) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for i := 0; ; i = (i + 1) % tableShards {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now().UnixMilli()
		s := &t.shards[i]
		s.mu.Lock()
		for aor, r := range s.m {
			if r.last <= now {
				delete(s.m, aor)
			}
		}
		s.mu.Unlock()
	}
}

// memory is the store of a single instance. Its bindings end with it.
type memory struct{ *table }

func (m memory) lookup(aor string) (*record, bool) { return m.get(aor), true }

func (m memory) read(_ context.Context, aor string) (*record, error) { return m.get(aor), nil }

func (m memory) update(_ context.Context, aor string, c *change) (*record, error) {
	s := m.shard(aor)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.m[aor]
	r, err := old.next(aor, c)
	if err == nil && r != old {
		s.set(aor, r)
	}
	return r, err
}

// run sweeps until ctx ends.
func (m memory) run(ctx context.Context, ready func()) {
	ready()
	m.sweep(ctx)
}
