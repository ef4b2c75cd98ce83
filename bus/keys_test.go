package bus_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
)

func TestSharedKeys(t *testing.T) {
	srv := bustest.Server(t)
	const instances = 4
	var keys [instances]*bus.Keys
	var wg sync.WaitGroup
	for i := range keys { // all at once: one makes the key, the others read it
		c := bustest.Dial(t, srv, nil)
		wg.Go(func() {
			k, err := c.SharedKeys(t.Context(), "edgeport route")
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = k
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	first := keys[0].Current()
	for i, k := range keys {
		if !bytes.Equal(k.Current(), first) || len(k.All()) != 1 || len(first) != 32 {
			t.Errorf("keys of instance %d = %x, want one of 32 bytes, that of instance 0", i, k.All())
		}
	}
	if bytes.Equal(first, make([]byte, 32)) {
		t.Error("key is all zeros")
	}
	other, err := bustest.Dial(t, srv, nil).SharedKeys(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(other.Current(), first) {
		t.Error("two names have the same key")
	}

	// Rotation: a new key in front, the old one valid; then the old one goes.
	kv := keyBucket(t, bustest.Dial(t, srv, nil))
	second := bytes.Repeat([]byte{2}, 32)
	put := func(value []byte) {
		t.Helper()
		if _, err := kv.Put(t.Context(), bus.Token("edgeport route"), value); err != nil {
			t.Fatal(err)
		}
	}
	put(append(bytes.Clone(second), first...))
	for _, k := range keys {
		eventually(t, "new key is known", func() bool { return bytes.Equal(k.Current(), second) })
		if all := k.All(); len(all) != 2 || !bytes.Equal(all[1], first) {
			t.Errorf("All = %x, want the new key and the old one", all)
		}
	}
	for _, bad := range [][]byte{nil, second[:31], bytes.Repeat(second, 2)[:33]} { // not taken over
		put(bad)
	}
	if err := kv.Delete(t.Context(), bus.Token("edgeport route")); err != nil {
		t.Fatal(err)
	}
	put(second)
	for _, k := range keys {
		eventually(t, "old key is gone", func() bool { return len(k.All()) == 1 })
		if !bytes.Equal(k.Current(), second) {
			t.Errorf("Current = %x, want %x", k.Current(), second)
		}
	}
}

func TestSharedKeysRefused(t *testing.T) {
	c := bustest.Connect(t)
	if _, err := c.SharedKeys(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := keyBucket(t, c).Put(t.Context(), "b", []byte("short")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SharedKeys(t.Context(), "b"); err == nil || !strings.Contains(err.Error(), "5 bytes") {
		t.Errorf("SharedKeys = %v, want an error that says what is wrong with the value", err)
	}
	if _, err := bustest.Alone(t).SharedKeys(t.Context(), "a"); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("SharedKeys without a server = %v, want ErrUnavailable", err)
	}
}

// A restart of the server keeps the keys.
func TestSharedKeysRestart(t *testing.T) {
	srv := bustest.Server(t)
	c := bustest.Dial(t, srv, nil)
	k, err := c.SharedKeys(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	first := k.Current()
	srv = bustest.Restart(t, srv)
	again, err := bustest.Dial(t, srv, nil).SharedKeys(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Current(), first) {
		t.Errorf("Current after the restart = %x, want %x", again.Current(), first)
	}
}

func keyBucket(t *testing.T, c *bus.Conn) jetstream.KeyValue {
	t.Helper()
	js, err := c.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(context.WithoutCancel(t.Context()), bus.BucketKeys)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}
