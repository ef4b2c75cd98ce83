package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// listener accepts the connections of a listening point.
type listener struct {
	Listen
	net.Listener             // replaced under the lock of the layer, by the goroutine that accepts
	tls          listenerTLS // of TLS and WSS
	trouble      trouble
}

// Dead peers and NAT bindings that are gone are found out by probes of the kernel.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}
}

// Listen opens every listening point, or none. The error names the protocol and the address, and says what to change.
func (l *Layer) Listen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != made {
		return errors.New("listen: already called")
	}
	for _, p := range l.cfg.Listen {
		p.Addr = unmap(p.Addr)
		p.Proxies = unmapAll(p.Proxies)
		port, err := l.open(p)
		if err != nil {
			l.closeListeners()
			l.sockets, l.listeners, l.points = nil, nil, nil
			return listenError(p, err)
		}
		p.Addr = netip.AddrPortFrom(p.Addr.Addr(), port)
		l.points = append(l.points, p)
		l.log.Debug("listening", "protocol", p.Protocol.lower(), "addr", p.Addr.String())
	}
	l.state = listening
	return nil
}

// open opens one listening point and returns its port.
func (l *Layer) open(p Listen) (port uint16, err error) {
	switch p.Protocol {
	case UDP:
		sockets, err := l.openUDP(p.Addr)
		if err != nil {
			return 0, err
		}
		l.sockets = append(l.sockets, sockets...)
		return sockets[0].local.Port(), nil
	case TCP, TLS, WS, WSS:
		var secure listenerTLS
		if p.Protocol.Secure() {
			if secure, err = l.serverTLS(p); err != nil {
				return 0, err
			}
		}
		ln, err := listenTCP(p.Addr)
		if err != nil {
			return 0, err
		}
		p.Addr = netip.AddrPortFrom(p.Addr.Addr(), addrPort(ln.Addr()).Port())
		l.listeners = append(l.listeners, &listener{Listen: p, Listener: ln, tls: secure})
		return p.Addr.Port(), nil
	}
	return 0, errors.New("no such protocol")
}

func listenTCP(at netip.AddrPort) (net.Listener, error) {
	network := "tcp4"
	if at.Addr().Is6() {
		network = "tcp" // :: takes IPv4 too, as it does for UDP
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive()}
	return lc.Listen(context.Background(), network, at.String())
}

// openUDP opens the sockets of a listening point, all on one port.
func (l *Layer) openUDP(at netip.AddrPort) ([]*socket, error) {
	addrs, err := localAddrs(at.Addr())
	if err != nil {
		return nil, err
	}
	// A port that is free on the first address may be taken on the second.
	for attempt := 0; ; attempt++ {
		sockets, err := l.openSockets(addrs, at.Port())
		if err == nil || at.Port() != 0 || attempt == 16 || !errors.Is(err, syscall.EADDRINUSE) {
			return sockets, err
		}
	}
}

func (l *Layer) openSockets(addrs []netip.Addr, port uint16) (sockets []*socket, err error) {
	for _, addr := range addrs {
		s, err := l.newSocket(netip.AddrPortFrom(addr, port))
		if err != nil {
			for _, s := range sockets {
				s.datagrams.close()
			}
			return nil, err
		}
		sockets = append(sockets, s)
		port = s.local.Port()
	}
	return sockets, nil
}

// localAddrs is addr, or the addresses of this machine that an unspecified addr stands for.
func localAddrs(addr netip.Addr) ([]netip.Addr, error) {
	if !addr.IsUnspecified() {
		return []netip.Addr{addr}, nil
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	var addrs []netip.Addr
	seen := make(map[netip.Addr]bool)
	for _, a := range own {
		prefix, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, _ := netip.AddrFromSlice(prefix.IP)
		ip = ip.Unmap()
		if seen[ip] || ip.Is6() && (addr.Is4() || ip.IsLinkLocalUnicast()) {
			continue
		}
		seen[ip] = true
		addrs = append(addrs, ip)
	}
	if len(addrs) == 0 {
		return nil, errors.New("this machine has no such address")
	}
	return addrs, nil
}

// closeListeners closes whatever Listen opened. Errors are of no use to anyone.
func (l *Layer) closeListeners() {
	for _, s := range l.sockets {
		s.datagrams.close()
	}
	for _, ln := range l.listeners {
		ln.Close()
	}
}

func listenError(p Listen, err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = " – another SIP server? choose another port in spec.transport"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = " – it is not of this machine, choose another bindAddr in spec.transport"
	case errors.Is(err, syscall.EACCES):
		hint = " – choose a port above 1023 in spec.transport, or grant CAP_NET_BIND_SERVICE"
	}
	_, network := errors.AsType[*net.OpError](err)
	if errno, ok := errors.AsType[syscall.Errno](err); ok && network {
		err = errno // what the net package wraps around it is said already
	}
	return fmt.Errorf("listen %s %s: %w%s", p.Protocol.lower(), p.Addr, err, hint)
}

// accept takes connections until nobody wants them any more. It never waits for a peer.
func (l *Layer) accept(ln *listener) {
	for {
		nc, err := ln.Accept()
		if err == nil {
			ln.trouble.passed(l, ln.Protocol, ln.Listen.Addr)
			l.admit(ln, nc)
			continue
		}
		if errors.Is(err, net.ErrClosed) && l.ended() {
			return
		}
		l.counters[ln.Protocol].refused[acceptFailed].Add(1)
		if !ln.trouble.failed(l, ln.Protocol, err, func() error { return ln.reopen(l) }) {
			return
		}
	}
}
