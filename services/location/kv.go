package location

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/routr-fabric/routr/bus"
)

// kv is the store that several instances share: a JetStream key-value bucket. The value of an AOR is its record, an
// encoded FindRoutesResponse, written with compare-and-set. It lives as long as its longest binding.
//
// Every instance follows the bucket with a consumer of its own and keeps a copy. A record in the copy is trusted for
// reading while the consumer is alive: it has all that this instance wrote, and what another one wrote some tenths of a
// millisecond ago. That an AOR has no bindings is asked of the stream's leader, so a first binding is found at once
// everywhere. Without the consumer everything is asked of the leader, and without the leader nothing is known.
type kv struct {
	js     jetstream.JetStream
	config jetstream.StreamConfig
	prefix string // of the subject of a key
	log    *slog.Logger
	edges  *edgePorts

	table  *table
	live   atomic.Bool                      // the table follows the stream
	cursor atomic.Uint64                    // the last sequence that the table has, or is about to have
	stream atomic.Pointer[jetstream.Stream] // nil until the bucket was reached once
	locks  [lockStripes]chan struct{}       // by AOR: this instance does not compete with itself
}

const (
	lockStripes = 256
	// maxAttempts is how often a write is tried when other instances write the same AOR, with longer and longer
	// pauses, half a second in all: one that must ask the leader each time is slower than one that knows.
	maxAttempts = 32
	maxPause    = 32 * time.Millisecond
	// maxValue is how long a record may be, below the 1 MiB that NATS takes by default.
	maxValue = 1 << 19
	// markerTTL is how long the bucket remembers that a key is gone, for consumers that lag.
	markerTTL = time.Minute
)

// newKV starts nothing.
func newKV(js jetstream.JetStream, bucket string, b bucketConfig, edges *edgePorts, log *slog.Logger) *kv {
	prefix := "$KV." + bucket + "."
	k := &kv{
		js:     js,
		prefix: prefix,
		log:    log,
		edges:  edges,
		table:  newTable(),
		// What a key-value bucket is, but for AllowDirect: a read from any replica may miss what was acknowledged.
		config: jetstream.StreamConfig{
			Name:                   "KV_" + bucket,
			Description:            "bindings of addresses-of-record, written by the Location Service",
			Subjects:               []string{prefix + ">"},
			MaxMsgsPerSubject:      1,
			MaxMsgs:                -1,
			MaxBytes:               -1,
			MaxMsgSize:             -1,
			MaxConsumers:           -1,
			Discard:                jetstream.DiscardNew,
			Duplicates:             2 * time.Minute,
			DenyDelete:             true,
			AllowRollup:            true,
			AllowMsgTTL:            true,
			SubjectDeleteMarkerTTL: markerTTL,
			Storage:                jetstream.FileStorage,
			Replicas:               b.replicas,
		},
	}
	if b.inMemory {
		k.config.Storage = jetstream.MemoryStorage
	}
	for i := range k.locks {
		k.locks[i] = make(chan struct{}, 1)
	}
	return k
}

func (k *kv) lookup(aor string) (*record, bool) {
	if !k.live.Load() {
		return nil, false
	}
	r := k.table.get(aor)
	return r, r != nil && r.last > time.Now().UnixMilli()
}

func (k *kv) read(ctx context.Context, aor string) (*record, error) {
	r, revision, err := k.readLeader(ctx, aor, k.table.get(aor))
	if r != nil {
		r = k.keep(aor, r, revision)
	}
	return r, err
}

// readLeader asks the leader of the stream for the record of aor and the revision of its key, which has one for a while
// after the record is gone. known is an earlier record or nil.
func (k *kv) readLeader(ctx context.Context, aor string, known *record) (*record, uint64, error) {
	stream := k.stream.Load()
	if stream == nil {
		return nil, 0, bus.Errorf(bus.Unavailable, "read bindings of %s: the bucket %s was not reached yet", aor, k.config.Name)
	}
	msg, err := (*stream).GetLastMsgForSubject(ctx, k.prefix+keyOf(aor))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, 0, nil
	case err != nil:
		return nil, 0, bus.Errorf(bus.Unavailable, "read bindings of %s: %v", aor, err)
	case known != nil && known.revision == msg.Sequence:
		return known, msg.Sequence, nil
	case isMarker(msg.Header):
		return nil, msg.Sequence, nil
	}
	r, err := k.decode(aor, msg.Data, msg.Sequence, known)
	if err != nil {
		return nil, 0, bus.Errorf(bus.Internal, "read bindings of %s: %v", aor, err)
	}
	return r, msg.Sequence, nil
}

func (k *kv) update(ctx context.Context, aor string, c *change) (*record, error) {
	lock := k.locks[newHash().text(aor).sum()%lockStripes]
	select {
	case lock <- struct{}{}:
		defer func() { <-lock }()
	case <-ctx.Done():
		return nil, bus.Errorf(bus.Unavailable, "write bindings of %s: %v", aor, ctx.Err())
	}

	// The copy is a guess that is most often right. Nothing but a write that the leader took, or a read from it, may
	// decide: not an error, and not that there is nothing to do.
	var old *record
	var revision uint64
	guessed := k.live.Load()
	if guessed {
		if old = k.table.get(aor); old != nil {
			revision = old.revision
		}
	}
	for attempt := 0; attempt < maxAttempts; attempt++ {
		if !guessed {
			var err error
			if old, revision, err = k.readLeader(ctx, aor, old); err != nil {
				return nil, err
			}
		}
		next, err := old.next(aor, c)
		if err != nil || next == old {
			if guessed {
				guessed = false
				continue
			}
			return next, err
		}
		guessed = false
		sequence, err := k.write(ctx, aor, next, revision, c.now)
		switch {
		case err == nil:
			if next != nil {
				next.revision = sequence
			}
			return k.keep(aor, next, sequence), nil
		case !isConflict(err):
			return nil, err
		}
		if attempt > 0 {
			pause(ctx, attempt)
		}
	}
	return nil, bus.Errorf(bus.Unavailable, "write bindings of %s: lost to another writer %d times", aor, maxAttempts)
}

// pause waits for a random time that grows with the attempts, or until ctx ends.
func pause(ctx context.Context, attempt int) {
	longest := min(maxPause, 100*time.Microsecond<<min(attempt, 16))
	t := time.NewTimer(rand.N(longest)) //nolint:gosec // it is to differ from other instances, not to be secret
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// write publishes r, nil for none, as the value of aor if its revision is the last one. It is a plain publish, since
// Put and Update of a key-value bucket take the time to live off a key.
func (k *kv) write(ctx context.Context, aor string, r *record, revision uint64, now int64) (uint64, error) {
	msg := nats.NewMsg(k.prefix + keyOf(aor))
	msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(revision, 10))
	ttl := int64(markerTTL / time.Second)
	if r == nil {
		msg.Header.Set(headerOperation, "DEL")
	} else {
		data, err := r.all.MarshalVT()
		if err != nil {
			return 0, fmt.Errorf("encode bindings of %s: %w", aor, err)
		}
		if len(data) > maxValue {
			return 0, bus.Errorf(bus.InvalidArgument, "bindings of %s take %d bytes, want at most %d", aor, len(data), maxValue)
		}
		msg.Data = data
		ttl = max(1, (r.last-now+999)/1000) // the server takes whole seconds, from 1 up
	}
	msg.Header.Set(jetstream.MsgTTLHeader, strconv.FormatInt(ttl, 10)+"s")
	ack, err := k.js.PublishMsg(ctx, msg)
	switch {
	case err == nil:
		return ack.Sequence, nil
	case isConflict(err):
		return 0, err
	default:
		return 0, bus.Errorf(bus.Unavailable, "write bindings of %s: %v", aor, err)
	}
}

// keep puts what this instance wrote, or read from the leader, into the copy ahead of the consumer: so it reads its own
// writes. Where the copy has nothing and the consumer has been past that sequence, it may have brought a later removal,
// and nothing is done. A record that is gone stays as an empty one, as the consumer may yet bring an earlier one.
// It returns the record of that sequence, the copy's own if there is one: what the balancer notes stays with it.
func (k *kv) keep(aor string, r *record, sequence uint64) *record {
	if r == nil {
		r = &record{aor: strings.Clone(aor), revision: sequence}
	}
	if !k.live.Load() {
		return r // the bucket may be another one by now, whose sequences start anew
	}
	s := k.table.shard(aor)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.m[aor]
	switch {
	case old == nil && sequence >= k.cursor.Load(), old != nil && old.revision < sequence:
		s.set(aor, r)
	case old != nil && old.revision == sequence:
		return old
	}
	return r
}

// headerOperation marks a message of a key-value bucket that removes its key.
const headerOperation = "KV-Operation"

// isMarker reports whether a message says that its key is gone: removed, or expired.
func isMarker(h nats.Header) bool {
	return len(h[headerOperation]) > 0 || len(h[jetstream.MarkerReasonHeader]) > 0
}

// isConflict reports whether a publish failed as its expected revision is not the last one.
func isConflict(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// keyOf is the key of an AOR, whose characters are mostly not allowed in one: the escaping of bus.Token.
func keyOf(aor string) string { return bus.Token(aor) }

// aorOf is the AOR of a key; ok is false for a key that keyOf does not make.
func aorOf(key string) (aor string, ok bool) {
	var b strings.Builder
	b.Grow(len(key))
	for i := 0; i < len(key); i++ {
		c := key[i]
		if c == '=' {
			if i+2 >= len(key) {
				return "", false
			}
			hi, okHi := unhex(key[i+1])
			lo, okLo := unhex(key[i+2])
			if !okHi || !okLo {
				return "", false
			}
			c = hi<<4 | lo
			i += 2
		}
		b.WriteByte(c)
	}
	aor = b.String()
	return aor, aor != "" && keyOf(aor) == key
}
