package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// ErrNotDialed is the error of Layer.Flow for a protocol whose connections only the peer opens.
var ErrNotDialed = errors.New("a WebSocket is opened by its client")

// maxZone is how long the zone of an address may be. No system has longer names of interfaces.
const maxZone = 40

// Flow is a path to one peer (RFC 5626): for UDP a socket of ours and a remote address, for the others one connection,
// and to another EdgePort the bus.
// It is a value, comparable, and its zero value is no flow; it may outlive its connection. Its methods may be called
// from any goroutine, and all but Valid only on a valid flow.
type Flow struct {
	socket *socket
	peer   netip.AddrPort // with socket
	conn   *conn
	far    *Peer
}

// Valid says whether f is a flow at all; whether its connection lives Send will tell.
func (f Flow) Valid() bool { return f.socket != nil || f.conn != nil || f.far != nil }

// Protocol is the transport of f.
func (f Flow) Protocol() Protocol {
	switch {
	case f.conn != nil:
		return f.conn.protocol
	case f.far != nil:
		return Bus
	default:
		return UDP
	}
}

// Local is our address of the flow, never the unspecified one. The port of a connection that we opened is an ephemeral
// one, and 0 until the connection stands.
func (f Flow) Local() netip.AddrPort {
	switch {
	case f.conn != nil:
		return *f.conn.local.Load()
	case f.far != nil:
		return netip.AddrPort{}
	default:
		return f.socket.local
	}
}

// Remote is the peer's address, that of the packet or the connection and nothing that the peer says of itself.
func (f Flow) Remote() netip.AddrPort {
	if f.conn != nil {
		return f.conn.remote
	}
	return f.peer
}

// ID names f for Layer.Lookup, in at most 256 letters, digits, - and _. That of a connection has 20 capitals and digits
// with 100 random bits, so that it is unique over restarts and EdgePorts and cannot be guessed. That of a UDP flow is
// made of its two addresses: anyone can make it, it never expires, and it names the same flow at every EdgePort that has
// a socket on our address. It begins with a small letter. A flow to another EdgePort has none.
func (f Flow) ID() string {
	switch {
	case f.conn != nil:
		return f.conn.id
	case f.far != nil:
		return ""
	default:
		return datagramID(f.socket.local, f.peer)
	}
}

// To is, for UDP, the flow from the same socket to another remote address, and else f itself.
func (f Flow) To(remote netip.AddrPort) Flow {
	if f.socket != nil {
		f.peer = unmap(remote)
	}
	return f
}

// Send sends one message. It never blocks, keeps no part of data after it returned, and reports nothing. fail may be nil;
// otherwise it runs at most once, on another goroutine and never inside Send, if the bytes could not be handed to the
// kernel: the address cannot be reached, the connection could not be opened or has ended, its queue is full, in which
// case the connection is closed. Bytes in the kernel may still get lost.
//
// To a peer that has closed its half of a connection, messages can be sent for 5 s more, so that the last requests get
// their answers.
func (f Flow) Send(data []byte, fail func(error)) {
	switch {
	case f.conn != nil:
		f.conn.send(data, fail)
	case f.far != nil:
		f.far.send(data, fail)
	default:
		f.socket.send(data, f.peer, fail)
	}
}

// Carries says whether a message of that many bytes can be sent on f at all: a datagram has a largest size, which IPv4
// counts with its header and IPv6 without.
func (f Flow) Carries(size int) bool {
	switch {
	case f.socket == nil:
		return true
	case f.peer.Addr().Is4():
		return size <= maxDatagram4
	default:
		return size <= maxDatagram6
	}
}

// Close ends the connection of f, for Malformed or Unwanted: nothing more that comes on it is handed on, not even what
// has been read already. What was sent before is written, for a second at most, and a WebSocket is told, with the status
// 1007 or 1008. A connection that is still being opened is given up. Close does not wait, may be called inside Handler,
// and does nothing the second time, nor for UDP, which has no connection.
func (f Flow) Close(why Reason) {
	if f.conn != nil {
		f.conn.leave(why)
	}
}

// Lookup finds the flow with that ID: a connection while it lives, or a UDP flow if one of our sockets is open on its
// local address and port, whether or not anything ever came from the remote one. Whoever takes an ID from outside has to
// know that its author may choose where UDP goes.
func (l *Layer) Lookup(id string) (Flow, bool) {
	if strings.HasPrefix(id, datagramPrefix) {
		return l.datagramFlow(id)
	}
	l.mu.RLock()
	c := l.conns[id]
	l.mu.RUnlock()
	if c == nil || !c.alive() {
		return Flow{}, false
	}
	return Flow{conn: c}, true
}

// Flow is a flow to remote: for UDP from the socket that the kernel would choose the source address of, else the live
// connection to that address that we opened, or a new one. That is dialed in the background, within Limits.Dial, while
// what is sent waits; the connections that remote opened to us are found by Lookup only. Over TLS its certificate has
// to be valid for serverName, or for its address if that is empty, and a connection is used for one name; other
// protocols ignore the name. Flow needs Listen before it, and fails if remote is no unicast address with a port, if
// nothing that listens or no route reaches it, at the limit of connections, and for WS and WSS, as a WebSocket is
// opened by its client.
func (l *Layer) Flow(p Protocol, remote netip.AddrPort, serverName string) (Flow, error) {
	remote = unmap(remote)
	f, err := l.flow(p, remote, serverName)
	if err != nil {
		return Flow{}, fmt.Errorf("reach %s %s: %w", p.lower(), remote, err)
	}
	return f, nil
}

func (l *Layer) flow(p Protocol, remote netip.AddrPort, serverName string) (Flow, error) {
	if err := checkRemote(remote); err != nil {
		return Flow{}, err
	}
	switch p {
	case UDP:
		return l.udpFlow(remote)
	case TCP:
		return l.dialedFlow(endpoint{p, remote, ""})
	case TLS:
		return l.dialedFlow(endpoint{p, remote, strings.ToLower(serverName)})
	}
	return Flow{}, ErrNotDialed
}

// checkRemote says why nothing can be sent to remote.
func checkRemote(remote netip.AddrPort) error {
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	switch addr := remote.Addr(); {
	case !addr.IsValid() || remote.Port() == 0:
		return errors.New("want an address and a port")
	case addr.IsUnspecified() || addr.IsMulticast() || addr == broadcast:
		return errors.New("want the address of one host")
	case len(addr.Zone()) > maxZone:
		return errors.New("want an interface of this machine behind the %")
	}
	return nil
}

// udpFlow chooses a socket: of remote's family, on the loopback interface if and only if remote is there, and among
// several by the kernel's routes.
func (l *Layer) udpFlow(remote netip.AddrPort) (Flow, error) {
	l.mu.RLock()
	sockets := l.sockets
	l.mu.RUnlock()
	addr := remote.Addr()
	var first, second *socket
	for _, s := range sockets {
		if own := s.local.Addr(); own.Is4() == addr.Is4() && own.IsLoopback() == addr.IsLoopback() {
			if first == nil {
				first = s
			} else {
				second = s
				break
			}
		}
	}
	if first == nil {
		return Flow{}, errors.New("no udp socket of its family reaches it, add one to spec.transport")
	}
	if second != nil {
		source, err := l.routes.source(addr)
		if err != nil {
			return Flow{}, err
		}
		for _, s := range sockets {
			if s.local.Addr() == source {
				first = s
				break
			}
		}
	}
	return Flow{socket: first, peer: remote}, nil
}

// dialedFlow is the connection that we have to an endpoint, or a new one.
func (l *Layer) dialedFlow(to endpoint) (Flow, error) {
	l.mu.RLock()
	c := l.dialed[to]
	l.mu.RUnlock()
	if c != nil && c.alive() {
		return Flow{conn: c}, nil
	}
	source, err := l.routes.source(to.addr.Addr())
	if err != nil {
		return Flow{}, err
	}
	c, err = l.dial(to, source)
	if err != nil {
		return Flow{}, err
	}
	return Flow{conn: c}, nil
}

// routes remembers which source address the kernel uses for a remote one.
type routes struct {
	mu    sync.Mutex
	known map[netip.Addr]netip.Addr
	since time.Time
}

// Routes change seldom, and a source address that is a minute old still works if its interface is there.
const (
	routesKept = 4096
	routesTime = time.Minute
)

// source asks the kernel, by connecting a UDP socket, which sends nothing.
func (r *routes) source(remote netip.Addr) (netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= routesKept || time.Since(r.since) > routesTime {
		r.known, r.since = make(map[netip.Addr]netip.Addr), time.Now()
	}
	if source, ok := r.known[remote]; ok {
		return source, nil
	}
	probe, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(remote, 9)))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find a route: %w", err)
	}
	defer probe.Close()
	source := addrPort(probe.LocalAddr()).Addr()
	r.known[remote] = source
	return source, nil
}
