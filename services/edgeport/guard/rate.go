package guard

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// The table of rates: 16,384 cells in sets of four, 256 KiB that never become more.
const (
	rateShards = 64
	rateSets   = 64 // a shard
	rateWays   = 4
)

// rates are the token buckets of all sources, each as the one number of the generic cell rate algorithm: when the source
// will have all its tokens back. A cell whose time has passed says what no cell says too, so it is free. 50,000 datagrams
// from as many sources at 2,000 messages a second each fill cells for half a millisecond; what they leave behind is
// nothing.
//
// A source goes to a set of cells that nobody outside can foretell. In a full set the cell that is next to be free is
// taken over, so sources that send little do not make one forgotten that sends much.
type rates struct {
	token  time.Duration // what one message takes; 0: no limit
	burst  time.Duration // how much may be taken at once
	seed   maphash.Seed
	shards []rateShard
}

type rateShard struct {
	mu   sync.Mutex
	sets [rateSets][rateWays]cell
}

type cell struct {
	key  uint64        // of a source; 0: none yet
	full time.Duration // when it has all its tokens again
}

func newRates(rate, burst int) rates {
	if rate <= 0 {
		return rates{}
	}
	token := max(time.Second/time.Duration(rate), 1)
	return rates{token: token, burst: token * time.Duration(max(burst, connectionCost)), seed: maphash.MakeSeed(), shards: make([]rateShard, rateShards)}
}

// keyOf is the source itself in 64 bits: the /64 of an IPv6 address, or an IPv4 address in a part of 0000::/8, from
// which nothing is sent.
func keyOf(source netip.Addr) uint64 {
	if source.Is4() {
		b := source.As4()
		return 1<<32 | uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := source.As16()
	return max(binary.BigEndian.Uint64(b[:]), 1)
}

// take takes cost tokens of a source, and says whether it had them.
func (r *rates) take(key uint64, now time.Duration, cost int64) bool {
	if r.token == 0 {
		return true
	}
	h := maphash.Comparable(r.seed, key)
	s := &r.shards[h%rateShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	set := &s.sets[h/rateShards%rateSets]
	c := &set[0]
	for i := range set {
		if set[i].key == key {
			c = &set[i]
			break
		}
		if set[i].full < c.full {
			c = &set[i]
		}
	}
	if c.key != key {
		*c = cell{key: key}
	}
	full := max(c.full, now) + r.token*time.Duration(cost)
	if full-now > r.burst {
		return false
	}
	c.full = full
	return true
}
