package edgeport

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// R22 across EdgePorts: the UA has a flow at b and one at a. That at b is gone, or b drains: the other one is tried.
func TestR22NextFlowAtAnotherEdgePort(t *testing.T) {
	for _, peering := range []string{PeerByBus, PeerBySIP} {
		for _, why := range []string{"the flow is gone", "the EdgePort drains"} {
			t.Run(peering+" "+why, func(t *testing.T) {
				p := startPair(t, func(c *Config) { c.Spec.Peering = peering })
				alice, away, here := udpClient(t), p.b.tcpClient(), p.a.tcpClient()
				first, second := p.bind(p.b, away, "sip:bob@192.0.2.7;transport=tcp"), p.bind(p.a, here, "sip:bob@192.0.2.6;transport=tcp")
				first.Instance, second.Instance = "<urn:uuid:1>", "<urn:uuid:1>"
				if why == "the EdgePort drains" {
					p.b.edge.proxy.Drain(true)
				} else {
					first.Flow = "GONE"
				}
				p.sendTo(first, second)
				alice.send(p.a, alice.request(p.a, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
				alice.want("SIP/2.0 100")
				here.send(p.a, response(here.want("INVITE"), 200, "here"))
				alice.want("SIP/2.0 200")

				p.sendTo(first)
				alice.send(p.a, alice.request(p.a, "MESSAGE", "sip:bob@example.com", "z9hG4bK2", "Call-ID: call-2"))
				alice.want("SIP/2.0 480")
			})
		}
	}
}

// P7: a further flow gets the breadth of the one whose place it takes, not that of all of them.
func TestP7NextFlowHasTheShareOfTheFirst(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		first, second, desk := udpClient(t), udpClient(t), udpClient(t)
		answer := new(processorpb.MessageResponse)
		for i, c := range []*client{first, second, desk} {
			target := toTarget(c).Targets[0]
			target.Q, target.Instance = 1000, []string{"a", "a", "b"}[i]
			answer.Targets = append(answer.Targets, target)
		}
		alice := udpClient(t)
		s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) { r.Reply(bus.Reply{Body: bus.Value(answer)}) }, nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1", "Max-Breadth: 5"))
		alice.want("SIP/2.0 100")
		first.send(s, response(first.want("INVITE"), 430, "first"))
		for c, want := range map[*client]string{second: "3", desk: "2"} {
			if got := header(c.want("INVITE"), "Max-Breadth"); got != want {
				t.Errorf("Max-Breadth = %s, want %s", got, want)
			}
		}
	})
}

// R22: a UA that rang for as long as it may has been reached. It does not ring again on its other flow.
func TestR22NoNextFlowAfterRinging(t *testing.T) {
	timers := quick()
	timers.C = 300 * time.Millisecond
	modes(t, func(t *testing.T, conn *bus.Conn) {
		first, second := tcpServer(t), udpClient(t)
		answer := &processorpb.MessageResponse{Targets: []*processorpb.Target{toTarget(first).Targets[0], toTarget(second).Targets[0]}}
		for _, target := range answer.Targets {
			target.Instance = "a"
		}
		alice := udpClient(t)
		s := startTimed(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) { r.Reply(bus.Reply{Body: bus.Value(answer)}) }, nil, timers)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		first.send(s, response(first.want("INVITE"), 180, "first"))
		alice.want("SIP/2.0 180")
		first.send(s, response(first.want("CANCEL"), 200, "first"))
		alice.want("SIP/2.0 408")
		second.quiet(s)
	})
}

// P41: after a 6xx nothing more is tried, not the next address of a name either.
func TestP41DeclineTriesNothingMore(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, desk, busy, never := udpClient(t), udpClient(t), tcpServer(t), tcpServer(t)
		named := &processorpb.Target{Q: 1000, Uri: "sip:bob@" + fmt.Sprintf("%d.%d.test", port(t, busy), port(t, never)) + ";transport=tcp"}
		target := toTarget(desk).Targets[0]
		target.Q = 1000
		s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) { reply(r, target, named) }, nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		a, b := desk.want("INVITE"), busy.want("INVITE")
		desk.send(s, response(a, 603, "desk"))
		desk.want("ACK")
		busy.send(s, response(b, 503, "busy"))
		busy.want("ACK")
		alice.want("SIP/2.0 603")
		never.noConnection()
	})
}

// P54: a request that has arrived by TCP is not sent by UDP as well when the connection ends while the phone rings.
func TestP54ArrivedByTCP(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice := udpClient(t)
		udp, tcp := both(t)
		s := start(t, conn, bare(udp), nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bKinvite", body(3000)))
		alice.want("SIP/2.0 100")
		tcp.send(s, response(tcp.want("INVITE"), 180, "b"))
		alice.want("SIP/2.0 180")
		tcp.stream.Close()
		alice.want("SIP/2.0 500")
		udp.quiet(s)
	})
}

// P20 across EdgePorts: TLS or nothing, by the bus and by SIP.
func TestP20SipsAcrossEdgePorts(t *testing.T) {
	for _, peering := range []string{PeerByBus, PeerBySIP} {
		t.Run(peering, func(t *testing.T) {
			tr := newTrust(t)
			p := startPair(t, func(c *Config) {
				tr.configure(c)
				c.Spec.Peering = peering
			})
			alice, bob, plain := tr.client(p.a), tr.client(p.b), p.b.tcpClient()
			secure := p.bind(p.b, bob, "sips:bob@192.0.2.7")
			open := p.bind(p.b, plain, "sips:bob@192.0.2.8")
			p.sendTo(secure)
			alice.send(p.a, alice.request(p.a, "INVITE", "sips:bob@example.com", "z9hG4bK1"))
			alice.want("SIP/2.0 100")
			invite := bob.want("INVITE sips:bob@192.0.2.7")
			for _, rr := range values(invite, message.KindRecordRoute) {
				if !strings.HasPrefix(rr, "<sips:") {
					t.Errorf("Record-Route = %s, want sips", rr)
				}
			}
			bob.send(p.b, response(invite, 200, "b"))
			alice.want("SIP/2.0 200")

			byPath := proto.CloneOf(open)
			byPath.Uri, byPath.Path = "sip:bob@192.0.2.8", []string{"<sips:192.0.2.9;lr>"}
			for name, tt := range map[string]struct {
				uri    string
				target *processorpb.Target
			}{"contact": {"sips:bob@example.com", open}, "Path": {"sip:bob@example.com", byPath}} {
				p.sendTo(tt.target)
				alice.send(p.a, alice.request(p.a, "MESSAGE", tt.uri, "z9hG4bK"+name, "Call-ID: "+name))
				alice.want("SIP/2.0 480")
			}
			plain.quiet(p.b)
		})
	}
}

// P4: over the bus two EdgePorts are one hop, for an ACK too.
func TestP4LastHopAcrossEdgePorts(t *testing.T) {
	p := startPair(t, nil)
	alice, bob := udpClient(t), p.b.tcpClient()
	contact := "sip:bob@192.0.2.7;transport=tcp"
	p.sendTo(p.bind(p.b, bob, contact))
	alice.send(p.a, alice.request(p.a, "INVITE", "sip:bob@example.com", "z9hG4bK1", "Max-Forwards: 1"))
	alice.want("SIP/2.0 100")
	bob.send(p.b, response(bob.want("INVITE"), 200, "b", "Contact: <"+contact+">"))
	fields := append(routes(alice.want("SIP/2.0 200"), true), "To: <sip:bob@example.com>;tag=b", "Max-Forwards: 1")
	alice.send(p.a, alice.request(p.a, "ACK", contact, "z9hG4bK2", fields...))
	if ack := bob.want("ACK"); header(ack, "Max-Forwards") != "0" {
		t.Errorf("Max-Forwards = %s, want 0", header(ack, "Max-Forwards"))
	}
}
