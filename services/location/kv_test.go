package location

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	"github.com/routr-fabric/routr/bus/embed"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
)

// Two instances that each serve their own connection in process, so that a test chooses which one it asks.
func twoInstances(t testing.TB, server *embed.Server, cache Cache) (a, b *bus.Conn, atB *kv) {
	t.Helper()
	local := func(c *bus.Config) { c.Local = true }
	a, b = bustest.Dial(t, server, local), bustest.Dial(t, server, local)
	start(t, a, cache)
	s, _ := start(t, b, cache)
	return a, b, s.store.(*kv)
}

func TestInstancesShareBindings(t *testing.T) {
	a, b, _ := twoInstances(t, bustest.Server(t), Cache{Provider: "nats"})
	for i := range 200 {
		aor := fmt.Sprintf("sip:%d@sip.local", i)
		if _, err := add(t, a, &locationpb.AddRouteRequest{Aor: aor, Route: route("x")}); err != nil {
			t.Fatalf("add %s at a: %v", aor, err)
		}
		got, err := find(t, b, &locationpb.FindRoutesRequest{Aor: aor})
		if diff := cmp.Diff([]string{"x"}, users(got)); err != nil || diff != "" {
			t.Fatalf("find %s at b right after: %v (-want +got):\n%s", aor, err, diff)
		}
		// The merge at b is with what a wrote, seen by b's copy or not.
		got, err = add(t, b, &locationpb.AddRouteRequest{Aor: aor, Route: route("y")})
		if diff := cmp.Diff([]string{"y", "x"}, users(got)); err != nil || diff != "" {
			t.Fatalf("add %s at b: %v (-want +got):\n%s", aor, err, diff)
		}
		if err := remove(t, b, aor); err != nil {
			t.Fatalf("remove %s at b: %v", aor, err)
		}
		if got, err := find(t, b, &locationpb.FindRoutesRequest{Aor: aor}); bus.CodeOf(err) != bus.NotFound {
			t.Fatalf("find %s at b after its removal there = %v, %v, want NOT_FOUND", aor, users(got), err)
		}
	}
}

// R24: of concurrent REGISTERs for one AOR at two instances each has its binding, and sees it in its answer.
func TestR24ConcurrentWritersLoseNothing(t *testing.T) {
	a, b, _ := twoInstances(t, bustest.Server(t), Cache{"nats", "storage=memory"})
	const each = 60
	aor := "sip:all@sip.local"
	var wg sync.WaitGroup
	for i, conn := range []*bus.Conn{a, b} {
		for j := range each {
			wg.Go(func() {
				name := fmt.Sprintf("%d-%d", i, j)
				got, err := add(t, conn, &locationpb.AddRouteRequest{Aor: aor, Route: route(name)})
				if err != nil || !slices.Contains(users(got), name) {
					t.Errorf("add %s = %v routes, %v, want it among them", name, len(got), err)
				}
			})
		}
	}
	wg.Wait()
	got, err := add(t, a, &locationpb.AddRouteRequest{Aor: aor, Route: route("last")})
	if err != nil || len(got) != 2*each+1 {
		t.Errorf("%d bindings, %v, want %d", len(got), err, 2*each+1)
	}
}

// R20: the bucket forgets a record when its longest binding expires, and every copy follows.
func TestR20BucketExpires(t *testing.T) {
	t.Parallel() // it waits for timers
	server := bustest.Server(t)
	a, b, _ := twoInstances(t, server, Cache{Provider: "nats"})
	aor := "sip:1001@sip.local"
	key := keyOf(aor)
	js, err := a.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := js.KeyValue(t.Context(), bus.BucketBindings)
	if err != nil {
		t.Fatal(err)
	}
	watch, err := bucket.Watch(t.Context(), key, jetstream.UpdatesOnly())
	if err != nil {
		t.Fatal(err)
	}
	registered := time.Now()
	// A refresh must renew the time that the key lives, not drop it.
	for _, long := range []int32{2, 3} { // in the same millisecond the same one would be no change
		if _, err := add(t, a, &locationpb.AddRouteRequest{Aor: aor, Routes: []*locationpb.Route{
			route("short", expires(1)), route("long", expires(long)),
		}}); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []jetstream.KeyValueOp{jetstream.KeyValuePut, jetstream.KeyValuePut, jetstream.KeyValuePurge} {
		select {
		case e := <-watch.Updates():
			if e.Operation() != want {
				t.Fatalf("update %d of the key is a %v, want %v", i, e.Operation(), want)
			}
		case <-time.After(patience):
			t.Fatalf("the key did not see update %d, %v", i, want)
		}
	}
	if lived := time.Since(registered); lived < 3*time.Second {
		t.Errorf("the key lived %v, want 3 s", lived)
	}
	for name, conn := range map[string]*bus.Conn{"a": a, "b": b} {
		if got, err := find(t, conn, &locationpb.FindRoutesRequest{Aor: aor}); bus.CodeOf(err) != bus.NotFound {
			t.Errorf("find at %s = %v, %v, want NOT_FOUND", name, users(got), err)
		}
	}
}

// A restart of the server keeps the bindings if they are in files. Meanwhile nothing is known, and afterwards the copies
// follow the bucket again, even one that is new.
func TestE9ServerRestart(t *testing.T) {
	t.Parallel() // it waits for timers
	for storage, survives := range map[string]bool{"file": true, "memory": false} {
		t.Run(storage, func(t *testing.T) {
			server := bustest.Server(t)
			a, b, atB := twoInstances(t, server, Cache{"nats", "storage=" + storage})
			old := &locationpb.FindRoutesRequest{Aor: "sip:old@sip.local"}
			if _, err := add(t, a, &locationpb.AddRouteRequest{Aor: old.Aor, Route: route("x")}); err != nil {
				t.Fatal(err)
			}
			if err := until(t, "", func() error { return inCopy(atB, old.Aor) }); err != nil {
				t.Fatal(err)
			}

			server.Shutdown()
			if err := until(t, bus.Unavailable, func() error { _, err := find(t, a, old); return err }); bus.CodeOf(err) != bus.Unavailable {
				t.Errorf("find without a server: %v, want UNAVAILABLE", err)
			}
			if _, err := find(t, a, &locationpb.FindRoutesRequest{Aor: "sip:nobody@sip.local"}); bus.CodeOf(err) != bus.Unavailable {
				t.Errorf("find of an unknown AOR without a server: %v, want UNAVAILABLE", err)
			}
			if _, err := add(t, a, &locationpb.AddRouteRequest{Aor: old.Aor, Route: route("y")}); bus.CodeOf(err) != bus.Unavailable {
				t.Errorf("add without a server: %v, want UNAVAILABLE", err)
			}
			bustest.Restart(t, server)

			want := bus.Code("")
			if !survives {
				want = bus.NotFound
			}
			if err := until(t, want, func() error { _, err := find(t, b, old); return err }); bus.CodeOf(err) != want {
				t.Fatalf("find after the restart: %v, want code %q", err, want)
			}
			fresh := "sip:fresh@sip.local"
			if err := until(t, "", func() error {
				_, err := add(t, a, &locationpb.AddRouteRequest{Aor: fresh, Route: route("z")})
				return err
			}); err != nil {
				t.Fatalf("add after the restart: %v", err)
			}
			if err := until(t, "", func() error { return inCopy(atB, fresh) }); err != nil {
				t.Fatalf("after the restart: %v", err)
			}
			if err := remove(t, a, fresh); err != nil {
				t.Fatalf("remove after the restart: %v", err)
			}
			if err := until(t, bus.NotFound, func() error { return inCopy(atB, fresh) }); bus.CodeOf(err) != bus.NotFound {
				t.Fatalf("after the removal: %v, want it gone from the copy", err)
			}
		})
	}
}

// inCopy is nil if k answers for aor without asking the leader.
func inCopy(k *kv, aor string) error {
	if !k.live.Load() {
		return bus.Errorf(bus.Unavailable, "the copy does not follow the bucket")
	}
	if _, ok := k.lookup(aor); !ok {
		return bus.Errorf(bus.NotFound, "the copy has no bindings of %s", aor)
	}
	return nil
}

// A bucket that someone else made gets what the service needs, and keeps the rest.
func TestBucketIsSetRight(t *testing.T) {
	server := bustest.Server(t)
	conn := bustest.Dial(t, server, nil)
	js, err := conn.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{
		Bucket: bus.BucketBindings, History: 5, Storage: jetstream.MemoryStorage,
	}); err != nil {
		t.Fatal(err)
	}
	start(t, conn, Cache{"nats", "storage=file"})
	stream, err := js.Stream(t.Context(), "KV_"+bus.BucketBindings)
	if err != nil {
		t.Fatal(err)
	}
	got := stream.CachedInfo().Config
	if got.AllowDirect || !got.AllowMsgTTL || got.SubjectDeleteMarkerTTL != markerTTL || got.MaxMsgsPerSubject != 1 {
		t.Errorf("the bucket has direct gets %v, TTLs %v, markers %v, history %d", got.AllowDirect, got.AllowMsgTTL,
			got.SubjectDeleteMarkerTTL, got.MaxMsgsPerSubject)
	}
	if got.Storage != jetstream.MemoryStorage {
		t.Errorf("storage = %v, want it left as it was made", got.Storage)
	}
	if _, err := add(t, conn, &locationpb.AddRouteRequest{Aor: "sip:1001@sip.local", Route: route("x")}); err != nil {
		t.Errorf("add: %v", err)
	}
}

// What is no record does no harm to others, and its AOR can be registered again once the key is removed.
func TestForeignValues(t *testing.T) {
	server := bustest.Server(t)
	a, b, atB := twoInstances(t, server, Cache{Provider: "nats"})
	js, err := a.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := js.KeyValue(t.Context(), bus.BucketBindings)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"some.other/key", keyOf("sip:broken@sip.local")} {
		if _, err := bucket.PutString(t.Context(), key, "\xff\xff no record"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := add(t, a, &locationpb.AddRouteRequest{Aor: "sip:1001@sip.local", Route: route("x")}); err != nil {
		t.Fatal(err)
	}
	if err := until(t, "", func() error { return inCopy(atB, "sip:1001@sip.local") }); err != nil {
		t.Fatal(err)
	}
	broken := &locationpb.FindRoutesRequest{Aor: "sip:broken@sip.local"}
	if _, err := find(t, b, broken); bus.CodeOf(err) != bus.Internal {
		t.Errorf("find of a broken record: %v, want INTERNAL", err)
	}
	if err := bucket.Purge(t.Context(), keyOf(broken.Aor)); err != nil {
		t.Fatal(err)
	}
	if _, err := find(t, b, broken); bus.CodeOf(err) != bus.NotFound {
		t.Errorf("find after the purge: %v, want NOT_FOUND", err)
	}
	if _, err := add(t, a, &locationpb.AddRouteRequest{Aor: broken.Aor, Route: route("x")}); err != nil {
		t.Errorf("add after the purge: %v", err)
	}
}

// until repeats f until its error has the code, or patience ends. The first tries may meet a connection that does
// not yet know of what happened.
func until(t *testing.T, code bus.Code, f func() error) error {
	t.Helper()
	end := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if bus.CodeOf(err) == code || time.Now().After(end) {
			return err
		}
		<-tick.C
	}
}
