//go:build !unix

package transport

import (
	"net"
	"net/netip"
)

// sender writes datagrams; here a write may wait for room in the send buffer.
type sender struct{ conn *net.UDPConn }

func (s *sender) attach(c *net.UDPConn) error {
	s.conn = c
	return nil
}

func (s *sender) write(data []byte, to netip.AddrPort) error {
	_, err := s.conn.WriteToUDPAddrPort(data, to)
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

// descriptors is how many connections the limit of open files allows; 0 means that there is no such limit.
func descriptors() int { return 0 }
