package proxy

import (
	"net/netip"
	"strings"
)

// externals are the names and addresses by which the world outside the local networks reaches us.
type externals struct {
	names    []string
	addrs    []netip.Addr
	ip4, ip6 string // what is advertised to a peer of that family; empty: the address of the socket
}

// parseExternals reads them. Of several the first one that suits a family is advertised to it, and a name suits both.
func parseExternals(list []string) externals {
	var e externals
	for _, text := range list {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			e.names = append(e.names, strings.TrimSuffix(text, "."))
			text = strings.TrimSuffix(text, ".")
		} else {
			addr = addr.Unmap()
			e.addrs = append(e.addrs, addr)
			text = addr.String()
		}
		if e.ip4 == "" && (err != nil || addr.Is4()) {
			e.ip4 = text
		}
		if e.ip6 == "" && (err != nil || addr.Is6()) {
			e.ip6 = text
		}
	}
	return e
}

func (e *externals) hasAddr(addr netip.Addr) bool {
	for _, a := range e.addrs {
		if a == addr {
			return true
		}
	}
	return false
}

// hasName compares as DNS does.
func (e *externals) hasName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	for _, n := range e.names {
		if strings.EqualFold(n, host) {
			return true
		}
	}
	return false
}

// of is what is advertised to a peer in place of our own address.
func (e *externals) of(peer netip.Addr) string {
	if peer.Is4() {
		return e.ip4
	}
	return e.ip6
}
