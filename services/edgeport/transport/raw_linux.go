package transport

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"
)

// The system calls on sockets, which are all in non-blocking mode and so return at once. They go by RawSyscall: the
// runtime does not have to know of them. When it is told of a call it wakes its monitor if the process was idle before,
// as it is between two packets; that was an eighth of the CPU time of a SIP call.

func rawRead(fd uintptr, b []byte) (int, error) {
	n, _, e := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return result(n, e)
}

func rawWrite(fd uintptr, b []byte) (int, error) {
	n, _, e := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return result(n, e)
}

func rawSend(fd uintptr, b []byte, to netip.AddrPort) error {
	var space syscall.RawSockaddrAny
	size := uintptr(syscall.SizeofSockaddrInet4)
	if addr := to.Addr(); addr.Is4() {
		sa := (*syscall.RawSockaddrInet4)(unsafe.Pointer(&space))
		sa.Family, sa.Addr = syscall.AF_INET, addr.As4()
		setPort(&sa.Port, to.Port())
	} else {
		sa := (*syscall.RawSockaddrInet6)(unsafe.Pointer(&space))
		sa.Family, sa.Addr = syscall.AF_INET6, addr.As16()
		setPort(&sa.Port, to.Port())
		size = syscall.SizeofSockaddrInet6
	}
	n, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0,
		uintptr(unsafe.Pointer(&space)), size)
	_, err := result(n, e)
	return err
}

func rawReceive(fd uintptr, b []byte) (int, netip.AddrPort, error) {
	var space syscall.RawSockaddrAny
	size := uint32(syscall.SizeofSockaddrAny)
	n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0,
		uintptr(unsafe.Pointer(&space)), uintptr(unsafe.Pointer(&size)))
	got, err := result(n, e)
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	switch space.Addr.Family {
	case syscall.AF_INET:
		sa := (*syscall.RawSockaddrInet4)(unsafe.Pointer(&space))
		return got, netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), port(&sa.Port)), nil
	case syscall.AF_INET6:
		sa := (*syscall.RawSockaddrInet6)(unsafe.Pointer(&space))
		return got, netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), port(&sa.Port)), nil
	}
	return 0, netip.AddrPort{}, syscall.EAFNOSUPPORT
}

// rawReady says whether a read would return, with bytes, the end or an error.
func rawReady(fd uintptr) bool {
	var b [1]byte
	_, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, syscall.MSG_PEEK, 0, 0)
	return e != syscall.EAGAIN
}

func result(n uintptr, e syscall.Errno) (int, error) {
	switch e {
	case 0:
		return int(n), nil
	case syscall.EAGAIN: // the usual ones, without an allocation
		return 0, syscall.EAGAIN
	default:
		return 0, e
	}
}

// A port is in network order whatever the host's is.
func setPort(field *uint16, p uint16) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(field))[:], p)
}
func port(field *uint16) uint16 { return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(field))[:]) }
