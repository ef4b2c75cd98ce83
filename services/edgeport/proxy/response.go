package proxy

import (
	"slices"

	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// final is a final response that may go back: one that was received, as it would be relayed, or a status of our own.
type final struct {
	status int // 0: none
	data   []byte
}

// Response is RFC 3261 16.7: responses go back the way the request came. A provisional one and a 2xx go at once; of the
// others the best one, when there is nothing left to wait for or to try.
func (p *Proxy) Response(client *transaction.Client, resp *message.Message) {
	b := client.Context.(*branch)
	rc := b.context
	status := resp.Status()
	b.rang = b.rang || status > 100 && status < 200
	if b.datagram != nil { // it has arrived, and is not to be sent by UDP too
		b.datagram = nil
		rc.release()
	}
	switch {
	case status == 100: // step 5: hop by hop
		return
	case b.done && status/100 != 2: // it was given up when nothing came of its CANCEL
		return
	case status < 300:
		if b.named != nil {
			p.resolver.Worked(b.named.at)
		}
		p.relay(rc, resp, func(data []byte) { rc.server.Send(status, data) })
		if status >= 200 {
			b.done = true
			rc.cancel() // step 10
		}
		return
	}
	if status == 503 && p.failOver(b) {
		return
	}
	if status == 430 && (b.handed || client.Flow().Protocol() == transport.Bus) || status == 503 && b.handed {
		// The other EdgePort says that it did not reach the UA: its flow is gone there, or the EdgePort drains.
		p.failed(b, rc.flowGone())
		return
	}
	b.done = true
	if unreached(status) && p.nextFlow(b, status) {
		return
	}
	if status == 401 || status == 407 {
		rc.keepChallenges(resp)
	}
	p.relay(rc, resp, func(data []byte) { rc.offer(status, data) })
	if status >= 600 { // step 5: nobody else will do
		rc.cancel()
	}
	p.tryNext(rc)
}

// Failed is RFC 3261 16.8 and 16.9: a target that could not be reached, or did not answer.
func (p *Proxy) Failed(client *transaction.Client, cause transaction.Cause) {
	if cause == transaction.Unanswered { // its address is not to blame: it has answered before
		p.failed(client.Context.(*branch), 408)
		return
	}
	b, status := client.Context.(*branch), 408
	switch {
	case cause != transaction.TransportError:
	case !b.bound:
		status = 503
	default:
		status = b.context.flowGone()
	}
	if !p.sendDatagram(b, cause) && !p.failOver(b) && !p.goAround(b, cause) {
		p.failed(b, status)
	}
}

// failed ends a branch as if its target had answered with status.
func (p *Proxy) failed(b *branch, status int) {
	if b.done {
		return
	}
	b.done = true
	if p.nextFlow(b, status) {
		return
	}
	b.context.offer(status, nil)
	if !b.context.starting {
		p.tryNext(b.context)
	}
}

// conclude sends the best response (16.7 step 6).
func (p *Proxy) conclude(rc *responseContext) {
	tx := rc.server
	best := rc.best
	switch {
	case !tx.Open():
	case rc.cancelled && best.data == nil:
		tx.Respond(487, "", nil, nil)
	case best.status == 503 && (best.data == nil || !rc.inDialog): // our client must not take it for us being overloaded
		tx.Respond(500, "", nil, nil)
	case best.status == 0: // nobody was tried
		tx.Respond(480, "", nil, nil)
	case best.data == nil:
		tx.Respond(best.status, "", nil, nil)
	default:
		tx.Send(best.status, p.withChallenges(rc))
	}
}

// offer keeps a final response if it is better than what there is. data is copied only where it has to stay.
func (rc *responseContext) offer(status int, data []byte) {
	next := final{status: status, data: data}
	if !rc.server.Open() || rc.best.status != 0 && next.preference() >= rc.best.preference() {
		return
	}
	next.data = slices.Clone(data)
	rc.best = next
}

// preference orders final responses, the best one lowest (16.7 step 6): 6xx, then the lowest class, and in it what tells
// the client how to do better; a 503, a timeout and what we say for a target that was not reached tell least.
func (f final) preference() int {
	status := f.status
	class := status / 100 * 10
	switch {
	case f.data == nil:
		return class + 2
	case class == 60:
		return 0
	case status == 401 || status == 407 || status == 415 || status == 420 || status == 484:
		return class
	case status == 408 || status == 503:
		return class + 2
	default:
		return class + 1
	}
}

// maxChallenges is how much of them is kept, in bytes of their values: of hundreds of targets each may send many.
const maxChallenges = 16 << 10

// keepChallenges keeps the challenges of a response that may not be the one that goes back: the client has to answer all
// of them (16.7 step 7).
func (rc *responseContext) keepChallenges(resp *message.Message) {
	if len(rc.branches) == 1 {
		return
	}
	for i := range resp.Len() {
		switch k, _, value := resp.Header(i); k {
		case message.KindWWWAuthenticate, message.KindProxyAuthenticate:
			if rc.challenges += len(value); rc.challenges > maxChallenges {
				return
			}
			rc.others = append(rc.others, message.Field{Name: k.String(), Value: string(value)})
		}
	}
}

// withChallenges is the best response, with the challenges of the others if it is a challenge itself.
func (p *Proxy) withChallenges(rc *responseContext) []byte {
	data := rc.best.data
	var m message.Message
	if rc.best.status != 401 && rc.best.status != 407 || len(rc.others) == 0 || m.Parse(data, message.DefaultLimits()) != nil {
		return data
	}
	var e message.Edit
	e.Reset(&m)
	for _, f := range rc.others {
		if !hasValue(&m, f) {
			e.AppendHeader(f.Name, []byte(f.Value))
		}
	}
	return e.Append(nil)
}

func hasValue(m *message.Message, f message.Field) bool {
	for i := range m.Len() {
		if k, _, value := m.Header(i); k.String() == f.Name && string(value) == f.Value {
			return true
		}
	}
	return false
}

// relay hands a response, without the Via that is ours (step 3), to send.
func (p *Proxy) relay(rc *responseContext, resp *message.Message, send func(data []byte)) {
	lost := resp.Count(message.KindVia) < 2
	if lost && rc.server.Request() == nil {
		return // see below; too late for that
	}
	s := p.scratch.Get().(*scratch)
	s.edit.Reset(resp)
	for via := range resp.Values(message.KindVia) {
		s.edit.RemoveValue(via)
		break
	}
	if lost {
		// The target has lost the Vias below ours. We still know them, and a client that hears nothing waits for minutes.
		p.counts.Mended.Add(1)
		req := rc.server.Request()
		vias := slices.Collect(req.Values(message.KindVia))
		for _, via := range slices.Backward(vias[1:]) {
			s.edit.InsertTop(message.KindVia, via.Text)
		}
		s.text = transaction.AppendVia(s.text[:0], rc.server.Flow(), req)
		s.edit.InsertTop(message.KindVia, s.text)
	} else if len(rc.above) > 0 {
		s.edit.InsertTop(message.KindVia, rc.above) // which our copy of the request did not show
	}
	if rc.server.Flow().Protocol().Reliable() {
		s.edit.SetContentLength() // a datagram may do without, a stream would have no next message (18.3)
	}
	s.buf = s.edit.Append(s.buf[:0])
	send(s.buf)
	p.scratch.Put(s)
}
