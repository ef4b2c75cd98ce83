package edgeport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/routr-fabric/routr/bus"
)

// Config is the configuration of an EdgePort, as its file has it.
type Config struct {
	// Version of the layout of this file.
	APIVersion string `json:"apiVersion" jsonschema:"required,enum=v2beta1,enum=v2"`
	// Kind of the file.
	Kind string `json:"kind" jsonschema:"required,enum=EdgePort"`
	// Name of this EdgePort. Bindings refer to it, so two EdgePorts of one system never share it.
	Ref string `json:"ref" jsonschema:"required,minLength=1"`
	// Data about the EdgePort that routing does not use.
	//
	// The specification says REQUIRED, but every field in it is optional, and the files that are in use leave it out.
	Metadata Metadata `json:"metadata,omitzero"`
	// What the EdgePort does.
	Spec Spec `json:"spec" jsonschema:"required"`
}

// Metadata is data about an EdgePort.
type Metadata struct {
	// Region where the EdgePort operates.
	Region string `json:"region,omitempty"`
}

// Spec is what an EdgePort does.
type Spec struct {
	// Address of the interface to listen on, IPv4 or IPv6, where a transport does not name its own.
	BindAddr string `json:"bindAddr,omitempty" jsonschema:"default=0.0.0.0"`
	// Addresses or host names under which clients outside the local networks reach this EdgePort; the first one is
	// advertised.
	ExternalAddrs []string `json:"externalAddrs,omitempty" jsonschema:"uniqueItems=true"`
	// Networks considered to be local, as address/bits or a single address. The address is this EdgePort's own there
	// and is advertised to clients in that network.
	Localnets []string `json:"localnets,omitempty" jsonschema:"uniqueItems=true"`
	// SIP methods that are taken, case-sensitive (RFC 3261 7.1). ACK, CANCEL and BYE belong to INVITE and come with it.
	Methods []string `json:"methods,omitempty" jsonschema:"uniqueItems=true,minItems=1"`
	// What to do with a request whose method is not taken: Respond answers 405 with an Allow header (RFC 3261 8.2.1),
	// Discard drops it.
	UnknownMethodAction string `json:"unknownMethodAction,omitempty" jsonschema:"enum=Discard,enum=Respond,default=Respond"`
	// Where to listen.
	Transport []Transport `json:"transport" jsonschema:"required,minItems=1"`
	// The Message Dispatcher.
	Processor Processor `json:"processor,omitzero"`
}

// Actions for a request whose method is not taken.
const (
	Discard = "Discard"
	Respond = "Respond"
)

// Transport is one listener.
type Transport struct {
	// Transport protocol: udp, tcp, tls, ws or wss, in any case.
	Protocol string `json:"protocol" jsonschema:"required,example=udp,example=tcp"`
	// Address to listen on; spec.bindAddr if absent.
	BindAddr string `json:"bindAddr,omitempty"`
	// Port to listen on; 0 takes a free one. By custom 5060 for udp and tcp, 5061 for tls, 5062 for ws, 5063 for wss.
	Port int `json:"port" jsonschema:"required,minimum=0,maximum=65535"`
}

// Processor is the adjacent service for message routing.
type Processor struct {
	// Address of the Message Dispatcher: nats:// or none for the bus this process is connected to, nats://host:port
	// for the bus there, host:port or grpc://host:port for gRPC.
	Addr string `json:"addr,omitempty"`
}

// Default is the configuration of an EdgePort that serves UDP and TCP on every IPv4 interface.
func Default() Config {
	return Config{
		APIVersion: "v2beta1",
		Kind:       "EdgePort",
		Ref:        "edgeport",
		Spec: Spec{
			BindAddr: "0.0.0.0",
			Methods: []string{
				"REGISTER", "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "MESSAGE", "SUBSCRIBE", "NOTIFY", "REFER",
				"INFO", "UPDATE", "PRACK", "PUBLISH",
			},
			UnknownMethodAction: Respond,
			Transport:           []Transport{{Protocol: "udp", Port: 5060}, {Protocol: "tcp", Port: 5060}},
		},
	}
}

// Validate reports everything that is wrong with c, each error beginning with the path of the field.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if _, err := netip.ParseAddr(c.Spec.BindAddr); err != nil {
		wrong("spec.bindAddr: %q is no IP address, want one such as 0.0.0.0", c.Spec.BindAddr)
	}
	for i, a := range c.Spec.ExternalAddrs {
		if !isHost(a) {
			wrong("spec.externalAddrs[%d]: %q is no IP address or host name, want one such as 203.0.113.7", i, a)
		}
	}
	for i, n := range c.Spec.Localnets {
		if _, err := parseNet(n); err != nil {
			wrong("spec.localnets[%d]: %q is no network, want one such as 192.168.1.2/24", i, n)
		}
	}
	known := Default().Spec.Methods
	for i, m := range c.Spec.Methods {
		switch upper := strings.ToUpper(m); {
		case !isToken(m):
			wrong("spec.methods[%d]: %q is no SIP method, want a token such as INVITE", i, m)
		case m != upper && slices.Contains(known, upper):
			wrong("spec.methods[%d]: %q is not %s, as methods are case-sensitive (RFC 3261 7.1); write %s", i, m, upper, upper)
		}
	}
	for i, t := range c.Spec.Transport {
		for _, err := range c.Spec.checkTransport(i, t) {
			wrong("spec.transport[%d].%w", i, err)
		}
	}
	if _, err := bus.ParseAddr(c.Spec.Processor.Addr); err != nil {
		wrong("spec.processor.addr: %w", err)
	}
	return errors.Join(errs...)
}

// checkTransport is what is wrong with t, the transport i; the paths of the errors begin below it.
func (s Spec) checkTransport(i int, t Transport) (errs []error) {
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch p := strings.ToLower(t.Protocol); p {
	case "udp", "tcp":
	case "tls", "ws", "wss":
		wrong("protocol: %s is not served yet; udp and tcp are", p)
	default:
		wrong("protocol: %q is not known, want udp or tcp", t.Protocol)
	}
	if t.BindAddr != "" {
		if _, err := netip.ParseAddr(t.BindAddr); err != nil {
			wrong("bindAddr: %q is no IP address, want one such as 0.0.0.0", t.BindAddr)
		}
	}
	if t.Port == 0 {
		return errs
	}
	for j, other := range s.Transport[:i] {
		if other.Port == t.Port && sameSocket(other.Protocol, t.Protocol) && overlap(s.bindAddr(other), s.bindAddr(t)) {
			wrong("port: %d is already used by spec.transport[%d]", t.Port, j)
			break
		}
	}
	return errs
}

// bindAddr is the address that t listens on.
func (s Spec) bindAddr(t Transport) string {
	if t.BindAddr != "" {
		return t.BindAddr
	}
	return s.BindAddr
}

// ListenAddr is the host:port that t, one of s.Transport, listens on.
func (s Spec) ListenAddr(t Transport) string {
	return net.JoinHostPort(s.bindAddr(t), strconv.Itoa(t.Port))
}

// Nets are the local networks of a valid s.
func (s Spec) Nets() []netip.Prefix {
	nets := make([]netip.Prefix, 0, len(s.Localnets))
	for _, n := range s.Localnets {
		if p, err := parseNet(n); err == nil {
			nets = append(nets, p)
		}
	}
	return nets
}

// parseNet reads address/bits, keeping the host bits, or a single address.
func parseNet(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// sameSocket reports whether two SIP transports use the same kind of socket: udp its own, all others TCP.
func sameSocket(a, b string) bool {
	return strings.EqualFold(a, "udp") == strings.EqualFold(b, "udp")
}

// overlap reports whether two listeners on the same port would be in each other's way.
func overlap(a, b string) bool {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	if errX != nil || errY != nil {
		return false
	}
	return x == y || x.IsUnspecified() || y.IsUnspecified()
}

// isHost reports whether s is an IP address or a host name (RFC 1123 2.1), whose last label is no number.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	s = strings.TrimSuffix(s, ".")
	last := s[strings.LastIndexByte(s, '.')+1:]
	if _, err := strconv.Atoi(last); err == nil || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			if !isAlphanumeric(label[i]) && label[i] != '-' {
				return false
			}
		}
	}
	return true
}

// isToken reports whether s is a token of RFC 3261 25.1.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlphanumeric(s[i]) && !strings.ContainsRune("-.!%*_+`'~", rune(s[i])) {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
