//go:build unix

package transport

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

var errBufferFull = errors.New("the socket's send buffer is full")

// datagrams reads and writes a UDP socket. A write never waits: that of the net package does while the send buffer is
// full, and a few packets for neighbors that do not answer ARP fill it: three seconds were measured, for whoever holds
// the lock.
type datagrams struct {
	conn *net.UDPConn // it and raw are replaced under the lock, by the goroutine that reads
	raw  syscall.RawConn

	// What is read, by one goroutine, and what is written, kept here so that a packet needs no allocation.
	in      []byte
	n       int
	from    netip.AddrPort
	readErr error
	receive func(fd uintptr) bool

	mu       sync.Mutex
	out      []byte
	to       netip.AddrPort
	writeErr error
	transmit func(fd uintptr) bool
}

func (d *datagrams) attach(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conn, d.raw = c, raw
	d.receive, d.transmit = d.tryReceive, d.tryTransmit
	return nil
}

// close closes the socket. Its error is of no use to anyone.
func (d *datagrams) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conn.Close()
}

// writeTo is write by the net package.
func (d *datagrams) writeTo(data []byte, to netip.AddrPort) error {
	d.mu.Lock()
	c := d.conn
	d.mu.Unlock()
	_, err := c.WriteToUDPAddrPort(data, to)
	return err
}

// read waits for a datagram. It is for one goroutine.
func (d *datagrams) read(buf []byte) (int, netip.AddrPort, error) {
	d.in = buf
	if err := d.raw.Read(d.receive); err != nil {
		return 0, netip.AddrPort{}, err
	}
	return d.n, d.from, d.readErr
}

// tryReceive asks to be called again when there is something to read.
func (d *datagrams) tryReceive(fd uintptr) bool {
	for {
		d.n, d.from, d.readErr = rawReceive(fd, d.in)
		if !errors.Is(d.readErr, syscall.EINTR) {
			return !errors.Is(d.readErr, syscall.EAGAIN)
		}
	}
}

func (d *datagrams) write(data []byte, to netip.AddrPort) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.out, d.to = data, to
	err := d.raw.Write(d.transmit)
	d.out = nil
	if err == nil {
		err = d.writeErr
	}
	if errors.Is(err, syscall.EAGAIN) {
		err = errBufferFull
	}
	return err
}

// tryTransmit never asks to be called again.
func (d *datagrams) tryTransmit(fd uintptr) bool {
	for {
		d.writeErr = rawSend(fd, d.out, d.to)
		if !errors.Is(d.writeErr, syscall.EINTR) {
			return true
		}
	}
}

// direct reads and writes the socket of a connection without the net package between: a write does not wait, and a
// read that waits holds no buffer. It does nothing of its own if the connection is more than a socket.
type direct struct {
	raw syscall.RawConn // nil: more than a socket

	in       *inbox
	nr       int
	readErr  error
	readOnce func(fd uintptr) bool

	out       []byte
	nw        int
	writeErr  error
	writeOnce func(fd uintptr) bool
}

func (d *direct) attach(c net.Conn) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	d.raw, d.readOnce, d.writeOnce = raw, d.tryRead, d.tryWrite
}

// read waits until c has something, and puts it into in.
func (d *direct) read(c net.Conn, in *inbox) (int, error) {
	if d.raw == nil {
		room, err := in.room()
		if err != nil {
			return 0, err
		}
		return c.Read(room)
	}
	d.in, d.nr, d.readErr = in, 0, nil
	if err := d.raw.Read(d.readOnce); err != nil {
		return 0, err
	}
	if d.nr == 0 && d.readErr == nil {
		return 0, io.EOF
	}
	return max(d.nr, 0), d.readErr
}

// take reads what there is into b. It does not wait, but says errWait; where c is more than a socket it does wait.
func (d *direct) take(c net.Conn, b []byte) (n int, err error) {
	if d.raw == nil {
		return c.Read(b)
	}
	if e := d.raw.Read(func(fd uintptr) bool {
		for {
			if n, err = rawRead(fd, b); !errors.Is(err, syscall.EINTR) {
				return true
			}
		}
	}); e != nil {
		return 0, e
	}
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return 0, errWait
	case n == 0 && err == nil:
		return 0, io.EOF
	}
	return max(n, 0), err
}

// wait returns when take has something to say.
func (d *direct) wait() error { return d.raw.Read(rawReady) }

// tryRead reads what there is, and says whether that was anything.
func (d *direct) tryRead(fd uintptr) bool {
	room, err := d.in.room()
	if err != nil {
		d.readErr = err
		return true
	}
	for {
		d.nr, d.readErr = rawRead(fd, room)
		switch {
		case errors.Is(d.readErr, syscall.EINTR):
		case errors.Is(d.readErr, syscall.EAGAIN):
			d.in.rest()
			return false
		default:
			return true
		}
	}
}

// write returns how much of data the kernel took, which is nothing if it would have to wait. Calls must not overlap.
func (d *direct) write(data []byte) (int, error) {
	if d.raw == nil {
		return 0, nil
	}
	d.out, d.nw, d.writeErr = data, 0, nil
	err := d.raw.Write(d.writeOnce)
	d.out = nil
	if err == nil && !errors.Is(d.writeErr, syscall.EAGAIN) {
		err = d.writeErr
	}
	return max(d.nw, 0), err
}

// tryWrite never asks to be called again.
func (d *direct) tryWrite(fd uintptr) bool {
	for {
		d.nw, d.writeErr = rawWrite(fd, d.out)
		if !errors.Is(d.writeErr, syscall.EINTR) {
			return true
		}
	}
}

// descriptors is how many connections the limit of open files allows: an eighth of it, and 64 at least, is left to the
// rest of the process. 0 means that there is no such limit.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<30 {
		return 0
	}
	n := int(limit.Cur)
	return max(n-max(n/8, 64), 1)
}
