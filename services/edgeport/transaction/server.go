package transaction

import (
	"net/netip"

	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

type state uint8

const (
	calling    state = iota // client: nothing received (Calling, or Trying of a non-INVITE)
	proceeding              // client: a provisional response received; server: no final response sent
	completed               // a final response, for an INVITE one that is not 2xx
	confirmed               // INVITE server: the non-2xx was acknowledged
	accepted                // INVITE: a 2xx (RFC 6026)
	terminated
)

// Server is a server transaction (RFC 3261 17.2, RFC 6026 7.1). Its methods are called under the lock of its shard: by
// a User in a callback, by anyone else within Do.
type Server struct {
	Context any // the user's own, untouched here
	Method  message.Method

	state    state
	port     uint16 // to which responses go over UDP
	shard    *shard
	key      serverKey
	interval uint64 // ticks to the next retransmission (Timer G)
	end      uint64 // tick at which the state ends (Timers H, I, J, L)
	timer    timer
	rider    // on the flow on which the request came
	request  *message.Message
	kept     []byte // what is left of the request, see Release
	response []byte // the last response, for retransmissions
}

func (s *shard) newServer(key serverKey, flow transport.Flow, m *message.Message) {
	tx := &Server{Method: m.Method(), shard: s, key: key, rider: rider{flow: flow}, port: replyPort(flow, m.TopVia()), state: proceeding, request: m.Clone()}
	tx.timer.owner, tx.rider.owner = tx, tx
	s.servers[key] = tx
	s.layer.counts.Servers.Add(1)
	if tx.Method == message.INVITE {
		s.riders.board(&tx.rider)
		tx.Respond(100, "", nil, nil) // 17.2.1: at once, as the decision may take longer than 200 ms
	} else {
		s.wheel.set(&tx.timer, s.wheel.now+1+7*s.layer.t1) // RFC 4320 4.1: when the client's Timer E reaches T2
	}
	s.layer.user.Request(tx, m)
}

// Do runs f under the lock of the transaction's shard. It must not be called under that lock.
func (tx *Server) Do(f func()) {
	tx.shard.mu.Lock()
	f()
	tx.shard.unlock()
}

// After runs f when the lock is released. It is for what may block or may come back to this shard.
func (tx *Server) After(f func()) { tx.shard.after = append(tx.shard.after, f) }

// Request is the transaction's own copy of the request, or after Release what is left of it; nil once a final response
// was sent.
func (tx *Server) Request() *message.Message {
	if tx.kept != nil {
		// It was written from a message that was read: it can be read.
		tx.request, _ = reparse(tx.kept)
		tx.kept = nil
	}
	return tx.request
}

// Release says that the request will not be forwarded any more. After a while, in which most calls are answered, only
// what its own responses take from an INVITE is kept: many may ring for minutes.
func (tx *Server) Release() {
	if tx.Method == message.INVITE && tx.state == proceeding {
		tx.shard.wheel.set(&tx.timer, tx.shard.wheel.now+1+tx.shard.layer.t4)
	}
}

// Flow is the flow on which the request came.
func (tx *Server) Flow() transport.Flow { return tx.flow }

// Open says whether a final response may still be sent.
func (tx *Server) Open() bool { return tx.state == proceeding }

// Respond answers with a response of our own (RFC 3261 8.2.6). An empty reason is that of the RFC.
func (tx *Server) Respond(status int, reason string, headers []message.Field, body []byte) {
	req := tx.Request()
	if req == nil {
		return
	}
	tag := ""
	if status != 100 {
		tag = tx.toTag()
	}
	tx.shard.buf = appendResponse(tx.shard.buf[:0], tx.flow, req, status, reason, tag, headers, body)
	tx.Send(status, tx.shard.buf)
}

// Send sends a response to the client; data is copied where it must be kept. A response that the state does not allow
// is dropped: a second final one, or a provisional one after it. A 2xx to an INVITE always goes, whatever went before
// (RFC 3261 16.7 step 5, RFC 6026 7.1). Dropped is, too, what nobody may send to a request that is not an
// INVITE (RFC 4320 4): a provisional one but 100, and 408, which ends the transaction all the same. One that is too large
// for the flow would be lost: a final one becomes a 502, so that the client hears of it, and others are dropped.
func (tx *Server) Send(status int, data []byte) {
	s := tx.shard
	if !tx.flow.Carries(len(data)) {
		s.layer.counts.TooLarge.Add(1)
		if status < 200 || tx.state != proceeding {
			return
		}
		status = 502
		s.buf = appendResponse(s.buf[:0], tx.flow, tx.Request(), status, "", tx.toTag(), nil, nil)
		data = s.buf
	}
	switch {
	case tx.state != proceeding && tx.Method == message.INVITE && status/100 == 2: // another 2xx, sent again, or late
		tx.transmit(data)
		return
	case tx.state != proceeding, tx.Method != message.INVITE && status > 100 && status < 200:
		return
	case tx.Method != message.INVITE && status == 408:
		tx.terminate() // by now the client has given up too
		return
	case status < 200:
		if !tx.flow.Protocol().Reliable() { // nobody asks for it again
			tx.response = append(tx.response[:0], data...)
		}
		tx.transmit(data)
		return
	}
	tx.transmit(data)
	s.riders.leave(&tx.rider)
	now := s.wheel.now + 1
	switch {
	case tx.Method == message.INVITE && status/100 == 2:
		// The callee retransmits its 2xx, not we; nothing but the key is needed any more.
		tx.state, tx.response = accepted, nil
		tx.end = now + s.layer.t64 // Timer L
		s.wheel.set(&tx.timer, tx.end)
	case tx.Method == message.INVITE:
		tx.state, tx.response = completed, exact(data)
		tx.end = now + s.layer.t64 // Timer H
		tx.interval = s.layer.t1   // Timer G
		if tx.flow.Protocol().Reliable() {
			s.wheel.set(&tx.timer, tx.end)
		} else {
			s.wheel.set(&tx.timer, now+tx.interval)
		}
	case tx.flow.Protocol().Reliable(): // Timer J is zero
		tx.terminate()
	default:
		tx.state, tx.response = completed, exact(data)
		tx.end = now + s.layer.t64 // Timer J
		s.wheel.set(&tx.timer, tx.end)
	}
	tx.request, tx.kept = nil, nil
	if tx.state == completed {
		tx.Context = nil // the user hears nothing more
	}
}

// retransmitted: the client sent the request again (17.2.1, 17.2.2).
func (tx *Server) retransmitted() {
	if tx.response != nil {
		tx.transmit(tx.response)
	}
}

// acknowledged: the ACK to a non-2xx arrived (17.2.1).
func (tx *Server) acknowledged() {
	if tx.state != completed {
		return
	}
	if tx.flow.Protocol().Reliable() { // Timer I is zero
		tx.terminate()
		return
	}
	tx.state, tx.response = confirmed, nil
	tx.end = tx.shard.wheel.now + 1 + tx.shard.layer.t4 // Timer I
	tx.shard.wheel.set(&tx.timer, tx.end)
}

func (tx *Server) expire(now uint64) {
	switch {
	case tx.state == proceeding && tx.Method == message.INVITE: // see Release
		if tx.request != nil {
			tx.request, tx.kept = nil, exact(message.AppendAnswerable(tx.shard.buf[:0], tx.request))
		}
		return
	case tx.state == proceeding:
		if tx.response == nil {
			tx.Respond(100, "", nil, nil)
		}
		return
	}
	if now >= tx.end {
		tx.terminate()
		return
	}
	tx.shard.layer.counts.Retransmitted.Add(1)
	tx.transmit(tx.response) // Timer G
	tx.interval = min(2*tx.interval, tx.shard.layer.t2)
	tx.shard.wheel.set(&tx.timer, min(now+tx.interval, tx.end))
}

func (tx *Server) terminate() {
	tx.shard.wheel.stop(&tx.timer)
	tx.shard.riders.leave(&tx.rider)
	delete(tx.shard.servers, tx.key)
	tx.state, tx.request, tx.kept, tx.response, tx.Context = terminated, nil, nil, nil, nil
	tx.shard.layer.counts.Servers.Add(-1)
}

func (tx *Server) transmit(data []byte) { replyFlow(tx.flow, tx.port).Send(data, nil) }

func (tx *Server) toTag() string { return tx.key.tag() }

func exact(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }

// replyPort is the port to which a response goes over UDP (RFC 3261 18.2.2, RFC 3581 4): that of the packet's source if
// the client asked for it with rport, else that of its Via. A maddr is not followed: it would let a stranger aim our
// responses.
func replyPort(flow transport.Flow, via *message.Via) uint16 {
	switch {
	case via.HasRPort:
		return flow.Remote().Port()
	case via.Port == 0:
		return 5060
	default:
		return via.Port
	}
}

// replyFlow is where a response goes: the connection of the request; over UDP the source address, and that port.
func replyFlow(flow transport.Flow, port uint16) transport.Flow {
	return flow.To(netip.AddrPortFrom(flow.Remote().Addr(), port))
}

// AppendVia appends the top Via of req with what the receiver of the request adds to it (RFC 3261 18.2.1, RFC 3581 4).
func AppendVia(dst []byte, flow transport.Flow, req *message.Message) []byte {
	source := flow.Remote()
	if !source.IsValid() { // from another EdgePort, which has done that
		return append(dst, req.TopVia().Text...)
	}
	return message.AppendVia(dst, req.TopVia(), source.Addr(), source.Port())
}

func appendResponse(dst []byte, flow transport.Flow, req *message.Message, status int, reason, toTag string, headers []message.Field, body []byte) []byte {
	var space [256]byte
	return message.AppendResponse(dst, req, &message.Response{
		Status: status, Reason: reason, ToTag: toTag, TopVia: AppendVia(space[:0], flow, req), Headers: headers, Body: body,
	})
}
