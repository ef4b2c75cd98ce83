package proxy

import (
	"slices"
	"strconv"

	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// responseContext is RFC 3261 16's: a server transaction and what was made of its request.
type responseContext struct {
	server    *transaction.Server
	client    *transaction.Client // nil until the request was forwarded
	inDialog  bool                // routed by a signed Route, not dispatched
	cancelled bool                // the client sent a CANCEL
}

// Request is RFC 3261 16.4 and the choice between the two ways on: a request of a dialog that we routed before follows
// its Route, any other is decided on the bus.
func (p *Proxy) Request(tx *transaction.Server, req *message.Message) {
	rc := &responseContext{server: tx}
	tx.Context = rc
	route, status := p.readRoute(tx.Flow(), req)
	switch {
	case status != 0:
		tx.Respond(status, "", nil, nil)
	case route.signed:
		p.counts.InDialog.Add(1)
		rc.inDialog = true
		p.follow(rc, route)
	case p.draining.Load():
		tx.Respond(503, "", retryAfter(req.CallID()), nil)
	default:
		p.counts.Dispatched.Add(1)
		p.dispatch(rc)
	}
}

// Response is RFC 3261 16.7: the response goes back the way the request came.
func (p *Proxy) Response(client *transaction.Client, resp *message.Message) {
	rc := client.Context.(*responseContext)
	status := resp.Status()
	switch {
	case status == 100: // step 5: hop by hop
		return
	case status == 503 && !rc.inDialog: // step 6: our client must not take it for us being overloaded
		rc.server.Respond(500, "", nil, nil)
		return
	case resp.Count(message.KindVia) < 2 && rc.server.Request() == nil: // see below; too late for that
		return
	}
	s := p.scratch.Get().(*scratch)
	s.edit.Reset(resp)
	for via := range resp.Values(message.KindVia) { // step 3
		s.edit.RemoveValue(via)
		break
	}
	if req := rc.server.Request(); resp.Count(message.KindVia) < 2 {
		// The target has lost the Vias below ours. We still know them, and a client that hears nothing waits for minutes.
		p.counts.Mended.Add(1)
		vias := slices.Collect(req.Values(message.KindVia))
		for _, via := range slices.Backward(vias[1:]) {
			s.edit.InsertTop(message.KindVia, via.Text)
		}
		s.text = transaction.AppendVia(s.text[:0], rc.server.Flow(), req)
		s.edit.InsertTop(message.KindVia, s.text)
	}
	s.buf = s.edit.Append(s.buf[:0])
	rc.server.Send(status, s.buf)
	p.scratch.Put(s)
}

// Failed is RFC 3261 16.8 and 16.9: a target that could not be reached, or did not answer.
func (p *Proxy) Failed(client *transaction.Client, cause transaction.Cause) {
	rc := client.Context.(*responseContext)
	switch {
	case rc.cancelled:
		rc.server.Respond(487, "", nil, nil)
	case cause == transaction.TransportError: // as if the target had said 503
		rc.server.Respond(500, "", nil, nil)
	default:
		rc.server.Respond(408, "", nil, nil)
	}
}

// Cancel is RFC 3261 16.10. A request that was not forwarded yet ends here; its decision will find it closed.
func (p *Proxy) Cancel(tx *transaction.Server) {
	rc := tx.Context.(*responseContext)
	rc.cancelled = true
	if rc.client == nil {
		tx.Respond(487, "", nil, nil)
		return
	}
	rc.client.Cancel()
}

// Ack is the ACK to a 2xx, which has no transaction (RFC 3261 13.2.2.4, 16.11). It follows its Route, or ends here.
func (p *Proxy) Ack(flow transport.Flow, ack *message.Message) {
	route, status := p.readRoute(flow, ack)
	if status != 0 || !route.signed || exhausted(ack) {
		p.counts.StrayAcks.Add(1)
		return
	}
	to, err := p.nextHop(ack, route)
	if err != nil {
		p.counts.StrayAcks.Add(1)
		return
	}
	if to.host == "" {
		p.sendAck(flow, ack, route, to)
		return
	}
	own := ack.Clone()
	p.resolver.lookup(to, func(to address, err error) {
		if err == nil {
			p.sendAck(flow, own, route, to)
		}
	})
}

func (p *Proxy) sendAck(flow transport.Flow, ack *message.Message, route route, to address) {
	out, err := p.connect(to)
	if err != nil {
		p.counts.StrayAcks.Add(1)
		return
	}
	s := p.scratch.Get().(*scratch)
	p.write(s, copyOf{request: ack, from: flow, to: out, route: route, branch: p.ackBranch(ack)})
	out.Send(s.buf, nil)
	p.scratch.Put(s)
}

// retryAfter is how long a client should wait after a 503, in seconds: spread, so that they do not come back at once.
func retryAfter(callID []byte) []message.Field {
	seconds := 5 + tagHash(callID)%11
	return []message.Field{{Name: "Retry-After", Value: strconv.Itoa(int(seconds))}}
}
