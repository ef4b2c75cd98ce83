package proxy

import (
	"bytes"
	"cmp"
	"errors"
	"hash/maphash"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/resolver"
	"github.com/routr-fabric/routr/services/edgeport/sipconv"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// copyOf is one copy of a request on its way to one next hop (RFC 3261 16.6).
type copyOf struct {
	request *message.Message
	from    transport.Flow // on which the request came
	to      transport.Flow // on which the copy goes
	route   route
	branch  transaction.Branch
	mark    transaction.Mark // 0: none
	breadth int              // 0: Max-Breadth stays as it is

	// What a decision adds; all empty for a request that follows its Route.
	uri    string // the new Request-URI
	path   []string
	sent   *processorpb.MessageRequest
	answer *processorpb.MessageResponse
	hand   token // the Route that hands the request to another EdgePort
	direct bool  // the next hop is the one that the new Request-URI names
	record bool  // put in a Record-Route
	secure bool  // it goes by TLS or not at all: set by restrict
	token  token
}

// follow forwards a request along its Route.
func (p *Proxy) follow(rc *responseContext, r route) {
	p.followOn(rc.add(), r)
	rc.release()
}

func (p *Proxy) followOn(b *branch, r route) {
	b.peer = r.peer
	req := b.context.server.Request()
	to, err := p.nextHop(req, r)
	if err != nil {
		p.failed(b, 404)
		return
	}
	c := copyOf{route: r}
	if r.token.opens { // it forms a dialog here as well
		c.record = records(b.context.server.Method)
		c.direct = to.flow == "" && req.Count(message.KindRoute) == r.popped
	}
	p.forward(b, to, c)
}

// forwardTo forwards a request as a processor decided: to the targets it named, or as it changed the request.
func (p *Proxy) forwardTo(rc *responseContext, sent *processorpb.MessageRequest, answer *processorpb.MessageResponse) {
	if answer.GetMessage() == nil {
		sent = nil // nothing to compare: what was asked is big, and a call may ring for minutes
	}
	rc.sent, rc.answer = sent, answer
	if len(answer.Targets) > 0 {
		rc.untried, rc.flows = oneFlowEach(inOrder(answer.Targets))
		p.tryNext(rc)
		return
	}
	// The processor returned the Route set that it wants, perhaps with our own names still on top: 16.4.
	b := rc.add()
	c := p.decidedCopy(rc)
	rc.sent, rc.answer = nil, nil
	c.route, _ = p.readRoute(rc.server.Flow(), rc.server.Request())
	c.direct = len(answer.GetMessage().GetRoute()) == 0
	to, err := processedAddress(answer)
	if err != nil {
		p.failed(b, 480)
		return
	}
	p.forward(b, to, c)
	rc.release()
}

// tryNext forwards the request to the next targets: those of equal rank at a time, in parallel (RFC 3261 16.6), no more
// than maxBranches. When nothing is left to try or to wait for, the best response goes back.
func (p *Proxy) tryNext(rc *responseContext) {
	for rc.pending() == 0 && len(rc.untried) > 0 && rc.mayTry() {
		n := 1
		for n < len(rc.untried) && n < min(maxBranches, rc.breadth) && rank(rc.untried[n]) == rank(rc.untried[0]) {
			n++
		}
		group := rc.untried[:n]
		rc.untried = rc.untried[n:]
		branches := make([]*branch, 0, n) // all of them first, so that the first to fail is not the last one
		for i := range group {
			branches = append(branches, rc.add())
			branches[i].breadth = split(rc.breadth, n, i)
		}
		rc.starting = true
		for i, t := range group {
			p.forwardToTarget(branches[i], t)
		}
		rc.starting = false
	}
	if len(rc.untried)+len(rc.flows) == 0 {
		rc.sent, rc.answer = nil, nil // who looks for an address has what it needs in its copy
	}
	if rc.pending() == 0 {
		p.conclude(rc)
		return
	}
	rc.release()
}

// release lets go of the request if every branch has sent it, and nothing is left to try.
func (rc *responseContext) release() {
	for _, b := range rc.branches {
		if !b.done && b.client == nil || b.named != nil && len(b.named.rest) > 0 || b.datagram != nil || b.peer != "" {
			return
		}
	}
	if len(rc.untried)+len(rc.flows) == 0 {
		rc.server.Release()
	}
}

// forwardToTarget forwards the request to one target.
func (p *Proxy) forwardToTarget(b *branch, t *processorpb.Target) {
	rc := b.context
	c := p.decidedCopy(rc)
	b.instance = t.Instance
	c.uri, c.path = t.Uri, t.Path
	to, err := p.targetAddress(t, &c)
	if err != nil {
		p.failed(b, 480)
		return
	}
	// The sender's own Route set ends here: only names of ours were in it, or what a stranger would have liked us to send
	// to.
	c.route.popped = rc.server.Request().Count(message.KindRoute)
	b.handed = c.hand.edge != ""
	c.direct = t.Flow == "" && t.NextHop == nil && len(t.Path) == 0 && c.hand.edge == ""
	p.forward(b, to, c)
}

func (p *Proxy) decidedCopy(rc *responseContext) copyOf {
	return copyOf{request: rc.server.Request(), sent: rc.sent, answer: rc.answer, record: records(rc.server.Method)}
}

// forward sends the copy to a next hop, which is resolved first if it is a name.
func (p *Proxy) forward(b *branch, to address, c copyOf) {
	if status := b.restrict(&c); status != 0 {
		p.failed(b, status)
		return
	}
	to.name.Secure = to.name.Secure || c.secure
	if _, live := p.transport.Lookup(to.flow); to.name.Host == "" || live {
		if status := p.send(b, to, c); status != 0 {
			p.failed(b, status)
		}
		return
	}
	rc := b.context
	p.resolver.Lookup(to.name, func(found []resolver.Candidate, err error) {
		rc.server.Do(func() {
			switch {
			case !rc.mayTry():
				p.failed(b, 487)
			case errors.Is(err, resolver.ErrProtocol) && c.secure:
				p.failed(b, 480)
			case errors.Is(err, resolver.ErrNotFound) || errors.Is(err, resolver.ErrProtocol):
				p.failed(b, 404)
			case err != nil:
				p.failed(b, 503) // RFC 3261 16.9: as a transport error
			default:
				b.named = &named{rest: found, copy: c, anyTransport: to.anyTransport}
				p.tryCandidate(b)
			}
		})
	})
}

// named is a branch whose next hop is a name: the addresses of it that are left (RFC 3263 4.3), and what is sent.
type named struct {
	at   resolver.Candidate // tried now
	rest []resolver.Candidate
	copy copyOf

	anyTransport bool // see address
}

// tryCandidate sends the copy to the first of the addresses left that can be sent to.
func (p *Proxy) tryCandidate(b *branch) {
	n := b.named
	status := 503
	for len(n.rest) > 0 {
		n.at, n.rest = n.rest[0], n.rest[1:]
		to := address{protocol: n.at.Protocol, addr: n.at.Addr, server: n.at.ServerName, anyTransport: n.anyTransport}
		if status = p.send(b, to, n.copy); status == 0 {
			b.context.release()
			return
		}
		p.resolver.Failed(n.at)
	}
	p.failed(b, status)
}

// failOver tries the next address of a name after one has failed, and says whether there is one (RFC 3263 4.3). The copy
// gets a new branch, as it is a new client transaction.
func (p *Proxy) failOver(b *branch) bool {
	rc := b.context
	if b.named == nil {
		return false
	}
	p.resolver.Failed(b.named.at)
	if len(b.named.rest) == 0 || !rc.mayTry() {
		return false
	}
	p.tryCandidate(b)
	return true
}

// send sends the copy in a client transaction. A status other than 0 says that it could not, and what that is worth.
func (p *Proxy) send(b *branch, to address, c copyOf) (status int) {
	rc := b.context
	tx := rc.server
	if c.secure && p.insecure(to) {
		return 480
	}
	flow, err := p.connect(to)
	switch {
	case errors.Is(err, errOurselves):
		return 482
	case errors.Is(err, errFlowGone):
		return rc.flowGone()
	case err != nil:
		p.log.Debug("no flow to the next hop", "err", err)
		return 503
	}
	c.request, c.from, c.to, c.branch = tx.Request(), tx.Flow(), flow, tx.NewBranch()
	c.mark, c.breadth = rc.mark, b.breadth
	if c.record {
		c.token = p.dialogToken(&c, to)
	}
	b.bound = to.peer != "" || to.flow != "" && flow.Protocol().Reliable() && flow.ID() == to.flow
	s := p.scratch.Get().(*scratch)
	p.write(s, c)
	if tcp, ok := p.stream(to, flow, len(s.buf)); ok {
		b.datagram = &asDatagram{to, c}
		if c.to, flow = tcp, tcp; c.record {
			c.token = p.dialogToken(&c, to)
		}
		p.write(s, c)
	}
	data := append(make([]byte, 0, len(s.buf)), s.buf...)
	p.scratch.Put(s)
	b.client = tx.Forward(c.branch, flow, data, b)
	return 0
}

// maxBranches is how many targets are tried at a time; more wait for these.
const maxBranches = 16

// rank is what decides the order of targets: the priority, then the q-value. Lower first.
func rank(t *processorpb.Target) int64 { return int64(t.Priority)<<32 - int64(t.Q) }

// inOrder are targets in the order in which they are tried. The processor's list belongs to the bus: it is not changed.
func inOrder(targets []*processorpb.Target) []*processorpb.Target {
	byRank := func(a, b *processorpb.Target) int { return cmp.Compare(rank(a), rank(b)) }
	if slices.IsSortedFunc(targets, byRank) {
		return targets
	}
	targets = slices.Clone(targets)
	slices.SortStableFunc(targets, byRank)
	return targets
}

// write writes the copy into s.buf: RFC 3261 16.6 steps 2 to 8. What it does not touch leaves as it came.
func (p *Proxy) write(s *scratch, c copyOf) {
	m, e := c.request, &s.edit
	e.Reset(m)
	if c.answer != nil {
		if err := sipconv.Apply(e, m, c.sent, c.answer); err != nil {
			p.log.Warn("processor changed a request in a way that cannot be written", "call_id", string(m.CallID()), "err", err)
		}
	}
	if c.uri != "" {
		e.SetRequestURI(requestURI([]byte(c.uri))) // step 2
	}
	handed := c.from.Protocol() == transport.Bus // by another EdgePort: with it we are one hop
	if n, ok := m.MaxForwards(); !ok {           // step 3
		e.SetMaxForwards(70)
	} else if !handed {
		e.SetMaxForwards(n - 1)
	}
	i, strict := 0, len(c.answer.GetMessage().GetRoute()) > 0 || len(c.path) > 0 && !isLoose([]byte(c.path[0]))
	for v := range m.Values(message.KindRoute) { // 16.4
		if i++; i > c.route.popped {
			strict = strict || !isLoose(v.Text)
			break
		}
		e.RemoveValue(v)
	}
	for _, path := range slices.Backward(c.path) { // RFC 3327 5.5
		e.InsertTop(message.KindRoute, []byte(path))
	}
	if c.hand.edge != "" {
		s.text = p.appendHandRoute(s.text[:0], c.hand, c.to, m.CallID())
		e.InsertTop(message.KindRoute, s.text)
	}
	if c.record { // step 4
		var space [tokenText]byte
		token := p.appendToken(space[:0], c.token, m.CallID())
		s.text = p.appendRecordRoute(s.text[:0], c.from, token, c.secure)
		in := len(s.text)
		s.text = p.appendRecordRoute(s.text, c.to, token, c.secure)
		// RFC 5658: where the sides differ, each finds the address that it can reach. The callee's is on top.
		if in > 0 && !bytes.Equal(s.text[:in], s.text[in:]) {
			e.InsertTop(message.KindRecordRoute, s.text[:in])
		}
		if in < len(s.text) {
			e.InsertTop(message.KindRecordRoute, s.text[in:])
		}
	}
	for v := range m.Values(message.KindVia) { // 18.2.1
		if handed {
			e.RemoveValue(v) // the other EdgePort knows it, see relay
			break
		}
		s.text = transaction.AppendVia(s.text[:0], c.from, m)
		e.ReplaceValue(v, s.text)
		break
	}
	if c.breadth != 0 { // RFC 5393 5.3
		s.text = strconv.AppendInt(s.text[:0], int64(c.breadth), 10)
		if i, ok := m.Find(message.KindMaxBreadth); ok {
			e.SetHeader(i, s.text)
		} else {
			e.InsertTop(message.KindMaxBreadth, s.text)
		}
	}
	s.text = p.appendVia(s.text[:0], c.to, c.branch) // step 8
	if c.mark != 0 {
		s.text = c.mark.Append(s.text)
	}
	e.InsertTop(message.KindVia, s.text)
	if c.to.Protocol().Reliable() {
		e.SetContentLength()
	}
	s.buf = e.Append(s.buf[:0])
	if strict { // perhaps: step 6
		tighten(s)
	}
}

func (p *Proxy) appendVia(dst []byte, flow transport.Flow, branch transaction.Branch) []byte {
	if flow.Protocol() == transport.Bus {
		return branch.Append(append(dst, "SIP/2.0/BUS edgeport.invalid;branch="...))
	}
	host, port := p.advertised(flow)
	dst = append(dst, "SIP/2.0/"...)
	dst = append(dst, flow.Protocol().String()...)
	dst = append(dst, ' ')
	dst = appendHostPort(dst, host, port)
	dst = append(dst, ";branch="...)
	return branch.Append(dst)
}

// appendRecordRoute appends nothing for the side of another EdgePort, which puts in its own.
func (p *Proxy) appendRecordRoute(dst []byte, flow transport.Flow, token []byte, secure bool) []byte {
	if flow.Protocol() == transport.Bus {
		return dst
	}
	host, port := p.advertised(flow)
	scheme := "<sip:"
	if secure {
		if at, tls, ok := p.recordedAt(flow); ok {
			scheme, host, port = "<sips:", at, tls
		} else {
			secure = false
		}
	}
	dst = append(dst, scheme...)
	dst = append(dst, token...)
	dst = append(dst, '@')
	dst = appendHostPort(dst, host, port)
	switch {
	case secure && flow.Protocol() == transport.WSS:
		dst = append(dst, ";transport=ws"...) // RFC 7118 5.2.4: with sips that is WSS
	case secure: // RFC 3261 26.2.2: TLS over TCP
	case flow.Protocol() != transport.UDP:
		dst = append(dst, ";transport="...)
		dst = append(dst, strings.ToLower(flow.Protocol().String())...)
	}
	return append(dst, ";lr>"...)
}

func appendHostPort(dst []byte, host string, port uint16) []byte {
	if strings.IndexByte(host, ':') >= 0 && host[0] != '[' {
		dst = append(dst, '[')
		dst = append(dst, host...)
		dst = append(dst, ']')
	} else {
		dst = append(dst, host...)
	}
	dst = append(dst, ':')
	return strconv.AppendUint(dst, uint64(port), 10)
}

// records says whether a request may form a dialog, and so gets a Record-Route.
func records(method message.Method) bool {
	switch method {
	case message.INVITE, message.SUBSCRIBE, message.REFER, message.NOTIFY:
		return true
	default:
		return false
	}
}

// dialogToken is what the two sides' later requests need (see token).
func (p *Proxy) dialogToken(c *copyOf, to address) token {
	t := token{callerTag: tagHash(c.request.FromTag())}
	if c.from.Protocol() == transport.Bus || c.to.Protocol() == transport.Bus {
		t.edge = p.cfg.Edge.Ref
	}
	contact, _ := c.request.Get(message.KindContact)
	if name, err := message.ParseNameAddr(contact); err != nil || !reachable(name.URI, c.from) || keepsFlow(name.URI) {
		t.caller = c.from.ID()
	}
	uri := []byte(c.uri)
	if len(uri) == 0 {
		uri = c.request.RequestURI()
	}
	if c.to.Protocol().Reliable() && to.flow != "" && to.flow == c.to.ID() ||
		!c.direct && !c.to.Protocol().Reliable() && !reachable(uri, c.to) {
		t.callee = c.to.ID()
	}
	return t
}

// reachable says whether the other end of flow can be reached as its contact is written: over UDP at the very address
// that the flow goes to. A connection that a client opened says nothing about where it listens.
func reachable(contact []byte, flow transport.Flow) bool {
	to, err := uriAddress(contact)
	return err == nil && to.name.Host == "" && to.protocol == transport.UDP && flow.Protocol() == transport.UDP && to.addr == flow.Remote()
}

// keepsFlow says whether a contact asks by ;ob for the rest of the dialog to use the flow that it came on (RFC 5626 4.3).
func keepsFlow(contact []byte) bool {
	uri, err := message.ParseURI(contact)
	if err != nil {
		return false
	}
	_, ob := uri.Param("ob")
	return ob
}

// targetAddress is where a target is reached: on its flow while that lives; else, and without a flow, at the next hop
// that the processor names. One that has neither is reached at its Path, or as its URI says. What another EdgePort has
// bound is handed to it.
func (p *Proxy) targetAddress(t *processorpb.Target, c *copyOf) (address, error) {
	switch {
	case t.EdgePortRef != "" && t.EdgePortRef != p.cfg.Edge.Ref:
		return p.peerAddress(t, c)
	case t.Flow != "" && t.NextHop != nil:
		to, err := interfaceAddress(t.NextHop)
		to.flow = t.Flow
		return to, err
	case t.Flow != "":
		return address{flow: t.Flow, only: true}, nil
	case t.NextHop != nil:
		return interfaceAddress(t.NextHop)
	case len(t.Path) > 0:
		name, err := message.ParseNameAddr([]byte(t.Path[0]))
		if err != nil {
			return address{}, err
		}
		return uriAddress(securedHop(t.Uri, name.URI))
	default:
		return uriAddress([]byte(t.Uri))
	}
}

func interfaceAddress(n *processorpb.NetInterface) (address, error) {
	protocol, ok := transport.ParseProtocol(n.Transport.String())
	if !ok {
		return address{}, errNoAddress
	}
	return address{protocol: protocol}.at(resolver.Query{Host: strings.Trim(n.Host, "[]"), Port: portOf(n.Port), Transport: protocol.String()})
}

// portOf is a port of a proto; 0 and -1 stand for none.
func portOf(port int32) uint16 {
	if port <= 0 || port > 65535 {
		return 0
	}
	return uint16(port)
}

// processedAddress is the next hop of a full request that a processor returned: its first Route, else its Request-URI.
func processedAddress(answer *processorpb.MessageResponse) (address, error) {
	uri := answer.GetMessage().GetRequestUri()
	if routes := answer.GetMessage().GetRoute(); len(routes) > 0 {
		uri = routes[0].GetAddress().GetUri()
	}
	to := address{protocol: transport.UDP, anyTransport: uri.GetTransportParam() == ""}
	if uri.GetTransportParam() != "" {
		var ok bool
		if to.protocol, ok = transport.ParseProtocol(uri.GetTransportParam()); !ok {
			return address{}, errNoAddress
		}
	}
	secure := uri.GetSecure() || answer.GetMessage().GetRequestUri().GetSecure()
	if secure {
		to.protocol = secured(to.protocol)
	}
	return to.at(resolver.Query{
		Host: strings.Trim(uri.GetHost(), "[]"), Port: portOf(uri.GetPort()), Transport: uri.GetTransportParam(), Secure: secure,
	})
}

// ackBranch is the branch of the copy of an ACK: unknown to others, and the same for the same ACK (RFC 3261 16.11).
func (p *Proxy) ackBranch(ack *message.Message) transaction.Branch {
	return transaction.Branch(maphash.Bytes(p.seed, ack.TopVia().Text) &^ 1)
}

func netInterface(protocol transport.Protocol, addr netip.AddrPort) *processorpb.NetInterface {
	return &processorpb.NetInterface{Host: addr.Addr().String(), Port: int32(addr.Port()), Transport: transportOf(protocol)}
}
