package location

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
)

// run keeps the copy until ctx ends. ready is called once it is complete for the first time.
func (k *kv) run(ctx context.Context, ready func()) {
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		k.table.sweep(ctx)
	}()
	defer func() { <-swept }()

	const fastest, slowest = 50 * time.Millisecond, 5 * time.Second
	wait, lost := fastest, false
	for {
		var since time.Time // when the copy was complete; zero: it was not
		err := k.follow(ctx, func() {
			since = time.Now()
			if lost {
				k.log.Info("the bucket of bindings is followed again")
			}
			lost = false
			ready()
		})
		k.live.Store(false)
		if ctx.Err() != nil {
			return
		}
		if !lost { // once an outage, not once an attempt
			k.log.Warn("bindings are read from the leader until the bucket is followed again", "error", err)
		} else {
			k.log.Debug("the bucket of bindings cannot be followed yet", "error", err)
		}
		lost = true
		if !since.IsZero() && time.Since(since) > slowest { // what breaks at once again is not tried at once again
			wait = fastest
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, slowest)
		case <-ctx.Done():
			return
		}
	}
}

// follow fills the copy from the start and keeps it up to date until something breaks. A consumer that missed anything
// is never continued: a key that was removed meanwhile would stay.
func (k *kv) follow(ctx context.Context, complete func()) error {
	nc := k.js.Conn()
	changed := nc.StatusChanged(nats.DISCONNECTED, nats.RECONNECTING, nats.CLOSED)
	defer nc.RemoveStatusListener(changed)

	setup, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	stream, err := k.ensureBucket(setup)
	if err != nil {
		return fmt.Errorf("make bucket %s: %w", k.config.Name, err)
	}
	k.stream.Store(&stream)
	consumer, err := stream.CreateConsumer(setup, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverLastPerSubjectPolicy,
		FilterSubject:     k.prefix + ">",
		AckPolicy:         jetstream.AckNonePolicy,
		InactiveThreshold: time.Minute,
		MemoryStorage:     true,
		Replicas:          1,
	})
	if err != nil {
		return fmt.Errorf("follow bucket %s: %w", k.config.Name, err)
	}
	msgs, err := consumer.Messages(jetstream.PullExpiry(30*time.Second), jetstream.PullHeartbeat(time.Second))
	if err != nil {
		return fmt.Errorf("follow bucket %s: %w", k.config.Name, err)
	}
	stopped := make(chan struct{})
	done := make(chan struct{})
	defer func() { close(done); <-stopped }()
	go func() {
		defer close(stopped)
		select {
		case <-ctx.Done():
		case <-changed:
			k.live.Store(false)
		case <-done:
		}
		msgs.Stop()
	}()

	k.table.clear()
	k.cursor.Store(0)
	initial := consumer.CachedInfo().NumPending
	isComplete := func() {
		k.live.Store(nc.IsConnected())
		complete()
	}
	if initial == 0 {
		isComplete()
	}
	for n := uint64(1); ; n++ {
		msg, err := msgs.Next()
		if err != nil {
			return fmt.Errorf("follow bucket %s: %w", k.config.Name, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("follow bucket %s: %w", k.config.Name, err)
		}
		if meta.Sequence.Consumer != n {
			return fmt.Errorf("follow bucket %s: message %d came, want %d", k.config.Name, meta.Sequence.Consumer, n)
		}
		k.take(msg, meta.Sequence.Stream)
		if n == initial || n < initial && meta.NumPending == 0 {
			isComplete()
		}
	}
}

// ensureBucket makes the bucket, or sets right what a bucket that is there needs.
func (k *kv) ensureBucket(ctx context.Context) (jetstream.Stream, error) {
	stream, err := k.js.CreateStream(ctx, k.config)
	if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return stream, err
	}
	if stream, err = k.js.Stream(ctx, k.config.Name); err != nil {
		return nil, err
	}
	have := stream.CachedInfo().Config
	if !have.AllowDirect && have.AllowMsgTTL && have.SubjectDeleteMarkerTTL > 0 && have.MaxMsgsPerSubject == 1 {
		return stream, nil
	}
	have.AllowDirect, have.AllowMsgTTL = false, true
	have.SubjectDeleteMarkerTTL, have.MaxMsgsPerSubject = markerTTL, 1
	return k.js.UpdateStream(ctx, have)
}

// take brings a message of the stream into the copy.
func (k *kv) take(msg jetstream.Msg, sequence uint64) {
	// Before the record can be seen: see keep.
	k.cursor.Store(sequence)
	aor, ok := aorOf(strings.TrimPrefix(msg.Subject(), k.prefix))
	if !ok {
		return // not a key of ours
	}
	known := k.table.get(aor)
	if known != nil && known.revision >= sequence {
		return
	}
	var r *record
	if !isMarker(msg.Headers()) {
		var err error
		if r, err = k.decode(aor, msg.Data(), sequence, known); err != nil {
			k.log.Error("a value of the bucket is no record, remove its key", "key", keyOf(aor), "error", err)
		}
	}
	s := k.table.shard(aor)
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.m[aor]; now == nil || now.revision < sequence {
		s.set(aor, r)
	}
}

// decode reads a value. What is known of the same bindings carries over.
func (k *kv) decode(aor string, data []byte, revision uint64, known *record) (*record, error) {
	var m locationpb.FindRoutesResponse
	if err := m.UnmarshalVTUnsafe(data); err != nil { // data is the message's own and does not change
		return nil, err
	}
	var old []*binding
	if known != nil {
		aor, old = known.aor, known.bindings
	} else {
		aor = strings.Clone(aor)
	}
	bindings := make([]*binding, len(m.Routes))
	for i, r := range m.Routes {
		if e, err := k.edges.of(r); err == nil {
			r.EdgePortRef, r.ListeningPoints, r.Localnets, r.ExternalAddrs = e.ref, e.points, e.localnets, e.externals
		}
		b := &binding{route: r, expires: r.RegisteredOn + int64(r.Expires)*1000, turn: new(atomic.Uint64)}
		b.identify(old)
		for _, o := range old {
			if o.contact.id == b.contact.id {
				b.inherit(o)
			}
		}
		bindings[i] = b
	}
	rec := newRecord(aor, bindings)
	if rec != nil {
		rec.revision = revision
	}
	return rec, nil
}
