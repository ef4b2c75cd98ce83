package proxy

import (
	"bytes"
	"strconv"

	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/resolver"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// responseContext is RFC 3261 16's: a server transaction, its target set, and what became of each target.
type responseContext struct {
	server    *transaction.Server
	inDialog  bool // routed by a signed Route, not dispatched
	handed    bool // by another EdgePort, for a binding of this one
	cancelled bool // the client sent a CANCEL
	over      bool // it was cancelled or decided: nothing more is tried
	mark      transaction.Mark
	breadth   int // of the request

	// What the processor decided, for a request that is not in a dialog.
	sent    *processorpb.MessageRequest
	answer  *processorpb.MessageResponse
	untried []*processorpb.Target // in the order in which they are tried
	flows   []*processorpb.Target // further flows to UAs that are tried or untried (see oneFlowEach)

	branches []*branch
	first    branch // the place of the only one that most requests have
	starting bool   // branches are being started: who fails meanwhile does not start the next ones
	best     final
	above    []byte          // the Via of the EdgePort that handed the request to us; empty: none did
	others   []message.Field // the challenges of responses that are not the best one (16.7 step 7)

	challenges int // bytes of others
}

// branch is one target of a response context: a client transaction, or what is about to become one.
type branch struct {
	context  *responseContext
	client   *transaction.Client // nil until the request was forwarded
	done     bool                // it has its final response, or never gets one
	peer     string              // the EdgePort that its Route leads to, if that is another one
	gone     []string            // those that it led to and that are not there
	handed   bool                // to the EdgePort of a binding
	rang     bool                // it had a provisional response that is more than a 100
	bound    bool                // it went on the flow of a binding or of a dialog, or to the EdgePort of one
	named    *named              // its next hop is a name; nil: an address
	breadth  int                 // its share of that of the request
	datagram *asDatagram         // it was too large for UDP; nil: it was not
	instance string              // of the target
}

// add makes a branch.
func (rc *responseContext) add() *branch {
	b := &rc.first
	if len(rc.branches) > 0 {
		b = new(branch)
	}
	b.context, b.breadth = rc, rc.breadth
	rc.branches = append(rc.branches, b)
	return b
}

// pending is how many branches have no final response.
func (rc *responseContext) pending() int {
	n := 0
	for _, b := range rc.branches {
		if !b.done {
			n++
		}
	}
	return n
}

// flowGone is the status for a target whose flow is gone: in a dialog the client is told so (RFC 5626 5.3.1), and the
// EdgePort that handed the request to us, which may know another flow to the UA.
func (rc *responseContext) flowGone() int {
	if rc.inDialog || rc.handed {
		return 430
	}
	return 480
}

// mayTry says whether the request may still be sent anywhere.
func (rc *responseContext) mayTry() bool { return rc.server.Open() && !rc.over }

// cancel cancels every branch that is pending, and tries no more.
func (rc *responseContext) cancel() {
	rc.over, rc.untried, rc.flows = true, nil, nil
	for _, b := range rc.branches {
		if !b.done && b.client != nil {
			b.client.Cancel()
		}
	}
}

// Request is RFC 3261 16.4 and the choice between the two ways on: a request of a dialog that we routed before follows
// its Route, any other is decided on the bus.
func (p *Proxy) Request(tx *transaction.Server, req *message.Message) {
	route, status := p.readRoute(tx.Flow(), req)
	rc := &responseContext{server: tx, mark: p.mark(req, route), breadth: breadthOf(req)}
	tx.Context = rc
	if tx.Flow().Protocol() == transport.Bus {
		rc.above = bytes.Clone(req.TopVia().Text)
	}
	switch {
	case status != 0:
		tx.Respond(status, "", nil, nil)
	case looped(req, rc.mark):
		p.counts.Looped.Add(1)
		tx.Respond(482, "", nil, nil)
	case route.signed && !(route.token.opens && p.draining.Load()):
		p.counts.InDialog.Add(1)
		rc.inDialog, rc.handed = !route.token.opens, route.token.opens
		p.follow(rc, route)
	case tx.Flow().Protocol() == transport.Bus && !route.signed:
		tx.Respond(403, "", nil, nil) // of another version, or with other keys
	case p.draining.Load() && len(req.ToTag()) == 0:
		p.refuseNew(tx)
	default:
		p.counts.Dispatched.Add(1)
		p.dispatch(rc)
	}
}

// Cancel is RFC 3261 16.10, and what happens when who sent the INVITE is gone. A request that was not forwarded yet ends here; its decision will find it closed.
func (p *Proxy) Cancel(tx *transaction.Server) {
	rc := tx.Context.(*responseContext)
	rc.cancelled = true
	rc.cancel()
	for _, b := range rc.branches {
		if b.client == nil {
			b.done = true // its next hop is still being resolved
		}
	}
	if rc.pending() == 0 {
		tx.Respond(487, "", nil, nil)
	}
}

// Ack is the ACK to a 2xx, which has no transaction (RFC 3261 13.2.2.4, 16.11). It follows its Route, or ends here.
func (p *Proxy) Ack(flow transport.Flow, ack *message.Message) {
	route, status := p.readRoute(flow, ack)
	for gone := []string(nil); p.peers.isGone(route.peer); { // as its INVITE did, see goAround
		gone = append(gone, route.peer)
		route, status = p.readRoute(flow, ack, gone...)
	}
	handed := flow.Protocol() == transport.Bus // with who did that we are one hop
	if status != 0 || !route.signed || route.token.opens || !handed && exhausted(ack) {
		p.counts.StrayAcks.Add(1)
		return
	}
	to, err := p.nextHop(ack, route)
	if err != nil {
		p.counts.StrayAcks.Add(1)
		return
	}
	if to.name.Host == "" {
		if !p.sendAck(flow, ack, route, to) {
			p.counts.StrayAcks.Add(1)
		}
		return
	}
	own := ack.Clone()
	p.resolver.Lookup(to.name, func(found []resolver.Candidate, err error) {
		for _, at := range found {
			if p.sendAck(flow, own, route, address{protocol: at.Protocol, addr: at.Addr, server: at.ServerName}) {
				return
			}
		}
		p.counts.StrayAcks.Add(1)
	})
}

func (p *Proxy) sendAck(flow transport.Flow, ack *message.Message, route route, to address) bool {
	if isSips(ack.RequestURI()) && p.insecure(to) {
		return false
	}
	out, err := p.connect(to)
	if err != nil {
		return false
	}
	s := p.scratch.Get().(*scratch)
	c := copyOf{request: ack, from: flow, to: out, route: route, branch: p.ackBranch(ack)}
	p.write(s, c)
	if tcp, ok := p.stream(to, out, len(s.buf)); ok {
		p.sendLargeAck(s, c, tcp)
	} else {
		out.Send(s.buf, nil)
	}
	p.scratch.Put(s)
	return true
}

// retryAfter is how long a client should wait after a 503, in seconds: spread, so that they do not come back at once.
func retryAfter(callID []byte) []message.Field {
	seconds := 5 + tagHash(callID)%11
	return []message.Field{{Name: "Retry-After", Value: strconv.Itoa(int(seconds))}}
}
