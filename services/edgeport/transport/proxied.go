package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol, versions 1 and 2, of https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt: what a load
// balancer writes before the bytes of the client.

const (
	proxyV1     = "PROXY "
	proxyV1Size = 107 // at most, with its CRLF
	proxyV2     = "\r\n\r\n\x00\r\nQUIT\n"
	proxyV2Head = 16
	proxyV2Size = 4 << 10 // of a header with everything that may be in it
)

var errProxy = errors.New("the PROXY header is wrong or missing")

// trusts says whether connections from addr begin with a PROXY header.
func (p *listener) trusts(addr netip.Addr) bool {
	for _, n := range p.Proxies {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// proxied reads the PROXY header, and counts the connection for the client that it names.
func (c *conn) proxied(in *inbox) error {
	in.bound(smallBuffer)
	for {
		from, size, err := proxyHeader(in.buf[:in.n])
		if err != nil {
			return err
		}
		if size > 0 {
			in.drop(size)
			return c.layer.identify(c, from)
		}
		n, err := c.fill(in)
		if in.n += n; err != nil {
			return err
		}
	}
}

// identify tells that a connection that a load balancer opened is from a client, or from itself if from is none.
func (l *Layer) identify(c *conn, from netip.AddrPort) error {
	if !from.IsValid() {
		return nil // a health check
	}
	if !l.guard.Accept(from.Addr()) {
		return errGuard
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns[c.id] != c {
		return net.ErrClosed
	}
	c.remote = from
	of := source(from.Addr())
	if l.sources[of] >= l.limits.PerSource {
		return errors.New("too many connections from one source")
	}
	l.sources[of]++
	c.source = of
	return nil
}

// proxyHeader reads the header at the start of data. Its size is 0 if it is not all there; from is invalid if it names
// no client.
func proxyHeader(data []byte) (from netip.AddrPort, size int, err error) {
	if n := min(len(data), len(proxyV2)); string(data[:n]) == proxyV2[:n] {
		return proxyHeaderV2(data)
	}
	if n := min(len(data), len(proxyV1)); string(data[:n]) != proxyV1[:n] {
		return from, 0, errProxy
	}
	line, _, ok := bytes.Cut(data[:min(len(data), proxyV1Size)], []byte("\r\n"))
	switch {
	case !ok && len(data) >= proxyV1Size:
		return from, 0, errProxy
	case !ok:
		return from, 0, nil
	}
	size = len(line) + 2
	fields := strings.Split(string(line), " ")
	if len(fields) >= 2 && fields[1] == "UNKNOWN" {
		return from, size, nil
	}
	if len(fields) != 6 || fields[1] != "TCP4" && fields[1] != "TCP6" {
		return from, 0, errProxy
	}
	addr, errAddr := netip.ParseAddr(fields[2])
	port, errPort := strconv.ParseUint(fields[4], 10, 16)
	if errAddr != nil || errPort != nil || addr.Is4() != (fields[1] == "TCP4") || addr.Zone() != "" {
		return from, 0, errProxy
	}
	return unmap(netip.AddrPortFrom(addr, uint16(port))), size, nil
}

func proxyHeaderV2(data []byte) (from netip.AddrPort, size int, err error) {
	if len(data) < proxyV2Head {
		return from, 0, nil
	}
	version, command := data[12]>>4, data[12]&0x0f
	size = proxyV2Head + int(binary.BigEndian.Uint16(data[14:]))
	switch {
	case version != 2 || command > 1 || size > proxyV2Size:
		return from, 0, errProxy
	case len(data) < size:
		return from, 0, nil
	case command == 0: // LOCAL
		return from, size, nil
	}
	body := data[proxyV2Head:size]
	switch data[13] { // family and protocol
	case 0x00: // UNSPEC
		return from, size, nil
	case 0x11: // TCP over IPv4
		if len(body) < 12 {
			return from, 0, errProxy
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(body)), binary.BigEndian.Uint16(body[8:])), size, nil
	case 0x21: // TCP over IPv6
		if len(body) < 36 {
			return from, 0, errProxy
		}
		return unmap(netip.AddrPortFrom(netip.AddrFrom16([16]byte(body)), binary.BigEndian.Uint16(body[32:]))), size, nil
	}
	return from, 0, errProxy
}
