package proxy

import (
	"slices"

	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
)

// Targets with the same instance are flows to one UA (RFC 5626 7). It must not get a request twice, so only the first of
// them is tried, with the targets of its rank; the others are kept, and one takes the place of a branch that has not
// reached the UA. An answer of the UA itself is the answer, whatever it says.

// oneFlowEach splits targets, which are in the order in which they are tried, into those that are tried and the further
// flows to UAs among these, which are not. What it is given is not changed.
func oneFlowEach(targets []*processorpb.Target) (first, further []*processorpb.Target) {
	instances := 0
	for _, t := range targets {
		if t.Instance != "" {
			instances++
		}
	}
	if instances < 2 { // as most often
		return targets, nil
	}
	seen := make(map[string]bool, instances)
	for _, t := range targets {
		switch {
		case t.Instance == "":
		case seen[t.Instance]:
			further = append(further, t)
			continue
		}
		seen[t.Instance] = true
		first = append(first, t)
	}
	return first, further
}

// unreached says whether a final response tells that the UA did not get the request (RFC 5626 7).
func unreached(status int) bool { return status == 408 || status == 430 }

// nextFlow tries the next flow to the UA of b, which has not reached it and ends with status, and says whether there is
// one. A UA that rang until somebody's patience was at an end has been reached. The new branch has the breadth of b.
func (p *Proxy) nextFlow(b *branch, status int) bool {
	rc := b.context
	if b.instance == "" || status == 408 && b.rang || !rc.mayTry() {
		return false
	}
	i := slices.IndexFunc(rc.flows, func(t *processorpb.Target) bool { return t.Instance == b.instance })
	if i < 0 {
		return false
	}
	t := rc.flows[i]
	rc.flows = slices.Delete(rc.flows, i, i+1)
	next := rc.add()
	next.breadth = b.breadth
	p.forwardToTarget(next, t)
	return true
}
