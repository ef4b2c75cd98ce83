package transport

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	datagramSize = 1 << 16
	maxDatagram4 = 65535 - 20 - 8 // what a datagram holds (RFC 768, RFC 791)
	maxDatagram6 = 65535 - 8      // and over IPv6, without jumbograms (RFC 8200 4.5)
	// Kernel buffers, which it cuts to net.core.rmem_max and wmem_max. What arrives while a core is busy waits in the
	// one; in the other, what is sent to a neighbor that does not answer ARP.
	socketBuffer = 4 << 20
)

// socket is a UDP socket that is bound to one address.
type socket struct {
	layer     *Layer
	local     netip.AddrPort
	datagrams datagrams
	trouble   trouble
}

func (l *Layer) newSocket(at netip.AddrPort) (*socket, error) {
	c, err := openSocket(at)
	if err != nil {
		return nil, err
	}
	s := &socket{layer: l, local: addrPort(c.LocalAddr())}
	if err := s.datagrams.attach(c); err != nil {
		c.Close()
		return nil, err
	}
	return s, nil
}

func openSocket(at netip.AddrPort) (*net.UDPConn, error) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	// A buffer that stays smaller is no reason not to serve.
	_ = c.SetReadBuffer(socketBuffer)
	_ = c.SetWriteBuffer(socketBuffer)
	return c, nil
}

// read hands datagrams to the handler until the layer shuts down. No error ends it: they are about one datagram, or pass,
// or the socket is opened anew.
func (s *socket) read() {
	l, count := s.layer, &s.layer.counters[UDP]
	buf := make([]byte, datagramSize)
	for {
		n, from, err := s.datagrams.read(buf)
		if err != nil {
			if l.ended() {
				return
			}
			count.receiveFailed.Add(1)
			if !s.trouble.failed(l, UDP, fmt.Errorf("receive udp %s: %w", s.local, err), s.reopen) {
				return
			}
			continue
		}
		s.trouble.passed(l, UDP, s.local)
		if !l.guard.Admit(from.Addr()) {
			continue
		}
		data := trim(buf[:n])
		if len(data) == 0 {
			count.keepAlives.Add(1)
			continue
		}
		count.messagesIn.Add(1)
		count.bytesIn.Add(int64(n))
		l.handler(Flow{socket: s, peer: unmap(from)}, data)
	}
}

// trim removes the CRLFs before a message, and NULs, which make up the keep-alives of some clients.
func trim(data []byte) []byte {
	for len(data) > 0 && (data[0] == '\r' || data[0] == '\n' || data[0] == 0) {
		data = data[1:]
	}
	return data
}

// send writes one datagram at once, or drops it if the kernel's buffer is full.
func (s *socket) send(data []byte, to netip.AddrPort, fail func(error)) {
	if err := s.transmit(data, to); err != nil {
		s.layer.failed(UDP, fail, fmt.Errorf("send udp %s: %w", to, err))
		return
	}
	count := &s.layer.counters[UDP]
	count.messagesOut.Add(1)
	count.bytesOut.Add(int64(len(data)))
}

func (s *socket) transmit(data []byte, to netip.AddrPort) error {
	switch {
	case to.Addr().Is4() != s.local.Addr().Is4():
		return fmt.Errorf("the socket %s is of another address family", s.local)
	case to.Addr().Zone() != "":
		// Only a link-local address has a zone. Its number is looked up here, and the rare packet may wait.
		return s.datagrams.writeTo(data, to)
	}
	return s.datagrams.write(data, to)
}

// past is a deadline that has passed: it makes reads and writes return.
func past() time.Time { return time.Unix(1, 0) }

// A UDP flow is named by what it is: behind a letter that is in no ID of a connection, the base64url form of the length
// of our address with its port, that address and port, and the remote ones, each as netip.AddrPort writes them. Without an
// address and a port of ours it is a flow from any socket.
const (
	datagramPrefix = "u"
	datagramIDSize = 128 // of the bytes; two IPv6 addresses with zones take less
)

var datagramEncoding = base64.RawURLEncoding.Strict()

func datagramID(local, remote netip.AddrPort) string {
	var space [datagramIDSize]byte
	var text [1 + (datagramIDSize*8+5)/6]byte
	b, _ := local.AppendBinary(append(space[:0], 0)) // it has no error to give
	space[0] = byte(len(b) - 1)
	b, _ = remote.AppendBinary(b)
	return string(datagramEncoding.AppendEncode(append(text[:0], datagramPrefix...), b))
}

// UDPFlowID is an ID for Lookup, at any EdgePort: of a UDP flow to remote from the socket that Flow would choose there.
func UDPFlowID(remote netip.AddrPort) string { return datagramID(netip.AddrPort{}, unmap(remote)) }

// datagramFlow reads such a name, and finds the socket of it.
func (l *Layer) datagramFlow(id string) (Flow, bool) {
	var text, space [1 + (datagramIDSize*8+5)/6]byte
	if len(id) > len(text) {
		return Flow{}, false
	}
	n, err := datagramEncoding.Decode(space[:], text[:copy(text[:], id[len(datagramPrefix):])])
	// A line break between the letters is no error, but makes less of them.
	if err != nil || n == 0 || n != datagramEncoding.DecodedLen(len(id)-len(datagramPrefix)) || int(space[0]) >= n {
		return Flow{}, false
	}
	var local, remote netip.AddrPort
	mid := 1 + int(space[0])
	if local.UnmarshalBinary(space[1:mid]) != nil || remote.UnmarshalBinary(space[mid:n]) != nil ||
		unmap(remote) != remote || checkRemote(remote) != nil {
		return Flow{}, false
	}
	if local == (netip.AddrPort{}) { // see UDPFlowID
		f, err := l.udpFlow(remote)
		return f, err == nil && !l.ended()
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, s := range l.sockets {
		if s.local == local && l.state != stopped && local.Addr().Is4() == remote.Addr().Is4() {
			return Flow{socket: s, peer: remote}, true
		}
	}
	return Flow{}, false
}
