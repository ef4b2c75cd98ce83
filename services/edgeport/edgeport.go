// Package edgeport is the EdgePort of the specification: the service at the network's edge that takes SIP messages,
// asks the Message Dispatcher where they go, and sends them on.
//
// Its layers, in the order in which a datagram meets them: transport (sockets, flows), message (a view over the
// bytes), transaction (RFC 3261 17), proxy (RFC 3261 16), and sipconv (SIP to protobuf) where the bus is asked.
package edgeport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/metric"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/services/edgeport/guard"
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/proxy"
	"github.com/routr-fabric/routr/services/edgeport/resolver"
	"github.com/routr-fabric/routr/services/edgeport/sipconv"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// routeKeys is the name of the keys that sign Record-Routes, shared by all EdgePorts of a bus.
const routeKeys = "route"

// EdgePort is one EdgePort.
type EdgePort struct {
	cfg       Config
	conn      *bus.Conn
	log       *slog.Logger
	meter     metric.Meter
	guard     *guard.Guard
	transport *transport.Layer
	proxy     *proxy.Proxy // set by Run, before the sockets are read
	timers    transaction.Timers
	messages  sync.Pool // of *message.Message
	limits    message.Limits
	protocols []transport.Protocol // in which it sends requests on its own: those that it listens on, but for WebSocket
	dns       []string             // servers to ask, as address:port; none: the system's
	life      life
	flows     *flows
	asked     challenges
	counts    counts
}

// New makes an EdgePort. It opens nothing yet.
func New(cfg Config, conn *bus.Conn, log *slog.Logger, meter metric.Meter) (*EdgePort, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("edgeport %s: %w", cfg.Ref, err)
	}
	if addr, err := bus.ParseAddr(cfg.Spec.Processor.Addr); err == nil && !addr.Bus() {
		return nil, fmt.Errorf("edgeport %s: spec.processor.addr: %s would need the gRPC gateway, which is not part of this version; leave it out to use the bus", cfg.Ref, addr)
	}
	e := &EdgePort{cfg: cfg, conn: conn, log: log, meter: meter, limits: message.DefaultLimits(), flows: newFlows(cfg.Ref, conn)}
	// Room for what the proxy adds: its copy of a request has to be within what can be sent, and read again. What is
	// beyond these limits is answered, what is beyond those of transport is not.
	e.limits.Size -= 4 << 10
	e.limits.Head -= 4 << 10
	e.limits.Headers -= 16
	e.timers = transaction.DefaultTimers()
	e.messages.New = func() any { return new(message.Message) }
	var listen []transport.Listen
	for _, t := range cfg.Spec.Transport {
		protocol, _ := transport.ParseProtocol(t.Protocol)
		addr, err := netip.ParseAddrPort(cfg.Spec.ListenAddr(t))
		if err != nil {
			return nil, fmt.Errorf("edgeport %s: %w", cfg.Ref, err)
		}
		listen = append(listen, transport.Listen{
			Protocol: protocol, Addr: addr, Origins: t.Origins, Proxies: parseNets(t.ProxyProtocol.From),
			TLS: transport.TLSConfig{
				CertFile: t.TLS.CertFile, KeyFile: t.TLS.KeyFile,
				ClientCAFile: t.TLS.ClientCAFile, ClientAuth: transport.ClientAuth(t.TLS.ClientAuth),
			},
		})
		if protocol != transport.WS && protocol != transport.WSS && !slices.Contains(e.protocols, protocol) {
			e.protocols = append(e.protocols, protocol)
		}
	}
	var err error
	if e.guard, err = guard.New(cfg.Spec.Guard.config(cfg.Ref), log, meter); err != nil {
		return nil, fmt.Errorf("edgeport %s: spec.guard: %w", cfg.Ref, err)
	}
	tc := transport.Config{Listen: listen, Guard: e.guard, CertificateDir: cfg.Spec.DataDir, Names: cfg.Spec.ExternalAddrs}
	if cfg.Spec.CAFile != "" {
		if tc.RootCAs, err = transport.ReadCAs(cfg.Spec.CAFile); err != nil {
			return nil, fmt.Errorf("edgeport %s: spec.caFile: %w", cfg.Ref, err)
		}
	}
	e.transport = transport.New(tc, e.receive, e.closed, log, meter)
	return e, nil
}

// Run listens, calls ready, and serves until ctx ends; then it drains (see drain.go), and ends its connections.
func (e *EdgePort) Run(ctx context.Context, ready func()) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	keys, err := e.conn.SharedKeys(running, routeKeys)
	if err != nil {
		return fmt.Errorf("the keys that sign routes: %w", err)
	}
	spec := e.cfg.Spec
	names, err := resolver.New(resolver.Config{Protocols: e.protocols, Servers: e.dns}, e.log)
	if err != nil {
		return err
	}
	defer names.Close()
	e.proxy = proxy.New(proxy.Config{
		Methods: spec.Methods, Respond: spec.UnknownMethodAction != Discard,
		ExternalAddrs: spec.ExternalAddrs, Localnets: spec.Nets(), PeerBySIP: spec.Peering == PeerBySIP,
		Edge:   sipconv.Edge{Ref: e.cfg.Ref, ExternalAddrs: spec.ExternalAddrs, Localnets: spec.Localnets},
		Timers: e.timers, Registered: e.registered, Decided: e.decided,
	}, e.conn, keys, e.transport, names, e.log)
	link := e.conn.Link(e.cfg.Ref, bus.LinkConfig{
		Receive: func(ref string, data []byte) { e.take(e.proxy.PeerFlow(ref), data, message.OwnLimits()) },
		Gone:    func(ref string) { e.proxy.PeerGone(ref) },
		Renewed: func(ref string) { e.proxy.FlowRenewed(e.proxy.PeerFlow(ref)) },
	})
	defer link.Close()
	e.proxy.Linked(link)
	if err := e.observe(&names.Counts); err != nil {
		return err
	}
	if err := e.transport.Listen(); err != nil {
		return err
	}
	e.proxy.Listening(e.transport.Points())
	if err := link.Join(); err != nil {
		stop()
		return errors.Join(err, e.transport.Serve(running))
	}

	var wait sync.WaitGroup
	wait.Go(func() { e.proxy.Run(running) })
	wait.Go(func() { e.guard.Run(running) })
	served := make(chan error, 1)
	wait.Go(func() { served <- e.transport.Serve(running) })
	e.log.Info("edgeport listens", "on", e.Points())
	e.life.set(Serving)
	hush, err := e.listenToOperators()
	if err == nil {
		ready()
		select {
		case err = <-served:
		case <-ctx.Done():
			e.finish()
		}
		hush()
	}
	e.life.set(Stopping)
	stop()
	wait.Wait()
	e.flows.drain()
	return err
}

// Points are the transports and addresses that it listens on, such as udp:127.0.0.1:5060, once Run is ready.
func (e *EdgePort) Points() []string {
	var points []string
	for _, l := range e.transport.Points() {
		points = append(points, strings.ToLower(l.Protocol.String())+":"+l.Addr.String())
	}
	return points
}

// Check is nil while e listens on all its transports; else the error says on which it does not, and why. It tries them
// again by itself.
func (e *EdgePort) Check() error { return e.transport.Check() }

// receive takes one message from a flow, in the order in which they came. What is malformed is the last that a connection
// brings, as nobody knows what its sender meant by the bytes behind it.
func (e *EdgePort) receive(flow transport.Flow, data []byte) { e.take(flow, data, e.limits) }

func (e *EdgePort) take(flow transport.Flow, data []byte, limits message.Limits) {
	m := e.messages.Get().(*message.Message)
	if err := m.Parse(data, limits); err != nil {
		e.counts.malformed.Add(1)
		e.proxy.Malformed(flow, m, err)
		if what, ok := guard.Judge(data); ok {
			e.offended(flow, what)
		}
		flow.Close(transport.Malformed)
	} else if !e.scanned(flow, m) {
		e.proxy.Receive(flow, m)
	}
	m.Reset()
	e.messages.Put(m)
}
