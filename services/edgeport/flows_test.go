package edgeport

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/location"
	"github.com/routr-fabric/routr/services/processor"
	"github.com/routr-fabric/routr/services/processor/connect"
)

// background runs a service until the test ends.
func background(t *testing.T, run func(ctx context.Context, ready func()) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// registrar is an EdgePort with a Connect processor and a Location Service. The agents alice and bob of example.com
// need no password here.
func registrar(t *testing.T, conn *bus.Conn, cache location.Cache) *system {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	lc := location.Default()
	lc.Spec.Cache = cache
	l, err := location.New(lc, conn, log, noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	background(t, l.Run)
	cc := connect.Default()
	cc.Spec.Trusted = []string{"127.0.0.0/8"}
	resources := connect.Resources{Domains: []connect.Domain{{Ref: "d", Spec: connect.DomainSpec{Context: connect.DomainContext{DomainURI: "example.com"}}}}}
	for _, user := range []string{"alice", "bob"} {
		resources.Agents = append(resources.Agents, connect.Agent{Ref: user, Spec: connect.AgentSpec{Username: user, DomainRef: "d"}})
	}
	c, err := connect.New(cc, resources, conn, log, noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	background(t, c.Run)
	return start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
		r.Forward(bus.SubjectProcess("connect", processor.MethodOf(req)), func(reply bus.Reply, err error) {
			if err != nil {
				r.Fail(err)
				return
			}
			r.Reply(reply)
		})
	}, func(c *Config) {
		c.Spec.Transport = append(c.Spec.Transport, Transport{Protocol: "ws"}, Transport{Protocol: "udp"})
	})
}

// stores runs f with both stores of bindings, through NATS and in process.
func stores(t *testing.T, f func(t *testing.T, s *system)) {
	for _, cache := range []location.Cache{{Provider: "memory"}, {Provider: "nats", Parameters: "storage=memory"}} {
		t.Run(cache.Provider, func(t *testing.T) {
			modes(t, func(t *testing.T, conn *bus.Conn) { f(t, registrar(t, conn, cache)) })
		})
	}
}

// register registers bob.
func (c *client) register(s *system, callID string, fields ...string) *message.Message {
	c.t.Helper()
	// To is bob in another spelling than the Location Service keeps.
	fields = append(fields, "Call-ID: "+callID, "From: <sip:bob@example.com>;tag=bob", "To: <sip:%62ob@example.COM;x=y>", "Expires: 600")
	c.send(s, c.request(s, "REGISTER", "sip:example.com", "z9hG4bK"+callID, fields...))
	return c.await("SIP/2.0 200")
}

// await is the next message that c receives and that begins with start. Others are passed over: what is sent again where
// the machine is slow.
func (c *client) await(start string) *message.Message {
	c.t.Helper()
	for {
		if m := c.next(); strings.HasPrefix(string(m.Bytes()), start) {
			return m
		}
	}
}

// bound are the contacts of bob as the Location Service has them.
func (s *system) bound() []string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	found, err := bus.Ask[locationpb.FindRoutesResponse](ctx, s.conn, bus.SubjectLocation(bus.LocationFind),
		&locationpb.FindRoutesRequest{Aor: "sip:bob@example.com"})
	if err != nil && bus.CodeOf(err) != bus.NotFound {
		s.t.Fatal(err)
	}
	var list []string
	for _, r := range found.GetRoutes() {
		list = append(list, r.ContactUri)
	}
	return list
}

// told waits until the Location Service has acknowledged the end of n flows.
func (s *system) told(n int64) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("the end of %d flows was told", n), func() bool { return s.edge.flows.counts.told.Load() >= n })
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !so(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it is not so after %v: %s", patience, what)
		}
	}
}

// call lets alice call bob. The answer to the INVITE comes after the 100. Over TCP nothing is sent again.
func (s *system) call(alice *client, id string) {
	s.t.Helper()
	alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK"+id, "Call-ID: "+id))
	alice.want("SIP/2.0 100")
}

const browser = "Contact: <sip:bob@bob1.invalid;transport=ws>"

// asFlow is a Contact of a UA that registers flows.
func asFlow(contact string, regID int) string {
	return fmt.Sprintf(`%s;+sip.instance="<urn:uuid:1>";reg-id=%d`, contact, regID)
}

// R23, W18: a connection that ends takes its binding with it at once, and registering again from a new one brings it back.
func TestR23W18FlowEnds(t *testing.T) {
	stores(t, func(t *testing.T, s *system) {
		alice, bob, again := s.tcpClient(), s.tcpClient(), s.tcpClient()
		bob.register(s, "r1", "Contact: <sip:bob@192.168.0.5:5060;transport=tcp>")
		s.call(alice, "c1")
		bob.send(s, response(bob.want("INVITE"), 486, "bob"))
		alice.want("SIP/2.0 486")

		bob.stream.Close()
		s.told(1)
		if got := s.bound(); len(got) != 0 {
			t.Errorf("bindings after the connection has ended = %q, want none", got)
		}
		s.call(alice, "c2")
		alice.want("SIP/2.0 480")

		again.register(s, "r2", "Contact: <sip:bob@192.168.0.5:5060;transport=tcp>")
		s.call(alice, "c3")
		again.want("INVITE")
	})
}

// W18: a UA that is back before its old connection has ended keeps its binding.
func TestW18NewFlowBeforeTheOldEnds(t *testing.T) {
	stores(t, func(t *testing.T, s *system) {
		alice, bob, again := s.tcpClient(), s.page(), s.page()
		supported := "Supported: path, outbound"
		ok := bob.register(s, "r1", supported, asFlow("Contact: <sip:bob@bob1.invalid;transport=ws>", 1))
		if require, timer := header(ok, "Require"), header(ok, "Flow-Timer"); require != "outbound" || timer != "120" {
			t.Errorf("R22: Require = %q, Flow-Timer = %q, want outbound and 120", require, timer)
		}
		again.register(s, "r2", supported, asFlow("Contact: <sip:bob@bob2.invalid;transport=ws>", 1))
		bob.stream.Close()
		s.told(1)
		if diff := cmp.Diff([]string{"sip:bob@bob2.invalid;transport=ws"}, s.bound()); diff != "" {
			t.Errorf("bindings after the old connection has ended (-want +got):\n%s", diff)
		}
		s.call(alice, "c1")
		again.want("INVITE sip:bob@bob2.invalid")
	})
}

// R23: the next binding gets the call, even if the word of the end is lost.
func TestR23NextBinding(t *testing.T) {
	stores(t, func(t *testing.T, s *system) {
		alice, desk, bob := s.tcpClient(), udpClient(t), s.page()
		desk.register(s, "r1", "Contact: <sip:bob@"+desk.addr()+">;q=0.5")
		bob.register(s, "r2", browser)
		s.forget()
		bob.stream.Close()
		s.gone(bob)
		if got := s.bound(); len(got) != 2 {
			t.Fatalf("bindings = %q, want both", got)
		}
		s.call(alice, "c1")
		desk.send(s, response(desk.want("INVITE"), 486, "desk"))
		alice.want("SIP/2.0 486")
	})
}

// forget lets the EdgePort forget the one connection that it remembers, once it does, so that nobody is told of its end.
func (s *system) forget() {
	s.t.Helper()
	f := s.edge.flows
	eventually(s.t, "a connection is remembered", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		known := len(f.aors) == 1
		clear(f.aors)
		return known
	})
}

// gone waits until a connection that bob has closed has ended here.
func (s *system) gone(bob *client) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	found, err := bus.Ask[locationpb.FindRoutesResponse](ctx, s.conn, bus.SubjectLocation(bus.LocationFind),
		&locationpb.FindRoutesRequest{Aor: "sip:bob@example.com"})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range found.Routes {
		if r.Port == portText(bob.addr()) {
			eventually(s.t, "the connection has ended", func() bool {
				_, live := s.edge.transport.Lookup(r.Flow)
				return !live
			})
			return
		}
	}
	s.t.Fatalf("no binding is from %s", bob.addr())
}

func portText(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// R23: a client behind a NAT is never dialed at the address that it knows of itself, but given up at once.
func TestR23LostWordIsNoDelay(t *testing.T) {
	stores(t, func(t *testing.T, s *system) {
		alice, bob := s.tcpClient(), s.tcpClient()
		bob.register(s, "r1", "Contact: <sip:bob@192.168.0.5:5060>")
		s.forget()
		bob.stream.Close()
		s.gone(bob)
		s.call(alice, "c1")
		alice.want("SIP/2.0 480")
	})
}

// R23: a client that listens at the address that it connects from is dialed when its connection has ended.
func TestR23ReachableWithoutFlow(t *testing.T) {
	stores(t, func(t *testing.T, s *system) {
		alice, bob, listens := s.tcpClient(), s.tcpClient(), tcpServer(t)
		contact := "sip:bob@" + listens.addr() + ";transport=tcp"
		bob.register(s, "r1", "Contact: <"+contact+">")
		bob.stream.Close()
		s.told(1)
		if diff := cmp.Diff([]string{contact}, s.bound()); diff != "" {
			t.Errorf("bindings after the connection has ended (-want +got):\n%s", diff)
		}
		s.call(alice, "c1")
		listens.want("INVITE " + contact)
	})
}

// R22, RFC 5626 7: two flows of a UA are one target: the newest gets the call, and the other one once that has ended.
func TestR22TwoFlowsOfOneUA(t *testing.T) {
	stores(t, func(t *testing.T, s *system) {
		alice, first, second := s.tcpClient(), s.page(), s.page()
		first.register(s, "r1", "Supported: outbound", asFlow("Contact: <sip:bob@bob1.invalid;transport=ws;ob>", 1))
		ok := second.register(s, "r2", "Supported: outbound", asFlow("Contact: <sip:bob@bob2.invalid;transport=ws;ob>", 2))
		if got := values(ok, message.KindContact); len(got) != 2 || !strings.HasPrefix(got[0], "<sip:bob@bob2.invalid;transport=ws;ob>") {
			t.Errorf("Contact = %q, want both flows, the newest first", got)
		}
		s.call(alice, "c1")
		second.send(s, response(second.want("INVITE sip:bob@bob2.invalid"), 486, "bob"))
		alice.want("SIP/2.0 486")
		first.send(s, first.request(s, "OPTIONS", "sip:"+s.udp, "z9hG4bKo"))
		first.want("SIP/2.0 200") // and no INVITE before it

		second.stream.Close()
		s.told(1)
		s.call(alice, "c2")
		first.want("INVITE sip:bob@bob1.invalid")
	})
}

// closings serves the ends of flows in place of the Location Service.
func closings(t *testing.T, conn *bus.Conn) <-chan *locationpb.FlowClosed {
	t.Helper()
	events := make(chan *locationpb.FlowClosed, 16)
	service, err := conn.Serve(bus.SubjectFlowClosed(bus.Every), bus.QueueLocation, func(_ context.Context, r *bus.Request) {
		event, err := bus.Decode[locationpb.FlowClosed](r.Body)
		if err != nil {
			r.Fail(err)
			return
		}
		events <- event
		r.Reply(bus.Reply{Body: bus.Value(&emptypb.Empty{})})
	}, bus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := service.Drain(ctx); err != nil {
			t.Error(err)
		}
	})
	return events
}

func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

// accepts is the decision to answer everything with a status.
func accepts(status int) decider {
	return func(r *bus.Request, _ *processorpb.MessageRequest) {
		r.Reply(bus.Reply{Body: bus.Value(processor.NewResponse(status, ""))})
	}
}

// What is told of a connection: what was accepted on it, from the client at its other end, as often as it likes.
func TestFlowsRemembersWhatWasAccepted(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		events := closings(t, conn)
		var flow atomic.Value
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			flow.Store(req.Flow)
			status := 200
			if strings.HasPrefix(req.Ref, "refused") {
				status = 403
			}
			accepts(status)(r, req)
		}, nil)
		bob := s.tcpClient()
		send := func(callID, to, want string, fields ...string) {
			bob.send(s, bob.request(s, "REGISTER", "sip:example.com", "z9hG4bK"+callID, append(fields, "Call-ID: "+callID, "To: "+to)...))
			bob.want(want)
		}
		send("1", "<sip:a@example.com>", "SIP/2.0 200")
		send("2", "<sip:a@example.com>", "SIP/2.0 200")
		send("3", "Bee <sip:b:pw@Example.com:5070;x=y>", "SIP/2.0 200")
		send("refused", "<sip:c@example.com>", "SIP/2.0 403")
		send("4", "<sip:example.com>", "SIP/2.0 200")
		send("5", "<sip:d@example.com>", "SIP/2.0 200", "Via: SIP/2.0/TCP "+bob.addr()+";branch=z9hG4bK5\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK6")
		bob.stream.Close()
		got := receive(t, events, "the end of the flow")
		if got.EdgePortRef != "edge-under-test" || got.Flow != flow.Load() {
			t.Errorf("FlowClosed is of %s, flow %s, want edge-under-test and %s", got.EdgePortRef, got.Flow, flow.Load())
		}
		if diff := cmp.Diff([]string{"sip:a@example.com", "sip:b@Example.com"}, got.Aors); diff != "" {
			t.Errorf("FlowClosed.aors (-want +got):\n%s", diff)
		}
	})
}

// A connection that ends before its REGISTER is accepted is told of as well, and not remembered for ever.
func TestFlowEndsBeforeTheDecision(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		events := closings(t, conn)
		asked := make(chan func(), 1)
		var s *system
		s = start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			flow := req.Flow
			asked <- func() {
				eventually(t, "the connection has ended", func() bool {
					_, live := s.edge.transport.Lookup(flow)
					return !live
				})
				accepts(200)(r, req)
			}
		}, nil)
		bob := s.tcpClient()
		bob.send(s, bob.request(s, "REGISTER", "sip:example.com", "z9hG4bK1"))
		answer := receive(t, asked, "the REGISTER")
		bob.stream.Close()
		answer()
		if got := receive(t, events, "the end of the flow"); !slices.Equal(got.Aors, []string{"sip:bob@example.com"}) {
			t.Errorf("FlowClosed.aors = %q, want sip:bob@example.com", got.Aors)
		}
		s.told(1)
		s.edge.flows.mu.Lock()
		defer s.edge.flows.mu.Unlock()
		if n := len(s.edge.flows.aors); n != 0 {
			t.Errorf("%d connections are remembered, want none", n)
		}
	})
}

// An EdgePort that stops tells of all its flows before it is gone.
func TestFlowsEndWithTheEdgePort(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		events := closings(t, conn)
		serve(t, conn, accepts(200))
		cfg := Default()
		cfg.Spec.BindAddr, cfg.Spec.Transport = "127.0.0.1", []Transport{{Protocol: "tcp"}}
		edge, err := New(cfg, conn, slog.New(slog.DiscardHandler), noop.Meter{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		ready, done := make(chan struct{}), make(chan error, 1)
		go func() { done <- edge.Run(ctx, func() { close(ready) }) }()
		receive(t, ready, "ready")
		s := &system{t: t, edge: edge, conn: conn, tcp: strings.TrimPrefix(edge.Points()[0], "tcp:")}
		const clients = 5
		for i := range clients {
			c := s.tcpClient()
			c.send(s, c.request(s, "REGISTER", "sip:example.com", fmt.Sprint("z9hG4bK", i)))
			c.want("SIP/2.0 200")
		}
		cancel()
		if err := receive(t, done, "the end of Run"); err != nil {
			t.Errorf("Run = %v", err)
		}
		if n := len(events); n != clients {
			t.Errorf("%d ends of flows were told when Run returned, want %d", n, clients)
		}
	})
}

func TestFlowsAreBounded(t *testing.T) {
	f := newFlows("edge", bustest.Alone(t))
	for range 2 {
		for i := range maxAORs + 1 {
			f.remember("id", fmt.Sprintf("sip:%d@example.com", i))
		}
	}
	f.remember("other", "sip:"+strings.Repeat("a", maxAOR)+"@example.com")
	if n := len(f.aors["id"]); n != maxAORs {
		t.Errorf("%d addresses-of-record of a connection are remembered, want %d", n, maxAORs)
	}
	if n := f.counts.unremembered.Load(); n != 3 {
		t.Errorf("unremembered = %d, want 3: two over the number, one too long", n)
	}
	f.closed("id")
	f.closed("id")
	if n := f.counts.untold.Load(); n != 1 || len(f.aors) != 0 || f.pending.Load() != 0 {
		t.Errorf("untold = %d with %d connections and %d calls left, want 1, 0 and 0", n, len(f.aors), f.pending.Load())
	}
}

func BenchmarkFlowsRemember(b *testing.B) {
	f := newFlows("edge", bustest.Alone(b))
	b.ReportAllocs()
	for b.Loop() { // a refresh
		f.remember("id", "sip:bob@example.com")
	}
}

// A phone behind a NAT is reached from the socket that it registered at, as its NAT lets nothing else in: at one EdgePort
// that has two, and from another EdgePort.
func TestFlowBehindNAT(t *testing.T) {
	server := bustest.Server(t)
	s := registrar(t, bustest.Dial(t, server, nil), location.Cache{Provider: "memory"})
	other := start(t, bustest.Dial(t, server, nil), nil, func(c *Config) { c.Ref = "other" })
	first := s.udp
	for _, at := range s.edge.Points() {
		if protocol, addr, _ := strings.Cut(at, ":"); protocol == "udp" && addr != first {
			s.udp = addr // the second one
		}
	}
	if s.udp == first {
		t.Fatal("there is one UDP socket, want two")
	}
	second := s.udp
	const contact = "sip:bob@192.0.2.1"
	bob := udpClient(t)
	bob.register(s, "reg", "Contact: <"+contact+">")
	for i, from := range []*system{s, other} {
		alice := udpClient(t)
		s.udp = first
		id := fmt.Sprint("Call-ID: call-", i)
		alice.send(from, alice.request(from, "INVITE", "sip:bob@example.com", "z9hG4bKinvite", id))
		alice.want("SIP/2.0 100")
		invite := bob.await("INVITE " + contact)
		if bob.server.String() != second {
			t.Errorf("the INVITE came from %s, want %s", bob.server, second)
		}
		s.udp = second
		bob.send(s, response(invite, 200, "b", "Contact: <"+contact+">"))
		ok := alice.await("SIP/2.0 200")
		alice.send(from, alice.request(from, "ACK", contact, "z9hG4bKack", append(routes(ok, true), id, "To: <sip:bob@example.com>;tag=b")...))
		bob.await("ACK " + contact)
		if bob.server.String() != second {
			t.Errorf("the ACK came from %s, want %s", bob.server, second)
		}
	}
}
