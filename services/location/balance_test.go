package location

import (
	"fmt"
	"slices"
	"testing"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
)

func backend(names ...string) []*binding {
	var list []*binding
	for _, n := range names {
		list = append(list, bindingOf(route(n)))
	}
	return list
}

// pickUser fails the test rather than returning an error.
func pickUser(t *testing.T, b *balancer, list []*binding, req *locationpb.FindRoutesRequest) string {
	t.Helper()
	got, err := b.pick(list, req.Aor, req)
	if err != nil {
		t.Fatal(err)
	}
	return got.route.User
}

func affine(aor, ref string) *locationpb.FindRoutesRequest {
	return &locationpb.FindRoutesRequest{Aor: aor, SessionAffinityRef: ref,
		Backend: &locationpb.FindRoutesRequest_Backend{WithSessionAffinity: true}}
}

// Two instances share a backend's calls in any proportion, while its bindings refresh, each seeing the other's only
// through the bucket: no binding gets ahead by more than one call per instance.
func TestRoundRobinIsFairOverInstances(t *testing.T) {
	a, b, _ := twoInstances(t, bustest.Server(t), Cache{"nats", "storage=memory"})
	const aor, calls = "backend:conference", 700
	names := []string{"a", "b", "c", "d", "e", "f", "g"}
	for _, n := range names {
		if _, err := add(t, a, &locationpb.AddRouteRequest{Aor: aor, Route: route(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := until(t, "", func() error {
		if got, err := find(t, b, &locationpb.FindRoutesRequest{Aor: aor}); err != nil || len(got) != len(names) {
			return bus.Errorf(bus.NotFound, "b knows %v, %v", users(got), err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for i := range calls {
		conn := a
		if i*i%3 == 1 {
			conn = b
		}
		req := balances(fmt.Sprint(i), rotate)
		req.Aor = aor
		got, err := find(t, conn, req)
		if err != nil {
			t.Fatal(err)
		}
		count[got[0].User]++
		if i%10 == 0 {
			if _, err := add(t, conn, &locationpb.AddRouteRequest{Aor: aor, Route: route(names[i/10%len(names)])}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range names {
		if count[n] < calls/len(names)-2 || count[n] > calls/len(names)+2 {
			t.Errorf("calls = %v, want %d each, give or take 2", count, calls/len(names))
			break
		}
	}
}

func TestAffinity(t *testing.T) {
	one, two := newBalancer(), newBalancer()
	list := backend("a", "b", "c", "d")
	count := make(map[string]int)
	chosen := make(map[string]string)
	for i := range 400 {
		ref := fmt.Sprint("room", i)
		u := pickUser(t, one, list, affine("backend:x", ref))
		if v := pickUser(t, two, list, affine("backend:x", ref)); u != v {
			t.Fatalf("%s: %s at one instance, %s at the other", ref, u, v)
		}
		chosen[ref] = u
		count[u]++
	}
	for _, n := range []string{"a", "b", "c", "d"} {
		if count[n] < 60 || count[n] > 140 {
			t.Errorf("rooms = %v, want about 100 each", count)
			break
		}
	}
	// A new binding draws no room that has one already; a binding that goes moves only its own.
	grown, shrunk := append(backend("e", "f"), list...), list[1:]
	for ref, u := range chosen {
		if v := pickUser(t, one, grown, affine("backend:x", ref)); v != u {
			t.Fatalf("%s moved from %s to %s when bindings were added", ref, u, v)
		}
		if v := pickUser(t, two, shrunk, affine("backend:x", ref)); v == "a" || u != "a" && v != u {
			t.Fatalf("%s moved from %s to %s when a was removed", ref, u, v)
		}
	}
	// A ref belongs to its AOR: the same one elsewhere is another, and one that looks like an AOR is nothing more.
	other := 0
	for ref, u := range chosen {
		if pickUser(t, one, list, affine("backend:y", ref)) != u {
			other++
		}
	}
	if other < 200 {
		t.Errorf("%d of 400 rooms of another AOR have a binding of their own, want about 300", other)
	}
	if u := pickUser(t, one, backend("z"), affine("backend:z", "backend:x")); u != "z" {
		t.Errorf("the ref of another AOR chose %s", u)
	}
	// Without the flag or the ref there is no affinity.
	req := affine("backend:w", "room")
	req.Backend.WithSessionAffinity = false
	list = backend("a", "b", "c", "d")
	if got := []string{pickUser(t, one, list, req), pickUser(t, one, list, req)}; !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("without affinity = %v, want a rotation", got)
	}
}

// A stranger's Call-IDs take a bounded amount of memory, and the calls of the last while still stick.
func TestChoicesAreBounded(t *testing.T) {
	var c choices
	const keys = 10 * maxChoices
	for i := range uint64(keys) {
		c.put(i, i+1)
		if n := len(c.young) + len(c.old); n > 2*maxChoices {
			t.Fatalf("%d entries after %d keys, want at most %d", n, i+1, 2*maxChoices)
		}
	}
	for i := uint64(keys - maxChoices); i < keys; i++ {
		if id, ok := c.get(i); !ok || id != i+1 {
			t.Fatalf("get(%d) = %d, %v, want %d, as it is one of the last %d", i, id, ok, i+1, maxChoices)
		}
	}
	if _, ok := c.get(0); ok {
		t.Error("the first key is still there")
	}
}
