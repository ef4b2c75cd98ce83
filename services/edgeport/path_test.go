package edgeport

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/location"
)

// relayed is what a proxy makes of what it has received: with a Via of its own and without its Route, or, of a response,
// without its Via.
func (c *client) relayed(m *message.Message) string {
	c.t.Helper()
	own := message.KindVia
	var out message.Edit
	out.Reset(m)
	if m.IsRequest() {
		own = message.KindRoute
		out.InsertTop(message.KindVia, fmt.Appendf(nil, "SIP/2.0/UDP %s;branch=z9hG4bKhop%s", c.addr(), m.TopVia().Branch))
	}
	for v := range m.Values(own) {
		if !strings.Contains(string(v.Text), c.addr()) {
			c.t.Errorf("%v = %s on top, want the one of %s", own, v.Text, c.addr())
		}
		out.RemoveValue(v)
		break
	}
	return string(out.Append(nil))
}

// sendTo sends text to another client.
func (c *client) sendTo(other *client, text string) {
	c.t.Helper()
	if _, err := c.udp.WriteTo([]byte(text), other.udp.LocalAddr()); err != nil {
		c.t.Fatal(err)
	}
}

// P61, R21: a client behind an edge proxy is reached along the Path that this has put into its REGISTER, whatever the
// client's own address is, and even if the connection that the REGISTER came on has ended.
func TestP61Path(t *testing.T) {
	for _, stream := range []bool{false, true} {
		t.Run(map[bool]string{false: "udp", true: "tcp"}[stream], func(t *testing.T) {
			modes(t, func(t *testing.T, conn *bus.Conn) {
				s := registrar(t, conn, location.Cache{Provider: "memory"})
				alice, edge, core, bob := udpClient(t), udpClient(t), udpClient(t), udpClient(t)
				up := core // who hands the REGISTER to us
				if stream {
					up = s.tcpClient()
				}
				path := []string{"<sip:" + core.addr() + ";lr>", "<sip:flow-7@" + edge.addr() + ";lr;ob>"}
				const contact = `Contact: <sip:bob@192.168.0.5:5060>;+sip.instance="<urn:uuid:1>";reg-id=1`
				ok := up.register(s, "r1", contact, "Supported: path, outbound", "Path: "+path[0], "Path: "+path[1],
					"Via: SIP/2.0/UDP "+up.addr()+";branch=z9hG4bKr1\r\nVia: SIP/2.0/UDP 192.168.0.5;branch=z9hG4bKr0")
				if diff := cmp.Diff(path, values(ok, message.KindPath)); diff != "" {
					t.Errorf("R21: Path of the 200 (-want +got):\n%s", diff)
				}
				if got := header(ok, "Require") + header(ok, "Flow-Timer"); got != "outbound" {
					t.Errorf("Require and Flow-Timer = %q, want outbound and none, as the flow is the proxy's", got)
				}
				if stream {
					up.stream.Close()
				}

				s.call(alice, "c1")
				first := core.want("INVITE sip:bob@192.168.0.5:5060 SIP/2.0")
				if diff := cmp.Diff(path, values(first, message.KindRoute)); diff != "" {
					t.Errorf("Route of the INVITE (-want +got):\n%s", diff)
				}
				core.sendTo(edge, core.relayed(first))
				edge.sendTo(bob, edge.relayed(edge.want("INVITE")))
				at := bob.want("INVITE sip:bob@192.168.0.5:5060 SIP/2.0")
				if got := values(at, message.KindRoute); len(got) != 0 {
					t.Errorf("Route at bob = %q, want none", got)
				}
				bob.sendTo(edge, response(at, 200, "bob", "Contact: <sip:bob@192.168.0.5:5060>"))
				edge.sendTo(core, edge.relayed(edge.want("SIP/2.0 200")))
				core.send(s, core.relayed(core.await("SIP/2.0 200")))
				alice.want("SIP/2.0 200")
			})
		})
	}
}

// W12: a name below .invalid is nobody's: wherever it stands it is neither looked up nor dialed, and the answer comes at
// once.
func TestW12InvalidIsNeverResolved(t *testing.T) {
	const uri = "sip:bob@bob1.invalid"
	tests := []struct {
		name   string
		target *processorpb.Target
	}{
		{"contact", &processorpb.Target{Uri: uri}},
		{"contact with a port", &processorpb.Target{Uri: "sip:bob@bob1.INVALID:5060;transport=tcp"}},
		{"contact with a dot at the end", &processorpb.Target{Uri: "sip:bob@bob1.invalid."}},
		{"sips: contact", &processorpb.Target{Uri: "sips:bob@bob1.invalid"}},
		{"contact of a browser", &processorpb.Target{Uri: uri + ";transport=ws"}},
		{"a flow that is gone", &processorpb.Target{Uri: uri, Flow: "GONE"}},
		{"the top-level domain itself", &processorpb.Target{Uri: "sip:bob@invalid"}},
		{"Path", &processorpb.Target{Uri: "sip:bob@192.0.2.1", Path: []string{"<sip:edge.invalid;lr>"}}},
		{"next hop", &processorpb.Target{Uri: "sip:bob@192.0.2.1", NextHop: &processorpb.NetInterface{Host: "edge.invalid", Port: 5060}}},
		{"maddr", &processorpb.Target{Uri: "sip:bob@192.0.2.1;maddr=bob1.invalid"}},
	}
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				alice := udpClient(t)
				s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) {
					r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Targets: []*processorpb.Target{tt.target}})})
				}, nil)
				// W11: a Via of .invalid is where nobody is sent either.
				alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "", "Via: SIP/2.0/UDP alice1.invalid;rport;branch=z9hG4bK1"))
				alice.want("SIP/2.0 100")
				alice.want("SIP/2.0 480")
				if n := s.queries.Load(); n != 0 {
					t.Errorf("the name server was asked %d times, want never", n)
				}
			})
		}
	})
}

// RFC 5626 4.3: who has ;ob in the Contact gets the requests of the dialog on the flow of the INVITE, wherever they are
// addressed to.
func TestOutboundContactKeepsTheFlow(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1", "Contact: <sip:alice@"+alice.addr()+";ob>"))
		alice.want("SIP/2.0 100")
		invite := bob.want("INVITE")
		bob.send(s, response(invite, 200, "bob-tag", "Contact: <sip:bob@"+bob.addr()+">"))
		alice.want("SIP/2.0 200")
		bob.send(s, bob.request(s, "BYE", "sip:alice@192.0.2.1;ob", "z9hG4bK2", "Route: "+values(invite, message.KindRecordRoute)[0],
			"From: <sip:bob@example.com>;tag=bob-tag", "To: <sip:alice@example.com>;tag=alice-tag"))
		alice.want("BYE sip:alice@192.0.2.1;ob")
	})
}
