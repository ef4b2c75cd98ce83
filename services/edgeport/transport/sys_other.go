//go:build !unix

package transport

import (
	"net"
	"net/netip"
	"sync"
)

// datagrams reads and writes a UDP socket; here a write may wait for room in the send buffer.
type datagrams struct {
	mu   sync.Mutex
	conn *net.UDPConn // replaced under the lock, by the goroutine that reads
}

func (d *datagrams) attach(c *net.UDPConn) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conn = c
	return nil
}

// close closes the socket. Its error is of no use to anyone.
func (d *datagrams) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conn.Close()
}

func (d *datagrams) read(buf []byte) (int, netip.AddrPort, error) {
	return d.conn.ReadFromUDPAddrPort(buf)
}

func (d *datagrams) write(data []byte, to netip.AddrPort) error { return d.writeTo(data, to) }

func (d *datagrams) writeTo(data []byte, to netip.AddrPort) error {
	d.mu.Lock()
	c := d.conn
	d.mu.Unlock()
	_, err := c.WriteToUDPAddrPort(data, to)
	return err
}

// direct reads and writes a connection. Here that is done by the net package, and a write would wait, so that
// everything is queued.
type direct struct{}

func (*direct) attach(net.Conn) {}

func (*direct) read(c net.Conn, in *inbox) (int, error) {
	room, err := in.room()
	if err != nil {
		return 0, err
	}
	return c.Read(room)
}

func (*direct) write([]byte) (int, error) { return 0, nil }

// take waits here, and never says errWait.
func (*direct) take(c net.Conn, b []byte) (int, error) { return c.Read(b) }

func (*direct) wait() error { return nil }

// descriptors is how many connections the limit of open files allows; 0 means that there is no such limit.
func descriptors() int { return 0 }
