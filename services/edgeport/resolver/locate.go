package resolver

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// search is one run of RFC 3263 4 for one target.
type search struct {
	r       *Resolver
	t       target
	started time.Time
	cached  bool        // use what the cache has and ask no one
	missed  atomic.Bool // the cache had not all of it
	failed  atomic.Bool // some records could not be had
}

// group is the servers for one protocol, in no order yet: an SRV set, or the target itself.
type group struct {
	protocol transport.Protocol
	servers  []server
}

// server is an SRV record with the addresses of its target.
type server struct {
	srv
	addrs []netip.Addr
}

// locate is RFC 3263 4.1 and 4.2. The groups are in the order of preference.
func (s *search) locate(ctx context.Context) ([]group, error) {
	t := s.t
	switch {
	case t.addr.IsValid():
		return []group{{t.protocol, []server{{srv{port: s.port(t.protocol)}, []netip.Addr{t.addr}}}}}, nil
	case t.chosen && t.port != 0:
		return s.resolve(ctx, s.itself(t.protocol))
	case t.chosen:
		return s.services(ctx, []transport.Protocol{t.protocol})
	}
	records := s.naptr(ctx)
	if len(records) == 0 {
		return s.services(ctx, s.r.services(t.secure))
	}
	groups := make([]group, len(records))
	refused := make([]bool, len(records))
	stage, cancel := s.until(ctx, s.r.limits.srv)
	defer cancel()
	s.each(len(records), func(i int) {
		p := records[i].protocol
		if records[i].flag == 'a' {
			groups[i] = group{p, []server{{srv: srv{target: records[i].replacement, port: defaultPort(p)}}}}
			return
		}
		groups[i].protocol = p
		groups[i].servers, refused[i] = s.srv(stage, records[i].replacement)
	})
	groups = slices.DeleteFunc(groups, func(g group) bool { return len(g.servers) == 0 })
	if len(groups) == 0 {
		// RFC 3263 4.2: no SRV records, so the addresses of the domain, with the protocol that was found.
		i := slices.Index(refused, false)
		if i < 0 {
			return nil, ErrNotFound
		}
		groups = s.itself(records[i].protocol)
	}
	return s.resolve(ctx, groups)
}

// services asks the SRV records of each protocol. Without any, it is the addresses of the target, with the protocol
// that is usual.
func (s *search) services(ctx context.Context, protocols []transport.Protocol) ([]group, error) {
	stage, cancel := s.until(ctx, s.r.limits.srv)
	defer cancel()
	groups := make([]group, len(protocols))
	refuses := make([]bool, len(protocols))
	s.each(len(protocols), func(i int) {
		groups[i].protocol = protocols[i]
		groups[i].servers, refuses[i] = s.srv(stage, service(protocols[i], s.t.host))
	})
	groups = slices.DeleteFunc(groups, func(g group) bool { return len(g.servers) == 0 })
	if len(groups) > 0 {
		return s.resolve(ctx, groups)
	}
	refused := make(map[transport.Protocol]bool)
	for i, p := range protocols {
		refused[p] = refuses[i]
	}
	p, ok := s.t.protocol, !refused[s.t.protocol]
	if !s.t.chosen {
		p, ok = s.r.fallback(s.t.secure, refused)
	}
	if !ok {
		return nil, ErrNotFound // RFC 2782: the service is decidedly not available there
	}
	return s.resolve(ctx, s.itself(p))
}

// itself is the target as its own server.
func (s *search) itself(p transport.Protocol) []group {
	return []group{{p, []server{{srv: srv{target: s.t.host, port: s.port(p)}}}}}
}

func (s *search) port(p transport.Protocol) uint16 {
	if s.t.port != 0 {
		return s.t.port
	}
	return defaultPort(p)
}

// choice is a NAPTR record of use.
type choice struct {
	naptr
	protocol transport.Protocol
}

// naptr asks for the NAPTR records of the target and leaves those of the first order that has a protocol spoken here
// (RFC 3403 4.1: higher ones are not considered then), the most preferred first. For a sips URI only SIPS counts; for a
// sip URI it does too (RFC 3263 4.1).
//
// A server that cannot do NAPTR is taken for one that has none: there are many such in routers and containers.
func (s *search) naptr(ctx context.Context) (choices []choice) {
	stage, cancel := s.until(ctx, s.r.limits.naptr)
	defer cancel()
	records := slices.Clone(s.ask(stage, s.t.host, dns.TypeNAPTR).naptrs)
	slices.SortStableFunc(records, func(a, b naptr) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.preference, b.preference))
	})
	for _, n := range records {
		p, ok := naptrProtocol(n.service)
		if !ok || !s.r.speaks[p] || s.t.secure && !p.Secure() || n.replacement == "" {
			continue
		}
		if len(choices) > 0 && choices[0].order != n.order {
			break
		}
		if choices = append(choices, choice{n, p}); len(choices) == maxChoices {
			break
		}
	}
	return choices
}

// naptrProtocol is the service field of a NAPTR record (RFC 3263 4.1, RFC 7118).
func naptrProtocol(service string) (transport.Protocol, bool) {
	switch strings.ToUpper(service) {
	case "SIP+D2U":
		return transport.UDP, true
	case "SIP+D2T":
		return transport.TCP, true
	case "SIPS+D2T":
		return transport.TLS, true
	case "SIP+D2W":
		return transport.WS, true
	case "SIPS+D2W":
		return transport.WSS, true
	}
	return 0, false
}

// srv asks for the SRV records with a name; refused says that there is one that names no target (RFC 2782).
//
// Records that cannot be had are taken for none, as by other SIP servers: a sips next hop stays secure all the same.
func (s *search) srv(ctx context.Context, name string) (servers []server, refused bool) {
	records := s.ask(ctx, name, dns.TypeSRV).srvs
	for _, r := range records {
		if r.target != "" && r.port != 0 {
			servers = append(servers, server{srv: r})
		}
	}
	return servers, len(records) > 0 && len(servers) == 0
}

// resolve finds the addresses of all servers, at most maxTargets names of them: those that the dice would put first.
func (s *search) resolve(ctx context.Context, groups []group) ([]group, error) {
	var names []string
	for i := range groups {
		groups[i].servers = weigh(groups[i].servers, s.r.intn)
		for _, server := range groups[i].servers {
			if !slices.Contains(names, server.target) && len(names) < maxTargets {
				names = append(names, server.target)
			}
		}
	}
	addrs := make([][]netip.Addr, len(names))
	s.each(len(names), func(i int) { addrs[i] = s.addresses(ctx, names[i]) })
	found := groups[:0]
	for _, g := range groups {
		for i := range g.servers {
			if n := slices.Index(names, g.servers[i].target); n >= 0 {
				g.servers[i].addrs = addrs[n]
			}
		}
		g.servers = slices.DeleteFunc(g.servers, func(s server) bool { return len(s.addrs) == 0 })
		if len(g.servers) > 0 {
			found = append(found, g)
		}
	}
	switch {
	case len(found) > 0:
		return found, nil
	case s.failed.Load():
		return nil, ErrUnavailable
	default:
		return nil, ErrNotFound
	}
}

// addresses are those of a name in the file of hosts, or else its A and AAAA records.
func (s *search) addresses(ctx context.Context, name string) []netip.Addr {
	keep := func(addrs []netip.Addr) (kept []netip.Addr) {
		for _, a := range addrs {
			if a.Is4() && s.r.ip4 || a.Is6() && s.r.ip6 {
				kept = append(kept, a)
			}
		}
		return kept
	}
	if addrs := s.r.system.hosts(s.r.now(), name); len(addrs) > 0 {
		return keep(addrs)
	}
	if isLoopback(name) {
		return keep([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()})
	}
	var types []uint16
	if s.r.ip4 {
		types = append(types, dns.TypeA)
	}
	if s.r.ip6 {
		types = append(types, dns.TypeAAAA)
	}
	// Some servers never answer for AAAA: when one kind is there, the other one is not waited for long.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make([][]netip.Addr, len(types))
	s.each(len(types), func(i int) {
		if found[i] = s.ask(ctx, name, types[i]).addrs; len(found[i]) > 0 && !s.cached {
			time.AfterFunc(s.r.limits.grace, cancel)
		}
	})
	return slices.Concat(found...)
}

// ask is the record set with a name and type, empty if there is none or it cannot be had.
func (s *search) ask(ctx context.Context, name string, kind uint16) records {
	if !isName(name) || isReserved(name) || isLoopback(name) {
		return records{}
	}
	k := key{name, kind}
	if s.cached {
		if s.missed.Load() {
			return records{}
		}
		set, ok := s.r.fresh(k)
		if !ok {
			s.missed.Store(true)
		}
		if set.failed {
			s.failed.Store(true)
		}
		return set
	}
	set := s.r.records(ctx, k)
	if set.failed {
		s.failed.Store(true)
	}
	return set
}

// until is ctx with a deadline within that of the lookup.
func (s *search) until(ctx context.Context, after time.Duration) (context.Context, context.CancelFunc) {
	if s.cached {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, s.started.Add(after))
}

// each runs f for 0 to n-1, at the same time if it may have to wait.
func (s *search) each(n int, f func(i int)) {
	if n == 1 || s.cached {
		for i := range n {
			f(i)
		}
		return
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
