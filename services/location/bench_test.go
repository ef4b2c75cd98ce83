package location

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
)

// registration is what a processor sends for a REGISTER of a common phone.
func registration(aor string, i int) *locationpb.AddRouteRequest {
	r := route("1001", register("a84b4c76e66710@192.0.2.1", uint32(i+1)))
	for _, tp := range []commonpb.Transport{commonpb.Transport_UDP, commonpb.Transport_TCP, commonpb.Transport_WS} {
		r.ListeningPoints = append(r.ListeningPoints, &processorpb.NetInterface{Host: "10.0.0.5", Port: 5060, Transport: tp})
	}
	r.ExternalAddrs, r.Localnets = []string{"203.0.113.7"}, []string{"10.0.0.0/8"}
	return &locationpb.AddRouteRequest{Aor: aor, Route: r, MaxContacts: 5}
}

// The service without the bus, whose cost has its own benchmarks.
func benchmark(b *testing.B, f func(b *testing.B, s *Service)) {
	for _, cache := range []Cache{{Provider: "memory"}, {"nats", "storage=memory"}} {
		b.Run(cache.Provider, func(b *testing.B) {
			s, _ := start(b, bustest.Local(b), cache)
			b.ReportAllocs()
			f(b, s)
		})
	}
}

func BenchmarkAddNew(b *testing.B) {
	benchmark(b, func(b *testing.B, s *Service) {
		reqs := make([]bus.Body, 4096)
		for i := range reqs {
			reqs[i] = bus.Value(registration(fmt.Sprintf("sip:%d@sip.local", i), 0))
		}
		b.ResetTimer()
		for i := range b.N {
			if i%len(reqs) == 0 && i > 0 {
				b.StopTimer()
				for j := range reqs { // new again
					if err := s.removeRoutes(context.Background(), bus.Value(&locationpb.RemoveRoutesRequest{Aor: fmt.Sprintf("sip:%d@sip.local", j)})); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
			}
			if _, err := s.addRoutes(context.Background(), reqs[i%len(reqs)]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAddRefresh(b *testing.B) {
	benchmark(b, func(b *testing.B, s *Service) {
		req := registration("sip:1001@sip.local", 0)
		body := bus.Value(req)
		for i := range b.N {
			req.Route.CSeq = uint32(i + 1) // what is kept is a copy
			if _, err := s.addRoutes(context.Background(), body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkFind(b *testing.B) {
	benchmark(b, func(b *testing.B, s *Service) {
		if _, err := s.addRoutes(context.Background(), bus.Value(registration("sip:1001@sip.local", 0))); err != nil {
			b.Fatal(err)
		}
		req := &locationpb.FindRoutesRequest{Aor: "sip:1001@sip.local", CallId: "call"}
		for b.Loop() {
			rec, ok := s.store.lookup(req.Aor)
			if !ok {
				b.Fatal("not in the copy")
			}
			if _, err := s.choose(rec, req.Aor, req); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// One of eight bindings of a backend, for a call of its own.
func BenchmarkFindBackend(b *testing.B) {
	s, _ := start(b, bustest.Local(b), Cache{Provider: "memory"})
	var routes []*locationpb.Route
	for i := range 8 {
		routes = append(routes, route(fmt.Sprint(i)))
	}
	if _, err := s.addRoutes(context.Background(), bus.Value(&locationpb.AddRouteRequest{Aor: "backend:x", Routes: routes})); err != nil {
		b.Fatal(err)
	}
	calls := make([]*locationpb.FindRoutesRequest, 8192)
	for i := range calls {
		calls[i] = balances(fmt.Sprint(i), least)
		calls[i].Aor = "backend:x"
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		rec, _ := s.store.lookup("backend:x")
		if _, err := s.choose(rec, "backend:x", calls[i%len(calls)]); err != nil {
			b.Fatal(err)
		}
	}
}

// The whole of a lookup in one process: call, handler, answer.
func BenchmarkCallFind(b *testing.B) {
	conn := bustest.Local(b)
	s, _ := start(b, conn, Cache{Provider: "memory"})
	if _, err := s.addRoutes(context.Background(), bus.Value(registration("sip:1001@sip.local", 0))); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := find(b, conn, &locationpb.FindRoutesRequest{Aor: "sip:1001@sip.local", CallId: "call"}); err != nil {
			b.Fatal(err)
		}
	}
}

// What costs most of what one REGISTER may ask for: 32 contacts beside 968, all alike but for the last of 64 parameters.
func BenchmarkManyContacts(b *testing.B) {
	params := strings.Repeat(";parameter", 60)
	for i := range 60 {
		params = strings.Replace(params, ";parameter", fmt.Sprintf(";p%02d=0123456789", i), 1)
	}
	routes := make([]*locationpb.Route, maxContacts)
	for i := range routes {
		routes[i] = &locationpb.Route{ContactUri: fmt.Sprintf("sip:u@192.0.2.1%s;z=%d", params, i), Expires: 3600}
	}
	now, edges := time.Now().UnixMilli(), &edgePorts{}
	apply := func(old []*binding, routes []*locationpb.Route) []*binding {
		c, err := newChange(&locationpb.AddRouteRequest{Routes: routes}, now, edges)
		if err != nil {
			b.Fatal(err)
		}
		next, _, err := c.apply(old)
		if err != nil {
			b.Fatal(err)
		}
		return next
	}
	old := apply(nil, routes[32:])
	b.ReportAllocs()
	for b.Loop() {
		if n := len(apply(old, routes[:32])); n != maxContacts {
			b.Fatalf("%d bindings, want %d", n, maxContacts)
		}
	}
}

func BenchmarkParseContact(b *testing.B) {
	r := withURI("sip:1001@192.0.2.1:5060;transport=tcp;ob;rinstance=45ab")
	b.ReportAllocs()
	for b.Loop() {
		identify(r)
	}
}
