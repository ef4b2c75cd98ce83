package proxy

import (
	"errors"
	"strings"
	"sync"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// A binding belongs to the EdgePort that took its REGISTER: the flow to a phone behind a NAT or in a browser is there and
// nowhere else. A request for it is handed to that EdgePort as SIP, with a Route on top that only it reads (appendHandRoute):
// a token for one request outside a dialog, which says on which flow the request goes. Both put in a Record-Route, each
// the one of its own side, whose tokens say which EdgePort has to route what comes back. Over the bus the two are one hop:
// Max-Forwards falls by one, and the Via between them is seen by nobody else.

// MaxRef is how long the ref of an EdgePort may be, in bytes, to fit into a token.
const MaxRef = 64

// peers are the other EdgePorts.
type peers struct {
	link  *bus.Link
	mu    sync.Mutex
	known map[string]*transport.Peer
	gone  map[string]bool // those that have not been heard of since they went
}

// flow is the flow to another EdgePort, which is always the same one.
func (ps *peers) flow(ref string) transport.Flow {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	far := ps.known[ref]
	if far == nil {
		far = transport.NewPeer(ref, func(data []byte, fail func(error)) { ps.link.Send(ref, data, fail) })
		ps.known[ref] = far
	}
	return far.Flow()
}

// heard notes that an EdgePort has sent something, or with gone that it is not there any more.
func (ps *peers) heard(ref string, gone bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if gone {
		ps.gone[ref] = true
	} else {
		delete(ps.gone, ref)
	}
}

func (ps *peers) isGone(ref string) bool {
	if ref == "" {
		return false
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.gone[ref]
}

// Linked tells the proxy how it reaches the other EdgePorts, before it is Listening.
func (p *Proxy) Linked(link *bus.Link) { p.peers.link = link }

// PeerFlow is the flow of what another EdgePort has sent.
func (p *Proxy) PeerFlow(ref string) transport.Flow {
	p.peers.heard(ref, false)
	return p.peers.flow(ref)
}

// PeerGone tells the proxy that another EdgePort is not there any more, or was started anew.
func (p *Proxy) PeerGone(ref string) {
	p.peers.heard(ref, true)
	p.layer.FlowClosed(p.peers.flow(ref))
}

// FlowClosed tells the proxy that nothing will arrive on flow any more.
func (p *Proxy) FlowClosed(flow transport.Flow) { p.layer.FlowClosed(flow) }

// FlowRenewed tells the proxy that the EdgePort at the other end of flow was started anew.
func (p *Proxy) FlowRenewed(flow transport.Flow) { p.layer.FlowRenewed(flow) }

var errLongName = errors.New("the name of the EdgePort or of the flow is too long")

// peerAddress is the EdgePort that has bound a target; c, which has the URI and the Path of the target, gets the Route
// that hands it over. Where the target names a next hop and no flow, a phone behind a NAT is reached from there over UDP,
// as its NAT lets nobody else through; anything else is reached from here as well.
func (p *Proxy) peerAddress(t *processorpb.Target, c *copyOf) (address, error) {
	if len(t.EdgePortRef) > MaxRef || len(t.Flow) > 255 {
		return address{}, errLongName
	}
	callee := t.Flow
	if callee == "" && t.NextHop != nil {
		to, err := interfaceAddress(t.NextHop)
		if err != nil || to.name.Host != "" || to.protocol != transport.UDP {
			return to, err
		}
		callee = transport.UDPFlowID(to.addr)
	}
	c.hand = token{edge: t.EdgePortRef, callee: callee, opens: true}
	if !p.cfg.PeerBySIP {
		return address{peer: t.EdgePortRef}, nil
	}
	protocols := []transport.Protocol{transport.TCP, transport.UDP, transport.TLS}
	if isSips(t.Uri) || c.bySips(c.request) {
		protocols = protocols[2:]
	}
	for _, protocol := range protocols {
		for _, at := range t.EdgePortAddrs {
			if at.Transport == transportOf(protocol) {
				return interfaceAddress(at)
			}
		}
	}
	return address{}, errNoAddress
}

// appendHandRoute appends the Route for another EdgePort. On the bus its host says nothing.
func (p *Proxy) appendHandRoute(dst []byte, t token, to transport.Flow, callID []byte) []byte {
	dst = append(dst, "<sip:"...)
	dst = p.appendToken(dst, t, callID)
	if to.Protocol() == transport.Bus {
		return append(dst, "@edgeport.invalid;lr>"...)
	}
	dst = append(dst, '@')
	dst = appendHostPort(dst, to.Remote().Addr().String(), to.Remote().Port())
	if to.Protocol() != transport.UDP {
		dst = append(append(dst, ";transport="...), strings.ToLower(to.Protocol().String())...)
	}
	return append(dst, ";lr>"...)
}

// goAround forwards a request of a dialog without the EdgePort that is to route it and is gone, and says whether it could.
// That works where the other side can be reached from here.
func (p *Proxy) goAround(b *branch, cause transaction.Cause) bool {
	rc := b.context
	if b.peer == "" || cause != transaction.TransportError || !rc.mayTry() {
		return false
	}
	b.gone, b.client = append(b.gone, b.peer), nil
	r, _ := p.readRoute(rc.server.Flow(), rc.server.Request(), b.gone...)
	p.followOn(b, r)
	return true
}
