package location

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/routr-fabric/routr/bus"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func noMeter() metric.Meter { return noop.NewMeterProvider().Meter("") }

// start runs an instance until the test ends or stop is called.
func start(t testing.TB, conn *bus.Conn, cache Cache) (s *Service, stop func()) {
	t.Helper()
	cfg := Default()
	cfg.Spec.Cache = cache
	s, err := New(cfg, conn, discard(), noMeter())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.Run(ctx, func() { close(ready) }) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	}
	t.Cleanup(stop)
	select {
	case <-ready:
	case err := <-ended:
		stopped = true
		cancel()
		t.Fatalf("Run() = %v before it was ready", err)
	case <-time.After(patience):
		t.Fatal("the service is not ready")
	}
	return s, stop
}

// call is a request and its reply.
func call[T any, M interface {
	*T
	proto.Message
}](t testing.TB, conn *bus.Conn, op string, req proto.Message) (M, error) {
	t.Helper()
	type result struct {
		reply bus.Reply
		err   error
	}
	done := make(chan result, 1)
	conn.Call(context.Background(), bus.SubjectLocation(op), bus.Value(req), time.Now().Add(patience),
		func(r bus.Reply, err error) { done <- result{r, err} })
	r := <-done
	if r.err != nil {
		return nil, r.err
	}
	return bus.Decode[T, M](r.reply.Body)
}

func add(t testing.TB, conn *bus.Conn, req *locationpb.AddRouteRequest) ([]*locationpb.Route, error) {
	t.Helper()
	resp, err := call[locationpb.AddRouteResponse](t, conn, bus.LocationAdd, req)
	return resp.GetRoutes(), err
}

func find(t testing.TB, conn *bus.Conn, req *locationpb.FindRoutesRequest) ([]*locationpb.Route, error) {
	t.Helper()
	resp, err := call[locationpb.FindRoutesResponse](t, conn, bus.LocationFind, req)
	return resp.GetRoutes(), err
}

func remove(t testing.TB, conn *bus.Conn, aor string) error {
	t.Helper()
	_, err := call[emptypb.Empty](t, conn, bus.LocationRemove, &locationpb.RemoveRoutesRequest{Aor: aor})
	return err
}

// route is a Route to sip:<name>@192.0.2.1 for an hour, as edited.
func route(name string, edit ...func(*locationpb.Route)) *locationpb.Route {
	r := &locationpb.Route{
		User: name, Host: "192.0.2.1", Port: "5060", Expires: 3600, SessionCount: -1, EdgePortRef: "edgeport1",
		ContactUri: "sip:" + name + "@192.0.2.1",
	}
	for _, e := range edit {
		e(r)
	}
	return r
}

func expires(seconds int32) func(*locationpb.Route) {
	return func(r *locationpb.Route) { r.Expires = seconds }
}

func register(callID string, cSeq uint32) func(*locationpb.Route) {
	return func(r *locationpb.Route) { r.CallId, r.CSeq = callID, cSeq }
}

func q(thousandths int32) func(*locationpb.Route) {
	return func(r *locationpb.Route) { r.Q = &thousandths }
}

func label(key, value string) func(*locationpb.Route) {
	return func(r *locationpb.Route) { r.Labels = map[string]string{key: value} }
}

func sessions(n int32) func(*locationpb.Route) {
	return func(r *locationpb.Route) { r.SessionCount = n }
}

// users are the users of routes, which tests tell them apart by.
func users(routes []*locationpb.Route) []string {
	var list []string
	for _, r := range routes {
		list = append(list, r.User)
	}
	return list
}
