package proxy

import (
	"net/netip"

	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// isOptionsForUs says whether m asks a server what it can do, and we are that one (RFC 3261 11): the Request-URI has no
// user, and its host is an address of ours, or any name if the request has come to the end of its Route here. Phones
// ask their domain so every few seconds, to keep the way through their NAT open: that is worth no decision. OPTIONS to
// a user, to another server by its address, and within a dialog go on.
func (p *Proxy) isOptionsForUs(flow transport.Flow, m *message.Message) bool {
	if m.Method() != message.OPTIONS {
		return false
	}
	uri, err := message.ParseURI(m.RequestURI())
	if err != nil || len(uri.User) > 0 {
		return false
	}
	if p.isUs(flow, &uri) {
		return true
	}
	if _, err := netip.ParseAddr(hostText(uri.Host)); err == nil || len(uri.Host) == 0 || len(m.ToTag()) > 0 {
		return false
	}
	route, status := p.readRoute(flow, m)
	return status == 0 && route.popped == m.Count(message.KindRoute)
}

// answerOptions says what a server that reached us can count on (RFC 3261 11.2); a 503 says that there is nothing, so
// that load balancers which ask this way see what those see that ask by HTTP.
func (p *Proxy) answerOptions(flow transport.Flow, m *message.Message) {
	if p.draining.Load() || p.conn.Connected() != nil {
		p.answer(flow, m, 503, retryAfter(m.CallID())...)
		return
	}
	p.answer(flow, m, 200,
		message.Field{Name: "Allow", Value: p.allow},
		message.Field{Name: "Accept", Value: "application/sdp"},
		message.Field{Name: "Supported", Value: "path, outbound"})
}
