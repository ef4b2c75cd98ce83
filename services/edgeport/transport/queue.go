package transport

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/gobwas/ws"
)

const (
	// entryCost is what an entry of a queue takes beside its bytes, so that many small ones are bounded too.
	entryCost = 64
	// batchSize is how much is written at a time, with a deadline of its own: a slow peer is no stalled one.
	batchSize = 64 << 10
)

var errQueueFull = errors.New("the peer does not read: its queue is full")

// pending is what waits to be written.
type pending struct {
	data []byte
	fail func(error)
}

// send writes data at once if nothing waits and the kernel takes it, and queues the rest. There is no goroutine for
// writing but while a queue waits for its peer.
func (c *conn) send(data []byte, fail func(error)) {
	op := ws.OpText
	if c.protocol == WS || c.protocol == WSS {
		op = opcode(data)
	}
	c.transmit(op, data, fail)
}

// transmit is send, of a frame of that kind if the connection is a WebSocket.
func (c *conn) transmit(op ws.OpCode, data []byte, fail func(error)) {
	c.mu.Lock()
	ok := c.why == alive && !c.flushing && c.push(op, data, fail)
	c.mu.Unlock()
	if !ok {
		c.layer.failed(c.protocol, fail, c.failure())
	}
}

// push puts data into a frame, encrypts it, and writes or queues that: all under the lock, so that the order stays, and
// what waits in the queue is what goes to the kernel. An error ends the connection.
func (c *conn) push(op ws.OpCode, data []byte, fail func(error)) bool {
	if !c.ready {
		return c.enqueue(data, fail)
	}
	if c.frames != nil {
		s := c.layer.newScratch()
		defer c.layer.free(s)
		data = s.frame(op, data)
	}
	if c.tls == nil {
		return c.put(data, fail)
	}
	if _, err := c.tls.Write(data); err != nil {
		c.killLocked(broken, err)
		return false
	}
	return c.flushTLS(fail)
}

// put gives the kernel what it takes at once, if nothing waits, and queues the rest.
func (c *conn) put(data []byte, fail func(error)) bool {
	n := 0
	if !c.draining {
		var err error
		if n, err = c.direct.write(data); err != nil {
			c.killLocked(broken, err)
			return false
		}
		if n == len(data) {
			c.sent(1, n)
			return true
		}
	}
	c.sent(0, n)
	return c.enqueue(data[n:], fail)
}

// encryptQueue encrypts what was sent while the handshake of TLS went on.
func (c *conn) encryptQueue() error {
	for i := range c.queue {
		p := &c.queue[i]
		if _, err := c.tls.Write(p.data); err != nil {
			return err
		}
		s := c.tls.wire.fetch()
		more := s.Len() - len(p.data)
		p.data = append(make([]byte, 0, s.Len()), s.Bytes()...)
		c.layer.free(s)
		c.queued += more
		c.layer.memory.left.Add(-int64(more)) // a few bytes a message are no reason to lose it
	}
	return nil
}

// enqueue keeps a copy of data until it can be written. If there is no room the connection is closed: the peer does not
// read, or not fast enough.
func (c *conn) enqueue(data []byte, fail func(error)) bool {
	cost := len(data) + entryCost
	if c.queued+cost > c.layer.limits.Queue {
		c.killLocked(queueFull, errQueueFull)
		return false
	}
	if !c.layer.memory.take(cost) {
		c.killLocked(noMemory, errMemory)
		return false
	}
	c.queued += cost
	c.queue = append(c.queue, pending{append(make([]byte, 0, len(data)), data...), fail})
	if c.ready && !c.draining {
		c.startDrain()
	}
	return true
}

// startDrain starts the goroutine that writes the queue. The caller holds the lock.
func (c *conn) startDrain() {
	c.draining = true
	c.writers.Go(c.drain)
}

// drain writes the queue until it is empty or the connection is to end.
func (c *conn) drain() {
	var batch net.Buffers
	for {
		c.mu.Lock()
		if c.why != alive || len(c.queue) == 0 {
			c.draining = false
			if c.why == alive {
				_ = c.nc.SetWriteDeadline(time.Time{}) // a deadline left behind would fail the next send
			}
			c.mu.Unlock()
			return
		}
		size := 0
		batch = batch[:0]
		for _, p := range c.queue {
			if size += len(p.data); size > batchSize && len(batch) > 0 {
				break
			}
			batch = append(batch, p.data)
		}
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.layer.limits.Write)) // the write will tell
		c.mu.Unlock()

		rest := batch // WriteTo consumes it
		n, err := rest.WriteTo(c.nc)
		c.written(int(n))
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.kill(stalled, fmt.Errorf("the peer has not read for %v", c.layer.limits.Write))
		case err != nil:
			c.kill(broken, err)
		}
	}
}

// written takes what was written off the queue.
func (c *conn) written(n int) {
	whole := 0
	c.mu.Lock()
	bytes := n
	for whole < len(c.queue) && len(c.queue[whole].data) <= n {
		n -= len(c.queue[whole].data)
		c.queue[whole] = pending{}
		whole++
	}
	if c.queue = c.queue[whole:]; len(c.queue) == 0 {
		c.queue = nil
	}
	cost := bytes - n + whole*entryCost
	c.queued -= cost
	c.mu.Unlock()
	c.layer.memory.give(cost)
	c.sent(whole, bytes)
}

func (c *conn) sent(messages, bytes int) {
	count := &c.layer.counters[c.protocol]
	count.messagesOut.Add(int64(messages))
	count.bytesOut.Add(int64(bytes))
}

// failure is the error of what could not be sent, once the connection has ended or is about to.
func (c *conn) failure() error {
	_, err := c.stopped()
	if err == nil {
		err = net.ErrClosed
	}
	return fmt.Errorf("send %s %s: %w", c.protocol.lower(), c.remote, err)
}
