package location

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/routr-fabric/routr/bus"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
)

// maxClosed is how many ends of flows may wait to be applied: an EdgePort that stops loses all of its connections at
// once, and there is nobody who would tell again.
const maxClosed = 1 << 16

// flowClosed serves FlowClosed.
func (s *Service) flowClosed(ctx context.Context, r *bus.Request) {
	s.answer(opFlowClosed, r, &emptypb.Empty{}, s.closeFlow(ctx, r.Body))
}

// closeFlow applies the end of a flow to each of the addresses-of-record on its own: one that cannot be reached or is
// none does not keep the others from it.
func (s *Service) closeFlow(ctx context.Context, body bus.Body) error {
	req, err := bus.Decode[locationpb.FlowClosed](body)
	if err != nil {
		return err
	}
	switch {
	case req.Flow == "": // which is what bindings without a flow have
		return bus.Errorf(bus.InvalidArgument, "flow is empty, want the flow that has ended")
	case len(req.Aors) > maxElements:
		return bus.Errorf(bus.InvalidArgument, "flow %s comes with %d aors, want at most %d", req.Flow, len(req.Aors), maxElements)
	}
	c := change{closed: &closedFlow{edgePort: req.EdgePortRef, flow: req.Flow, edges: s.edges}, now: time.Now().UnixMilli()}
	var first error
	for _, aor := range req.Aors {
		aor, err := canonicalAOR(aor)
		if err == nil {
			_, err = s.store.update(ctx, aor, &c)
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// closedFlow is a flow that has ended, as a change.
type closedFlow struct {
	edgePort, flow string
	edges          *edgePorts
}

// apply is change.apply: the bindings on the flow go, or lose it if they can be reached without it. changed is false if
// there is none, as after a refresh on another flow.
func (f *closedFlow) apply(old []*binding, now int64) (next []*binding, changed bool, err error) {
	next = make([]*binding, 0, len(old))
	for _, b := range old {
		switch {
		case b.route.Flow != f.flow || b.route.EdgePortRef != f.edgePort:
			next = append(next, b)
			continue
		case b.route.Dialable:
			r := proto.CloneOf(b.route) // others see the old one
			r.Flow = ""
			without, err := newBinding(r, now, f.edges)
			if err != nil {
				return nil, false, err
			}
			without.contact = b.contact
			without.inherit(b)
			next = append(next, without)
		}
		changed = true
	}
	return next, changed, nil
}
