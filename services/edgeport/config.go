package edgeport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/services/edgeport/guard"
	"github.com/routr-fabric/routr/services/edgeport/proxy"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// Config is the configuration of an EdgePort, as its file has it.
type Config struct {
	// Version of the layout of this file.
	APIVersion string `json:"apiVersion" jsonschema:"required,enum=v2beta1,enum=v2"`
	// Kind of the file.
	Kind string `json:"kind" jsonschema:"required,enum=EdgePort"`
	// Name of this EdgePort. Bindings refer to it, so two EdgePorts of one system never share it.
	Ref string `json:"ref" jsonschema:"required,minLength=1,maxLength=64"`
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
	// Addresses or host names under which clients outside the local networks reach this EdgePort. The first one is
	// advertised, to clients over IPv6 the first that is a name or an IPv6 address, to those over IPv4 likewise.
	ExternalAddrs []string `json:"externalAddrs,omitempty" jsonschema:"uniqueItems=true"`
	// Networks considered to be local, as address/bits or a single address, such as 10.0.0.0/8. A client there is told the
	// address that it has sent to, or, if this one has host bits as in 192.168.1.2/24, that address, as the EdgePort's
	// own in the network. If absent, only this machine is local.
	Localnets []string `json:"localnets,omitempty" jsonschema:"uniqueItems=true"`
	// SIP methods that are taken, case-sensitive (RFC 3261 7.1). ACK, CANCEL and BYE belong to INVITE and come with it.
	Methods []string `json:"methods,omitempty" jsonschema:"uniqueItems=true,minItems=1"`
	// What to do with a request whose method is not taken: Respond answers 405 with an Allow header (RFC 3261 8.2.1),
	// Discard drops it.
	UnknownMethodAction string `json:"unknownMethodAction,omitempty" jsonschema:"enum=Discard,enum=Respond,default=Respond"`
	// Where to listen.
	Transport []Transport `json:"transport" jsonschema:"required,minItems=1"`
	// PEM file of the authorities that may have signed the certificates of the servers that TLS connections are opened
	// to; those that the system trusts if absent.
	CAFile string `json:"caFile,omitempty"`
	// Folder where the EdgePort keeps the certificate that it makes for the transports tls and wss that name none; if
	// absent it makes another one at each start.
	DataDir string `json:"dataDir,omitempty"`
	// How a request gets to a phone that registered at another EdgePort: bus hands it over on the bus, sip sends it to one
	// of the addresses where that EdgePort listens. Both have to have the same keys.
	Peering string `json:"peering,omitempty" jsonschema:"enum=bus,enum=sip,default=bus"`
	// How long calls that are being set up, and other requests under way, may take to end when the EdgePort stops, in
	// seconds; 0 waits for nothing. Calls that stand are not waited for: those over udp survive a restart, those on a
	// connection end with it.
	DrainTime int `json:"drainTime,omitempty" jsonschema:"minimum=0,maximum=86400,default=25"`
	// What is taken from whom, before anyone reads it.
	Guard Guard `json:"guard,omitzero"`
	// The Message Dispatcher.
	Processor Processor `json:"processor,omitzero"`
}

// Guard is what an EdgePort takes from whom. What it turns away gets no answer.
type Guard struct {
	// Networks that the guard lets alone, whatever else it says of them, as address/bits or a single address: trunks,
	// monitoring, load balancers. If absent this machine: 127.0.0.0/8 and ::1.
	Allow []string `json:"allow,omitempty" jsonschema:"uniqueItems=true,example=203.0.113.0/24"`
	// Files with more of them, one a line, with comments behind #. They are read again when they change.
	AllowFiles []string `json:"allowFiles,omitempty" jsonschema:"uniqueItems=true"`
	// Networks from which nothing is taken.
	Deny []string `json:"deny,omitempty" jsonschema:"uniqueItems=true,example=198.51.100.7"`
	// Files with more of them, one a line, with comments behind #. They are read again when they change.
	DenyFiles []string `json:"denyFiles,omitempty" jsonschema:"uniqueItems=true"`
	// A list of bad addresses that others keep, in the format of APIBAN.
	Feed Feed `json:"feed,omitzero"`
	// Messages a second that one source may send, which is an IPv4 address or an IPv6 /64; a new connection counts as
	// ten. 0 is no limit.
	Rate int `json:"rate,omitempty" jsonschema:"minimum=0,maximum=1000000,default=2000"`
	// How many of them it may send at once.
	Burst int `json:"burst,omitempty" jsonschema:"minimum=10,maximum=10000000,default=10000"`
	// How long a source is banned, in seconds, that has offended on connections: by wrong passwords, forged nonces,
	// challenges without an answer, garbage, HTTP, failed handshakes. Four times as long each next time within a day. 0
	// bans nobody.
	BanTime int `json:"banTime,omitempty" jsonschema:"minimum=0,maximum=31536000,default=300"`
	// The longest ban, in seconds.
	MaxBanTime int `json:"maxBanTime,omitempty" jsonschema:"minimum=0,maximum=31536000,default=86400"`
	// Parts of the User-Agent of programs that look for SIP servers to attack, in any case. What they send is dropped. If
	// absent those that are known.
	Scanners []string `json:"scanners,omitempty" jsonschema:"uniqueItems=true"`
}

// Feed is a list of bad addresses that others keep.
type Feed struct {
	// File, or https URL with its key, such as https://apiban.org/api/KEY/banned.
	From string `json:"from,omitempty" jsonschema:"example=https://apiban.org/api/KEY/banned"`
	// How often a URL is asked, in seconds. A file is read again when it changes.
	Interval int `json:"interval,omitempty" jsonschema:"minimum=60,maximum=604800,default=3600"`
}

// Ways to another EdgePort.
const (
	PeerByBus = "bus"
	PeerBySIP = "sip"
)

// maxDrainTime is a day: longer than any call that a person waits for.
const maxDrainTime = 86400

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
	// Certificates, of tls and wss.
	TLS TransportTLS `json:"tls,omitzero"`
	// Web pages whose scripts may connect to ws and wss, as scheme://host or scheme://host:port; all if absent. Who
	// names no origin is no browser, and may connect.
	Origins []string `json:"origins,omitempty" jsonschema:"uniqueItems=true,example=https://phone.example.com"`
	// Load balancers before this transport; not of udp.
	ProxyProtocol ProxyProtocol `json:"proxyProtocol,omitzero"`
}

// TransportTLS is the certificates of a transport.
type TransportTLS struct {
	// PEM file of the certificate, with those between it and the root. It is read again when it changes. If absent the
	// EdgePort makes a certificate, which clients do not trust by themselves.
	CertFile string `json:"certFile,omitempty"`
	// PEM file of its key, which may be the same file.
	KeyFile string `json:"keyFile,omitempty"`
	// PEM file of the authorities of client certificates. It is read again when it changes.
	ClientCAFile string `json:"clientCAFile,omitempty"`
	// Whether clients need a certificate: require refuses those without, request takes them. One that is sent must be
	// of clientCAFile. If absent none is asked for.
	ClientAuth string `json:"clientAuth,omitempty" jsonschema:"enum=request,enum=require"`
}

// ProxyProtocol is the load balancers that tell, by the PROXY protocol, version 1 or 2, whom they connect for.
type ProxyProtocol struct {
	// Networks they connect from, as address/bits or a single address. A connection from there has to begin with a PROXY
	// header, and one from elsewhere must not.
	From []string `json:"from,omitempty" jsonschema:"uniqueItems=true,example=10.0.0.0/8"`
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
			Peering:             PeerByBus,
			Transport:           []Transport{{Protocol: "udp", Port: 5060}, {Protocol: "tcp", Port: 5060}},
			// Half a minute is what Kubernetes and others give a process between SIGTERM and SIGKILL; the farewells to
			// connections come after this.
			DrainTime: 25,
			Guard: Guard{
				Allow: []string{"127.0.0.0/8", "::1"},
				// A trunk with 140 calls a second sends 1,000 messages a second, and an office whose 1,000 phones come
				// back at once some 5,000, and as many connections. One source can take no more than a twentieth of what
				// two cores do.
				Rate: 2000, Burst: 10000,
				BanTime: 300, MaxBanTime: 86400,
				Feed: Feed{Interval: 3600},
				Scanners: []string{
					"friendly-scanner", "sipvicious", "sipcli", "sip-scan", "sipscan", "sundayddr", "pplsip",
					"vaxsipuseragent", "siparmyknife",
				},
			},
		},
	}
}

// Validate reports everything that is wrong with c, each error beginning with the path of the field.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if n := len(c.Ref); n == 0 || n > proxy.MaxRef {
		wrong("ref: %q has %d bytes, want 1 to %d", c.Ref, n, proxy.MaxRef)
	}
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
	if t := c.Spec.DrainTime; t < 0 || t > maxDrainTime {
		wrong("spec.drainTime: %d is out of range, want 0 to %d seconds", t, maxDrainTime)
	}
	for _, err := range c.Spec.Guard.check() {
		wrong("spec.guard.%w", err)
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
	case "udp", "tcp", "tls", "ws", "wss":
		errs = append(errs, t.checkFor(p)...)
	default:
		wrong("protocol: %q is not known, want udp, tcp, tls, ws or wss", t.Protocol)
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

// checkFor is what is wrong with what t has for some protocols only; p is its own.
func (t Transport) checkFor(p string) (errs []error) {
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch s := t.TLS; {
	case s == TransportTLS{}:
	case p != "tls" && p != "wss":
		wrong("tls: %s has no certificates, want tls or wss as the protocol", p)
	default:
		if s.CertFile == "" && s.KeyFile != "" {
			wrong("tls.certFile: is missing, want the certificate of tls.keyFile")
		}
		if s.KeyFile == "" && s.CertFile != "" {
			wrong("tls.keyFile: is missing, want the key of tls.certFile")
		}
		switch s.ClientAuth {
		case "":
			if s.ClientCAFile != "" {
				wrong("tls.clientAuth: is missing, want request or require with tls.clientCAFile")
			}
		case string(transport.RequestClientCert), string(transport.RequireClientCert):
			if s.ClientCAFile == "" {
				wrong("tls.clientCAFile: is missing, want the authorities of the clients' certificates with tls.clientAuth")
			}
		default:
			wrong("tls.clientAuth: %q is not known, want request or require", s.ClientAuth)
		}
	}
	if len(t.Origins) > 0 && p != "ws" && p != "wss" {
		wrong("origins: %s has no origins, want ws or wss as the protocol", p)
	}
	for i, o := range t.Origins {
		if u, err := url.Parse(o); err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != o {
			wrong("origins[%d]: %q is no origin, want one such as https://phone.example.com", i, o)
		}
	}
	if len(t.ProxyProtocol.From) > 0 && p == "udp" {
		wrong("proxyProtocol: udp has no connections, want another protocol")
	}
	for i, n := range t.ProxyProtocol.From {
		if _, err := parseNet(n); err != nil {
			wrong("proxyProtocol.from[%d]: %q is no network, want one such as 10.0.0.0/8", i, n)
		}
	}
	return errs
}

// check is what is wrong with g; the paths of the errors begin below it.
func (g Guard) check() (errs []error) {
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	checkNets := func(name string, nets []string) {
		for i, n := range nets {
			if _, err := guard.ParsePrefix(n); err != nil {
				wrong("%s[%d]: %q is no network, want one such as 203.0.113.0/24", name, i, n)
			}
		}
	}
	checkNets("allow", g.Allow)
	checkNets("deny", g.Deny)
	if i := slices.Index(g.AllowFiles, ""); i >= 0 {
		wrong("allowFiles[%d]: is empty, want a file", i)
	}
	if i := slices.Index(g.DenyFiles, ""); i >= 0 {
		wrong("denyFiles[%d]: is empty, want a file", i)
	}
	if scheme, _, ok := strings.Cut(g.Feed.From, "://"); ok && scheme != "https" {
		wrong("feed.from: is of %s, want https, or a file", scheme) // without the rest, which may be a secret
	} else if u, err := url.Parse(g.Feed.From); ok && (err != nil || u.Host == "") {
		wrong("feed.from: is no URL, want one such as https://apiban.org/api/KEY/banned")
	}
	if i := g.Feed.Interval; i < 60 || i > maxFeedInterval {
		wrong("feed.interval: %d is out of range, want 60 to %d seconds", i, maxFeedInterval)
	}
	if g.Rate < 0 || g.Rate > maxRate {
		wrong("rate: %d is out of range, want 0 to %d messages a second", g.Rate, maxRate)
	}
	if g.Burst < 10 || g.Burst > maxBurst {
		wrong("burst: %d is out of range, want 10 to %d messages", g.Burst, maxBurst)
	}
	if g.BanTime < 0 || g.BanTime > maxBanTime {
		wrong("banTime: %d is out of range, want 0 to %d seconds", g.BanTime, maxBanTime)
	}
	if g.MaxBanTime < g.BanTime || g.MaxBanTime > maxBanTime {
		wrong("maxBanTime: %d is out of range, want banTime, which is %d, to %d seconds", g.MaxBanTime, g.BanTime, maxBanTime)
	}
	for i, s := range g.Scanners {
		if len(s) < 3 {
			wrong("scanners[%d]: %q would be in the name of many phones, want three letters or more", i, s)
		}
	}
	return errs
}

// Bounds of what the guard is told.
const (
	maxRate         = 1_000_000
	maxBurst        = 10_000_000
	maxBanTime      = 365 * 86400
	maxFeedInterval = 7 * 86400
)

// config is what a valid g says to the guard of the EdgePort ref.
func (g Guard) config(ref string) guard.Config {
	nets := func(list []string) (all []netip.Prefix) {
		for _, s := range list {
			if p, err := guard.ParsePrefix(s); err == nil {
				all = append(all, p)
			}
		}
		return all
	}
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	return guard.Config{
		Ref:   ref,
		Allow: nets(g.Allow), AllowFiles: g.AllowFiles, Deny: nets(g.Deny), DenyFiles: g.DenyFiles,
		Feed: g.Feed.From, FeedInterval: seconds(g.Feed.Interval),
		Rate: g.Rate, Burst: g.Burst, BanTime: seconds(g.BanTime), MaxBanTime: seconds(g.MaxBanTime),
		Scanners: g.Scanners,
	}
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
func (s Spec) Nets() []netip.Prefix { return parseNets(s.Localnets) }

// parseNets are the valid ones.
func parseNets(list []string) []netip.Prefix {
	nets := make([]netip.Prefix, 0, len(list))
	for _, n := range list {
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
