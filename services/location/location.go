// Package location is the Location Service: it keeps the bindings of addresses-of-record (RFC 3261 10.3), finds the
// routes to one, and balances over those of a backend.
//
// It takes what the processors tell it: it never authenticates anyone, never opens a SIP socket, and never decides how
// long a binding may live. An AddRouteRequest is applied whole or not at all, and answered once the store has it. What
// the store cannot say is UNAVAILABLE, never an empty answer.
package location

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/routr-fabric/routr/bus"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
)

// Service is an instance of the Location Service.
type Service struct {
	conn     *bus.Conn
	log      *slog.Logger
	store    store
	run      func(ctx context.Context, ready func()) // keeps the store until ctx ends; ready once it is filled
	table    *table
	edges    *edgePorts
	balancer *balancer
	waiting  chan struct{} // holds a token for each lookup that waits for the store
	workers  int           // for handlers that write
	counts   counts
}

const (
	// maxWaiting is how many lookups may wait for the store at a time; more are UNAVAILABLE.
	maxWaiting = 256
	// storeWorkers is how many writes may wait for a store at a time.
	storeWorkers = 64
	// drainTime is how long requests that were taken may go on when the service ends.
	drainTime = 5 * time.Second
)

// New checks cfg and builds an instance. It starts nothing.
func New(cfg Config, conn *bus.Conn, log *slog.Logger, meter metric.Meter) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{
		conn:     conn,
		log:      log,
		edges:    &edgePorts{},
		balancer: newBalancer(),
		waiting:  make(chan struct{}, maxWaiting),
	}
	switch cfg.Spec.Cache.provider() {
	case ProviderNATS:
		js, err := conn.JetStream()
		if err != nil {
			return nil, fmt.Errorf("open the store of bindings: %w", err)
		}
		bucket, err := cfg.Spec.Cache.bucket()
		if err != nil {
			return nil, fmt.Errorf("spec.cache.parameters: %w", err)
		}
		k := newKV(js, bus.BucketBindings, bucket, s.edges, log)
		s.store, s.run, s.table, s.workers = k, k.run, k.table, storeWorkers
	default:
		m := memory{newTable()}
		s.store, s.run, s.table = m, m.run, m.table
	}
	if err := s.counts.register(meter, s.table); err != nil {
		return nil, fmt.Errorf("register the metrics of the location service: %w", err)
	}
	return s, nil
}

// Run serves until ctx ends, then answers what it has taken and returns. ready is called once, when the service has
// the bindings of its store and takes requests.
func (s *Service) Run(ctx context.Context, ready func()) error {
	// The store outlives the requests.
	storeCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	filled, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		s.run(storeCtx, sync.OnceFunc(func() { close(filled) }))
	}()
	defer func() { stop(); <-ended }()
	select {
	case <-filled:
	case <-ctx.Done():
		return nil
	}

	var services []*bus.Service
	defer func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		for _, service := range services {
			if err := service.Drain(drain); err != nil {
				s.log.Warn("requests were cut off", "error", err)
			}
		}
	}()
	for _, h := range []struct {
		subject string
		handler bus.Handler
		options bus.Options
	}{
		{bus.SubjectLocation(bus.LocationAdd), s.add, bus.Options{Workers: s.workers}},
		{bus.SubjectLocation(bus.LocationFind), s.find, bus.Options{}},
		{bus.SubjectLocation(bus.LocationRemove), s.remove, bus.Options{Workers: s.workers}},
		{bus.SubjectFlowClosed(bus.Every), s.flowClosed, bus.Options{Workers: s.workers, MaxPending: maxClosed}},
	} {
		service, err := s.conn.Serve(h.subject, bus.QueueLocation, h.handler, h.options)
		if err != nil {
			return fmt.Errorf("serve %s: %w", h.subject, err)
		}
		services = append(services, service)
	}
	ready()
	<-ctx.Done()
	return nil
}

// add serves AddRouteRequest. The answer has every binding of the AOR after the change.
func (s *Service) add(ctx context.Context, r *bus.Request) {
	resp, err := s.addRoutes(ctx, r.Body)
	s.answer(opAdd, r, resp, err)
}

func (s *Service) addRoutes(ctx context.Context, body bus.Body) (*locationpb.AddRouteResponse, error) {
	req, err := bus.Decode[locationpb.AddRouteRequest](body)
	if err != nil {
		return nil, err
	}
	aor, err := canonicalAOR(req.Aor)
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixMilli()
	c, err := newChange(req, now, s.edges)
	if err != nil {
		return nil, err
	}
	rec, err := s.store.update(ctx, aor, c)
	if err != nil {
		return nil, err
	}
	return &locationpb.AddRouteResponse{Routes: rec.routes(now)}, nil
}

// remove serves RemoveRoutesRequest, whatever made the bindings.
func (s *Service) remove(ctx context.Context, r *bus.Request) {
	s.answer(opRemove, r, &emptypb.Empty{}, s.removeRoutes(ctx, r.Body))
}

func (s *Service) removeRoutes(ctx context.Context, body bus.Body) error {
	req, err := bus.Decode[locationpb.RemoveRoutesRequest](body)
	if err != nil {
		return err
	}
	aor, err := canonicalAOR(req.Aor)
	if err != nil {
		return err
	}
	_, err = s.store.update(ctx, aor, &change{removeAll: true, now: time.Now().UnixMilli()})
	return err
}

// find serves FindRoutesRequest. It runs on the delivering goroutine, and only what the store cannot say at once gets
// one of its own.
func (s *Service) find(ctx context.Context, r *bus.Request) {
	req, err := bus.Decode[locationpb.FindRoutesRequest](r.Body)
	var aor string
	if err == nil {
		aor, err = canonicalAOR(req.Aor)
	}
	if err != nil {
		s.answer(opFind, r, nil, err)
		return
	}
	if rec, ok := s.store.lookup(aor); ok {
		resp, err := s.choose(rec, aor, req)
		s.answer(opFind, r, resp, err)
		return
	}
	select {
	case s.waiting <- struct{}{}:
	default:
		s.answer(opFind, r, nil, bus.Errorf(bus.Unavailable,
			"find routes of %s: %d lookups wait for the store already", aor, maxWaiting))
		return
	}
	go func() { // Drain waits for it, as it answers
		defer func() { <-s.waiting }()
		rec, err := s.store.read(ctx, aor)
		if err != nil {
			s.answer(opFind, r, nil, err)
			return
		}
		resp, err := s.choose(rec, aor, req)
		s.answer(opFind, r, resp, err)
	}()
}

// answer counts and answers a request, with m if err is nil.
func (s *Service) answer(op operation, r *bus.Request, m proto.Message, err error) {
	s.counts.add(op, bus.CodeOf(err))
	if err != nil {
		r.Fail(err)
		return
	}
	r.Reply(bus.Reply{Body: bus.Value(m)})
}

// choose makes the answer to req from the record of its AOR.
func (s *Service) choose(rec *record, aor string, req *locationpb.FindRoutesRequest) (*locationpb.FindRoutesResponse, error) {
	now := time.Now().UnixMilli()
	if rec != nil && now < rec.first && len(req.Labels) == 0 && req.Backend == nil {
		return &rec.all, nil
	}
	var buf [16]*binding
	list := buf[:0]
	if rec != nil {
		for _, b := range rec.bindings {
			if now < b.expires && b.hasLabels(req.Labels) {
				list = append(list, b)
			}
		}
	}
	switch {
	case len(list) == 0:
		return nil, bus.Errorf(bus.NotFound, "no routes found for aor: %s", aor)
	case req.Backend != nil:
		b, err := s.balancer.pick(list, aor, req)
		if err != nil {
			return nil, err
		}
		return &locationpb.FindRoutesResponse{Routes: []*locationpb.Route{b.route}}, nil
	}
	resp := &locationpb.FindRoutesResponse{Routes: make([]*locationpb.Route, len(list))}
	for i, b := range list {
		resp.Routes[i] = b.route
	}
	return resp, nil
}

// hasLabels reports whether b has all of the labels.
func (b *binding) hasLabels(labels map[string]string) bool {
	for k, v := range labels {
		if have, ok := b.route.Labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}
