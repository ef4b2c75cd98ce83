package transport

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gobwas/ws"
)

// How a connection begins and ends, beside its messages.

// establish does what is to be done before messages: the PROXY header, TLS, WebSocket.
func (c *conn) establish(in *inbox) (Reason, error) {
	proxy := c.point != nil && c.point.trusts(c.remote.Addr())
	socket := c.protocol == WS || c.protocol == WSS
	var err error
	if proxy || socket || c.protocol.Secure() {
		c.allow(c.layer.limits.Handshake)
		if proxy {
			err = c.proxied(in)
		}
		if err == nil && c.protocol.Secure() {
			err = c.secure(in)
		}
		if err == nil && socket {
			err = c.upgrade(in)
		}
		if err == nil && !socket {
			in.bound(c.layer.limits.Message)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.why != alive:
		return c.why, c.err
	case err != nil && c.leaving.Load() != uint32(alive):
		return c.left()
	case err != nil && c.dialed:
		return unreachable, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return noHandshake, fmt.Errorf("no handshake within %v", c.layer.limits.Handshake)
	case err != nil:
		return noHandshake, err
	}
	c.ready = true
	_ = c.nc.SetWriteDeadline(time.Time{}) // what fails will tell
	if c.tls != nil {
		c.tls.wire.standing = true
		if err := c.encryptQueue(); err != nil {
			return broken, err
		}
	}
	if len(c.queue) > 0 {
		c.startDrain()
	}
	return alive, nil
}

// blocking is where the handshakes write, within the time that they have.
func (c *conn) blocking() io.Writer {
	if c.tls != nil {
		return c.tls
	}
	return c.nc
}

// allow limits the time of the handshakes.
func (c *conn) allow(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == alive && c.leaving.Load() == uint32(alive) {
		_ = c.nc.SetDeadline(time.Now().Add(d)) // what is late will tell
	}
}

// farewell tells the peer of the end, where there is a word for it, and says whether it did so in a close frame.
func (c *conn) farewell(why Reason, err error) (said bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != alive || !c.ready {
		return false
	}
	if c.frames != nil {
		var payload []byte
		if payload, said = c.frames.farewell(why, err); said {
			c.push(ws.OpClose, payload, nil)
		}
	}
	if c.tls != nil && c.why == alive {
		_ = c.tls.CloseWrite() // it only writes into a buffer
		c.flushTLS(nil)
	}
	return said
}

// discardSize is how much is read to no end so that the peer gets to see our last words: the kernel resets a connection
// that is closed with something unread, and the peer then loses what it has not read itself.
const discardSize = 1 << 20

// discard reads what the peer still sends until it sees our end. While it waits it holds no buffer.
func (c *conn) discard(until time.Time) {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.mu.Lock()
	if c.why == alive {
		_ = c.nc.SetReadDeadline(until) // the read will tell
	}
	c.mu.Unlock()
	for left := discardSize; left > 0; {
		b, _ := c.layer.buffers.Get().(*[smallBuffer]byte)
		n, err := c.direct.take(c.nc, b[:])
		c.layer.buffers.Put(b)
		left -= n
		if errors.Is(err, errWait) {
			err = c.direct.wait()
		}
		if err != nil {
			return
		}
	}
}
