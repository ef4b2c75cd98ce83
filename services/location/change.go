package location

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/routr-fabric/routr/bus"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
)

// maxContacts is how many bindings an AOR may have, whoever asks for more.
const maxContacts = 1000

// change is what an AddRouteRequest, a RemoveRoutesRequest or a FlowClosed asks for, ready to be applied.
type change struct {
	set       []*binding // to add or refresh, or to remove where they have expired
	removeAll bool
	callID    string // with removeAll; empty: no REGISTER, no order
	cSeq      uint32
	max       int // how many bindings the AOR may have
	now       int64
	one       [1]*binding // the memory of set where it has one, as most often
	closed    *closedFlow // instead of all that: a flow that has ended
}

// newChange checks req. An error has the code InvalidArgument.
func newChange(req *locationpb.AddRouteRequest, now int64, edges *edgePorts) (*change, error) {
	c := &change{removeAll: req.RemoveAll, callID: req.CallId, cSeq: req.CSeq, max: maxContacts, now: now}
	if req.MaxContacts > 0 {
		c.max = min(maxContacts, int(req.MaxContacts))
	}
	n := len(req.Routes)
	if req.Route != nil {
		n++
	}
	switch {
	case req.RemoveAll && n > 0:
		return nil, bus.Errorf(bus.InvalidArgument, "remove_all comes with %d routes, want none", n)
	case req.RemoveAll:
		return c, nil
	case n == 0:
		return nil, bus.Errorf(bus.InvalidArgument, "no route is given, want route, routes or remove_all")
	case n > maxContacts:
		return nil, bus.Errorf(bus.InvalidArgument, "exceeds maximum of %d allowed contacts", maxContacts)
	}
	c.set = c.one[:0]
	if n > 1 {
		c.set = make([]*binding, 0, n)
	}
	add := func(r *locationpb.Route) error {
		b, err := newBinding(r, now, edges)
		c.set = append(c.set, b)
		return err
	}
	if req.Route != nil {
		if err := add(req.Route); err != nil {
			return nil, err
		}
	}
	for _, r := range req.Routes {
		if err := add(r); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// apply makes the next bindings of an AOR from its old ones: all of the change or, with an error, none of it (RFC 3261
// 10.3 step 7). They stand in the order in which a request tries them: the highest q first, then the newest. changed is
// false if there is nothing to write. It may run again, on other old bindings.
//
// An error has the code FailedPrecondition for a REGISTER that is older than a binding it names: the same Call-ID and a
// CSeq that is not higher. A retransmission – equal CSeq, the same contents – is no error and changes nothing, since
// the answer to the first one may be lost. A contact over the limit has the code InvalidArgument.
func (c *change) apply(old []*binding) (next []*binding, changed bool, err error) {
	if c.closed != nil {
		return c.closed.apply(old, c.now)
	}
	if c.removeAll {
		for _, b := range old {
			if b.expires > c.now && c.callID != "" && c.callID == b.route.CallId && c.cSeq <= b.route.CSeq {
				return nil, false, outOfOrder(b, c.cSeq)
			}
		}
		return nil, len(old) > 0, nil
	}

	next = make([]*binding, 0, len(old)+len(c.set))
	for _, b := range old {
		if b.expires > c.now {
			next = append(next, b)
		}
	}
	added := 0
	for _, b := range c.set {
		var found, again bool
		if next, found, again, err = c.displace(next, b); err != nil {
			return nil, false, err
		}
		switch {
		case again:
		case b.expires <= c.now:
			changed = changed || found
		default:
			changed = true
			next = append(next, b)
			if !found {
				b.turn = new(atomic.Uint64)
				added++
			}
		}
	}
	if added > 0 && len(next) > c.max {
		return nil, false, bus.Errorf(bus.InvalidArgument, "exceeds maximum of %d allowed contacts", c.max)
	}
	c.order(next)
	return next, changed, nil
}

// displace takes from list what b takes the place of. found: there was such a binding. again: b only repeats it, and
// it stays.
func (c *change) displace(list []*binding, b *binding) (rest []*binding, found, again bool, err error) {
	b.identify(list)
	rest = list[:0]
	for _, o := range list {
		if !same(o, b) {
			rest = append(rest, o)
			continue
		}
		found = true
		// RFC 3261 10.3 step 7; of two equal contacts in one REGISTER the later one counts.
		if o.route.CallId != "" && o.route.CallId == b.route.CallId && b.route.CSeq <= o.route.CSeq &&
			!slices.Contains(c.set, o) {
			if !repeats(b, o) {
				return nil, false, false, outOfOrder(o, b.route.CSeq)
			}
			again = true
			rest = append(rest, o)
			continue
		}
		b.inherit(o)
	}
	return rest, found, again, nil
}

// order sorts list, in which the bindings that are new stand last.
func (c *change) order(list []*binding) {
	if len(list) < 2 {
		return
	}
	// New ones first, so that a stable sort leaves them there among bindings of the same millisecond.
	if k := slices.IndexFunc(list, func(b *binding) bool { return slices.Contains(c.set, b) }); k > 0 {
		slices.Reverse(list[:k])
		slices.Reverse(list[k:])
		slices.Reverse(list)
	}
	slices.SortStableFunc(list, func(a, b *binding) int {
		return cmp.Or(cmp.Compare(b.q(), a.q()), cmp.Compare(b.route.RegisteredOn, a.route.RegisteredOn))
	})
}

func outOfOrder(b *binding, cSeq uint32) error {
	return bus.Errorf(bus.FailedPrecondition,
		"c_seq %d of the same call_id made the binding, want a higher one than %d", b.route.CSeq, cSeq)
}
