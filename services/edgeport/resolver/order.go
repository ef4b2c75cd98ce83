package resolver

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// order makes candidates of groups: by priority, by chance and weight within one, and those that failed of late last.
func (r *Resolver) order(groups []group, name string) []Candidate {
	now := r.now()
	var live, dead []Candidate
	seen := make(map[place]bool)
	for _, g := range groups {
		for _, s := range weigh(g.servers, r.intn) {
			for _, a := range r.arrange(now, s.addrs) {
				c := Candidate{Protocol: g.protocol, Addr: netip.AddrPortFrom(a, s.port), ServerName: name}
				if seen[placeOf(c)] || len(seen) == maxCandidates {
					continue
				}
				seen[placeOf(c)] = true
				if r.dead.has(c, now) {
					r.Counts.Deferred.Add(1)
					dead = append(dead, c)
				} else {
					live = append(live, c)
				}
			}
		}
	}
	return append(live, dead...)
}

// weigh puts servers in the order of RFC 2782, in a new slice: by priority, and within one by chance, so that each
// comes first as often as its weight says.
func weigh(servers []server, intn func(int) int) []server {
	rest := slices.Clone(servers)
	shuffle(rest, intn) // of several with no weight each may be the first
	slices.SortStableFunc(rest, func(a, b server) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(min(a.weight, 1), min(b.weight, 1)))
	})
	out := make([]server, 0, len(rest))
	for len(rest) > 0 {
		n, sum := 0, 0 // of the records with the first priority
		for n < len(rest) && rest[n].priority == rest[0].priority {
			sum += int(rest[n].weight)
			n++
		}
		dice, pick := intn(sum+1), 0
		for running := int(rest[0].weight); running < dice; running += int(rest[pick].weight) {
			pick++
		}
		out = append(out, rest[pick])
		rest = slices.Delete(rest, pick, pick+1)
	}
	return out
}

// arrange puts the addresses of one server in the order to try: IPv6 first if this host can send it (RFC 6724), and by
// chance within each, so that cached addresses share the load.
func (r *Resolver) arrange(now time.Time, addrs []netip.Addr) []netip.Addr {
	if len(addrs) < 2 {
		return addrs
	}
	out := slices.Clone(addrs)
	shuffle(out, r.intn)
	six := r.ip6 && r.system.sends6(now)
	slices.SortStableFunc(out, func(a, b netip.Addr) int {
		switch {
		case a.Is6() == b.Is6():
			return 0
		case a.Is6() == six:
			return -1
		default:
			return 1
		}
	})
	return out
}

func shuffle[T any](s []T, intn func(int) int) {
	for i := len(s) - 1; i > 0; i-- {
		j := intn(i + 1)
		s[i], s[j] = s[j], s[i]
	}
}
