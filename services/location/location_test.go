package location

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/protobuf/proto"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
)

// step is one request of a test; the AOR is filled in.
type step struct {
	add    *locationpb.AddRouteRequest
	find   *locationpb.FindRoutesRequest
	remove bool
	want   []string // users of the routes in the answer
	err    string
}

func adds(routes ...*locationpb.Route) *locationpb.AddRouteRequest {
	return &locationpb.AddRouteRequest{Routes: routes}
}

func adds1(r *locationpb.Route) *locationpb.AddRouteRequest {
	return &locationpb.AddRouteRequest{Route: r}
}

func limited(n int32, routes ...*locationpb.Route) *locationpb.AddRouteRequest {
	return &locationpb.AddRouteRequest{Routes: routes, MaxContacts: n}
}

func removesAll(callID string, cSeq uint32) *locationpb.AddRouteRequest {
	return &locationpb.AddRouteRequest{RemoveAll: true, CallId: callID, CSeq: cSeq}
}

func finds(labels ...string) *locationpb.FindRoutesRequest {
	req := &locationpb.FindRoutesRequest{CallId: "call"}
	for i := 0; i < len(labels); i += 2 {
		if req.Labels == nil {
			req.Labels = make(map[string]string)
		}
		req.Labels[labels[i]] = labels[i+1]
	}
	return req
}

func balances(callID string, algorithm locationpb.FindRoutesRequest_Backend_Algorithm) *locationpb.FindRoutesRequest {
	return &locationpb.FindRoutesRequest{CallId: callID, Backend: &locationpb.FindRoutesRequest_Backend{Algorithm: algorithm}}
}

func spelled(uri string) func(*locationpb.Route) {
	return func(r *locationpb.Route) { r.ContactUri = uri }
}

const (
	rotate = locationpb.FindRoutesRequest_Backend_ROUND_ROBIN
	least  = locationpb.FindRoutesRequest_Backend_LEAST_SESSIONS
)

// noRoutes has AOR for the address-of-record of the row.
const noRoutes = "NOT_FOUND: no routes found for aor: AOR"

func TestService(t *testing.T) {
	tests := []struct {
		name  string
		aor   string
		steps []step
	}{
		{"unknown aor", "", []step{{find: finds(), err: noRoutes}}},
		{"one binding", "", []step{
			{add: adds1(route("a")), want: []string{"a"}},
			{find: finds(), want: []string{"a"}},
			{find: finds(), want: []string{"a"}},
		}},
		{"backend scheme", "backend:conference", []step{
			{add: adds1(route("a")), want: []string{"a"}},
			{find: finds(), want: []string{"a"}},
		}},
		{"invalid scheme", "tel:+1", []step{
			{add: adds1(route("a")), err: `INVALID_ARGUMENT: aor tel:+1 has an invalid schema, only "sip:", "sips:" or "backend:" are allowed`},
			{find: finds(), err: `INVALID_ARGUMENT: aor tel:+1 has an invalid schema, only "sip:", "sips:" or "backend:" are allowed`},
			{remove: true, err: `INVALID_ARGUMENT: aor tel:+1 has an invalid schema, only "sip:", "sips:" or "backend:" are allowed`},
		}},
		{"R10 newest first, highest q before", "", []step{
			{add: adds1(route("a")), want: []string{"a"}},
			{add: adds1(route("b")), want: []string{"b", "a"}},
			{add: adds1(route("c", q(500))), want: []string{"b", "a", "c"}},
			{add: adds1(route("a")), want: []string{"a", "b", "c"}},
			{find: finds(), want: []string{"a", "b", "c"}},
		}},
		{"two contacts in one REGISTER keep their order", "", []step{
			{add: adds(route("a"), route("b")), want: []string{"a", "b"}},
			{find: finds(), want: []string{"a", "b"}},
		}},
		{"refresh by an equal URI", "", []step{
			{add: adds1(route("a")), want: []string{"a"}},
			{add: adds1(route("b", func(r *locationpb.Route) { r.ContactUri = "sip:%61@192.0.2.1;x=y" })), want: []string{"b"}},
			{find: finds(), want: []string{"b"}},
		}},
		{"R13 six spellings of one contact", "", []step{
			{add: adds1(route("a", spelled("sip:joe%20b@example.com:5062;transport=tcp;x=1"))), want: []string{"a"}},
			{add: adds1(route("b", spelled("SIP:joe%20b@example.com:5062;transport=tcp;x=1"))), want: []string{"b"}},
			{add: adds1(route("c", spelled("sip:joe%20b@EXAMPLE.com:5062;transport=tcp;x=1"))), want: []string{"c"}},
			{add: adds1(route("d", spelled("sip:%6aoe%20b@example.com:5062;Transport=TCP;x=1"))), want: []string{"d"}},
			{add: adds1(route("e", spelled("sip:joe%20b@example.com:5062;x=1;transport=tcp"))), want: []string{"e"}},
			{add: adds1(route("f", spelled("sip:joe%20b@example.com:5062;transport=tcp"))), want: []string{"f"}},
			{add: adds1(route("g", spelled("sip:Joe%20b@example.com:5062;transport=tcp"))), want: []string{"g", "f"}},
		}},
		{"R22 instance and reg-id tell flows apart, not contacts", "", []step{
			{add: adds1(route("a", outboundAs("i", 1))), want: []string{"a"}},
			{add: adds1(route("b", outboundAs("i", 1))), want: []string{"b"}},
			{add: adds1(route("c", outboundAs("i", 2))), want: []string{"c", "b"}},
			{add: adds1(route("d", outboundAs("j", 1))), want: []string{"d", "c", "b"}},
			{add: adds1(route("e", outboundAs("i", 2))), want: []string{"e", "d", "b"}},
			{add: adds1(route("e", outboundAs("i", 1), expires(0))), want: []string{"e", "d"}},
		}},
		{"route without a URI, transport counts", "", []step{
			{add: adds1(&locationpb.Route{User: "a", Host: "h", Port: "5060", Expires: 60}), want: []string{"a"}},
			{add: adds1(&locationpb.Route{User: "a", Host: "H", Port: "5060", Expires: 60}), want: []string{"a"}},
			{add: adds1(&locationpb.Route{User: "a", Host: "h", Port: "5060", Transport: commonpb.Transport_TCP, Expires: 60}),
				want: []string{"a", "a"}},
		}},
		{"R6 expires 0 removes", "", []step{
			{add: adds(route("a"), route("b")), want: []string{"a", "b"}},
			{add: adds1(route("a", expires(0))), want: []string{"b"}},
			{find: finds(), want: []string{"b"}},
			{add: adds1(route("b", expires(-1))), want: nil},
			{find: finds(), err: noRoutes},
			{add: adds1(route("b", expires(0))), want: nil},
		}},
		{"what has expired already is not added", "", []step{
			{add: adds1(route("a", func(r *locationpb.Route) { r.RegisteredOn = 1 })), want: nil},
			{find: finds(), err: noRoutes},
		}},
		{"one added, one removed", "", []step{
			{add: adds1(route("a")), want: []string{"a"}},
			{add: adds(route("b"), route("a", expires(0))), want: []string{"b"}},
		}},
		{"remove", "", []step{
			{add: adds1(route("a")), want: []string{"a"}},
			{remove: true},
			{find: finds(), err: noRoutes},
			{remove: true},
			{add: adds1(route("a")), want: []string{"a"}},
		}},
		{"R5 Contact: *", "", []step{
			{add: adds(route("a", register("x", 1)), route("b", register("y", 9))), want: []string{"a", "b"}},
			{add: removesAll("x", 2), want: nil},
			{find: finds(), err: noRoutes},
			{add: removesAll("x", 2), want: nil},
		}},
		{"R5 Contact: * out of order", "", []step{
			{add: adds(route("a", register("x", 3)), route("b", register("y", 9))), want: []string{"a", "b"}},
			{add: removesAll("x", 3), err: "FAILED_PRECONDITION: c_seq 3 of the same call_id made the binding, want a higher one than 3"},
			{find: finds(), want: []string{"a", "b"}},
		}},
		{"R3 lower CSeq of the same Call-ID", "", []step{
			{add: adds1(route("a", register("x", 5))), want: []string{"a"}},
			{add: adds1(route("a", register("x", 4), expires(0))),
				err: "FAILED_PRECONDITION: c_seq 5 of the same call_id made the binding, want a higher one than 4"},
			{add: adds1(route("a", register("x", 5), expires(60))),
				err: "FAILED_PRECONDITION: c_seq 5 of the same call_id made the binding, want a higher one than 5"},
			{find: finds(), want: []string{"a"}},
			{add: adds1(route("a", register("x", 6), expires(0))), want: nil},
		}},
		{"R3 a retransmission is no error", "", []step{
			{add: adds1(route("a", register("x", 5))), want: []string{"a"}},
			{add: adds1(route("a", register("x", 5))), want: []string{"a"}},
			{add: adds1(route("a", register("x", 6), expires(0))), want: nil},
			{add: adds1(route("a", register("x", 6), expires(0))), want: nil},
		}},
		{"R4 CSeq of another Call-ID", "", []step{
			{add: adds1(route("a", register("x", 5))), want: []string{"a"}},
			{add: adds1(route("a", register("y", 1))), want: []string{"a"}},
			{add: adds1(route("a", register("x", 2), expires(0))), want: nil},
		}},
		{"R11 all or none", "", []step{
			{add: adds1(route("a", register("x", 5))), want: []string{"a"}},
			{add: adds(route("b", register("x", 4)), route("a", register("x", 4))),
				err: "FAILED_PRECONDITION: c_seq 5 of the same call_id made the binding, want a higher one than 4"},
			{find: finds(), want: []string{"a"}},
		}},
		{"the same contact twice in one REGISTER", "", []step{
			{add: limited(1, route("a", register("x", 1)), route("a", register("x", 1), q(500))), want: []string{"a"}},
		}},
		{"R19 max_contacts", "", []step{
			{add: limited(1, route("a")), want: []string{"a"}},
			{add: limited(1, route("b")), err: "INVALID_ARGUMENT: exceeds maximum of 1 allowed contacts"},
			{find: finds(), want: []string{"a"}},
			{add: limited(1, route("a")), want: []string{"a"}},
			{add: limited(1, route("b"), route("a", expires(0))), want: []string{"b"}},
			{add: limited(-1, route("c")), want: []string{"c", "b"}},
			{add: limited(0, route("d")), want: []string{"d", "c", "b"}},
			{add: limited(1, route("d")), want: []string{"d", "c", "b"}},
		}},
		{"no route", "", []step{
			{add: adds(), err: "INVALID_ARGUMENT: no route is given, want route, routes or remove_all"},
			{add: &locationpb.AddRouteRequest{RemoveAll: true, Route: route("a")}, err: "INVALID_ARGUMENT: remove_all comes with 1 routes, want none"},
		}},
		{"labels", "", []step{
			{add: adds(route("a", label("priority", "1")), route("b", label("priority", "2")), route("c")), want: []string{"a", "b", "c"}},
			{find: finds("priority", "2"), want: []string{"b"}},
			{find: finds("priority", "3"), err: noRoutes},
			{find: finds("priority", "1", "x", "y"), err: noRoutes},
		}},
		{"round-robin, sticky by call", "", []step{
			{add: adds(route("a"), route("b"), route("c")), want: []string{"a", "b", "c"}},
			{find: balances("1", rotate), want: []string{"a"}},
			{find: balances("2", rotate), want: []string{"b"}},
			{find: balances("1", rotate), want: []string{"a"}},
			{add: adds1(route("c")), want: []string{"c", "a", "b"}},
			{find: balances("3", rotate), want: []string{"c"}},
			{find: balances("4", rotate), want: []string{"a"}},
			{add: adds1(route("b", expires(0))), want: []string{"c", "a"}},
			{find: balances("2", rotate), want: []string{"c"}},
		}},
		{"least sessions reserves", "", []step{
			{add: adds(route("a", sessions(3)), route("b", sessions(50)), route("c", sessions(1))), want: []string{"a", "b", "c"}},
			{find: balances("1", least), want: []string{"c"}},
			{find: balances("2", least), want: []string{"c"}},
			{find: balances("3", least), want: []string{"a"}},
			{find: balances("4", least), want: []string{"c"}},
			{add: adds1(route("b", sessions(0), register("x", 1))), want: []string{"b", "a", "c"}},
			{find: balances("5", least), want: []string{"b"}},
		}},
		{"unknown algorithm", "", []step{
			{add: adds1(route("a")), want: []string{"a"}},
			{find: balances("1", 7), err: "INVALID_ARGUMENT: balancing algorithm 7 is not known, want 0 for round-robin or 1 for least-sessions"},
		}},
	}
	providers(t, func(t *testing.T, conn *bus.Conn) {
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				aor := tt.aor
				if aor == "" {
					aor = fmt.Sprintf("sip:row%d@sip.local", i)
				}
				for j, s := range tt.steps {
					s.check(t, conn, aor, j)
				}
			})
		}
	})
}

func (s step) check(t *testing.T, conn *bus.Conn, aor string, i int) {
	t.Helper()
	var got []*locationpb.Route
	var err error
	switch {
	case s.add != nil:
		s.add = proto.CloneOf(s.add)
		s.add.Aor = aor
		got, err = add(t, conn, s.add)
	case s.find != nil:
		s.find = proto.CloneOf(s.find)
		s.find.Aor = aor
		got, err = find(t, conn, s.find)
	default:
		err = remove(t, conn, aor)
	}
	var text string
	if err != nil {
		text = err.Error()
	}
	if want := strings.ReplaceAll(s.err, "AOR", aor); text != want {
		t.Fatalf("step %d: error %q, want %q", i, text, want)
	}
	if diff := cmp.Diff(s.want, users(got)); diff != "" {
		t.Fatalf("step %d: routes (-want +got):\n%s", i, diff)
	}
}

// providers runs f against a service with each store, through NATS and in process.
func providers(t *testing.T, f func(t *testing.T, conn *bus.Conn)) {
	for _, cache := range []Cache{{Provider: "memory"}, {"nats", "storage=memory"}} {
		t.Run(cache.Provider, func(t *testing.T) {
			bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
				start(t, conn, cache)
				f(t, conn)
			})
		})
	}
}

func TestStopped(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		_, stop := start(t, conn, Cache{Provider: "memory"})
		stop()
		if _, err := find(t, conn, finds()); bus.CodeOf(err) != bus.Unavailable {
			t.Errorf("find after the service has ended: %v, want UNAVAILABLE", err)
		}
	})
}

func TestGarbage(t *testing.T) {
	conn := bustest.Connect(t)
	start(t, conn, Cache{Provider: "memory"})
	for _, op := range []string{bus.LocationAdd, bus.LocationFind, bus.LocationRemove} {
		got := make(chan error, 1)
		conn.Call(t.Context(), bus.SubjectLocation(op), bus.Raw([]byte("\xff\xff")), time.Now().Add(patience),
			func(_ bus.Reply, err error) { got <- err })
		if err := <-got; bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%s of garbage: %v, want INVALID_ARGUMENT", op, err)
		}
	}
}

// Lookups of unknown AORs, which only the store can answer, are bounded; others do not notice.
func TestLookupsThatWaitAreBounded(t *testing.T) {
	conn := bustest.Local(t)
	s, _ := start(t, conn, Cache{"nats", "storage=memory"})
	if _, err := add(t, conn, &locationpb.AddRouteRequest{Aor: "sip:1001@sip.local", Route: route("x")}); err != nil {
		t.Fatal(err)
	}
	for range maxWaiting {
		s.waiting <- struct{}{}
	}
	if _, err := find(t, conn, &locationpb.FindRoutesRequest{Aor: "sip:1002@sip.local"}); bus.CodeOf(err) != bus.Unavailable {
		t.Errorf("find of an unknown AOR: %v, want UNAVAILABLE", err)
	}
	if _, err := find(t, conn, &locationpb.FindRoutesRequest{Aor: "sip:1001@sip.local"}); err != nil {
		t.Errorf("find of a known AOR: %v", err)
	}
	for range maxWaiting {
		<-s.waiting
	}
}

func TestMetrics(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("")
	conn := bustest.Local(t)
	s, err := New(Default(), conn, discard(), meter)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.addRoutes(t.Context(), bus.Value(&locationpb.AddRouteRequest{Aor: "sip:1001@sip.local", Route: route("x")})); err != nil {
		t.Fatal(err)
	}
	s.counts.add(opAdd, "")
	s.counts.add(opFind, bus.NotFound)
	s.counts.add(opFind, bus.DeadlineExceeded)

	var m metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &m); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int64)
	for _, metric := range m.ScopeMetrics[0].Metrics {
		switch data := metric.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				op, _ := p.Attributes.Value("operation")
				code, _ := p.Attributes.Value("code")
				got[metric.Name+" "+op.AsString()+" "+code.AsString()] = p.Value
			}
		case metricdata.Gauge[int64]:
			got[metric.Name] = data.DataPoints[0].Value
		}
	}
	want := map[string]int64{
		"routr.location.aors":                    1,
		"routr.location.requests add OK":         1,
		"routr.location.requests find NOT_FOUND": 1,
		"routr.location.requests find INTERNAL":  1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}
