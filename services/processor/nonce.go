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

// A nonce is base64 of: the time it was made (4 bytes, unix seconds), a number of its own (8 bytes), and the first 16
// bytes of the HMAC-SHA256 over both and the realm. Nothing is stored for a nonce until it was used with success.
const (
	nonceBody = 12
	nonceSize = nonceBody + 16
)

// maxSkew is how far the clock of the instance that made a nonce may be ahead of ours, in seconds.
const maxSkew = 30

// nonces makes and verifies nonces, and knows how often each has been used at this instance.
type nonces struct {
	keys     Keys
	lifetime time.Duration
	counts   nonceCounts
}

// next makes a nonce for a realm.
func (n *nonces) next(realm string, now time.Time) string {
	var b [nonceSize]byte
	binary.BigEndian.PutUint32(b[:], uint32(now.Unix()))
	// The number only tells nonces apart; that they cannot be made up is the HMAC's work.
	binary.BigEndian.PutUint64(b[4:], rand.Uint64()) //nolint:gosec // see above
	sign(&b, n.keys.Current(), realm)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// use reports whether nonce is ours, still serves, and nc, eight hex digits, is above all counts that it was used with
// here. If so, nc is used from then on.
func (n *nonces) use(nonce, realm, nc string, now time.Time) bool {
	count, err := strconv.ParseUint(nc, 16, 32)
	if err != nil || len(nc) != 8 || count == 0 {
		return false
	}
	var b [nonceSize]byte
	if len(nonce) != base64.RawURLEncoding.EncodedLen(nonceSize) {
		return false
	}
	if _, err := base64.RawURLEncoding.Strict().Decode(b[:], []byte(nonce)); err != nil || !n.signed(&b, realm) {
		return false
	}
	made := binary.BigEndian.Uint32(b[:])
	if age := now.Unix() - int64(made); age >= int64(n.lifetime/time.Second) || age < -maxSkew {
		return false
	}
	return n.counts.use(binary.BigEndian.Uint64(b[4:]), made, uint32(count))
}

// signed reports whether one of our keys made the nonce b.
func (n *nonces) signed(b *[nonceSize]byte, realm string) bool {
	for _, key := range n.keys.All() {
		mine := *b
		sign(&mine, key, realm)
		if hmac.Equal(mine[nonceBody:], b[nonceBody:]) {
			return true
		}
	}
	return false
}

// sign completes a nonce.
func sign(b *[nonceSize]byte, key []byte, realm string) {
	h := hmac.New(sha256.New, key)
	h.Write(b[:nonceBody])
	h.Write([]byte(realm))
	var sum [sha256.Size]byte
	copy(b[nonceBody:], h.Sum(sum[:0]))
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
