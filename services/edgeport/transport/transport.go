// Package transport is the bottom of the EdgePort: listeners and flows, bytes in and bytes out (RFC 3261 18). It finds
// where a message ends on a stream, keeps connections alive, and bounds what a peer may take: time, memory,
// connections. A Send never blocks, so it may be called under any lock.
//
// It never parses a message, resolves a name, sends anything again or decides where a message goes.
package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/routr-fabric/routr/services/edgeport/guard"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// Handler takes one message, or one datagram, without the CRLFs before it. It runs on the goroutine that reads f, so
// that the messages of a flow are handled in order, and f is not read until it returns. data is valid only that long.
// Datagrams of one socket share a goroutine, datagrams and connections otherwise do not: Handler is called by many.
type Handler func(f Flow, data []byte)

// Config is where to listen and how much to take.
type Config struct {
	Listen []Listen
	Limits Limits
	// RootCAs verify the servers that TLS connections are opened to; nil: those that the system trusts.
	RootCAs *x509.CertPool
	// CertificateDir is where the certificate is kept that is made for the listening points without one. Empty: it
	// lives as long as the layer.
	CertificateDir string
	// Guard says what is taken at all, and is told of offences. It may be nil.
	Guard *guard.Guard
	// Names are host names and addresses that this certificate is for, beside those of the machine.
	Names []string
}

// Listen is a listening point.
//
// UDP on the unspecified address opens a socket for each address that the machine has when Layer.Listen runs, for
// 0.0.0.0 its IPv4 addresses, for :: all but link-local IPv6 ones. So Flow.Local is always the address that the client
// sent to, and the answer leaves from there, which NATs and RFC 3581 4 ask for. An address that appears later, and a
// broadcast, is not heard.
type Listen struct {
	Protocol Protocol
	Addr     netip.AddrPort // port 0 takes a free one
	TLS      TLSConfig      // of TLS and WSS
	// Origins are the web pages whose scripts may connect to WS and WSS (RFC 6455 10.2), such as
	// https://phone.example.com; none: all. Who names no origin is no browser, and may connect.
	Origins []string
	// Proxies are the networks of the load balancers that tell, by the PROXY protocol, whom they connect for. What
	// comes from there has to begin with its header. Others have no way to say who they are.
	Proxies []netip.Prefix
}

// Limits bounds what peers may take. A field that is zero has the default in its comment.
type Limits struct {
	// Connections that are open at a time, accepted or dialed: 20000, or what the descriptors of the process allow if
	// that is less. When they are all in use the one that has been silent longest, and for minutes, makes room.
	Connections int
	// PerSource is how many connections one IPv4 address, or one IPv6 /64, may have open to us: 1024.
	PerSource int
	// Message is the size of a message on a stream in bytes: message.MaxSize, which is also its maximum.
	Message int
	// Queue is how much may wait to be written to one connection, in bytes: 1 MiB.
	Queue int
	// Memory is how much of all connections together may wait to be written or for the rest of a message, in bytes,
	// beside 4 KiB of a message for each: 128 MiB. Who needs more is closed, and who sends more than 64 KiB when half of
	// it is in use.
	Memory int
	// Handshake is the time that the PROXY header, the handshake of TLS and that of WebSocket may take together: 5 s.
	Handshake time.Duration
	// FirstMessage is the time from accept, or the handshake, to the end of the first message: 5 s. A WebSocket has no
	// such limit, as its handshake has shown what the peer is.
	FirstMessage time.Duration
	// MessageTime is the time from the first to the last byte of a later message: 10 s.
	MessageTime time.Duration
	// Idle is how long a connection may be silent: 30 min.
	Idle time.Duration
	// Write is how long a peer may take for the next 64 KiB of what waits for it: 5 s.
	Write time.Duration
	// Dial is how long opening a connection may take: 5 s.
	Dial time.Duration
}

func (l Limits) withDefaults() Limits {
	number := func(n *int, otherwise int) {
		if *n <= 0 {
			*n = otherwise
		}
	}
	period := func(d *time.Duration, otherwise time.Duration) {
		if *d <= 0 {
			*d = otherwise
		}
	}
	number(&l.Connections, 20000)
	number(&l.PerSource, 1024)
	number(&l.Message, message.MaxSize)
	number(&l.Queue, 1<<20)
	number(&l.Memory, 128<<20)
	period(&l.Handshake, 5*time.Second)
	period(&l.FirstMessage, 5*time.Second)
	period(&l.MessageTime, 10*time.Second)
	period(&l.Idle, 30*time.Minute)
	period(&l.Write, 5*time.Second)
	period(&l.Dial, 5*time.Second)
	l.Message = min(l.Message, message.MaxSize)
	return l
}

// flushTime is how long what waits to be written may take once the connection is to end.
const flushTime = time.Second

// Layer is all sockets of an EdgePort. Its methods may be called from any goroutine.
type Layer struct {
	cfg     Config
	limits  Limits
	guard   *guard.Guard
	handler Handler
	closed  func(Flow)
	log     *slog.Logger
	meter   metric.Meter

	epoch     time.Time // what now counts from
	memory    budget
	buffers   sync.Pool // of *[smallBuffer]byte
	scratches sync.Pool // of *scratch
	counters  [protocols]counters
	stop      chan struct{} // closed when the layer shuts down
	wg        sync.WaitGroup

	mu        sync.RWMutex
	state     state
	points    []Listen
	sockets   []*socket
	listeners []*listener
	own       *tls.Certificate   // the one that was made here
	conns     map[string]*conn   // by id
	dialed    map[endpoint]*conn // those of conns that we opened and can still use
	sources   map[netip.Addr]int // how many of conns each source has
	routes    routes
}

type state uint8

const (
	made state = iota
	listening
	serving
	stopped
)

// endpoint is the far end of a connection that we open.
type endpoint struct {
	protocol Protocol
	addr     netip.AddrPort
	name     string // that its certificate has to bear, with TLS
}

// New makes a Layer that has no socket yet. h gets what arrives. closed is called once for every connection, accepted
// or dialed, when nothing more can arrive on it; it runs on a goroutine of the layer, after the last Handler call of
// that flow. What the peer asked before it stopped sending may still be answered (see Flow.Send).
func New(cfg Config, h Handler, closed func(f Flow), log *slog.Logger, meter metric.Meter) *Layer {
	l := &Layer{
		cfg:       cfg,
		limits:    cfg.Limits.withDefaults(),
		guard:     cfg.Guard,
		handler:   h,
		closed:    closed,
		log:       log,
		meter:     meter,
		epoch:     time.Now(),
		buffers:   sync.Pool{New: func() any { return new([smallBuffer]byte) }},
		scratches: sync.Pool{New: func() any { return new(scratch) }},
		stop:      make(chan struct{}),
		conns:     make(map[string]*conn),
		dialed:    make(map[endpoint]*conn),
		sources:   make(map[netip.Addr]int),
	}
	if most := descriptors(); most > 0 && l.limits.Connections > most {
		l.limits.Connections = most
		if cfg.Limits.Connections > most {
			log.Warn("fewer connections than configured, raise the limit of open files", "connections", most, "configured", cfg.Limits.Connections)
		}
	}
	l.memory.left.Store(int64(l.limits.Memory))
	l.memory.reserve = int64(l.limits.Memory / 2)
	return l
}

// Points are the listening points in the order of the configuration, with the ports that were opened. It is empty
// before Listen.
func (l *Layer) Points() []Listen {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.points
}

// Serve reads all sockets until ctx ends, then closes them and returns nil: nothing more is read or accepted, and what
// waits to be written has another second. No Handler and no closed function runs after Serve. It is an error to call it
// before Listen, or twice. A layer that listens and is not to serve is closed by Serve with a context that has ended.
func (l *Layer) Serve(ctx context.Context) error {
	l.mu.Lock()
	if l.state != listening {
		l.mu.Unlock()
		return errors.New("serve sip: no socket is open, want one Listen before one Serve")
	}
	l.state = serving
	unregister := l.observe()
	defer unregister()
	for _, s := range l.sockets {
		l.wg.Go(s.read)
	}
	for _, ln := range l.listeners {
		l.wg.Go(func() { l.accept(ln) })
	}
	l.mu.Unlock()

	<-ctx.Done()
	l.shutdown()
	l.wg.Wait()
	return nil
}

func (l *Layer) shutdown() {
	l.mu.Lock()
	l.state = stopped // from here on nobody adds to wg but who is counted in it
	close(l.stop)
	conns := make([]*conn, 0, len(l.conns))
	for _, c := range l.conns {
		conns = append(conns, c)
	}
	l.closeListeners()
	l.mu.Unlock()
	for _, c := range conns {
		c.leave(byShutdown)
	}
}

// ended says whether the layer shuts down.
func (l *Layer) ended() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// now is the time since the layer was made, by a clock that does not jump.
func (l *Layer) now() time.Duration { return time.Since(l.epoch) }

// wait waits for d and says whether the layer is still there.
func (l *Layer) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.stop:
		return false
	}
}

// failed counts what could not be sent and tells the sender, on another goroutine, as it may hold a lock that fail
// takes.
func (l *Layer) failed(p Protocol, fail func(error), err error) {
	l.counters[p].sendFailed.Add(1)
	if fail != nil {
		go fail(err)
	}
}

// budget is memory that all connections share.
type budget struct {
	left    atomic.Int64
	reserve int64 // is kept from large messages
}

// takeLarge is take for a message that few would miss. It leaves the reserve to the others: the connections that one
// source may have could use up all memory with messages of that size.
func (b *budget) takeLarge(n int) bool { return b.left.Load()-int64(n) >= b.reserve && b.take(n) }

func (b *budget) take(n int) bool {
	if b.left.Add(-int64(n)) >= 0 {
		return true
	}
	b.left.Add(int64(n))
	return false
}

func (b *budget) give(n int) { b.left.Add(int64(n)) }

// backoff is how long to wait after an error that may pass, so that one that stays does not eat a core.
type backoff struct{ pause time.Duration }

func (b *backoff) next() time.Duration {
	b.pause = min(max(2*b.pause, 5*time.Millisecond), time.Second)
	return b.pause
}

func (b *backoff) reset() { b.pause = 0 }

// addrPort is the address of a socket, an IPv4 address as such and not mapped into IPv6.
func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		return unmap(a.AddrPort())
	case *net.UDPAddr:
		return unmap(a.AddrPort())
	}
	return netip.AddrPort{}
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// unmapAll is networks as the addresses are that are looked for in them.
func unmapAll(nets []netip.Prefix) []netip.Prefix {
	all := make([]netip.Prefix, len(nets))
	for i, n := range nets {
		if all[i] = n; n.Addr().Is4In6() && n.Bits() >= 96 {
			all[i] = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
		}
	}
	return all
}
