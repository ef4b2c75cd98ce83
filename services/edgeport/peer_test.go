package edgeport

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
)

// pair is two EdgePorts, each with a connection of its own to one bus. Calls are sent to the targets; a REGISTER is
// answered with 200, and its flow remembered.
type pair struct {
	t          *testing.T
	a, b       *system
	aBus, bBus *bus.Conn
	targets    atomic.Pointer[[]*processorpb.Target]
	flows      chan string
	dispatched atomic.Int64
}

func startPair(t *testing.T, change func(*Config)) *pair {
	t.Helper()
	return startPairTimed(t, change, transaction.DefaultTimers())
}

func startPairTimed(t *testing.T, change func(*Config), timers transaction.Timers) *pair {
	t.Helper()
	server := bustest.Server(t)
	p := &pair{t: t, flows: make(chan string, 1)}
	serve(t, bustest.Dial(t, server, nil), func(r *bus.Request, req *processorpb.MessageRequest) {
		if req.Method == processorpb.Method_REGISTER {
			p.flows <- req.Flow
			r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: "sip:nobody.invalid"}}})})
			return
		}
		p.dispatched.Add(1)
		r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Targets: *p.targets.Load()})})
	})
	start := func(ref string, conn *bus.Conn) *system {
		return startTimed(t, conn, nil, func(c *Config) {
			c.Ref = ref
			c.Spec.Transport = append(c.Spec.Transport, Transport{Protocol: "ws"})
			if change != nil {
				change(c)
			}
		}, timers)
	}
	p.aBus, p.bBus = bustest.Dial(t, server, nil), bustest.Dial(t, server, nil)
	p.a, p.b = start("a", p.aBus), start("b", p.bBus)
	return p
}

// bind registers c, whose contact is uri, at s, and returns its binding as a target.
func (p *pair) bind(s *system, c *client, uri string) *processorpb.Target {
	p.t.Helper()
	c.send(s, c.request(s, "REGISTER", "sip:example.com", "z9hG4bKreg"+s.edge.cfg.Ref, "Contact: <"+uri+">", "Call-ID: reg-"+uri))
	t := &processorpb.Target{Uri: uri, Q: 1000, EdgePortRef: s.edge.cfg.Ref, Flow: <-p.flows}
	for _, point := range s.edge.Points() {
		protocol, addr, _ := strings.Cut(point, ":")
		at := &processorpb.NetInterface{Transport: commonpb.Transport(commonpb.Transport_value[strings.ToUpper(protocol)])}
		host, port, _ := strings.Cut(addr, ":")
		at.Host = host
		fmt.Sscan(port, &at.Port)
		t.EdgePortAddrs = append(t.EdgePortAddrs, at)
	}
	c.want("SIP/2.0 480")
	return t
}

func (p *pair) sendTo(targets ...*processorpb.Target) { p.targets.Store(&targets) }

// routes are the Record-Routes of m as Route headers, for the caller, who goes through them from the last on.
func routes(m *message.Message, caller bool) []string {
	var headers []string
	for _, v := range values(m, message.KindRecordRoute) {
		if caller {
			headers = append([]string{"Route: " + v}, headers...)
		} else {
			headers = append(headers, "Route: "+v)
		}
	}
	return headers
}

// The specification's own test: an INVITE between clients at separate EdgePorts (its conformance id RR 1.5.1, and W13),
// with what a call has beside it, handed over by the bus and by SIP.
func TestE1CallAcrossEdgePorts(t *testing.T) {
	phones := map[string]func(p *pair, s *system) (c *client, contact string){
		"nat":    func(*pair, *system) (*client, string) { return udpClient(t), "sip:bob@192.0.2.7" },
		"udp":    func(*pair, *system) (*client, string) { c := udpClient(t); return c, "sip:bob@" + c.addr() },
		"tcp":    func(_ *pair, s *system) (*client, string) { return s.tcpClient(), "sip:bob@192.0.2.7;transport=tcp" },
		"W13 ws": func(_ *pair, s *system) (*client, string) { return s.page(), "sip:bob@bob1.invalid;transport=ws" },
	}
	for _, peering := range []string{PeerByBus, PeerBySIP} {
		for name, phone := range phones {
			t.Run(name+" "+peering, func(t *testing.T) {
				p := startPair(t, func(c *Config) { c.Spec.Peering = peering })
				p.t = t
				p.a.t, p.b.t = t, t
				alice := p.a.tcpClient() // she cannot be reached from elsewhere either
				bob, contact := phone(p, p.b)
				target := p.bind(p.b, bob, contact)
				if name == "nat" {
					at := netip.MustParseAddrPort(bob.addr())
					target.NextHop = &processorpb.NetInterface{Host: at.Addr().String(), Port: int32(at.Port())}
				}
				p.sendTo(target)

				alice.send(p.a, alice.request(p.a, "INVITE", "sip:bob@example.com", "z9hG4bK1", "Contact: <sip:alice@192.0.2.8;transport=tcp>"))
				alice.want("SIP/2.0 100")
				invite := bob.want("INVITE " + contact + " SIP/2.0")
				vias, forwards := 2, "69"
				if peering == PeerBySIP {
					vias, forwards = 3, "68"
				}
				if v := values(invite, message.KindVia); len(v) != vias || header(invite, "Max-Forwards") != forwards {
					t.Errorf("INVITE has Vias %q and Max-Forwards %s, want %d and %s", v, header(invite, "Max-Forwards"), vias, forwards)
				}
				if rr := values(invite, message.KindRecordRoute); len(rr) < 2 || !strings.Contains(rr[len(rr)-1], p.a.tcp) {
					t.Errorf("Record-Route = %q, want b's on top and a's TCP address at the bottom", rr)
				}
				if r := values(invite, message.KindRoute); len(r) > 0 {
					t.Errorf("Route = %q, want none at the phone", r)
				}
				bob.send(p.b, response(invite, 180, "b"))
				if v := values(alice.want("SIP/2.0 180"), message.KindVia); len(v) != 1 {
					t.Errorf("180 has Vias %q, want alice's alone", v)
				}
				bob.send(p.b, response(invite, 200, "b", "Contact: <"+contact+">"))
				ok := alice.want("SIP/2.0 200")
				toBob := append(routes(ok, true), "To: <sip:bob@example.com>;tag=b")
				alice.send(p.a, alice.request(p.a, "ACK", contact, "z9hG4bK2", toBob...))
				if v := values(bob.want("ACK "+contact), message.KindVia); len(v) != vias {
					t.Errorf("ACK has Vias %q, want %d", v, vias)
				}

				// re-INVITEs of both, and the BYE of the callee.
				alice.send(p.a, alice.request(p.a, "INVITE", contact, "z9hG4bK3", append(toBob, "CSeq: 2 INVITE")...))
				alice.want("SIP/2.0 100")
				bob.send(p.b, response(bob.want("INVITE "+contact), 200, "b", "Contact: <"+contact+">"))
				alice.want("SIP/2.0 200")
				alice.send(p.a, alice.request(p.a, "ACK", contact, "z9hG4bK4", append(toBob, "CSeq: 2 ACK")...))
				bob.want("ACK " + contact)
				toAlice := append(routes(invite, false), "From: <sip:bob@example.com>;tag=b", "To: <sip:alice@example.com>;tag=alice-tag")
				bob.send(p.b, bob.request(p.b, "INVITE", "sip:alice@192.0.2.8;transport=tcp", "z9hG4bK5", toAlice...))
				bob.want("SIP/2.0 100")
				again := alice.want("INVITE sip:alice@192.0.2.8;transport=tcp")
				alice.send(p.a, response(again, 488, "alice-tag"))
				alice.want("ACK sip:alice@192.0.2.8")
				bob.want("SIP/2.0 488")
				bob.send(p.b, bob.request(p.b, "ACK", "sip:alice@192.0.2.8;transport=tcp", "z9hG4bK5", toAlice...))
				bob.send(p.b, bob.request(p.b, "BYE", "sip:alice@192.0.2.8;transport=tcp", "z9hG4bK6", append(toAlice, "CSeq: 3 BYE")...))
				alice.send(p.a, response(alice.want("BYE sip:alice@192.0.2.8"), 200, "alice-tag"))
				bob.want("SIP/2.0 200")
				if n := p.dispatched.Load(); n != 1 {
					t.Errorf("%d requests were dispatched, want the first INVITE alone", n)
				}
			})
		}
	}
}

// CANCEL goes the way of its INVITE, and a refusal comes back.
func TestE1CancelAcrossEdgePorts(t *testing.T) {
	p := startPair(t, nil)
	alice, bob := udpClient(t), p.b.tcpClient()
	p.sendTo(p.bind(p.b, bob, "sip:bob@192.0.2.7;transport=tcp"))
	invite := alice.request(p.a, "INVITE", "sip:bob@example.com", "z9hG4bK1")
	alice.send(p.a, invite)
	alice.want("SIP/2.0 100")
	ringing := bob.want("INVITE")
	bob.send(p.b, response(ringing, 180, "b"))
	alice.want("SIP/2.0 180")
	alice.send(p.a, strings.NewReplacer("INVITE sip", "CANCEL sip", "1 INVITE", "1 CANCEL").Replace(invite))
	alice.want("SIP/2.0 200")
	cancel := bob.want("CANCEL")
	bob.send(p.b, response(cancel, 200, "b")+response(ringing, 487, "b"))
	bob.want("ACK")
	alice.want("SIP/2.0 487")
}

// A fork may span EdgePorts: who answers gets the call, and the other one a CANCEL, wherever it is.
func TestE1ForkAcrossEdgePorts(t *testing.T) {
	p := startPair(t, nil)
	alice, here, there := udpClient(t), p.a.tcpClient(), p.b.tcpClient()
	p.sendTo(p.bind(p.a, here, "sip:bob@192.0.2.6;transport=tcp"), p.bind(p.b, there, "sip:bob@192.0.2.7;transport=tcp"))
	alice.send(p.a, alice.request(p.a, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
	alice.want("SIP/2.0 100")
	first, second := here.want("INVITE"), there.want("INVITE")
	here.send(p.a, response(first, 180, "here"))
	alice.want("SIP/2.0 180")
	there.send(p.b, response(second, 200, "there"))
	if ok := alice.want("SIP/2.0 200"); string(ok.ToTag()) != "there" {
		t.Errorf("200 has tag %s, want there", ok.ToTag())
	}
	cancel := here.want("CANCEL")
	here.send(p.a, response(cancel, 200, "here")+response(first, 487, "here"))
	here.want("ACK")
}

// The EdgePort that a phone registered at dies: a call to it fails or goes to the next target, before and while it rings.
func TestE1EdgePortOfCalleeDies(t *testing.T) {
	t.Parallel() // it waits for timers
	p := startPair(t, nil)
	alice, bob, desk := udpClient(t), p.b.tcpClient(), udpClient(t)
	phone := p.bind(p.b, bob, "sip:bob@192.0.2.7;transport=tcp")
	phone.Priority = -1
	p.sendTo(phone, toTarget(desk).Targets[0])

	alice.send(p.a, alice.request(p.a, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
	alice.want("SIP/2.0 100")
	bob.send(p.b, response(bob.want("INVITE"), 180, "b"))
	alice.want("SIP/2.0 180")
	p.bBus.Close()
	desk.send(p.a, response(desk.want("INVITE"), 200, "desk"))
	if ok := alice.want("SIP/2.0 200"); string(ok.ToTag()) != "desk" {
		t.Errorf("200 has tag %s, want desk", ok.ToTag())
	}

	p.sendTo(phone)
	alice.send(p.a, alice.request(p.a, "INVITE", "sip:bob@example.com", "z9hG4bK2", "Call-ID: call-2"))
	alice.want("SIP/2.0 100")
	alice.want("SIP/2.0 480")
}

// The EdgePort of the caller dies while the phone rings: nobody would hear the answer, so it rings no more.
func TestE1EdgePortOfCallerDies(t *testing.T) {
	t.Parallel() // it waits for timers
	p := startPair(t, nil)
	alice, bob := udpClient(t), p.b.tcpClient()
	p.sendTo(p.bind(p.b, bob, "sip:bob@192.0.2.7;transport=tcp"))
	alice.send(p.a, alice.request(p.a, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
	alice.want("SIP/2.0 100")
	bob.send(p.b, response(bob.want("INVITE"), 180, "b"))
	alice.want("SIP/2.0 180")
	p.aBus.Close()
	bob.want("CANCEL")
}

// In a dialog whose EdgePort on the other side has died, what can be reached from here is: the phone at its Contact.
func TestE1DialogSurvivesEdgePort(t *testing.T) {
	t.Parallel() // it waits for timers
	p := startPair(t, nil)
	alice, bob := p.a.tcpClient(), udpClient(t)
	contact := "sip:bob@" + bob.addr()
	p.sendTo(p.bind(p.b, bob, contact))
	alice.send(p.a, alice.request(p.a, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
	alice.want("SIP/2.0 100")
	invite := bob.want("INVITE")
	bob.send(p.b, response(invite, 200, "b", "Contact: <"+contact+">"))
	toBob := append(routes(alice.want("SIP/2.0 200"), true), "To: <sip:bob@example.com>;tag=b")
	alice.send(p.a, alice.request(p.a, "ACK", contact, "z9hG4bK2", toBob...))
	bob.want("ACK")

	p.bBus.Close()
	alice.send(p.a, alice.request(p.a, "INFO", contact, "z9hG4bK3", append(toBob, "CSeq: 2 INFO")...))
	info := bob.want("INFO " + contact)
	if r := values(info, message.KindRoute); len(r) > 0 {
		t.Errorf("Route = %q, want none: the EdgePort that it names is gone", r)
	}
	bob.send(p.a, response(info, 200, "b"))
	alice.want("SIP/2.0 200")
	// An ACK goes the way of its INVITE, though nobody would say that it was lost.
	alice.send(p.a, alice.request(p.a, "INVITE", contact, "z9hG4bK5", append(toBob, "CSeq: 3 INVITE")...))
	alice.want("SIP/2.0 100")
	bob.send(p.a, response(bob.want("INVITE "+contact), 200, "b", "Contact: <"+contact+">"))
	alice.want("SIP/2.0 200")
	alice.send(p.a, alice.request(p.a, "ACK", contact, "z9hG4bK6", append(toBob, "CSeq: 3 ACK")...))
	bob.want("ACK " + contact)
	// The other way the caller's connection is at the EdgePort that lives, which the phone's Route does not lead to.
	bob.send(p.a, bob.request(p.a, "BYE", "sip:alice@"+alice.addr(), "z9hG4bK4",
		append(routes(invite, false), "From: <sip:bob@example.com>;tag=b", "To: <sip:alice@example.com>;tag=alice-tag", "CSeq: 2 BYE")...))
	alice.send(p.a, response(alice.want("BYE"), 200, "alice-tag"))
	bob.want("SIP/2.0 200")
}

// A Route that hands a request to an EdgePort is good for that request: who has seen one cannot call anybody with it.
func TestHandRouteIsForOneCall(t *testing.T) {
	p := startPair(t, func(c *Config) { c.Spec.Peering = PeerBySIP })
	alice, bob, victim, gateway := udpClient(t), udpClient(t), udpClient(t), tcpServer(t)
	stolen := p.bind(p.b, bob, "sip:bob@"+bob.addr())
	// The EdgePort b is where the test listens, and sees what is sent to it.
	host, port, _ := strings.Cut(gateway.addr(), ":")
	stolen.EdgePortAddrs = []*processorpb.NetInterface{{Host: host, Transport: commonpb.Transport_TCP}}
	fmt.Sscan(port, &stolen.EdgePortAddrs[0].Port)
	p.sendTo(stolen)
	alice.send(p.a, alice.request(p.a, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
	alice.want("SIP/2.0 100")
	hand := "Route: " + values(gateway.want("INVITE"), message.KindRoute)[0]

	p.sendTo(toTarget(bob).Targets[0])
	for name, fields := range map[string][]string{
		"another call": {hand, "Call-ID: call-2"},
		"in a dialog":  {hand, "To: <sip:bob@example.com>;tag=b"},
	} {
		before := p.dispatched.Load()
		alice.send(p.b, alice.request(p.b, "MESSAGE", "sip:victim@"+victim.addr(), "z9hG4bK"+name[:2], fields...))
		bob.send(p.b, response(bob.want("MESSAGE"), 200, "b"))
		alice.want("SIP/2.0 200")
		if p.dispatched.Load() != before+1 {
			t.Errorf("%s: it was not dispatched", name)
		}
	}
	victim.quiet(p.b)
}
