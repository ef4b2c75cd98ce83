package transport

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
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
	l := c.layer
	c.mu.Lock()
	if c.why != alive || c.flushing {
		c.mu.Unlock()
		l.failed(c.protocol, fail, c.failure())
		return
	}
	n := 0
	if c.nc != nil && !c.draining {
		var err error
		if n, err = c.direct.write(data); err != nil {
			c.killLocked(broken, err)
		} else if n == len(data) {
			c.mu.Unlock()
			c.sent(1, n)
			return
		}
	}
	ok := c.why == alive && c.enqueue(data[n:], fail)
	c.mu.Unlock()
	if !ok {
		l.failed(c.protocol, fail, c.failure())
	}
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
	if c.nc != nil && !c.draining {
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
