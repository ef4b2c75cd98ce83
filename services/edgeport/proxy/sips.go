package proxy

import (
	"strings"

	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// A sips URI is a promise to whoever wrote it that TLS is used on the way to the domain, and beyond (RFC 3261 26.2.2, RFC
// 5630 3.1.3). What cannot be sent by TLS or by a secure WebSocket is not sent. A request for a sip URI that came by TLS
// asks for nothing of the kind.

func isSips[T ~string | ~[]byte](uri T) bool {
	return len(uri) > len("sips:") && strings.EqualFold(string(uri[:len("sips:")]), "sips:")
}

// secured is the transport of a sips URI that names protocol: what TLS runs over (RFC 3261 26.2.2).
func secured(protocol transport.Protocol) transport.Protocol {
	switch protocol {
	case transport.WS, transport.WSS:
		return transport.WSS
	default:
		return transport.TLS
	}
}

// securedHop is the URI of the next hop of a request for a URI: to a sips one every hop is as if its URI were one too
// (RFC 3261 16.6 step 7).
func securedHop[T ~string | ~[]byte](requestURI T, hop []byte) []byte {
	if !isSips(requestURI) || len(hop) < len("sip:") || !strings.EqualFold(string(hop[:len("sip:")]), "sip:") {
		return hop
	}
	return append([]byte("sips:"), hop[len("sip:"):]...)
}

// forSips says whether the Request-URI of the copy, once it is written, is a sips one.
func (c *copyOf) forSips(received *message.Message) bool {
	switch changed := c.answer.GetMessage().GetRequestUri(); {
	case c.uri != "":
		return isSips(c.uri)
	case changed != nil:
		return changed.GetSecure()
	default:
		return isSips(received.RequestURI())
	}
}

// bySips says whether its first Route is a sips one: what a decision has put in, or the EdgePort that handed it to us.
func (c *copyOf) bySips(received *message.Message) bool {
	if len(c.path) > 0 {
		return isSipsRoute([]byte(c.path[0]))
	}
	if routes := c.answer.GetMessage().GetRoute(); len(routes) > 0 {
		return routes[0].GetAddress().GetUri().GetSecure()
	}
	if !c.route.token.opens {
		return false
	}
	i := 0
	for v := range received.Values(message.KindRoute) {
		if i++; i > c.route.popped {
			return isSipsRoute(v.Text)
		}
	}
	return false
}

func isSipsRoute(value []byte) bool {
	name, err := message.ParseNameAddr(value)
	return err == nil && isSips(name.URI)
}

// restrict notes whether the copy has to go by TLS. A status other than 0 says that it must not go at all: a request
// for a sips URI is not sent to a sip one (RFC 5630 5.3), and none without a share of its breadth.
func (b *branch) restrict(c *copyOf) (status int) {
	received := b.context.server.Request()
	sips := c.forSips(received)
	c.secure = sips || c.bySips(received)
	switch {
	case b.breadth == 0:
		return 440
	case !sips && isSips(received.RequestURI()):
		return 480
	default:
		return 0
	}
}

// insecure says whether what is sent to an address, which is not a name any more, would not be encrypted.
func (p *Proxy) insecure(to address) bool {
	if flow, ok := p.transport.Lookup(to.flow); ok {
		return !flow.Protocol().Secure()
	}
	return !to.only && to.peer == "" && !to.protocol.Secure() // at another EdgePort that one looks; without its only flow it goes nowhere
}

// recordedAt is the place of a sips Record-Route: where flow is, or where we listen for TLS if flow is not encrypted.
// It is not ok if we do not, there: what would come by TLS to another port is lost, so a sip URI has to do.
func (p *Proxy) recordedAt(flow transport.Flow) (host string, port uint16, ok bool) {
	host, port = p.advertised(flow)
	if flow.Protocol().Secure() {
		return host, port, true
	}
	for _, l := range p.points {
		if at := l.Addr.Addr(); l.Protocol == transport.TLS && (at.IsUnspecified() || at == flow.Local().Addr()) {
			return host, l.Addr.Port(), true
		}
	}
	return host, port, false
}
