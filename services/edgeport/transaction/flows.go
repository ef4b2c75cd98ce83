package transaction

import (
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// riders are the transactions of a shard that a flow carries and that end with it: client transactions without a final
// response, and server transactions of INVITEs that have not sent one. UDP flows are not listed, as they do not end.
type riders map[transport.Flow]*rider

// rider is part of such a transaction.
type rider struct {
	flow       transport.Flow
	prev, next *rider
	listed     bool
	owner      passenger
}

// passenger is a transaction as its flow sees it.
type passenger interface {
	flowClosed()
	flowRenewed()
}

// board puts r, whose flow and owner are set, into the list of its flow.
func (rs riders) board(r *rider) {
	if r.flow.Protocol() == transport.UDP {
		return
	}
	if r.next = rs[r.flow]; r.next != nil {
		r.next.prev = r
	}
	rs[r.flow], r.listed = r, true
}

// leave takes r out of its list, if it is in one.
func (rs riders) leave(r *rider) {
	if !r.listed {
		return
	}
	if r.next != nil {
		r.next.prev = r.prev
	}
	switch {
	case r.prev != nil:
		r.prev.next = r.next
	case r.next != nil:
		rs[r.flow] = r.next
	default:
		delete(rs, r.flow)
	}
	r.prev, r.next, r.listed = nil, nil, false
}

// FlowClosed ends what rides on a flow on which nothing will arrive any more: client transactions fail, as their
// responses cannot come, and the user is told of the INVITEs that it brought. What is sent on the flow from then on is
// none of it. FlowClosed must not be called under the lock of a shard.
func (l *Layer) FlowClosed(flow transport.Flow) { l.tell(flow, passenger.flowClosed) }

// FlowRenewed is FlowClosed for a flow at whose other end a new one has taken the place of the old one, which is lost
// with all that it had begun. A request that nobody has answered is sent again: the new one takes it, or knows it for a
// retransmission if it has it already.
func (l *Layer) FlowRenewed(flow transport.Flow) { l.tell(flow, passenger.flowRenewed) }

func (l *Layer) tell(flow transport.Flow, what func(passenger)) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		var ends []*rider
		for r := s.riders[flow]; r != nil; r = r.next {
			ends = append(ends, r)
		}
		for _, r := range ends { // those that are left: each may end others
			if r.listed {
				what(r.owner)
			}
		}
		s.unlock()
	}
}

func (tx *Client) flowClosed() {
	tx.shard.riders.leave(&tx.rider)
	tx.shard.layer.counts.TransportErrors.Add(1)
	if tx.flow.Protocol() == transport.Bus && tx.Method == message.INVITE && tx.cancel != cancelled {
		tx.sendCancel() // an EdgePort that was started anew may have the request, and must not let a phone ring for nobody
	}
	tx.fail(TransportError)
}

func (tx *Client) flowRenewed() {
	if tx.state == calling {
		tx.flow.Send(tx.request, tx.sendFailed)
	} else {
		tx.flowClosed()
	}
}

func (tx *Server) flowClosed() {
	tx.shard.riders.leave(&tx.rider)
	tx.shard.layer.user.Cancel(tx)
}

func (tx *Server) flowRenewed() { tx.flowClosed() }
