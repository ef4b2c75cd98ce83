// Package proxy is RFC 3261 section 16: what an EdgePort does with the requests and responses that its transaction
// layer hands up. Where a request outside a dialog goes is decided on the bus; the rest of a dialog is routed by the
// signed Route that the proxy put into it (token.go), with no dialog state and no question to anyone.
//
// What goes to a phone that another EdgePort has bound is handed to that one (peer.go).
//
// The way of a request: Receive (what every receiver refuses), Request (Route, 16.4), dispatch and decided (16.5),
// forward (16.6), and back: Response (16.7), Failed (16.8, 16.9), Cancel (16.10), Ack (16.11).
//
// The proxy never decides who may do what, and never reads a body.
package proxy

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/resolver"
	"github.com/routr-fabric/routr/services/edgeport/sipconv"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// Config is what the proxy knows of the EdgePort around it.
type Config struct {
	Methods       []string // acceptable SIP methods; with INVITE come ACK, BYE and CANCEL
	Respond       bool     // answer an unknown method with 405, instead of discarding it
	ExternalAddrs []string // what the world outside Localnets reaches us by
	Localnets     []netip.Prefix
	PeerBySIP     bool         // hand requests to other EdgePorts by SIP, and not by the bus
	Edge          sipconv.Edge // what every MessageRequest is stamped with
	Timers        transaction.Timers
	// Registered is told of every REGISTER that a processor has answered with 2xx, and of the flow that it came on, under
	// no lock. It may be nil.
	Registered func(flow transport.Flow, register *processorpb.MessageRequest)
	// Decided is told what a processor has decided on a request, under no lock. It may be nil.
	Decided func(flow transport.Flow, d Decision)
}

// Decision is what a processor's decision says of who sent the request.
type Decision struct {
	Credentials bool   // it had some
	Status      int    // of the response, 0 if it goes on
	Offence     string // what the processor has found wrong: MetadataOffence
}

// MetadataOffence is the key by which a processor says, in the metadata of its answer, what is wrong with who sent the
// request: wrong-credentials or forged-nonce.
const MetadataOffence = "routr-offence"

// Proxy is the transaction user of an EdgePort. Its exported methods may be called from any goroutine, those of
// transaction.User only by the transaction layer.
type Proxy struct {
	cfg       Config
	methods   map[string]bool
	allow     string // the Allow header of a 405
	conn      *bus.Conn
	transport *transport.Layer
	layer     *transaction.Layer
	keys      *bus.Keys
	macs      sync.Pool // of *mac
	scratch   sync.Pool // of *scratch
	resolver  *resolver.Resolver
	refusers  refusers
	peers     peers
	seed      maphash.Seed // of what our branches tell
	points    []transport.Listen
	own       []netip.AddrPort // what points stand for: every address of ours, with those that localnets gives us
	log       *slog.Logger
	draining  atomic.Bool
	external  externals
	counts    Counts
}

// Counts are totals since New, for telemetry.
type Counts struct {
	Refused     atomic.Int64 // requests answered without a transaction: 405, 416, 420, 483
	Looped      atomic.Int64 // requests that had been here before, unchanged: 482
	Discarded   atomic.Int64 // requests of an unknown method, dropped
	Drained     atomic.Int64 // new requests refused while draining
	StrayAcks   atomic.Int64 // ACKs that belong to no dialog of ours, dropped
	Dispatched  atomic.Int64 // requests that were decided on the bus
	InDialog    atomic.Int64 // requests that were routed by a signed Route
	Unavailable atomic.Int64 // dispatched requests that nobody decided (503), or not in time (504)
	Mended      atomic.Int64 // responses without the Vias below ours, which were put back
}

// scratch is what building one message needs; it is reused.
type scratch struct {
	edit message.Edit
	buf  []byte // the message
	text []byte // one header value on its way into edit
}

// New makes a proxy that sends by tr, which must not deliver messages to it before Listening was called.
func New(cfg Config, conn *bus.Conn, keys *bus.Keys, tr *transport.Layer, names *resolver.Resolver, log *slog.Logger) *Proxy {
	p := &Proxy{cfg: cfg, conn: conn, keys: keys, transport: tr, resolver: names, log: log, methods: map[string]bool{}, seed: maphash.MakeSeed(), external: parseExternals(cfg.ExternalAddrs)}
	p.peers.known, p.peers.gone = make(map[string]*transport.Peer), make(map[string]bool)
	allow := slices.Clone(cfg.Methods)
	if slices.Contains(allow, "INVITE") { // and what a call cannot be without
		for _, m := range []string{"ACK", "BYE", "CANCEL"} {
			if !slices.Contains(allow, m) {
				allow = append(allow, m)
			}
		}
	}
	for _, m := range allow {
		p.methods[m] = true
	}
	p.allow = strings.Join(allow, ", ")
	p.scratch.New = func() any { return &scratch{buf: make([]byte, 0, 2048), text: make([]byte, 0, 1024)} }
	p.layer = transaction.New(p, cfg.Timers)
	return p
}

// Listening tells the proxy where it listens, once the sockets are open.
func (p *Proxy) Listening(points []transport.Listen) {
	p.points = points
	for _, l := range points {
		p.cfg.Edge.ListeningPoints = append(p.cfg.Edge.ListeningPoints, netInterface(l.Protocol, l.Addr))
		p.own = append(p.own, ownAddrs(l.Addr)...)
		for _, n := range p.cfg.Localnets {
			if n.Addr() != n.Masked().Addr() { // see advertised
				p.own = append(p.own, netip.AddrPortFrom(n.Addr(), l.Addr.Port()))
			}
		}
	}
}

// ownAddrs is addr, or what it stands for if it is the unspecified one: the addresses of this machine.
func ownAddrs(addr netip.AddrPort) []netip.AddrPort {
	if !addr.Addr().IsUnspecified() {
		return []netip.AddrPort{addr}
	}
	var own []netip.AddrPort
	all, _ := net.InterfaceAddrs() // the transport has listed them before: no error
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			ip, _ := netip.AddrFromSlice(n.IP)
			if ip = ip.Unmap(); ip.Is4() || addr.Addr().Is6() {
				own = append(own, netip.AddrPortFrom(ip, addr.Port()))
			}
		}
	}
	return own
}

// Run drives the timers until ctx ends.
func (p *Proxy) Run(ctx context.Context) { p.layer.Run(ctx) }

// Counts are the proxy's totals.
func (p *Proxy) Counts() *Counts { return &p.counts }

// Transactions are the totals of its transaction layer.
func (p *Proxy) Transactions() *transaction.Counts { return p.layer.Counts() }

// Receive takes a well-formed message from the network; m is valid until it returns. What every receiver refuses
// (RFC 3261 16.3, 8.2.1) is refused here, without a transaction.
func (p *Proxy) Receive(flow transport.Flow, m *message.Message) {
	if !m.IsRequest() {
		p.layer.Receive(flow, m)
		return
	}
	m = p.received(flow, m)
	// What another EdgePort hands over has been let in there.
	if m.Method() != message.ACK && m.Method() != message.CANCEL && flow.Protocol() != transport.Bus && p.refuse(flow, m) {
		return
	}
	p.layer.Receive(flow, m)
}

// Malformed takes a message that m.Parse refused with err. It is dropped, or answered where that can be done, and never
// if it is a response or an ACK. The caller closes the connection that it came on.
func (p *Proxy) Malformed(flow transport.Flow, m *message.Message, err error) {
	var bad *message.Error
	if errors.As(err, &bad) && bad.Status != 0 && m.Answerable() && m.IsRequest() && m.Method() != message.ACK {
		p.counts.Refused.Add(1)
		p.layer.Respond(flow, m, bad.Status)
	}
}

// refuse answers or drops what must go no further, and says whether it did.
func (p *Proxy) refuse(flow transport.Flow, m *message.Message) bool {
	switch {
	case !p.methods[string(m.MethodText())]:
		if !p.cfg.Respond {
			p.counts.Discarded.Add(1)
			return true
		}
		p.answer(flow, m, 405, message.Field{Name: "Allow", Value: p.allow})
	case !knownScheme(m.RequestURI()): // 16.3 step 2
		p.answer(flow, m, 416)
	case p.isOptionsForUs(flow, m): // before step 3: a Max-Forwards of 0 is how traceroute asks
		p.answerOptions(flow, m)
	case exhausted(m): // step 3
		p.answer(flow, m, 483)
	case m.Count(message.KindProxyRequire) > 0: // step 5: we support no option that a proxy must understand
		var unsupported []byte
		for v := range m.Values(message.KindProxyRequire) {
			if len(unsupported) > 0 {
				unsupported = append(unsupported, ", "...)
			}
			unsupported = append(unsupported, v.Text...)
		}
		p.answer(flow, m, 420, message.Field{Name: "Unsupported", Value: string(unsupported)})
	default:
		return false
	}
	return true
}

func (p *Proxy) answer(flow transport.Flow, m *message.Message, status int, headers ...message.Field) {
	p.counts.Refused.Add(1)
	p.layer.Respond(flow, m, status, headers...)
}

func exhausted(m *message.Message) bool {
	n, ok := m.MaxForwards()
	return ok && n == 0
}

func knownScheme(uri []byte) bool {
	for _, s := range []string{"sip:", "sips:", "tel:", "urn:"} {
		if len(uri) > len(s) && strings.EqualFold(string(uri[:len(s)]), s) {
			return true
		}
	}
	return false
}

// isUs says whether a URI names this EdgePort by address: one that it listens on, the one that the request came to, or
// an external one.
func (p *Proxy) isUs(flow transport.Flow, uri *message.URI) bool {
	port := uri.Port
	if port == 0 {
		port = defaultPort(flow.Protocol())
	}
	addr, err := netip.ParseAddr(hostText(uri.Host))
	if err != nil { // a name without a port may have led here by SRV, whatever ours is
		return p.external.hasName(string(uri.Host)) && (uri.Port == 0 || p.listensOn(netip.Addr{}, port))
	}
	if flow.Local() == netip.AddrPortFrom(addr, port) {
		return true
	}
	return p.isOurs(netip.AddrPortFrom(addr, port))
}

// isOurs says whether what is sent to addr comes to us.
func (p *Proxy) isOurs(addr netip.AddrPort) bool {
	return p.listensOn(addr.Addr(), addr.Port()) || p.external.hasAddr(addr.Addr()) && p.listensOn(netip.Addr{}, addr.Port())
}

// listensBy says whether what is sent to that port by a protocol would come to a socket of ours: UDP and the others have
// ports of their own.
func (p *Proxy) listensBy(protocol transport.Protocol, port uint16) bool {
	return slices.ContainsFunc(p.points, func(l transport.Listen) bool {
		return l.Addr.Port() == port && (l.Protocol == transport.UDP) == (protocol == transport.UDP)
	})
}

// listensOn says whether one of our sockets has that port and that address; an invalid address stands for any.
func (p *Proxy) listensOn(addr netip.Addr, port uint16) bool {
	for _, own := range p.own {
		if own.Port() == port && (!addr.IsValid() || own.Addr() == addr) {
			return true
		}
	}
	return false
}

// advertised is the address by which the other end of flow reaches us, for Via and Record-Route: the external one for
// a peer outside localnets, if there is one, else the address of the socket.
func (p *Proxy) advertised(flow transport.Flow) (host string, port uint16) {
	at := p.listening(flow)
	host, port = at.Addr().String(), at.Port()
	remote := flow.Remote().Addr()
	for _, n := range p.cfg.Localnets {
		if n.Contains(remote) && n.Addr() != n.Masked().Addr() {
			return n.Addr().String(), port // written as our own address in that network
		} else if n.Contains(remote) {
			return host, port
		}
	}
	if e := p.external.of(remote); e != "" && !remote.IsLoopback() {
		return e, port
	}
	return host, port
}

// listening is where we listen for what comes our way like flow does. For a connection that we opened, whose port and
// perhaps address are its own, it is the point that is most like it.
func (p *Proxy) listening(flow transport.Flow) netip.AddrPort {
	local := flow.Local()
	if p.listensOn(local.Addr(), local.Port()) {
		return local
	}
	var best netip.AddrPort
	most := -1
	for _, l := range p.points {
		alike := 0
		if l.Protocol == flow.Protocol() {
			alike += 4
		}
		if l.Addr.Addr().Is4() == local.Addr().Is4() {
			alike += 2
		}
		if l.Addr.Addr() == local.Addr() {
			alike++
		}
		if alike > most {
			most, best = alike, l.Addr
		}
	}
	if best.Addr().IsUnspecified() {
		return netip.AddrPortFrom(local.Addr(), best.Port())
	}
	return best
}

func defaultPort(protocol transport.Protocol) uint16 {
	if protocol.Secure() {
		return 5061
	}
	return 5060
}

// hostText is the host of a URI or a Via without the brackets of an IPv6 reference.
func hostText(host []byte) string {
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		return string(host[1 : n-1])
	}
	return string(host)
}
