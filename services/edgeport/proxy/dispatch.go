package proxy

import (
	"context"
	"time"

	"github.com/routr-fabric/routr/bus"
	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/sipconv"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// dispatchTimeout is how long the dispatcher and everything behind it may take. A client over UDP has sent its request
// four times by then; an older decision would only be work for nobody.
const dispatchTimeout = 4 * time.Second

// dispatch asks the bus where the request goes (RFC 3261 16.5). It returns at once.
func (p *Proxy) dispatch(rc *responseContext) {
	tx := rc.server
	req := tx.Request()
	flow := tx.Flow()
	request := sipconv.Request(req, &p.cfg.Edge, flow.Remote(), transportOf(flow.Protocol()), flowID(tx))
	subject := bus.SubjectDispatch(string(req.MethodText()))
	tx.After(func() {
		p.conn.Call(context.Background(), subject, bus.Value(request), time.Now().Add(dispatchTimeout), func(reply bus.Reply, err error) {
			tx.Do(func() { p.decided(rc, request, reply, err) })
		})
	})
}

// flowID is what a binding keeps of the flow of a request. Only a REGISTER makes one, and the ID of a UDP flow takes time
// to write.
func flowID(tx *transaction.Server) string {
	if tx.Flow().Protocol() == transport.UDP && tx.Method != message.REGISTER {
		return ""
	}
	return tx.Flow().ID()
}

// decided takes the answer of the bus: a response, a target, or a changed request.
func (p *Proxy) decided(rc *responseContext, sent *processorpb.MessageRequest, reply bus.Reply, err error) {
	tx := rc.server
	if !tx.Open() { // cancelled meanwhile
		return
	}
	var answer *processorpb.MessageResponse
	if err == nil {
		answer, err = bus.Decode[processorpb.MessageResponse](reply.Body)
	}
	if err != nil {
		p.undecided(rc, err)
		return
	}
	resp, ok := sipconv.Response(answer)
	p.tell(tx, answer, resp.Status)
	if ok {
		if resp.Status < 200 || resp.Status > 699 { // a provisional or an impossible one would leave the client waiting
			p.log.Warn("processor answered with a status that is not final", "call_id", sent.Ref, "status", resp.Status)
			tx.Respond(500, "", nil, nil)
			return
		}
		tx.Respond(resp.Status, resp.Reason, resp.Headers, resp.Body)
		if p.cfg.Registered != nil && sent.Method == processorpb.Method_REGISTER && resp.Status/100 == 2 {
			flow := tx.Flow()
			tx.After(func() { p.cfg.Registered(flow, sent) })
		}
		return
	}
	if len(answer.Targets) == 0 && answer.Message == nil {
		p.log.Warn("processor answered with nothing", "call_id", sent.Ref)
		tx.Respond(500, "", nil, nil)
		return
	}
	p.forwardTo(rc, sent, answer)
}

// tell says what a decision means for who sent the request; status is 0 if it goes on.
func (p *Proxy) tell(tx *transaction.Server, answer *processorpb.MessageResponse, status int) {
	if p.cfg.Decided == nil {
		return
	}
	req := tx.Request()
	_, user := req.Find(message.KindAuthorization)
	_, proxy := req.Find(message.KindProxyAuthorization)
	d, flow := Decision{Credentials: user || proxy, Status: status, Offence: answer.GetMetadata()[MetadataOffence]}, tx.Flow()
	tx.After(func() { p.cfg.Decided(flow, d) })
}

// undecided turns an error of the bus into a response: one table for all of them.
func (p *Proxy) undecided(rc *responseContext, err error) {
	tx := rc.server
	switch bus.CodeOf(err) {
	case bus.Unavailable:
		p.counts.Unavailable.Add(1)
		tx.Respond(503, "", retryAfter(tx.Request().CallID()), nil)
	case bus.DeadlineExceeded:
		p.counts.Unavailable.Add(1)
		tx.Respond(504, "", nil, nil)
	case bus.NotFound:
		tx.Respond(404, "", nil, nil)
	default:
		p.log.Debug("a request was not processed", "call_id", string(tx.Request().CallID()), "method", string(tx.Request().MethodText()), "err", err)
		tx.Respond(500, "", nil, nil)
	}
}

func transportOf(protocol transport.Protocol) commonpb.Transport {
	t, ok := commonpb.Transport_value[protocol.String()]
	if !ok {
		return commonpb.Transport_UDP
	}
	return commonpb.Transport(t)
}
