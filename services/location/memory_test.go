package location

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
)

func TestR20ExpiresAtTheSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := bustest.Alone(t)
		start(t, conn, Cache{Provider: "memory"})
		aor := "sip:1001@sip.local"
		began := time.Now()
		if _, err := add(t, conn, &locationpb.AddRouteRequest{Aor: aor, Routes: []*locationpb.Route{
			route("short", expires(10)), route("long", expires(20)),
		}}); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			after time.Duration
			want  []string
		}{
			{9999 * time.Millisecond, []string{"short", "long"}},
			{10 * time.Second, []string{"long"}},
			{19999 * time.Millisecond, []string{"long"}},
			{20 * time.Second, nil},
		} {
			<-time.After(step.after - time.Since(began))
			got, err := find(t, conn, &locationpb.FindRoutesRequest{Aor: aor})
			if diff := cmp.Diff(step.want, users(got)); diff != "" || (err != nil) != (step.want == nil) {
				t.Errorf("find after %v: %v (-want +got):\n%s", step.after, err, diff)
			}
		}
		// An expired binding is no obstacle: neither by its CSeq nor in the count of contacts.
		if got, err := add(t, conn, &locationpb.AddRouteRequest{Aor: aor, MaxContacts: 1, Route: route("new")}); err != nil || len(got) != 1 {
			t.Errorf("add after expiry = %v, %v, want one binding", users(got), err)
		}
	})
}

func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := bustest.Alone(t)
		s, _ := start(t, conn, Cache{Provider: "memory"})
		for i := range 1000 {
			r := route("x", expires(int32(30+i%2*3600)))
			if _, err := add(t, conn, &locationpb.AddRouteRequest{Aor: fmt.Sprintf("sip:%d@sip.local", i), Route: r}); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(30*time.Second + tableShards*sweepEvery + sweepEvery)
		if n := s.table.len(); n != 500 {
			t.Errorf("%d AORs after the sweep, want the 500 that live", n)
		}
	})
}

// Nothing of a request stays in memory but what the binding needs, and what was handed out never changes.
func TestBindingIsACopy(t *testing.T) {
	conn := bustest.Local(t)
	s, _ := start(t, conn, Cache{Provider: "memory"})
	aor := "sip:1001@sip.local"
	given := route("a", q(2000), label("k", "v"))
	given.RegisteredOn = time.Now().Add(time.Hour).UnixMilli()
	first, err := add(t, conn, &locationpb.AddRouteRequest{Aor: aor, Route: given})
	if err != nil {
		t.Fatal(err)
	}
	if first[0] == given {
		t.Error("the route of the request was kept")
	}
	if first[0].GetQ() != 1000 || first[0].RegisteredOn > time.Now().UnixMilli() {
		t.Errorf("q %d, registered_on %d, want 1000 and now", first[0].GetQ(), first[0].RegisteredOn)
	}
	found, err := find(t, conn, &locationpb.FindRoutesRequest{Aor: aor})
	if err != nil || found[0] != first[0] {
		t.Errorf("find = %p, %v, want the stored route %p", found, err, first[0])
	}
	if _, err := add(t, conn, &locationpb.AddRouteRequest{Aor: aor, Route: route("b")}); err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].User != "a" {
		t.Errorf("an answer changed after it was given: %v", users(found))
	}
	edge := s.edges.m["edgeport1"]
	if edge == nil {
		t.Fatal("the EdgePort of the bindings is not remembered")
	}
}

func TestLimits(t *testing.T) {
	conn := bustest.Local(t)
	start(t, conn, Cache{Provider: "memory"})
	long := func(n int) string { return strings.Repeat("x", n) }
	many := make([]*locationpb.Route, maxContacts+1)
	for i := range many {
		many[i] = route(fmt.Sprint(i))
	}
	tests := []struct {
		name string
		req  *locationpb.AddRouteRequest
		want string
	}{
		{"contacts", adds(many...), "exceeds maximum of 1000 allowed contacts"},
		{"URI", adds(route(long(2000))), "contact_uri has 2014 bytes, want at most 1024"},
		{"parameters", adds(&locationpb.Route{ContactUri: "sip:h" + strings.Repeat(";a", 65)}),
			"contact_uri has more than 64 parameters"},
		{"text", adds(&locationpb.Route{User: long(9000)}), "route has 9000 bytes of text, want at most 8192"},
		{"path", adds(&locationpb.Route{Path: make([]string, 65)}), "route has 65 hops of path and 0 labels, want at most 64"},
		{"networks", adds(&locationpb.Route{Localnets: make([]string, 65)}),
			"route has 0 listening points, 65 localnets and 0 external addresses, want at most 64"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.req.Aor = "sip:1001@sip.local"
			_, err := add(t, conn, tt.req)
			var e *bus.Error
			if !errors.As(err, &e) || e.Code != bus.InvalidArgument || e.Text != tt.want {
				t.Errorf("add = %v, want INVALID_ARGUMENT: %s", err, tt.want)
			}
		})
	}
}

func TestRunEndsBeforeTheStoreIsThere(t *testing.T) {
	server := bustest.Server(t)
	conn := bustest.Dial(t, server, nil)
	cfg := Default()
	cfg.Spec.Cache = Cache{Provider: "nats"}
	s, err := New(cfg, conn, discard(), noMeter())
	if err != nil {
		t.Fatal(err)
	}
	server.Shutdown()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Run(ctx, func() { t.Error("ready without a server") }); err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
}
