package proxy

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/routr-fabric/routr/services/edgeport/transaction"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// maxDatagram is the size in bytes from which on a request goes over TCP where that may be, as the path MTU is not known
// (RFC 3261 18.1.1). Responses go the way of their request, whatever their size.
const maxDatagram = 1300

// asDatagram is how a request that was too large for UDP, and went over TCP, would have gone.
type asDatagram struct {
	to   address
	copy copyOf
}

// stream is the connection for a request of that many bytes which is about to go over UDP, to an address whose URI does
// not ask for it. It is not ok if UDP has to do: the request is small, TCP was refused there of late, or the other end
// could not reach us by TCP for the rest of the dialog.
func (p *Proxy) stream(to address, flow transport.Flow, size int) (tcp transport.Flow, ok bool) {
	if size <= maxDatagram || !to.anyTransport || flow.Protocol() != transport.UDP || p.refusers.has(flow.Remote()) ||
		!slices.ContainsFunc(p.points, func(l transport.Listen) bool { return l.Protocol == transport.TCP }) {
		return transport.Flow{}, false
	}
	tcp, err := p.transport.Flow(transport.TCP, flow.Remote(), "")
	return tcp, err == nil
}

// sendDatagram sends the request of a branch over UDP after all, when the connection that it was too large for UDP to go
// without could not be made, and says whether it did. RFC 3261 18.1.1 wants that where TCP is refused. It is done as
// well where nothing answers, as behind a firewall: a phone that gets fragments is better off than one that gets nothing.
func (p *Proxy) sendDatagram(b *branch, cause transaction.Cause) bool {
	d, rc := b.datagram, b.context
	b.datagram = nil
	if d == nil || cause != transaction.TransportError || !rc.mayTry() {
		return false
	}
	p.refusers.add(d.copy.to.Remote())
	d.to.anyTransport = false
	return p.send(b, d.to, d.copy) == 0
}

// sendLargeAck sends an ACK, which is in s.buf as it would go over UDP, by TCP. There is no transaction that would hear
// of a failure.
func (p *Proxy) sendLargeAck(s *scratch, c copyOf, tcp transport.Flow) {
	udp, datagram := c.to, bytes.Clone(s.buf)
	c.to = tcp
	p.write(s, c)
	tcp.Send(s.buf, func(error) {
		p.refusers.add(udp.Remote())
		udp.Send(datagram, nil)
	})
}

// refusers are the addresses where TCP was refused of late.
type refusers struct {
	mu    sync.Mutex
	until map[netip.AddrPort]time.Time
}

const (
	maxRefusers = 1024
	refusalTime = 10 * time.Minute
)

func (r *refusers) has(addr netip.AddrPort) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Before(r.until[addr])
}

func (r *refusers) add(addr netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil {
		r.until = map[netip.AddrPort]time.Time{}
	}
	if _, known := r.until[addr]; !known && len(r.until) >= maxRefusers {
		for other := range r.until { // any of them: it costs one attempt
			delete(r.until, other)
			break
		}
	}
	r.until[addr] = time.Now().Add(refusalTime)
}
