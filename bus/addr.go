package bus

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// AddrKind says by which way a service is reached.
type AddrKind string

// The ways.
const (
	AddrBus  AddrKind = "bus"
	AddrGRPC AddrKind = "grpc"
)

// Addr is an `addr` of a configuration file: where the next service is.
type Addr struct {
	Kind AddrKind
	Host string // host:port; empty: the bus that this process is connected to
}

// ParseAddr reads an `addr`: empty or nats:// is the process's own bus, nats://host:port the bus there (the port
// defaults to 4222), host:port or grpc://host:port a gRPC service. An error says which of these would be right.
func ParseAddr(s string) (Addr, error) {
	kind, host := AddrGRPC, s
	if scheme, rest, found := strings.Cut(s, "://"); found {
		switch strings.ToLower(scheme) {
		case "nats":
			kind, host = AddrBus, rest
		case "grpc":
			host = rest
		default:
			return Addr{}, fmt.Errorf("%q has the scheme %s://, want %s", s, scheme, addrForms)
		}
	}
	switch {
	case s == "", kind == AddrBus && host == "":
		return Addr{Kind: AddrBus}, nil
	case kind == AddrBus && !strings.Contains(host, ":"):
		host += ":4222" // the port that is registered for NATS
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil || !validHost(name) {
		return Addr{}, fmt.Errorf("%q is no address, want %s", s, addrForms)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Addr{}, fmt.Errorf("%q has the port %q, want 1 to 65535", s, port)
	}
	return Addr{Kind: kind, Host: host}, nil
}

const addrForms = "nats://, nats://host:port, host:port or grpc://host:port"

// Bus reports whether a is reached over NATS.
func (a Addr) Bus() bool { return a.Kind == AddrBus }

// String is a in the form that ParseAddr reads.
func (a Addr) String() string {
	if a.Bus() {
		return "nats://" + a.Host
	}
	return "grpc://" + a.Host
}

// validHost reports whether h is an IP address or a host name: what may stand before the port, and no user, path or
// space.
func validHost(h string) bool {
	if net.ParseIP(h) != nil {
		return true
	}
	for i := 0; i < len(h); i++ {
		if !isPlain(h[i]) && h[i] != '.' {
			return false
		}
	}
	return h != "" && len(h) <= 253
}
