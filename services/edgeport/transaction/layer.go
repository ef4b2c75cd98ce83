// Package transaction is the transaction layer of RFC 3261 section 17, with the corrections of RFC 6026, for a proxy.
//
// Transactions live in shards, chosen by Call-ID, so that the server and the client transactions of one call share a
// shard. Whoever brings an event - the goroutine that read a packet, the callback of a bus reply, the ticker of the
// timer wheel - takes the shard's lock, runs the state machine to completion and writes the result. No transaction has
// a goroutine, a timer or a channel of its own. Nothing under the lock may block: what could (a call on the bus) is
// left to After and runs when the lock is released.
//
// The layer never decides where a request goes; that is its User, the proxy.
package transaction

import (
	"context"
	crand "crypto/rand"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// User is what the transaction layer calls, always under the lock of the shard. A message is valid only during the
// call; Server.Request is the transaction's own copy.
type User interface {
	// Request is told of each new server transaction, once. Retransmissions never get here.
	Request(tx *Server, req *message.Message)
	// Ack is told of an ACK that ends no server transaction: it acknowledges a 2xx, and goes end to end.
	Ack(flow transport.Flow, ack *message.Message)
	// Cancel is told that the client cancels tx, which has no final response yet; the CANCEL itself is answered. Or that
	// the connection or the EdgePort that brought tx is gone: nobody would hear the answer, so no phone is to ring for it.
	Cancel(tx *Server)
	// Response is told of every response that RFC 3261 17.1 passes to the transaction user: each provisional, one final,
	// and each 2xx to an INVITE. Responses to a CANCEL stay in the layer.
	Response(tx *Client, resp *message.Message)
	// Failed is told once that there is no final response: tx has ended, or nothing has come of its CANCEL.
	Failed(tx *Client, cause Cause)
}

// Cause is why a client transaction failed.
type Cause uint8

const (
	// Timeout: no final response came in time (Timers B, F, C).
	Timeout Cause = iota
	// TransportError: the request could not be sent (RFC 3261 17.1.4), or the flow that it went on is gone.
	TransportError
	// Unanswered: an INVITE has no final response 4*T1 after its CANCEL. The transaction lives on until 64*T1: what comes
	// late is acknowledged, and Response is told of it.
	Unanswered
)

// Timers are the base values of RFC 3261 17.1.1.1; the others follow from them.
type Timers struct {
	T1 time.Duration // round-trip time estimate
	T2 time.Duration // longest interval between retransmissions
	T4 time.Duration // how long a message stays in the network
	C  time.Duration // how long an INVITE may ring without a provisional response (RFC 3261 16.6 step 11)
}

// DefaultTimers are RFC 3261's.
func DefaultTimers() Timers {
	return Timers{T1: 500 * time.Millisecond, T2: 4 * time.Second, T4: 5 * time.Second, C: 185 * time.Second}
}

const shardCount = 64 // a power of two

// Layer holds the transactions of one EdgePort.
type Layer struct {
	user   User
	seed   [2]maphash.Seed
	start  time.Time
	shards [shardCount]shard

	// Timers in ticks of the wheel.
	t1, t2, t4, t64, tC uint64

	looked atomic.Uint64 // the tick at which Run has been through all shards
	counts Counts
}

// Counts are totals since New, for telemetry.
type Counts struct {
	Servers, Clients             atomic.Int64 // live transactions
	Retransmitted                atomic.Int64 // requests we sent again
	Absorbed                     atomic.Int64 // retransmissions of peers that went no further
	StrayResponses, StrayCancels atomic.Int64 // RFC 6026: matched nothing, dropped
	TimedOut, TransportErrors    atomic.Int64
	TooLarge                     atomic.Int64 // responses that no datagram can carry: dropped, a final one made a 502
}

// shard is a part of the transactions and what works on them under one lock.
type shard struct {
	layer   *Layer
	mu      sync.Mutex
	servers map[serverKey]*Server
	clients map[uint64]*Client // by the number in our branch; an INVITE's CANCEL by that number + 1
	riders  riders
	wheel   wheel
	rand    *rand.ChaCha8
	buf     []byte   // scratch of whoever holds the lock
	after   []func() // to run when the lock is released
	_       [64]byte // keeps the locks of neighbours off one cache line
}

// New makes an empty layer. Run drives its timers.
func New(user User, timers Timers) *Layer {
	l := &Layer{user: user, seed: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, start: time.Now()}
	l.t1, l.t2, l.t4, l.tC = ticks(timers.T1), ticks(timers.T2), ticks(timers.T4), ticks(timers.C)
	l.t64 = 64 * l.t1
	for i := range l.shards {
		s := &l.shards[i]
		var seed [32]byte
		_, _ = crand.Read(seed[:]) // it never fails
		*s = shard{layer: l, servers: map[serverKey]*Server{}, clients: map[uint64]*Client{}, riders: riders{}, rand: rand.NewChaCha8(seed)}
	}
	return l
}

// Counts are the layer's totals.
func (l *Layer) Counts() *Counts { return &l.counts }

// Run drives the timers until ctx ends.
func (l *Layer) Run(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			now := l.now()
			for i := range l.shards {
				s := &l.shards[i]
				s.mu.Lock()
				s.wheel.advance(now)
				s.unlock()
			}
			l.looked.Store(now)
		}
	}
}

// now is the time in ticks of the wheel. It is monotonic.
func (l *Layer) now() uint64 { return uint64(time.Since(l.start) / tick) }

// Receive takes a message from the network. m is valid until Receive returns; it runs to completion.
func (l *Layer) Receive(flow transport.Flow, m *message.Message) {
	s := l.shard(m.CallID())
	s.mu.Lock()
	if m.IsRequest() {
		s.request(flow, m)
	} else {
		s.response(m)
	}
	s.unlock()
}

func (l *Layer) shard(callID []byte) *shard {
	return &l.shards[maphash.Bytes(l.seed[0], callID)&(shardCount-1)]
}

// unlock releases the lock and then runs what was left for this moment.
func (s *shard) unlock() {
	after := s.after
	s.after = nil
	s.mu.Unlock()
	for _, f := range after {
		f()
	}
}

// request is RFC 3261 17.2.3 and 9.2: matching of a request to a server transaction.
func (s *shard) request(flow transport.Flow, m *message.Message) {
	switch m.Method() {
	case message.ACK:
		tx := s.servers[s.layer.serverKey(flow, m, message.INVITE)]
		if tx == nil || tx.state == accepted {
			s.layer.user.Ack(flow, m)
			return
		}
		tx.acknowledged()
	case message.CANCEL:
		tx := s.servers[s.layer.serverKey(flow, m, message.INVITE)]
		if tx == nil {
			s.layer.counts.StrayCancels.Add(1)
			s.respondStateless(flow, m, 481, "")
			return
		}
		// Answered without a transaction of its own: a retransmitted CANCEL gets the same answer again.
		s.respondStateless(flow, m, 200, tx.toTag())
		if tx.state == proceeding {
			s.layer.user.Cancel(tx)
		}
	default:
		key := s.layer.serverKey(flow, m, m.Method())
		if tx := s.servers[key]; tx != nil {
			s.layer.counts.Absorbed.Add(1)
			tx.retransmitted()
			return
		}
		s.newServer(key, flow, m)
	}
}

// response is RFC 3261 17.1.3: matching of a response to a client transaction.
func (s *shard) response(m *message.Message) {
	id, ok := branchID(m.TopVia().Branch)
	if ok && m.CSeqMethod() == message.CANCEL {
		id++
	}
	tx := s.clients[id]
	if !ok || tx == nil || tx.Method != m.CSeqMethod() {
		s.layer.counts.StrayResponses.Add(1)
		return
	}
	tx.receive(m)
}

// Respond answers a request statelessly: nothing is kept, and a retransmission of the request is answered anew. It is
// for requests that never became a transaction.
func (l *Layer) Respond(flow transport.Flow, req *message.Message, status int, headers ...message.Field) {
	s := l.shard(req.CallID())
	s.mu.Lock()
	s.respondStateless(flow, req, status, "", headers...)
	s.unlock()
}

func (s *shard) respondStateless(flow transport.Flow, req *message.Message, status int, toTag string, headers ...message.Field) {
	if toTag == "" {
		toTag = s.layer.serverKey(flow, req, req.Method()).tag()
	}
	s.buf = appendResponse(s.buf[:0], flow, req, status, "", toTag, headers, nil)
	replyFlow(flow, replyPort(flow, req.TopVia())).Send(s.buf, nil)
}
