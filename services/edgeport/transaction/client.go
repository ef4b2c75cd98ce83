package transaction

import (
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// Client is a client transaction (RFC 3261 17.1, RFC 6026 7.2). Its methods are called under the lock of its shard.
type Client struct {
	Context any // the user's own, untouched here
	Method  message.Method

	state    state
	cancel   cancelState
	overdue  bool // the user was told that nothing has come of the CANCEL
	shard    *shard
	id       uint64 // the number in the branch; one more for the CANCEL of an INVITE
	interval uint64 // ticks to the next retransmission (Timers A, E)
	end      uint64 // tick at which the state ends (Timers B, F, C, D, K, M)
	timer    timer
	rider           // on the flow that the request went on
	request  []byte // as sent; of an INVITE that rings, its CANCEL; once it is completed, the ACK
}

type cancelState uint8

const (
	notCancelled cancelState = iota
	toCancel                 // when a provisional response comes (RFC 3261 9.1)
	cancelled
)

// NewBranch draws the branch of a client transaction that tx will forward the request in.
func (tx *Server) NewBranch() Branch { return Branch(tx.shard.rand.Uint64() &^ 1) }

// Forward sends a request in a new client transaction. data, whose top Via has the branch, belongs to the transaction
// from now on.
func (tx *Server) Forward(branch Branch, flow transport.Flow, data []byte, context any) *Client {
	return tx.shard.newClient(uint64(branch), tx.Method, flow, data, context)
}

func (s *shard) newClient(id uint64, method message.Method, flow transport.Flow, data []byte, context any) *Client {
	tx := &Client{Method: method, Context: context, shard: s, id: id, rider: rider{flow: flow}, request: data, interval: s.layer.t1}
	tx.timer.owner, tx.rider.owner = tx, tx
	s.clients[id] = tx
	s.riders.board(&tx.rider)
	s.layer.counts.Clients.Add(1)
	now := s.wheel.now + 1
	tx.end = now + s.layer.t64 // Timers B, F
	if flow.Protocol().Reliable() {
		s.wheel.set(&tx.timer, tx.end)
	} else {
		s.wheel.set(&tx.timer, now+tx.interval)
	}
	flow.Send(data, tx.sendFailed)
	return tx
}

// Flow is where the request went.
func (tx *Client) Flow() transport.Flow { return tx.flow }

// Done says whether a final response came, or none can any more.
func (tx *Client) Done() bool { return tx.state >= completed }

// Cancel asks the callee to stop an INVITE: at once if it has answered anything yet, else as soon as it does (RFC 3261
// 9.1). The INVITE ends with the callee's final response, or after 64*T1. If none has come 4*T1 after the CANCEL the user
// is told that it is unanswered.
func (tx *Client) Cancel() {
	switch {
	case tx.Method != message.INVITE || tx.cancel == cancelled:
	case tx.state == calling:
		tx.cancel = toCancel
	case tx.state == proceeding:
		tx.sendCancel()
	}
}

func (tx *Client) sendCancel() {
	s := tx.shard
	tx.cancel = cancelled
	now := s.wheel.now + 1
	tx.end = now + s.layer.t64
	s.wheel.set(&tx.timer, now+4*s.layer.t1)
	if invite, ok := tx.sent(); ok {
		s.newClient(tx.id+1, message.CANCEL, tx.flow, message.AppendCancel(nil, invite), nil)
	}
}

// sent parses the request as it was sent, or its CANCEL, which has all that an ACK or a CANCEL takes from it.
func (tx *Client) sent() (*message.Message, bool) {
	m, err := reparse(tx.request)
	return m, err == nil
}

// shrink lets go of most of an INVITE that rings. It will not be sent again, and many may ring for minutes.
func (tx *Client) shrink() {
	if invite, ok := tx.sent(); ok && invite.Method() == message.INVITE {
		tx.request = exact(message.AppendCancel(nil, invite))
	}
}

// reparse reads what was taken in with its limits, and what the proxy has added to that.
func reparse(data []byte) (*message.Message, error) {
	m := new(message.Message)
	err := m.Parse(data, message.OwnLimits())
	return m, err
}

// receive takes a response that matches tx.
func (tx *Client) receive(m *message.Message) {
	s := tx.shard
	status := m.Status()
	switch {
	case tx.state == accepted:
		if status/100 != 2 {
			return
		}
	case tx.state == completed:
		if tx.Method == message.INVITE && status >= 300 {
			tx.flow.Send(tx.request, nil) // the ACK again
		}
		return
	case status < 200:
		tx.provisional(status)
	case tx.Method != message.INVITE:
		tx.finish(completed, s.layer.t4) // Timer K
		tx.request = nil
	case status < 300:
		tx.finish(accepted, s.layer.t64) // Timer M
		tx.request = nil
	default:
		if invite, ok := tx.sent(); ok {
			tx.request = message.AppendAck(nil, invite, m) // 17.1.1.3
			tx.flow.Send(tx.request, nil)
		}
		tx.finish(completed, s.layer.t64) // Timer D
	}
	if tx.Method != message.CANCEL {
		s.layer.user.Response(tx, m)
	}
	if tx.state == completed {
		tx.Context = nil // the user hears nothing more
	}
}

// provisional: the callee is at work. An INVITE is not sent again, and may ring until Timer C; any other request is
// sent at the longest interval (17.1.2.2).
func (tx *Client) provisional(status int) {
	s := tx.shard
	first := tx.state == calling
	tx.state = proceeding
	switch {
	case tx.Method != message.INVITE:
		tx.interval = s.layer.t2
	case tx.cancel == toCancel:
		tx.sendCancel()
	case tx.cancel == notCancelled && (first || status > 100):
		now := s.wheel.now + 1
		tx.end = now + s.layer.tC
		s.wheel.set(&tx.timer, min(now+s.layer.t4, tx.end)) // see shrink
	}
}

// finish enters a state that only absorbs what may still come. Over a reliable transport nothing may, except to an
// INVITE that was answered with 2xx: the state then ends with the next tick.
func (tx *Client) finish(to state, hold uint64) {
	if tx.flow.Protocol().Reliable() && to != accepted {
		hold = 0
	}
	tx.state = to
	tx.shard.riders.leave(&tx.rider)
	tx.end = tx.shard.wheel.now + 1 + hold
	tx.shard.wheel.set(&tx.timer, tx.end)
}

func (tx *Client) expire(now uint64) {
	s := tx.shard
	switch {
	case tx.state >= completed:
		tx.terminate()
	case tx.cancel == cancelled && !tx.overdue && now < tx.end: // some never send the 487 that they owe; no caller should wait 64*T1 for it
		tx.overdue = true
		s.wheel.set(&tx.timer, tx.end)
		s.layer.user.Failed(tx, Unanswered)
	case now < tx.end && tx.Method == message.INVITE && tx.state == proceeding:
		tx.shrink()
		s.wheel.set(&tx.timer, tx.end)
	case now < tx.end: // Timers A, E
		s.layer.counts.Retransmitted.Add(1)
		tx.flow.Send(tx.request, nil)
		tx.interval *= 2
		if tx.Method != message.INVITE {
			tx.interval = min(tx.interval, s.layer.t2)
		}
		s.wheel.set(&tx.timer, min(now+tx.interval, tx.end))
	case tx.Method == message.INVITE && tx.state == proceeding && tx.cancel == notCancelled: // Timer C, 16.8
		tx.sendCancel()
	default: // Timers B, F, or no final response to a cancelled INVITE
		s.layer.counts.TimedOut.Add(1)
		tx.fail(Timeout)
	}
}

// sendFailed is told by the transport, on a goroutine of its own, that the request could not be sent.
func (tx *Client) sendFailed(error) {
	s := tx.shard
	s.mu.Lock()
	if tx.state == calling {
		s.layer.counts.TransportErrors.Add(1)
		tx.fail(TransportError)
	}
	s.unlock()
}

func (tx *Client) fail(cause Cause) {
	tx.state = terminated
	if tx.Method != message.CANCEL && !tx.overdue {
		tx.shard.layer.user.Failed(tx, cause)
	}
	tx.terminate()
}

func (tx *Client) terminate() {
	s := tx.shard
	s.wheel.stop(&tx.timer)
	s.riders.leave(&tx.rider)
	delete(s.clients, tx.id)
	tx.state, tx.request, tx.Context = terminated, nil, nil
	s.layer.counts.Clients.Add(-1)
}
