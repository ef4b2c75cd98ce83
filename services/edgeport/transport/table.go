package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// evictable is how long a connection must have been silent to be closed in favor of a new one; clients with
	// keep-alives send them every two minutes (RFC 5626 4.4.1).
	evictable = 5 * time.Minute
	// evictSample is how many connections are looked at to find one: the whole table would be too much per connection
	// of a flood.
	evictSample = 16
)

// admit takes an accepted connection, or closes it if there are too many.
func (l *Layer) admit(ln *listener, nc net.Conn) {
	remote := addrPort(nc.RemoteAddr())
	count := &l.counters[ln.Protocol]
	from := source(remote.Addr())
	proxy := ln.trusts(remote.Addr()) // who it is from will be known later
	if !proxy && !l.guard.Accept(remote.Addr()) {
		count.refused[unwelcome].Add(1)
		reject(nc)
		return
	}
	c := l.newConn(ln.Protocol, addrPort(nc.LocalAddr()), remote)
	c.point = ln
	c.attach(nc)

	l.mu.Lock()
	defer l.mu.Unlock()
	refused := none
	switch {
	case l.state == stopped:
		refused = shuttingDown
	case !proxy && l.sources[from] >= l.limits.PerSource:
		refused = perSource
	case !l.makeRoom():
		refused = tooMany
	}
	if refused != none {
		count.refused[refused].Add(1)
		nc.Close()
		return
	}
	count.accepted.Add(1)
	if !proxy {
		l.sources[from]++
		c.source = from
	}
	l.conns[c.id] = c
	l.wg.Go(c.run)
}

// dial opens a connection in the background, or returns one that was opened meanwhile.
func (l *Layer) dial(to endpoint, from netip.Addr) (*conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != listening && l.state != serving {
		return nil, errors.New("the transport is not open")
	}
	if c := l.dialed[to]; c != nil && c.alive() {
		return c, nil
	}
	if !l.makeRoom() {
		return nil, fmt.Errorf("all %d connections are in use", l.limits.Connections)
	}
	c := l.newConn(to.protocol, netip.AddrPortFrom(from, 0), to.addr)
	c.dialed, c.name = true, to.name
	ctx, cancel := context.WithTimeout(context.Background(), l.limits.Dial)
	c.cancel = cancel
	l.counters[c.protocol].dialed.Add(1)
	l.conns[c.id] = c
	l.dialed[to] = c
	l.wg.Go(func() { c.connect(ctx) })
	return c, nil
}

// makeRoom says whether the table takes one more connection, after closing one that has long been silent if need be.
func (l *Layer) makeRoom() bool {
	if len(l.conns) < l.limits.Connections {
		return true
	}
	var silent *conn
	seen := 0
	for _, c := range l.conns { // in random order
		if silent == nil || c.active.Load() < silent.active.Load() {
			silent = c
		}
		if seen++; seen == evictSample {
			break
		}
	}
	if silent == nil || l.now()-time.Duration(silent.active.Load()) < evictable {
		return false
	}
	l.forget(silent)
	silent.kill(evicted, errors.New("it made room for a new one"))
	return true
}

// forget takes c off the table. It may be called again.
func (l *Layer) forget(c *conn) {
	if l.conns[c.id] != c {
		return
	}
	delete(l.conns, c.id)
	if to := (endpoint{c.protocol, c.remote, c.name}); l.dialed[to] == c {
		delete(l.dialed, to)
	}
	from := c.source
	if !from.IsValid() {
		return
	}
	if l.sources[from]--; l.sources[from] == 0 {
		delete(l.sources, from)
	}
}

// source is what Limits.PerSource counts by: an IPv6 host has at least a /64 to call from.
func source(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		prefix, _ := addr.Prefix(64)
		return prefix.Addr()
	}
	return addr
}
