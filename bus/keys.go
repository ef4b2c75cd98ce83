package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"
)

const keySize = 32 // bytes

// Keys are secrets that all instances of a service share, the current one first; the others are still valid, so
// that a key can be replaced while what it signed lives on.
type Keys struct {
	all atomic.Pointer[[][]byte]
}

// Current is the key to sign with, of 32 bytes.
func (k *Keys) Current() []byte { return (*k.all.Load())[0] }

// All are the keys to verify with, the current one first. They must not be changed.
func (k *Keys) All() [][]byte { return *k.all.Load() }

// SharedKeys reads the keys of that name from the bucket BucketKeys, makes the first one (32 random bytes) if there is
// none, and follows changes until ctx ends. The value in the bucket is the keys, one behind the other; to replace a
// key, an operator puts the new one in front, and later takes the old one away.
func (c *Conn) SharedKeys(ctx context.Context, name string) (*Keys, error) {
	js, err := c.JetStream()
	if err != nil {
		return nil, fmt.Errorf("keys %s: %w", name, err)
	}
	kv, err := keyBucket(ctx, js)
	if err != nil {
		return nil, fmt.Errorf("keys %s: bucket %s: %w", name, BucketKeys, err)
	}
	key := Token(name)
	value, err := readOrCreate(ctx, kv, key)
	if err != nil {
		return nil, fmt.Errorf("keys %s: bucket %s: %w", name, BucketKeys, err)
	}
	k := new(Keys)
	if err := k.set(value); err != nil {
		return nil, fmt.Errorf("keys %s: bucket %s: %w", name, BucketKeys, err)
	}
	w, err := kv.Watch(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("keys %s: watch bucket %s: %w", name, BucketKeys, err)
	}
	c.wg.Go(func() { c.follow(ctx, name, k, w) })
	return k, nil
}

// follow takes changes until ctx or the connection ends. A value that is not a list of keys, or a deletion, leaves the
// keys as they are.
func (c *Conn) follow(ctx context.Context, name string, k *Keys, w jetstream.KeyWatcher) {
	defer func() { _ = w.Stop() }() // it fails when the connection is gone
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.ctx.Done():
			return
		case e, ok := <-w.Updates():
			if !ok {
				return
			}
			if e == nil || e.Operation() != jetstream.KeyValuePut {
				continue
			}
			if err := k.set(e.Value()); err != nil {
				c.log.Warn("shared keys not taken over, the former ones stay", "name", name, "bucket", BucketKeys, "err", err)
				continue
			}
			c.log.Debug("shared keys read", "name", name, "keys", len(k.All()), "revision", e.Revision())
		}
	}
}

func (k *Keys) set(value []byte) error {
	if n := len(value); n == 0 || n%keySize != 0 || n > maxKeys*keySize {
		return fmt.Errorf("the value has %d bytes, want 1 to %d keys of %d bytes", n, maxKeys, keySize)
	}
	var all [][]byte
	for ; len(value) > 0; value = value[keySize:] {
		all = append(all, append([]byte(nil), value[:keySize]...))
	}
	k.all.Store(&all)
	return nil
}

// keyBucket opens the bucket, or makes it, as another instance may do at the same time.
func keyBucket(ctx context.Context, js jetstream.JetStream) (jetstream.KeyValue, error) {
	kv, err := js.KeyValue(ctx, BucketKeys)
	if !errors.Is(err, jetstream.ErrBucketNotFound) {
		return kv, err
	}
	kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: BucketKeys, History: 1, MaxValueSize: maxKeys * keySize})
	if errors.Is(err, jetstream.ErrBucketExists) {
		return js.KeyValue(ctx, BucketKeys)
	}
	return kv, err
}

// readOrCreate returns the value of key. Of several instances that find none, one creates it and the others read it.
func readOrCreate(ctx context.Context, kv jetstream.KeyValue, key string) ([]byte, error) {
	e, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		value := make([]byte, keySize)
		rand.Read(value) // never fails (crypto/rand)
		if _, err = kv.Create(ctx, key, value); err == nil {
			return value, nil
		}
		if errors.Is(err, jetstream.ErrKeyExists) {
			e, err = kv.Get(ctx, key)
		}
	}
	if err != nil {
		return nil, err
	}
	return e.Value(), nil
}
