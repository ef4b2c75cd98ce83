//go:build unix && !linux

package transport

import (
	"net/netip"
	"syscall"
)

// The system calls on sockets, which are all in non-blocking mode and so return at once. See raw_linux.go.

func rawRead(fd uintptr, b []byte) (int, error)  { return syscall.Read(int(fd), b) }
func rawWrite(fd uintptr, b []byte) (int, error) { return syscall.Write(int(fd), b) }

func rawSend(fd uintptr, b []byte, to netip.AddrPort) error {
	if addr := to.Addr(); addr.Is4() {
		return syscall.Sendto(int(fd), b, 0, &syscall.SockaddrInet4{Addr: addr.As4(), Port: int(to.Port())})
	}
	return syscall.Sendto(int(fd), b, 0, &syscall.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())})
}

func rawReceive(fd uintptr, b []byte) (int, netip.AddrPort, error) {
	n, from, err := syscall.Recvfrom(int(fd), b, 0)
	switch sa := from.(type) {
	case *syscall.SockaddrInet4:
		return n, netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), err
	case *syscall.SockaddrInet6:
		return n, netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), err
	}
	return n, netip.AddrPort{}, err
}

// rawReady says whether a read would return, with bytes, the end or an error.
func rawReady(fd uintptr) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
	return err != syscall.EAGAIN
}
