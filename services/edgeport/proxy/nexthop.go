package proxy

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/resolver"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// address is where a request is to be sent.
type address struct {
	protocol transport.Protocol
	addr     netip.AddrPort
	name     resolver.Query // a name still to be resolved, if it has a Host; addr is nothing then
	server   string         // the name that was resolved to addr: what the certificate there has to be for
	flow     string         // the flow to use; empty: any
	only     bool           // that flow and no other: its far end cannot be dialled
	peer     string         // another EdgePort, by the bus; the rest is nothing then

	anyTransport bool // its URI names none: UDP is what RFC 3263 4.1 takes then
}

var (
	errNoAddress = errors.New("no address to send to")
	errFlowGone  = errors.New("the flow is gone")
	errOurselves = errors.New("the next hop is this EdgePort")
)

// route is what the Route header of a request says to this EdgePort.
type route struct {
	popped int    // how many values at the top name us, and go (RFC 3261 16.4)
	signed bool   // one of them, or the one below, is a Record-Route of ours
	token  token  // the last of those
	peer   string // the EdgePort that has to route it, as the value below says
}

// readRoute reads the Route values at the top that name us, or one of the EdgePorts gone, in whose place we are then.
// A status other than 0 refuses the request.
func (p *Proxy) readRoute(flow transport.Flow, m *message.Message, gone ...string) (r route, status int) {
	for v := range m.Values(message.KindRoute) {
		name, err := message.ParseNameAddr(v.Text)
		if err != nil {
			return r, 400
		}
		uri, err := message.ParseURI(name.URI)
		if err != nil {
			return r, 400
		}
		t, signed := p.readToken(uri.User, m.CallID())
		// Without a To tag a request is in no dialog, and would begin one that nobody has decided on.
		signed = signed && t.opens == (len(m.ToTag()) == 0)
		switch {
		case signed && t.edge != "" && t.edge != p.cfg.Edge.Ref && !slices.Contains(gone, t.edge):
			r.peer, r.signed = t.edge, true
			return r, 0
		case !(signed && t.edge != "") && !p.isUs(flow, &uri): // whatever its token: all EdgePorts have the same keys
			return r, 0
		}
		// Of several tokens (RFC 5658 puts in two) the last is the nearest to where the request goes.
		if signed {
			r.token, r.signed = t, true
		}
		r.popped++
	}
	return r, 0
}

// nextHop is RFC 3261 16.6 step 6 and 7 for a request that follows its Route: the next Route, else the flow that the
// token has for this direction, else the Request-URI.
func (p *Proxy) nextHop(m *message.Message, r route) (address, error) {
	if r.peer != "" {
		return address{peer: r.peer}, nil
	}
	flow := r.token.caller
	if tagHash(m.FromTag()) == r.token.callerTag || r.token.opens {
		flow = r.token.callee
	}
	uri, last := m.RequestURI(), true
	i := 0
	for v := range m.Values(message.KindRoute) {
		if i++; i > r.popped {
			name, err := message.ParseNameAddr(v.Text)
			if err != nil {
				return address{}, err
			}
			uri, last = securedHop(uri, name.URI), false
			break
		}
	}
	switch {
	case flow != "" && (last || r.token.opens): // of a binding the Path says what is behind its flow
		return address{flow: flow, only: true}, nil
	default:
		return uriAddress(uri)
	}
}

// uriAddress is the first part of RFC 3263 4: what the URI itself says about where to send.
func uriAddress(text []byte) (address, error) {
	uri, err := message.ParseURI(text)
	if err != nil {
		return address{}, err
	}
	secure := strings.EqualFold(string(uri.Scheme), "sips")
	if !secure && !strings.EqualFold(string(uri.Scheme), "sip") {
		return address{}, errNoAddress
	}
	to := address{protocol: transport.UDP}
	if name, ok := uri.Param("transport"); ok {
		if to.protocol, ok = transport.ParseProtocol(string(name)); !ok {
			return address{}, errNoAddress
		}
	}
	if secure {
		to.protocol = secured(to.protocol)
	}
	if to.protocol == transport.WS || to.protocol == transport.WSS {
		return address{}, errNoAddress // RFC 7118 5.1: its client is reached on the connection that it opened
	}
	host := uri.Host
	if maddr, ok := uri.Param("maddr"); ok {
		host = maddr
	}
	name, named := uri.Param("transport")
	to.anyTransport = !named && !secure
	return to.at(resolver.Query{Host: hostText(host), Port: uri.Port, Transport: string(name), Secure: secure})
}

// at completes an address with a host, a literal address or a name, and what else a URI says.
func (a address) at(q resolver.Query) (address, error) {
	addr, err := netip.ParseAddr(q.Host)
	if err == nil {
		if q.Port == 0 {
			q.Port = defaultPort(a.protocol)
		}
		a.addr = netip.AddrPortFrom(addr.Unmap(), q.Port)
		return a, nil
	}
	if q.Host == "" || isInvalid(q.Host) {
		return address{}, errNoAddress
	}
	a.name = q
	return a, nil
}

// isInvalid says whether a name is below .invalid (RFC 2606 2): how a browser says that it has no address (RFC 7118 5).
func isInvalid(host string) bool {
	const top = "invalid"
	host = strings.TrimSuffix(host, ".")
	n := len(host) - len(top)
	return n >= 0 && strings.EqualFold(host[n:], top) && (n == 0 || host[n-1] == '.')
}

// connect is a flow to a. It does not wait: a connection that must be made first takes what is sent meanwhile.
func (p *Proxy) connect(a address) (transport.Flow, error) {
	if a.peer != "" {
		return p.peers.flow(a.peer), nil
	}
	if a.flow != "" {
		if flow, ok := p.transport.Lookup(a.flow); ok {
			return flow, nil
		}
		if a.only {
			return transport.Flow{}, errFlowGone
		}
	}
	if p.isOurs(a.addr) && p.listensBy(a.protocol, a.addr.Port()) {
		return transport.Flow{}, errOurselves // it would come back until Max-Forwards ends it
	}
	flow, err := p.transport.Flow(a.protocol, a.addr, a.server)
	if errors.Is(err, transport.ErrNotDialed) {
		err = errFlowGone
	}
	return flow, err
}
