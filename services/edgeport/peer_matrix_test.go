package edgeport

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// across is two EdgePorts with the five transports, each with a connection of its own to one bus.
type across struct {
	peering string
	a, b    *exchange
	start   func(ref string) *exchange
}

// startAcross runs them. They trust each other's certificate, which is one and the same.
func startAcross(t *testing.T, peering string) *across {
	t.Helper()
	server := bustest.Server(t)
	d := serveDecisions(t, bustest.Dial(t, server, nil))
	tr := newTrust(t)
	start := func(ref string) *exchange {
		x := d.startExchange(t, bustest.Dial(t, server, nil), func(c *Config) {
			c.Ref, c.Spec.Peering, c.Spec.CAFile = ref, peering, tr.file
			for i := range c.Spec.Transport {
				if t := &c.Spec.Transport[i]; t.Protocol == "tls" || t.Protocol == "wss" {
					t.TLS = TransportTLS{CertFile: tr.file, KeyFile: tr.file}
				}
			}
		})
		x.roots = tr.tls.RootCAs
		return x
	}
	return &across{peering: peering, a: start("a"), b: start("b"), start: start}
}

// eachPeering runs f with both ways by which EdgePorts hand requests to each other.
func eachPeering(t *testing.T, f func(t *testing.T, x *across)) {
	t.Helper()
	for _, peering := range []string{PeerByBus, PeerBySIP} {
		t.Run(peering, func(t *testing.T) { f(t, startAcross(t, peering)) })
	}
}

// targetAt is where a processor sends what is for p, from another EdgePort than the one that it has registered at.
func (p *phone) targetAt() *processorpb.Target {
	t := p.target()
	t.Q, t.EdgePortRef = 1000, p.x.edge.cfg.Ref
	for _, point := range p.x.edge.Points() {
		name, addr, _ := strings.Cut(point, ":")
		at := &processorpb.NetInterface{Transport: commonpb.Transport(commonpb.Transport_value[strings.ToUpper(name)])}
		at.Host, at.Port = hostPort(addr)
		t.EdgePortAddrs = append(t.EdgePortAddrs, at)
	}
	return t
}

// wantRecorded checks which Record-Routes a call has, the callee's first: of each EdgePort one for every side of it that
// a phone, or by SIP the other EdgePort, has to reach; where both sides are one address it is one (RFC 5658).
func (x *across) wantRecorded(t *testing.T, route []string, caller, callee *phone) {
	t.Helper()
	at := func(e *exchange, transport string) string {
		suffix := "@" + e.point(transport)
		switch transport {
		case "udp":
		case "wss":
			suffix += ";transport=wss"
		default:
			suffix += ";transport=" + transport
		}
		return suffix + ";lr>"
	}
	want := []string{at(x.b, callee.transport), at(x.a, caller.transport)}
	if x.peering == PeerBySIP {
		want = slices.Compact([]string{at(x.b, callee.transport), at(x.b, "tcp"), at(x.a, "tcp"), at(x.a, caller.transport)})
	}
	if len(route) != len(want) {
		t.Fatalf("Record-Route = %q, want %d that end in %q", route, len(want), want)
	}
	for i := range want {
		if !strings.HasSuffix(route[i], want[i]) {
			t.Errorf("Record-Route %d = %s, want it to end in %s", i, route[i], want[i])
		}
	}
}

// P19 across EdgePorts, E1, W13: calls from each transport at one EdgePort to each at another one, with requests in both
// directions. Each side's first Route is an address of its own EdgePort, on its own transport.
func TestE1PeerMatrix(t *testing.T) {
	eachPeering(t, func(t *testing.T, x *across) {
		for _, from := range transports {
			for _, to := range transports {
				name := "E1 P19 "
				if to == "ws" || to == "wss" {
					name = "W13 " + name
				}
				t.Run(name+from+"->"+to, func(t *testing.T) {
					pair := from + "-" + to
					caller, callee := x.a.phone(t, from, "alice-"+pair), x.b.phone(t, to, "bob-"+pair)
					for i, hangsUp := range []string{"caller", "callee"} {
						a, b := establish(t, caller, callee, callee.targetAt(), fmt.Sprintf("%s-%d", pair, i))
						x.wantRecorded(t, b.route, caller, callee)
						a.reinvite(b)
						b.reinvite(a)
						if hangsUp == "callee" {
							a, b = b, a
						}
						a.send("BYE")
						b.answer(b.wantInDialog("BYE"))
						a.phone.want("SIP/2.0 200")
					}
				})
			}
		}
	})
}

// E1: a phone behind a NAT, or one that is known by its flow alone, is reached from the UDP socket that it registered at,
// whichever EdgePort its caller is at.
func TestE1PeerUDPFlow(t *testing.T) {
	eachPeering(t, func(t *testing.T, x *across) {
		caller, callee := x.a.phone(t, "udp", "alice"), x.b.phone(t, "udp", "bob")
		callee.register()
		target := callee.targetAt()
		target.Uri = "sip:bob@192.0.2.7:5060"
		x.a.decides("nat", func(r *bus.Request, _ *processorpb.MessageRequest) { reply(r, target) })
		a := &leg{phone: caller, callID: "nat", local: "<sip:alice@example.com>;tag=a", remote: "<sip:bob@example.com>", target: "sip:bob@example.com"}
		a.send("INVITE")
		caller.want("SIP/2.0 100")
		invite := callee.want("INVITE " + target.Uri)
		callee.client.send(x.b.system, response(invite, 200, "b", "Contact: <"+target.Uri+">"))
		ok := caller.want("SIP/2.0 200")
		if got := callee.server.String(); got != x.b.point("udp") {
			t.Errorf("the INVITE came from %s, want %s", got, x.b.point("udp"))
		}
		a.remote, a.target, a.route = a.remote+";tag=b", contactOf(t, ok), values(ok, message.KindRecordRoute)
		slices.Reverse(a.route)
		a.send("ACK")
		callee.want("ACK " + target.Uri)
		a.send("BYE")
		callee.client.send(x.b.system, response(callee.want("BYE "+target.Uri), 200, ""))
		caller.want("SIP/2.0 200")
	})
}

// E1: a MESSAGE of 100 kB goes from stream to stream, and arrives as it was.
func TestE1PeerLargeMessage(t *testing.T) {
	eachPeering(t, func(t *testing.T, x *across) {
		text := strings.Repeat("0123456789", 10_000)
		for _, pair := range [][2]string{{"tcp", "tls"}, {"tls", "tcp"}, {"tcp", "ws"}, {"ws", "tcp"}, {"wss", "tls"}} {
			t.Run(pair[0]+"->"+pair[1], func(t *testing.T) {
				id := "large-" + pair[0] + "-" + pair[1]
				caller, callee := x.a.phone(t, pair[0], "alice-"+id), x.b.phone(t, pair[1], "bob-"+id)
				target := callee.targetAt()
				x.a.decides(id, func(r *bus.Request, _ *processorpb.MessageRequest) { reply(r, target) })
				caller.send(x.a.system, caller.request(x.a.system, "MESSAGE", "sip:bob@example.com", "", caller.via(id), "Call-ID: "+id, "\r\n"+text))
				got := callee.want("MESSAGE " + callee.contact())
				if string(got.Body()) != text {
					t.Errorf("the body has %d bytes, want the %d that were sent", len(got.Body()), len(text))
				}
				answer := response(got, 200, "b")
				answer = strings.Replace(answer, "Content-Length: 0\r\n\r\n", fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(text), text), 1)
				callee.send(x.b.system, answer)
				if ok := caller.want("SIP/2.0 200"); string(ok.Body()) != text {
					t.Errorf("the body of the 200 has %d bytes, want the %d that were sent", len(ok.Body()), len(text))
				}
			})
		}
	})
}

// P20 across EdgePorts: a sips contact is reached by TLS at the other one, and by SIP the way there is TLS as well; what
// is bound there by UDP or TCP is not sent such a request.
func TestP20Peer(t *testing.T) {
	eachPeering(t, func(t *testing.T, x *across) {
		for _, to := range []string{"tls", "wss"} {
			t.Run("sips to "+to, func(t *testing.T) {
				id := "sips-" + to
				caller, callee := x.a.phone(t, "tls", "alice-"+id), x.b.phone(t, to, "bob-"+id)
				caller.secure, callee.secure = true, true
				a, b := establish(t, caller, callee, callee.targetAt(), id)
				for _, route := range b.route {
					if !strings.HasPrefix(route, "<sips:") {
						t.Errorf("Record-Route = %s, want a sips one", route)
					}
				}
				a.reinvite(b)
				b.send("BYE")
				a.answer(a.wantInDialog("BYE"))
				b.phone.want("SIP/2.0 200")
			})
		}
		for _, to := range []string{"udp", "tcp", "ws"} {
			t.Run("sips to "+to+" is refused", func(t *testing.T) {
				id := "no-sips-" + to
				caller, callee := x.a.phone(t, "tls", "alice-"+id), x.b.phone(t, to, "bob-"+id)
				if to == "udp" {
					callee.register()
				}
				target := callee.targetAt()
				target.Uri = "sips:" + strings.TrimPrefix(target.Uri, "sip:")
				x.a.decides(id, func(r *bus.Request, _ *processorpb.MessageRequest) { reply(r, target) })
				caller.send(x.a.system, caller.request(x.a.system, "INVITE", "sips:bob@example.com", "", caller.via(id), "Call-ID: "+id))
				caller.want("SIP/2.0 100")
				caller.want("SIP/2.0 480")
				probe := "probe-" + id // whose answer comes behind whatever was sent
				callee.send(x.b.system, callee.request(x.b.system, "OPTIONS", "sip:"+x.b.point(to), "", callee.via(probe), "Call-ID: "+probe))
				callee.want("SIP/2.0 200")
			})
		}
	})
}

// E1: what a phone sends back to back arrives in that order. 200 calls ring and are answered at once.
func TestE1PeerOrder(t *testing.T) {
	eachPeering(t, func(t *testing.T, x *across) {
		const calls = 200
		for _, transport := range []string{"tcp", "ws"} {
			t.Run(transport, func(t *testing.T) {
				caller, callee := x.a.phone(t, transport, "alice-order"), x.b.phone(t, transport, "bob-order")
				target := callee.targetAt()
				for i := range calls {
					id := fmt.Sprintf("order-%s-%d", transport, i)
					x.a.decides(id, func(r *bus.Request, _ *processorpb.MessageRequest) { reply(r, target) })
					caller.send(x.a.system, caller.request(x.a.system, "INVITE", "sip:bob@example.com", "", caller.via(id), "Call-ID: "+id))
				}
				for range calls {
					invite := callee.want("INVITE ")
					callee.send(x.b.system, response(invite, 180, "b"))
					callee.send(x.b.system, response(invite, 200, "b", "Contact: <"+callee.contact()+">"))
				}
				last := make(map[string]int)
				for range 3 * calls {
					m, _ := caller.next()
					id, status := string(m.CallID()), m.Status()
					if want := map[int]int{0: 100, 100: 180, 180: 200}[last[id]]; status != want {
						t.Fatalf("call %s: %d after %d, want %d", id, status, last[id], want)
					}
					last[id] = status
				}
			})
		}
	})
}

// An EdgePort that drains takes no new calls, those for its phones neither. To the other ones it is as if it were gone: a
// phone that has a second flow is reached by that (RFC 5626), and else it is not available. 500 would blame the server.
func TestE1PeerDrains(t *testing.T) {
	x := startAcross(t, PeerByBus)
	caller, callee := x.a.phone(t, "tcp", "alice"), x.b.phone(t, "tcp", "bob")
	second := x.a.phone(t, "ws", "bob2")
	gone := callee.targetAt()
	gone.Instance = "urn:uuid:1"
	instead := second.target()
	instead.Instance = "urn:uuid:1"
	talkA, talkB := establish(t, caller, callee, gone, "talk")
	if err := x.b.edge.drain(true); err != nil {
		t.Fatal(err)
	}
	invite := func(id string, targets ...*processorpb.Target) {
		x.a.decides(id, func(r *bus.Request, _ *processorpb.MessageRequest) { reply(r, targets...) })
		caller.send(x.a.system, caller.request(x.a.system, "INVITE", "sip:bob@example.com", "", caller.via(id), "Call-ID: "+id))
		caller.want("SIP/2.0 100")
	}
	invite("one-flow", gone)
	caller.want("SIP/2.0 480")
	invite("two-flows", gone, instead)
	second.send(x.a.system, response(second.want("INVITE "+second.contact()), 200, "b", "Contact: <"+second.contact()+">"))
	caller.want("SIP/2.0 200")
	talkA.reinvite(talkB) // what has begun goes on
	talkA.send("INVITE")  // and there a 503 is the phone's own
	caller.want("SIP/2.0 100")
	callee.send(x.b.system, response(talkB.wantInDialog("INVITE"), 503, ""))
	callee.want("ACK")
	caller.want("SIP/2.0 503")
	if err := x.b.edge.drain(false); err != nil {
		t.Fatal(err)
	}
	establish(t, caller, callee, gone, "again")
}

// An EdgePort that is started anew takes calls at once, though the others have not noticed that it was away.
func TestE1PeerRestarts(t *testing.T) {
	x := startAcross(t, PeerByBus)
	caller, callee := x.a.phone(t, "tcp", "alice"), x.b.phone(t, "udp", "bob")
	target := callee.targetAt()
	talk, _ := establish(t, caller, callee, target, "talk")
	ringing := "ringing"
	x.a.decides(ringing, func(r *bus.Request, _ *processorpb.MessageRequest) { reply(r, target) })
	caller.send(x.a.system, caller.request(x.a.system, "INVITE", "sip:bob@example.com", "", caller.via(ringing), "Call-ID: "+ringing))
	caller.want("SIP/2.0 100")
	callee.send(x.b.system, response(callee.want("INVITE"), 180, "b"))
	caller.want("SIP/2.0 180")
	x.b.stop()
	<-x.b.ended
	callee.x = x.start("b")

	// The one that rings is lost with the EdgePort that had it. What is sent now is not.
	a := &leg{phone: caller, callID: "new", local: "<sip:alice@example.com>;tag=a", remote: "<sip:bob@example.com>", target: "sip:bob@example.com"}
	x.a.decides(a.callID, func(r *bus.Request, _ *processorpb.MessageRequest) { reply(r, target) })
	a.send("INVITE")
	talk.send("BYE")
	for range 2 {
		m, _ := callee.next()
		callee.send(callee.x.system, response(m, 200, "b", "Contact: <"+callee.contact()+">"))
	}
	got := make(map[string]int) // the last status of each call
	for range 4 {
		m, _ := caller.next()
		got[string(m.CallID())] = m.Status()
	}
	if want := map[string]int{"talk": 200, "new": 200, ringing: 480}; !maps.Equal(got, want) {
		t.Errorf("the caller was answered %v, want %v", got, want)
	}
}
