package processor

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
)

// Keys are the secrets that nonces are signed with; *bus.Keys, by the name "digest", are those that all instances share.
type Keys interface {
	// Current is the key to sign with.
	Current() []byte
	// All are the keys to verify with.
	All() [][]byte
}

// nonce is what the text of a nonce is the base64 of: 4 bytes of the time it was made (unix seconds), 4 of the instance
// that made it and knows the counts that it was used with, 8 of a number of its own, 8 of the network it was given to
// (see networkOf), and the first 12 bytes of the HMAC-SHA256 over all that and the realm. Nothing is stored for a nonce
// until it was used with success.
type nonce [nonceSize]byte

const (
	nonceBody = 24
	nonceSize = nonceBody + 12
)

func (b *nonce) made() uint32   { return binary.BigEndian.Uint32(b[0:]) }
func (b *nonce) maker() uint32  { return binary.BigEndian.Uint32(b[4:]) }
func (b *nonce) number() uint64 { return binary.BigEndian.Uint64(b[8:]) }
func (b *nonce) holder() uint64 { return binary.BigEndian.Uint64(b[16:]) }

// sign completes a nonce.
func (b *nonce) sign(key []byte, realm string) {
	h := hmac.New(sha256.New, key)
	h.Write(b[:nonceBody])
	h.Write([]byte(realm))
	var sum [sha256.Size]byte
	copy(b[nonceBody:], h.Sum(sum[:0]))
}

// maxSkew is how far the clock of the instance that made a nonce may be ahead of ours, in seconds.
const maxSkew = 30

// nonces makes and verifies nonces, and knows the counts that those of this instance were used with.
type nonces struct {
	keys     Keys
	lifetime time.Duration
	maker    uint32 // this instance
	counts   nonceCounts
}

// next makes a nonce for a realm and the network that it is sent to.
func (n *nonces) next(realm string, holder uint64, now time.Time) string {
	var b nonce
	binary.BigEndian.PutUint32(b[0:], uint32(now.Unix()))
	binary.BigEndian.PutUint32(b[4:], n.maker)
	// The number only tells nonces apart; that they cannot be made up is the HMAC's work.
	binary.BigEndian.PutUint64(b[8:], rand.Uint64()) //nolint:gosec // see above
	binary.BigEndian.PutUint64(b[16:], holder)
	b.sign(n.keys.Current(), realm)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// read is the nonce of a text; signed reports whether one of our keys made it for that realm.
func (n *nonces) read(text, realm string) (b nonce, signed bool) {
	if len(text) != base64.RawURLEncoding.EncodedLen(nonceSize) {
		return nonce{}, false
	}
	if _, err := base64.RawURLEncoding.Strict().Decode(b[:], []byte(text)); err != nil {
		return nonce{}, false
	}
	for _, key := range n.keys.All() {
		mine := b
		mine.sign(key, realm)
		if hmac.Equal(mine[nonceBody:], b[nonceBody:]) {
			return b, true
		}
	}
	return nonce{}, false
}

// serves reports whether a nonce that was made then is neither past its lifetime nor of the future.
func (n *nonces) serves(made uint32, now time.Time) bool {
	age := now.Unix() - int64(made)
	return age < int64(n.lifetime/time.Second) && age >= -maxSkew
}

// countOf reads a nonce count: eight hex digits, not all of them zero (RFC 7616 3.4).
func countOf(nc string) (count uint32, ok bool) {
	n, err := strconv.ParseUint(nc, 16, 32)
	return uint32(n), err == nil && len(nc) == 8 && n > 0
}

// maxCounts bounds each of the two tables of nonceCounts; both together take about 3 MiB when they are full.
const maxCounts = 1 << 15

// nonceCounts remembers the highest nonce count that each nonce was used with, for the nonces that were used last. What
// it had to forget it refuses: the holder of the password is challenged anew and notices nothing, a replay fails.
type nonceCounts struct {
	mu        sync.Mutex
	recent    map[uint64]uint32 // nonce number -> highest count
	earlier   map[uint64]uint32 // the table that recent replaced
	newest    uint32            // when the youngest nonce in recent was made
	newestOld uint32            // the same of earlier
	floor     uint32            // nonces made then or before, and in neither table, may have been forgotten
}

// use reports whether count is above all counts that the nonce was used with, and notes it.
func (c *nonceCounts) use(number uint64, made, count uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, seen := c.recent[number]
	if !seen {
		last, seen = c.earlier[number]
	}
	if seen && count <= last || !seen && made <= c.floor {
		return false
	}
	if len(c.recent) >= maxCounts {
		c.floor = max(c.floor, c.newestOld)
		c.earlier, c.newestOld = c.recent, c.newest
		c.recent, c.newest = nil, 0
	}
	if c.recent == nil {
		c.recent = make(map[uint64]uint32)
	}
	c.recent[number] = count
	c.newest = max(c.newest, made)
	return true
}
