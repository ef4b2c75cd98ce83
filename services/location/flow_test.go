package location

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
)

func on(flow string) func(*locationpb.Route) {
	return func(r *locationpb.Route) { r.Flow = flow }
}

func dialable(r *locationpb.Route) { r.Dialable = true }

func outboundAs(instance string, regID int32) func(*locationpb.Route) {
	return func(r *locationpb.Route) { r.Instance, r.RegId = instance, regID }
}

// closeFlow tells the service that a flow of edgeport1 has ended.
func closeFlow(t testing.TB, conn *bus.Conn, req *locationpb.FlowClosed) error {
	t.Helper()
	done := make(chan error, 1)
	conn.Call(t.Context(), bus.SubjectFlowClosed(req.EdgePortRef), bus.Value(req), time.Now().Add(patience), func(r bus.Reply, err error) {
		if err == nil {
			_, err = bus.Decode[emptypb.Empty](r.Body)
		}
		done <- err
	})
	return <-done
}

// R23: the end of a flow takes the bindings that need it, and no others.
func TestR23FlowClosed(t *testing.T) {
	tests := []struct {
		name   string
		routes []*locationpb.Route // registered one after the other
		flow   string
		edge   string
		want   []string // user, and the flow it is left with
	}{
		{name: "its only binding", routes: []*locationpb.Route{route("a", on("f1"))}, flow: "f1"},
		{name: "the next binding stays", routes: []*locationpb.Route{route("a", on("f1")), route("b", on("f2")), route("c")},
			flow: "f1", want: []string{"c ", "b f2"}},
		{name: "refreshed on a new flow meanwhile", routes: []*locationpb.Route{route("a", on("f1")), route("a", on("f2"))},
			flow: "f1", want: []string{"a f2"}},
		{name: "W18 the same instance and reg-id on a new flow", routes: []*locationpb.Route{
			route("a", on("f1"), outboundAs("i", 1)), route("b", on("f2"), outboundAs("i", 1))}, flow: "f1", want: []string{"b f2"}},
		{name: "one flow of two", routes: []*locationpb.Route{
			route("a", on("f1"), outboundAs("i", 1)), route("b", on("f2"), outboundAs("i", 2))}, flow: "f1", want: []string{"b f2"}},
		{name: "reachable without it", routes: []*locationpb.Route{route("a", on("f1"), dialable)}, flow: "f1", want: []string{"a "}},
		{name: "several on one flow", routes: []*locationpb.Route{
			route("a", on("f1")), route("b", on("f1"), dialable), route("c", on("f1"))}, flow: "f1", want: []string{"b "}},
		{name: "the same word of another EdgePort", routes: []*locationpb.Route{route("a", on("f1"))}, flow: "f1", edge: "edgeport2",
			want: []string{"a f1"}},
		{name: "a flow that nobody has", routes: []*locationpb.Route{route("a", on("f1")), route("b")}, flow: "f9",
			want: []string{"b ", "a f1"}},
		{name: "no bindings", flow: "f1"},
	}
	providers(t, func(t *testing.T, conn *bus.Conn) {
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				aor := fmt.Sprintf("sip:flow%d@sip.local", i)
				for _, r := range tt.routes {
					if _, err := add(t, conn, &locationpb.AddRouteRequest{Aor: aor, Route: r}); err != nil {
						t.Fatal(err)
					}
				}
				edge := tt.edge
				if edge == "" {
					edge = "edgeport1"
				}
				// Twice: an event that comes again finds nothing to do.
				for range 2 {
					if err := closeFlow(t, conn, &locationpb.FlowClosed{EdgePortRef: edge, Flow: tt.flow, Aors: []string{aor}}); err != nil {
						t.Fatalf("FlowClosed(%s) = %v", tt.flow, err)
					}
				}
				found, err := find(t, conn, &locationpb.FindRoutesRequest{Aor: aor})
				var got []string
				for _, r := range found {
					got = append(got, r.User+" "+r.Flow)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" || (err != nil) != (tt.want == nil) {
					t.Errorf("bindings after FlowClosed(%s): %v (-want +got):\n%s", tt.flow, err, diff)
				}
			})
		}
	})
}

// The addresses-of-record come from To headers: in any spelling, and some are none.
func TestFlowClosedOfManyAORs(t *testing.T) {
	conn := bustest.Local(t)
	start(t, conn, Cache{Provider: "memory"})
	for _, aor := range []string{"sip:1001@sip.local", "sip:1002@sip.local"} {
		if _, err := add(t, conn, &locationpb.AddRouteRequest{Aor: aor, Route: route("a", on("f1"))}); err != nil {
			t.Fatal(err)
		}
	}
	err := closeFlow(t, conn, &locationpb.FlowClosed{EdgePortRef: "edgeport1", Flow: "f1",
		Aors: []string{"sip:%31001@SIP.local;x=y", "tel:+1", "sip:1002@sip.local"}})
	if bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), "tel:+1") {
		t.Errorf("FlowClosed with tel:+1 among the aors = %v, want INVALID_ARGUMENT for that", err)
	}
	for _, aor := range []string{"sip:1001@sip.local", "sip:1002@sip.local"} {
		if got, err := find(t, conn, &locationpb.FindRoutesRequest{Aor: aor}); bus.CodeOf(err) != bus.NotFound {
			t.Errorf("find %s = %v, %v, want NOT_FOUND", aor, users(got), err)
		}
	}
}

func TestFlowClosedIsChecked(t *testing.T) {
	conn := bustest.Local(t)
	start(t, conn, Cache{Provider: "memory"})
	aor := "sip:1001@sip.local"
	if _, err := add(t, conn, &locationpb.AddRouteRequest{Aor: aor, Route: route("a")}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		in         *locationpb.FlowClosed
	}{
		{"no flow", "flow is empty, want the flow that has ended", &locationpb.FlowClosed{EdgePortRef: "edgeport1", Aors: []string{aor}}},
		{"many aors", "flow f1 comes with 65 aors, want at most 64",
			&locationpb.FlowClosed{EdgePortRef: "edgeport1", Flow: "f1", Aors: make([]string, 65)}},
	} {
		if err := closeFlow(t, conn, tt.in); err == nil || err.Error() != "INVALID_ARGUMENT: "+tt.want {
			t.Errorf("FlowClosed with %s = %v, want INVALID_ARGUMENT: %s", tt.name, err, tt.want)
		}
	}
	if got, err := find(t, conn, &locationpb.FindRoutesRequest{Aor: aor}); err != nil {
		t.Errorf("find = %v, %v, want the binding over UDP", users(got), err)
	}
}

// Any instance may take the event. A binding that another one has refreshed on a new flow stays, although the copy of
// this one may not know of it yet.
func TestR23FlowClosedAtAnotherInstance(t *testing.T) {
	a, b, _ := twoInstances(t, bustest.Server(t), Cache{"nats", "storage=memory"})
	for i := range 100 {
		aor := fmt.Sprintf("sip:%d@sip.local", i)
		old, gone := fmt.Sprintf("old%d", i), fmt.Sprintf("gone%d", i)
		if _, err := add(t, a, &locationpb.AddRouteRequest{Aor: aor, Routes: []*locationpb.Route{route("x", on(old)), route("y", on(gone))}}); err != nil {
			t.Fatal(err)
		}
		if _, err := add(t, a, &locationpb.AddRouteRequest{Aor: aor, Route: route("x", on("new"))}); err != nil {
			t.Fatal(err)
		}
		for _, flow := range []string{old, gone} {
			if err := closeFlow(t, b, &locationpb.FlowClosed{EdgePortRef: "edgeport1", Flow: flow, Aors: []string{aor}}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := find(t, b, &locationpb.FindRoutesRequest{Aor: aor})
		if err != nil || len(got) != 1 || got[0].User != "x" || got[0].Flow != "new" {
			t.Fatalf("bindings after both flows ended = %v, %v, want x on its new flow", got, err)
		}
	}
}

// What was handed out never changes, and the balancer goes on with what it knows.
func TestFlowClosedKeepsTheBinding(t *testing.T) {
	conn := bustest.Local(t)
	s, _ := start(t, conn, Cache{Provider: "memory"})
	aor := "backend:conference"
	if _, err := add(t, conn, &locationpb.AddRouteRequest{Aor: aor, Route: route("a", on("f1"), dialable)}); err != nil {
		t.Fatal(err)
	}
	before, err := find(t, conn, &locationpb.FindRoutesRequest{Aor: aor, Backend: &locationpb.FindRoutesRequest_Backend{}, CallId: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if err := closeFlow(t, conn, &locationpb.FlowClosed{EdgePortRef: "edgeport1", Flow: "f1", Aors: []string{aor}}); err != nil {
		t.Fatal(err)
	}
	if before[0].Flow != "f1" {
		t.Errorf("a route that was handed out has flow %q now, want f1", before[0].Flow)
	}
	after := s.table.get(aor).bindings[0]
	if after.route.Expires != before[0].Expires || after.route.RegisteredOn != before[0].RegisteredOn {
		t.Errorf("the binding expires %d s from %d, want as before: %d s from %d",
			after.route.Expires, after.route.RegisteredOn, before[0].Expires, before[0].RegisteredOn)
	}
	if after.turn.Load() == 0 || after.reserved.Load() != 1 {
		t.Errorf("turn %d, reserved %d, want those of the binding before", after.turn.Load(), after.reserved.Load())
	}
}
