package processor

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// A limit allows burst tries at once and one more every interval, so no minute has more than burst and a minute's worth.
const (
	// How often one network may be wrong about all accounts: 20 times in the worst minute, 10 in those behind it. For an
	// account that it was used for before it has as much again.
	networkBurst    = 10
	networkInterval = 6 * time.Second
	// How often one network may be wrong about one account: a phone that is set up wrong tries for ever, and must leave
	// something to the others behind its NAT.
	pairBurst    = 4
	pairInterval = 20 * time.Second
	// How often all networks together may be wrong about one account that none of them has used before.
	accountBurst    = 30
	accountInterval = 2 * time.Second

	// A limit is kept as the time when all tries are there again. There is none left when that is further away than this.
	networkFull = int64((networkBurst - 1) * networkInterval)
	pairFull    = int64((pairBurst - 1) * pairInterval)
	accountFull = int64((accountBurst - 1) * accountInterval)
)

const (
	trySlots      = 1 << 16 // 8 bytes each
	unsignedSlots = 1 << 12
	knownSets     = 1 << 14
	knownWays     = 4 // 8 bytes each

	// knownTime is how long a network counts as one that an account is used from. Phones register far more often.
	knownTime = 24 * time.Hour
	// knownFresh is how old the note of that may be before it is written again.
	knownFresh = time.Minute
)

// backoff bounds how many passwords can be tried. What is over the limit is not decided by the password: it gets the
// answer to a wrong one.
//
// A try is charged to the network that its nonce was given to, not to the one that it comes from, as over UDP the latter
// can be made up: nobody can use up the tries of others without seeing their packets. A nonce that nobody signed has a
// table of its own, where only others of the kind suffer from it.
//
// The tables have a fixed size and forget nothing before its time; where two share a slot they share the limit, and who
// meets whom is nobody's choice, as the hash has a secret seed. Each instance has its own.
type backoff struct {
	seed     maphash.Seed
	start    time.Time
	signed   []atomic.Int64 // when the limit is whole again, in nanoseconds since start
	unsigned []atomic.Int64
	known    []atomic.Uint64 // sets of knownWays: 32 bits of a hash, and unix seconds
}

func newBackoff() *backoff {
	return &backoff{
		seed:     maphash.MakeSeed(),
		start:    time.Now(),
		signed:   make([]atomic.Int64, trySlots),
		unsigned: make([]atomic.Int64, unsignedSlots),
		known:    make([]atomic.Uint64, knownSets*knownWays),
	}
}

// payer is who pays for a try: a network, an account, or an account in a network.
type payer struct {
	hasNetwork      bool
	network         uint64
	realm, username string
}

// try is one use of a password, and who pays if it is wrong.
type try struct {
	network, pair, account *atomic.Int64 // where the network is known, network alone, which is then of the account there
	hash                   uint64        // of account and network
	signed                 bool
}

// begin says who pays for a try of username in realm from a network, which it is sure of if signed. ok is false if they
// have nothing left. All of this is the same for a user who does not exist.
func (b *backoff) begin(network uint64, signed bool, realm, username string, now time.Time) (t try, ok bool) {
	slots := b.unsigned
	if signed {
		slots = b.signed
	}
	slot := func(hash uint64) *atomic.Int64 { return &slots[hash&uint64(len(slots)-1)] }
	since := int64(now.Sub(b.start))
	t.signed = signed
	t.hash = maphash.Comparable(b.seed, payer{true, network, realm, username})
	if signed && b.knows(t.hash, now) {
		t.network = slot(t.hash >> 16) // not where it paid while it was unknown
		return t, t.network.Load()-since <= networkFull
	}
	t.pair = slot(t.hash)
	t.network = slot(maphash.Comparable(b.seed, payer{hasNetwork: true, network: network}))
	t.account = slot(maphash.Comparable(b.seed, payer{realm: realm, username: username}))
	return t, t.network.Load()-since <= networkFull && t.pair.Load()-since <= pairFull && t.account.Load()-since <= accountFull
}

// wrong charges a try. Tries that began at the same time may all be charged although there was room for one.
func (b *backoff) wrong(t try, now time.Time) {
	since := int64(now.Sub(b.start))
	charge(t.network, since, networkInterval)
	if t.pair != nil {
		charge(t.pair, since, pairInterval)
		charge(t.account, since, accountInterval)
	}
}

// right costs nothing, and makes the network of a try known.
func (b *backoff) right(t try, now time.Time) {
	if t.signed {
		b.remember(t.hash, now)
	}
}

func charge(slot *atomic.Int64, since int64, interval time.Duration) {
	for {
		old := slot.Load()
		if slot.CompareAndSwap(old, max(old, since)+int64(interval)) {
			return
		}
	}
}

// set are the places where a pair may be noted, and mark is what tells it from the others there.
func (b *backoff) set(pair uint64) (set []atomic.Uint64, mark uint64) {
	i := pair % knownSets * knownWays
	return b.known[i : i+knownWays], pair &^ (1<<32 - 1)
}

func (b *backoff) knows(pair uint64, now time.Time) bool {
	set, mark := b.set(pair)
	for i := range set {
		if v := set[i].Load(); v != 0 && v&^(1<<32-1) == mark {
			return now.Unix()-int64(uint32(v)) < int64(knownTime/time.Second)
		}
	}
	return false
}

// remember notes a pair in the place that has it, or else in that of the pair that was not heard of for longest.
func (b *backoff) remember(pair uint64, now time.Time) {
	set, mark := b.set(pair)
	oldest := &set[0]
	for i := range set {
		v := set[i].Load()
		if v != 0 && v&^(1<<32-1) == mark {
			if now.Unix()-int64(uint32(v)) >= int64(knownFresh/time.Second) {
				set[i].Store(mark | uint64(uint32(now.Unix())))
			}
			return
		}
		if uint32(v) < uint32(oldest.Load()) {
			oldest = &set[i]
		}
	}
	oldest.Store(mark | uint64(uint32(now.Unix())))
}

// networkOf is the network of an address: an IPv4 address, or the first 64 bits of an IPv6 address, as that much belongs
// to one line. 0 stands for what is no address.
func networkOf(host string) uint64 {
	if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return 0
	}
	if a = a.Unmap(); a.Is4() {
		v4 := a.As4()
		return uint64(binary.BigEndian.Uint32(v4[:]))
	}
	v6 := a.As16()
	return binary.BigEndian.Uint64(v6[:8])
}
