package transport

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/routr-fabric/routr/services/edgeport/message"
)

// halfClosed is how long a peer that has closed its half may be answered. It is short, as most of them have closed the
// other half as well, which nobody can see.
const halfClosed = 5 * time.Second

// lastLook is how long the end of a connection waits for that of its peer when the layer shuts down, so that what is on
// its way does not make the kernel reset it.
const lastLook = 50 * time.Millisecond

var errLeft = errors.New("it was closed here, for what came on it")

// conn is one connection of a stream transport. Its goroutine, run, reads it, and is the only one that closes it; who
// else wants it gone calls kill.
type conn struct {
	layer    *Layer
	protocol Protocol
	dialed   bool
	heard    bool        // a message has come; of the goroutine that reads
	known    atomic.Bool // somebody has authenticated on it
	id       string
	name     string     // that the certificate of the peer has to bear; dialed
	point    *listener  // that accepted it
	source   netip.Addr // by which it is counted, under the lock of the layer
	remote   netip.AddrPort
	local    atomic.Pointer[netip.AddrPort]
	active   atomic.Int64  // when bytes came last, in layer time
	leaving  atomic.Uint32 // the Reason to read no more and to end when all is written; alive until there is one
	done     chan struct{} // closed by kill

	tls     *tunnel // TLS and WSS, once they stand
	frames  *frames // WS and WSS, once they stand
	refused bool    // the handshake of WebSocket, with an answer

	mu       sync.Mutex
	nc       net.Conn // nil until it is connected
	ready    bool     // the handshakes are over: what is sent can be written
	direct   direct
	why      Reason // why it ended; alive until then
	err      error
	cancel   context.CancelFunc // ends the dialing
	retired  bool               // nothing more can arrive
	flushing bool               // nothing more is taken to be sent
	queue    []pending
	queued   int            // what the queue costs
	draining bool           // a goroutine writes the queue
	writers  sync.WaitGroup // that goroutine
}

// newConn makes a connection that is not in the table yet.
func (l *Layer) newConn(p Protocol, local, remote netip.AddrPort) *conn {
	c := &conn{layer: l, protocol: p, id: rand.Text()[:20], remote: remote, done: make(chan struct{})}
	c.local.Store(&local)
	c.active.Store(int64(l.now()))
	return c
}

// attach makes nc the connection. It is called once.
func (c *conn) attach(nc net.Conn) {
	c.nc = nc
	c.direct.attach(nc)
}

// connect opens the connection, and runs it.
func (c *conn) connect(ctx context.Context) {
	defer c.cancel()
	// Bound to the address that Local has told since the flow was made.
	d := net.Dialer{
		LocalAddr:       net.TCPAddrFromAddrPort(*c.local.Load()),
		KeepAliveConfig: keepAlive(),
	}
	nc, err := d.DialContext(ctx, "tcp", c.remote.String())
	if err != nil {
		c.end(unreachable, err)
		return
	}
	local := addrPort(nc.LocalAddr())
	c.mu.Lock()
	if c.why != alive {
		c.mu.Unlock()
		nc.Close()
		c.end(c.why, c.err)
		return
	}
	c.local.Store(&local)
	c.attach(nc)
	c.mu.Unlock()
	c.run()
}

// run is the life of a connection that stands.
func (c *conn) run() {
	in := newInbox(c.layer)
	why, err := c.establish(in)
	if why == alive {
		why, err = c.read(in)
	}
	c.report(why, err, in)
	in.release()
	c.retire()
	if why == peerClosed && c.heard && c.frames == nil {
		c.linger()
	}
	bye := c.farewell(why, err)
	until := time.Now().Add(flushTime)
	left := c.ready && why == Reason(c.leaving.Load())
	if why == peerClosed || left || bye {
		c.flush(until)
	}
	switch {
	case why == peerClosed:
	case left && why == byShutdown && !bye:
		c.discard(time.Now().Add(lastLook))
	case bye || left || c.refused:
		c.discard(until)
	}
	c.end(why, err)
}

// fill waits for bytes and puts them into the room of in.
func (c *conn) fill(in *inbox) (int, error) {
	if c.tls != nil {
		return c.decrypt(in)
	}
	n, err := c.direct.read(c.nc, in)
	c.layer.counters[c.protocol].bytesIn.Add(int64(n))
	return n, err
}

// Phases of reading, each with its deadline.
type phase uint8

const (
	waiting phase = iota // for a message
	first                // for the first message to be complete
	within               // a message
)

// read hands messages to the handler until nothing more can come, and says why.
func (c *conn) read(in *inbox) (Reason, error) {
	l, count := c.layer, &c.layer.counters[c.protocol]
	deliver := func(data []byte) (more bool) {
		count.messagesIn.Add(1)
		c.heard = true
		if c.admits() {
			l.handler(Flow{conn: c}, data)
		}
		return c.leaving.Load() == uint32(alive)
	}
	at, limit := first, l.limits.FirstMessage
	if c.dialed || c.frames != nil {
		at, limit = waiting, l.limits.Idle
	}
	c.expect(limit)
	n, err := in.n, error(nil) // what has come with the handshake
	for in.n = 0; ; n, err = c.fill(in) {
		if n > 0 {
			c.active.Store(int64(l.now()))
			messages, ping, bad := c.add(in, n, deliver)
			if ping {
				count.keepAlives.Add(1)
				c.send([]byte("\r\n"), nil)
			}
			switch why, err := c.left(); {
			case why != alive:
				return why, err
			case bad != nil:
				return readReason(bad), bad
			case c.frames != nil && c.frames.closed:
				return peerClosed, errClosed
			case c.frames != nil && c.frames.pong != nil:
				c.transmit(ws.OpPong, c.frames.pong, nil)
				c.frames.pong = nil
			}
			switch {
			case at == first && messages == 0:
			case !c.partial(in) && at != waiting:
				at = waiting
				c.expect(l.limits.Idle)
			case c.partial(in) && (at != within || messages > 0):
				at = within
				c.expect(l.limits.MessageTime)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			if why, err := c.stopped(); why != alive {
				return why, err
			}
			switch at {
			case first:
				return noMessage, fmt.Errorf("no message within %v", l.limits.FirstMessage)
			case within:
				return slowMessage, fmt.Errorf("a message took more than %v", l.limits.MessageTime)
			case waiting:
				// The deadline is not moved with every read, so it may be too early.
				silent := l.now() - time.Duration(c.active.Load())
				if silent >= l.limits.Idle {
					return idle, fmt.Errorf("silent for %v", l.limits.Idle)
				}
				c.expect(l.limits.Idle - silent)
			}
		case errors.Is(err, io.EOF) && !c.partial(in):
			return peerClosed, err
		default:
			return readReason(err), err
		}
	}
}

// add takes n bytes, as the inbox or as the frames of a WebSocket do.
func (c *conn) add(in *inbox, n int, deliver func([]byte) bool) (messages int, ping bool, err error) {
	if c.frames != nil {
		return c.frames.add(in, n, deliver)
	}
	return in.add(n, deliver)
}

// partial says whether a message has begun and not ended.
func (c *conn) partial(in *inbox) bool {
	if c.frames != nil {
		return c.frames.partial(in)
	}
	return in.partial()
}

// readReason tells the errors of an inbox, and those of the network, apart.
func readReason(err error) Reason {
	invalid, ok := errors.AsType[*message.Error](err)
	bad, isClose := errors.AsType[*closeError](err)
	switch {
	case errors.Is(err, errTooBig), ok && invalid.Status == 513, isClose && bad.code == ws.StatusMessageTooBig:
		return tooBig
	case errors.Is(err, errLineBreak), ok, isClose:
		return Malformed
	case errors.Is(err, errMemory):
		return noMemory
	}
	return broken
}

// expect lets the next read wait for d, unless the connection is to end.
func (c *conn) expect(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == alive && c.leaving.Load() == uint32(alive) {
		_ = c.nc.SetReadDeadline(time.Now().Add(d)) // the read will tell
	}
}

// stopped says why reading was interrupted; alive means that its own deadline passed.
func (c *conn) stopped() (Reason, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == alive {
		return c.left()
	}
	return c.why, c.err
}

// left is why the connection is to end once all is written.
func (c *conn) left() (Reason, error) {
	switch why := Reason(c.leaving.Load()); why {
	case alive:
		return alive, nil
	case byShutdown:
		return why, net.ErrClosed
	default:
		return why, errLeft
	}
}

// alive says whether something may still arrive.
func (c *conn) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why == alive && !c.retired && c.leaving.Load() == uint32(alive)
}

// leave ends the reading, for the first reason that is given; then the connection ends when all is written.
func (c *conn) leave(why Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.leaving.CompareAndSwap(uint32(alive), uint32(why)) {
		return
	}
	if c.nc == nil {
		why, err := c.left()
		c.killLocked(why, err)
	} else {
		_ = c.nc.SetReadDeadline(past())
	}
}

// kill makes the connection end, for the first reason that is given. It does not wait for that.
func (c *conn) kill(why Reason, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killLocked(why, err)
}

func (c *conn) killLocked(why Reason, err error) {
	if c.why != alive {
		return
	}
	c.why, c.err = why, err
	close(c.done)
	if c.cancel != nil {
		c.cancel()
	}
	if c.nc != nil {
		_ = c.nc.SetDeadline(past()) // wakes the reader, and who writes
	}
}

// retire tells that nothing more will arrive.
func (c *conn) retire() {
	c.mu.Lock()
	told := c.retired
	c.retired = true
	c.mu.Unlock()
	if !told {
		c.layer.closed(Flow{conn: c})
	}
}

// linger leaves the peer time for answers to its last requests.
func (c *conn) linger() {
	t := time.NewTimer(halfClosed)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.done:
	case <-c.layer.stop:
	}
}

// flush waits until what is queued is written.
func (c *conn) flush(until time.Time) {
	c.mu.Lock()
	c.flushing = true
	c.mu.Unlock()
	t := time.AfterFunc(time.Until(until), func() { c.kill(stalled, errors.New("its end did not leave time for it")) })
	c.writers.Wait()
	t.Stop()
}

// end closes the connection. What was not sent has failed.
func (c *conn) end(why Reason, err error) {
	c.kill(why, err)
	l := c.layer
	l.counters[c.protocol].closed[c.why].Add(1)
	l.mu.Lock()
	l.forget(c)
	l.mu.Unlock()
	if c.nc != nil {
		c.nc.Close()
	}
	c.writers.Wait()
	c.mu.Lock()
	unsent, size := c.queue, c.queued
	c.queue, c.queued = nil, 0
	c.mu.Unlock()
	l.log.Debug("connection closed", "protocol", c.protocol.lower(), "remote", c.remote.String(), "reason", c.why.String(), "err", c.err)
	for _, p := range unsent {
		l.counters[c.protocol].sendFailed.Add(1)
		if p.fail != nil {
			p.fail(c.failure())
		}
	}
	l.memory.give(size)
	c.retire()
}
