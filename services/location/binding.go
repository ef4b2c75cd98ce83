package location

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/routr-fabric/routr/bus"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
)

// What one binding may take, whoever asks for it.
const (
	maxRoute    = 8192 // bytes of text
	maxURI      = 1024 // bytes of a contact URI
	maxParams   = 64   // parameters of a contact URI
	maxElements = 64   // labels, hops of a path, listening points, networks and addresses
)

// binding is a Route as the service keeps it. The route is never changed once others can see it: it is handed out by
// pointer.
type binding struct {
	route   *locationpb.Route
	expires int64 // unix ms
	contact contact

	// What the balancer of this instance knows, which the refreshed binding inherits.
	turn     *atomic.Uint64 // when the binding was last picked, 0: never
	reserved atomic.Int32   // how often it was picked since it reported its sessions
}

// newBinding is a binding with the contents of r and none of its memory, which belongs to a message many times larger.
// A time of registration that is absent or lies ahead becomes now (unix ms). An error has the code InvalidArgument.
func newBinding(r *locationpb.Route, now int64, edges *edgePorts) (*binding, error) {
	size := len(r.User) + len(r.Host) + len(r.Port) + len(r.AdvertisedHost) + len(r.AdvertisedPort) +
		len(r.ContactUri) + len(r.CallId) + len(r.Instance) + len(r.Flow)
	for _, p := range r.Path {
		size += len(p)
	}
	for k, v := range r.Labels {
		size += len(k) + len(v)
	}
	switch {
	case len(r.ContactUri) > maxURI:
		return nil, bus.Errorf(bus.InvalidArgument, "contact_uri has %d bytes, want at most %d", len(r.ContactUri), maxURI)
	case strings.Count(r.ContactUri, ";") > maxParams:
		return nil, bus.Errorf(bus.InvalidArgument, "contact_uri has more than %d parameters", maxParams)
	case size > maxRoute:
		return nil, bus.Errorf(bus.InvalidArgument, "route has %d bytes of text, want at most %d", size, maxRoute)
	case len(r.Path) > maxElements || len(r.Labels) > maxElements:
		return nil, bus.Errorf(bus.InvalidArgument, "route has %d hops of path and %d labels, want at most %d",
			len(r.Path), len(r.Labels), maxElements)
	}
	edge, err := edges.of(r)
	if err != nil {
		return nil, err
	}

	var text strings.Builder
	text.Grow(size)
	keep := func(s string) string { // all strings of a binding share one piece of memory
		from := text.Len()
		text.WriteString(s)
		return text.String()[from:]
	}
	var one struct { // one piece of memory for both
		b binding
		r locationpb.Route
	}
	b, c := &one.b, &one.r
	b.route = c
	c.User, c.Host, c.Port = keep(r.User), keep(r.Host), keep(r.Port)
	c.Transport, c.SessionCount = r.Transport, r.SessionCount
	c.RegisteredOn, c.Expires = r.RegisteredOn, max(r.Expires, 0)
	if c.RegisteredOn <= 0 || c.RegisteredOn > now {
		c.RegisteredOn = now
	}
	c.EdgePortRef, c.ListeningPoints, c.Localnets, c.ExternalAddrs = edge.ref, edge.points, edge.localnets, edge.externals
	c.AdvertisedHost, c.AdvertisedPort = keep(r.AdvertisedHost), keep(r.AdvertisedPort)
	c.ContactUri, c.CallId, c.CSeq = keep(r.ContactUri), keep(r.CallId), r.CSeq
	c.Instance, c.RegId = keep(r.Instance), r.RegId
	c.Flow, c.Dialable = keep(r.Flow), r.Dialable
	if r.Q != nil {
		q := min(max(*r.Q, 0), 1000)
		c.Q = &q
	}
	if len(r.Path) > 0 {
		c.Path = make([]string, len(r.Path))
		for i, p := range r.Path {
			c.Path[i] = keep(p)
		}
	}
	if len(r.Labels) > 0 {
		c.Labels = make(map[string]string, len(r.Labels))
		for k, v := range r.Labels {
			c.Labels[keep(k)] = keep(v)
		}
	}
	b.expires = c.RegisteredOn + int64(c.Expires)*1000
	return b, nil
}

// q is the q-value of b in thousandths.
func (b *binding) q() int32 {
	if b.route.Q == nil {
		return 1000
	}
	return *b.route.Q
}

// inherit takes over what the balancer knows of old, an earlier state of the same binding.
func (b *binding) inherit(old *binding) {
	b.turn = old.turn
	if b.route.RegisteredOn == old.route.RegisteredOn && b.route.CSeq == old.route.CSeq {
		b.reserved.Store(old.reserved.Load()) // the same report of sessions
	}
}

// identify sets b.contact. Most often b refreshes one of list, and its contact is known.
func (b *binding) identify(list []*binding) {
	if b.contact.id != 0 { // known from an earlier try
		return
	}
	r := b.route
	for _, o := range list {
		if r.ContactUri == o.route.ContactUri && r.User == o.route.User && r.Host == o.route.Host &&
			r.Port == o.route.Port && r.Transport == o.route.Transport &&
			r.Instance == o.route.Instance && r.RegId == o.route.RegId {
			b.contact = o.contact
			return
		}
	}
	b.contact = identify(r)
}

// repeats reports whether b says what o says, the time of its arrival aside.
func repeats(b, o *binding) bool {
	x, y := b.route, o.route
	return x.CSeq == y.CSeq && x.Expires == y.Expires && b.q() == o.q() && x.ContactUri == y.ContactUri &&
		x.User == y.User && x.Host == y.Host && x.Port == y.Port && x.Transport == y.Transport &&
		x.SessionCount == y.SessionCount && x.EdgePortRef == y.EdgePortRef && x.Flow == y.Flow && x.Dialable == y.Dialable &&
		x.Instance == y.Instance && x.RegId == y.RegId &&
		slices.Equal(x.Path, y.Path) && maps.Equal(x.Labels, y.Labels)
}

// edgePorts keeps one copy of what every binding of an EdgePort repeats: its addresses.
type edgePorts struct {
	mu sync.RWMutex
	m  map[string]*edgePort
}

type edgePort struct {
	ref                  string
	points               []*processorpb.NetInterface
	localnets, externals []string
}

// maxEdgePorts is how many EdgePorts are remembered. The bindings of further ones have copies of their own.
const maxEdgePorts = 1024

// of is the EdgePort that r came through. An error has the code InvalidArgument.
func (e *edgePorts) of(r *locationpb.Route) (*edgePort, error) {
	e.mu.RLock()
	p := e.m[r.EdgePortRef]
	e.mu.RUnlock()
	if p != nil && p.made(r) {
		return p, nil
	}
	if len(r.ListeningPoints) > maxElements || len(r.Localnets) > maxElements || len(r.ExternalAddrs) > maxElements {
		return nil, bus.Errorf(bus.InvalidArgument,
			"route has %d listening points, %d localnets and %d external addresses, want at most %d",
			len(r.ListeningPoints), len(r.Localnets), len(r.ExternalAddrs), maxElements)
	}
	size := len(r.EdgePortRef)
	for _, n := range r.ListeningPoints {
		size += len(n.GetHost())
	}
	for _, s := range r.Localnets {
		size += len(s)
	}
	for _, s := range r.ExternalAddrs {
		size += len(s)
	}
	if size > maxRoute {
		return nil, bus.Errorf(bus.InvalidArgument, "route has %d bytes of EdgePort addresses, want at most %d", size, maxRoute)
	}
	p = &edgePort{ref: strings.Clone(r.EdgePortRef), localnets: cloneAll(r.Localnets), externals: cloneAll(r.ExternalAddrs)}
	for _, n := range r.ListeningPoints {
		p.points = append(p.points, &processorpb.NetInterface{
			Host: strings.Clone(n.GetHost()), Port: n.GetPort(), Transport: n.GetTransport(),
		})
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.m == nil {
		e.m = make(map[string]*edgePort)
	}
	if e.m[p.ref] != nil || len(e.m) < maxEdgePorts {
		e.m[p.ref] = p
	}
	return p, nil
}

// made reports whether p is what r says of its EdgePort.
func (p *edgePort) made(r *locationpb.Route) bool {
	return slices.Equal(p.localnets, r.Localnets) && slices.Equal(p.externals, r.ExternalAddrs) &&
		slices.EqualFunc(p.points, r.ListeningPoints, func(a, b *processorpb.NetInterface) bool {
			return a == b || a.Host == b.GetHost() && a.Port == b.GetPort() && a.Transport == b.GetTransport()
		})
}

func cloneAll(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strings.Clone(s)
	}
	return out
}
