package edgeport

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gobwas/ws"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// notFound is the decision to answer 404.
func notFound(r *bus.Request, _ *processorpb.MessageRequest) {
	r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{
		MessageType: &sipmessagepb.SIPMessage_ResponseType{ResponseType: sipmessagepb.ResponseType_NOT_FOUND},
	}})})
}

// point is where s listens with a transport, for the first time.
func (s *system) point(transport string) string {
	s.t.Helper()
	for _, p := range s.edge.Points() {
		if name, addr, _ := strings.Cut(p, ":"); name == transport {
			return addr
		}
	}
	s.t.Fatalf("the EdgePort listens on %q, want %s among them", s.edge.Points(), transport)
	return ""
}

// at is s for clients that know it by another UDP address.
func (s *system) at(udp string) *system {
	other := *s
	other.udp = udp
	return &other
}

// client over a transport of s.
func (s *system) client(transport string) *client {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	anyone := &tls.Config{InsecureSkipVerify: true}
	var conn net.Conn
	var err error
	switch transport {
	case "udp":
		return udpClient(s.t)
	case "tcp":
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", s.point("tcp"))
	case "tls":
		conn, err = (&tls.Dialer{Config: anyone}).DialContext(ctx, "tcp", s.point("tls"))
	default:
		conn, _, _, err = ws.Dialer{Protocols: []string{"sip"}, TLSConfig: anyone}.Dial(ctx, transport+"://"+s.point(transport))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	if transport == "ws" || transport == "wss" {
		conn = socket{conn}
	}
	return &client{t: s.t, stream: conn}
}

// Who is told which address, in Via and Record-Route: the local networks that of the socket, or what they are
// configured with; all others the external one that they can reach. The rest of the dialog finds its way by it. The
// peer comes by way of a load balancer, which says where it is.
func TestAdvertisedAddress(t *testing.T) {
	private := []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"}
	const socket = "127.0.0.1"
	tests := []struct {
		name             string
		external, locals []string
		peer             string
		want             string
	}{
		{"nothing configured", nil, nil, "203.0.113.9", socket},
		{"external address, peer in the internet", []string{"198.51.100.7"}, private, "203.0.113.9", "198.51.100.7"},
		{"RFC 1918, 10/8", []string{"198.51.100.7"}, private, "10.255.0.1", socket},
		{"RFC 1918, 172.16/12", []string{"198.51.100.7"}, private, "172.31.255.254", socket},
		{"RFC 1918, 192.168/16", []string{"198.51.100.7"}, private, "192.168.7.7", socket},
		{"behind the end of 172.16/12", []string{"198.51.100.7"}, private, "172.32.0.1", "198.51.100.7"},
		{"no localnets, private peer", []string{"198.51.100.7"}, nil, "192.168.7.7", "198.51.100.7"},
		{"local network with an address of ours", []string{"198.51.100.7"}, []string{"172.17.0.2/16"}, "172.17.5.5", "172.17.0.2"},
		{"the same without an external address", nil, []string{"172.17.0.2/16"}, "172.17.5.5", "172.17.0.2"},
		{"the first network that has it", []string{"198.51.100.7"}, []string{"10.1.0.2/16", "10.0.0.2/8"}, "10.1.1.1", "10.1.0.2"},
		{"the second one", []string{"198.51.100.7"}, []string{"10.1.0.2/16", "10.0.0.2/8"}, "10.2.1.1", "10.0.0.2"},
		{"one local peer", []string{"198.51.100.7"}, []string{"203.0.113.9"}, "203.0.113.9", socket},
		{"this machine", []string{"198.51.100.7"}, []string{"10.0.0.0/8"}, "127.0.0.9", socket},
		{"a name", []string{"edge.example.com", "198.51.100.7"}, private, "203.0.113.9", "edge.example.com"},
		{"several addresses", []string{"198.51.100.7", "198.51.100.8"}, private, "203.0.113.9", "198.51.100.7"},
		{"both families, peer over IPv4", []string{"2001:db8::7", "198.51.100.7"}, private, "203.0.113.9", "198.51.100.7"},
		{"both families, peer over IPv6", []string{"198.51.100.7", "2001:DB8:0:0::7"}, private, "2001:db8::9", "[2001:db8::7]"},
		{"no external address of its family", []string{"198.51.100.7"}, private, "2001:db8::9", socket},
		{"local IPv6 network", []string{"2001:db8::7"}, []string{"fd00::5/8"}, "fd12::9", "[fd00::5]"},
	}
	conn := bustest.Local(t)
	var flow atomic.Value // of bob
	serve(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
		if req.Method == processorpb.Method_REGISTER {
			flow.Store(req.Flow)
			notFound(r, req)
			return
		}
		r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: "sip:bob@bob.invalid", Flow: flow.Load().(string)}}})})
	})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, conn, nil, func(cfg *Config) {
				cfg.Spec.ExternalAddrs, cfg.Spec.Localnets = tt.external, tt.locals
				cfg.Spec.Transport[1].ProxyProtocol.From = []string{"127.0.0.1"}
			})
			alice, bob := udpClient(t), s.tcpClient()
			family := " TCP4 "
			if strings.Contains(tt.peer, ":") {
				family = " TCP6 "
			}
			bob.send(s, "PROXY"+family+tt.peer+" "+tt.peer+" 40000 5060\r\n")
			bob.send(s, bob.request(s, "REGISTER", "sip:example.com", "z9hG4bKr"))
			bob.want("SIP/2.0 404")

			alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bKi"))
			alice.want("SIP/2.0 100")
			invite := bob.want("INVITE")
			_, port, _ := net.SplitHostPort(s.tcp)
			want := tt.want + ":" + port
			if via := values(invite, message.KindVia)[0]; !strings.HasPrefix(via, "SIP/2.0/TCP "+want+";") {
				t.Errorf("Via = %s, want %s", via, want)
			}
			rr := values(invite, message.KindRecordRoute)
			if len(rr) != 2 || !strings.Contains(rr[0], "@"+want+";transport=tcp;lr>") || !strings.Contains(rr[1], "@"+s.udp+";lr>") {
				t.Fatalf("Record-Route = %q, want %s and %s", rr, want, s.udp)
			}
			bob.send(s, response(invite, 200, "b"))
			alice.want("SIP/2.0 200")
			alice.send(s, alice.request(s, "ACK", "sip:bob@bob.invalid", "z9hG4bKa", "Route: "+rr[1]+", "+rr[0], "To: <sip:bob@example.com>;tag=b"))
			if ack := bob.want("ACK"); ack.Count(message.KindRoute) != 0 {
				t.Errorf("ACK has Route %q, want none: both are ours", values(ack, message.KindRoute))
			}
			bob.send(s, bob.request(s, "BYE", "sip:alice@"+alice.addr(), "z9hG4bKb", "Route: "+rr[0]+", "+rr[1],
				"From: <sip:bob@example.com>;tag=b", "To: <sip:alice@example.com>;tag=alice-tag"))
			if bye := alice.want("BYE"); bye.Count(message.KindRoute) != 0 {
				t.Errorf("BYE has Route %q, want none: both are ours", values(bye, message.KindRoute))
			}
		})
	}
}

// An EdgePort on several addresses and ports, IPv4 and IPv6: each client deals with the one that it has sent to, and a
// call between two of them has a Record-Route of both.
func TestSeveralInterfaces(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		callees := map[string]*client{"four": udpOn(t, "127.0.0.12"), "six": udpOn(t, "::1")}
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			to(callees[req.Message.GetRequestUri().GetUser()])(r, req)
		}, func(cfg *Config) {
			cfg.Spec.Transport = []Transport{{Protocol: "udp", BindAddr: "127.0.0.2"}, {Protocol: "udp", BindAddr: "127.0.0.3"}, {Protocol: "udp", BindAddr: "::1"}}
			cfg.Spec.ExternalAddrs = []string{"198.51.100.7"}
		})
		var points []string
		for _, p := range s.edge.Points() {
			points = append(points, strings.TrimPrefix(p, "udp:"))
		}
		for i, near := range points {
			for name, callee := range callees {
				s := s.at(near)
				caller := udpOn(t, "127.0.0.11")
				if strings.HasPrefix(near, "[") {
					caller = udpOn(t, "::1")
				}
				far := points[0] // the first of its family
				if name == "six" {
					far = points[2]
				}
				id := "Call-ID: " + name + near
				caller.send(s, caller.request(s, "INVITE", "sip:"+name+"@example.com", "z9hG4bKi", id))
				caller.want("SIP/2.0 100")
				if got := caller.server.String(); got != near {
					t.Errorf("%s to %s: answered from %s", near, name, got)
				}
				invite := callee.want("INVITE")
				if via := values(invite, message.KindVia)[0]; !strings.HasPrefix(via, "SIP/2.0/UDP "+far+";") {
					t.Errorf("%s to %s: Via = %s, want %s", near, name, via, far)
				}
				want := []string{far, near}
				if i == 0 && name == "four" || i == 2 && name == "six" {
					want = want[1:] // both sides on one
				}
				rr := values(invite, message.KindRecordRoute)
				if len(rr) != len(want) {
					t.Fatalf("%s to %s: Record-Route = %q, want %q", near, name, rr, want)
				}
				routes := make([]string, len(rr)) // as the caller has them
				for j, route := range rr {
					if !strings.HasSuffix(route, "@"+want[j]+";lr>") {
						t.Errorf("%s to %s: Record-Route = %q, want %q", near, name, rr, want)
					}
					routes[len(rr)-1-j] = route
				}
				callee.send(s.at(far), response(invite, 200, "b", "Contact: <sip:b@"+callee.addr()+">"))
				caller.want("SIP/2.0 200")
				toCallee := []string{id, "Route: " + strings.Join(routes, ", "), "To: <sip:bob@example.com>;tag=b"}
				caller.send(s, caller.request(s, "ACK", "sip:b@"+callee.addr(), "z9hG4bKa", toCallee...))
				callee.want("ACK")
				callee.send(s.at(far), callee.request(s, "BYE", "sip:alice@"+caller.addr(), fmt.Sprint("z9hG4bKb", i), id, "Route: "+strings.Join(rr, ", "),
					"From: <sip:bob@example.com>;tag=b", "To: <sip:alice@example.com>;tag=alice-tag"))
				bye := caller.want("BYE")
				if n := bye.Count(message.KindRoute); n != 0 {
					t.Errorf("%s to %s: BYE has %d Routes, want none", near, name, n)
				}
				caller.send(s, response(bye, 200, ""))
				callee.want("SIP/2.0 200")
			}
		}
	})
}

// udpOn is a client on an address of its own.
func udpOn(t *testing.T, addr string) *client {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(addr)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{t: t, udp: conn}
}

// OPTIONS to the server: by any of its addresses and names, and to the domain of a phone, which keeps the way through
// its NAT open so. None of them is worth a decision; OPTIONS to someone else is.
func TestOptions(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		var asked atomic.Int64
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			asked.Add(1)
			notFound(r, req)
		}, func(cfg *Config) {
			cfg.Spec.ExternalAddrs = []string{"198.51.100.7", "edge.example.com", "2001:db8::7"}
			cfg.Spec.Localnets = []string{"10.0.0.5/8"}
			cfg.Spec.Transport = append(cfg.Spec.Transport, Transport{Protocol: "udp", BindAddr: "127.0.0.2"})
		})
		_, port, _ := net.SplitHostPort(s.udp)
		second := strings.TrimPrefix(s.edge.Points()[2], "udp:")
		tests := []struct {
			name, uri string
			fields    []string
			ours      bool
		}{
			{"the address that it came to", "sip:" + s.udp, nil, true},
			{"another listening point", "sip:" + second, nil, true},
			{"TCP listening point", "sip:" + s.tcp + ";transport=tcp", nil, true},
			{"external address", "sip:198.51.100.7:" + port, nil, true},
			{"external IPv6 address, spelt in another way", "sip:[2001:DB8:0::7]:" + port, nil, true},
			{"external name", "sip:EDGE.example.com:" + port, nil, true},
			{"external name, found by SRV", "sip:edge.example.com", nil, true},
			{"our address in a local network", "sip:10.0.0.5:" + port, nil, true},
			{"used up Max-Forwards", "sip:" + s.udp, []string{"Max-Forwards: 0"}, true},
			{"domain", "sip:example.com", nil, true},
			{"domain, by way of us as outbound proxy", "sip:example.com", []string{"Route: <sip:" + s.udp + ";lr>"}, true},
			{"domain, by way of our name, found by SRV", "sip:example.com", []string{"Route: <sip:edge.example.com;lr>"}, true},
			{"domain, by way of another proxy", "sip:example.com", []string{"Route: <sip:192.0.2.1;lr>"}, false},
			{"user", "sip:bob@example.com", nil, false},
			{"user at our address", "sip:bob@" + s.udp, nil, false},
			{"another server", "sip:192.0.2.1", nil, false},
			{"our external address at a port of someone else", "sip:198.51.100.7:9", nil, false},
			{"within a dialog", "sip:example.com", []string{"To: <sip:bob@example.com>;tag=b"}, false},
			{"telephone number", "tel:+15551234", nil, false},
		}
		alice := udpClient(t)
		for i, tt := range tests {
			before := asked.Load()
			alice.send(s, alice.request(s, "OPTIONS", tt.uri, "z9hG4bK"+string(rune('a'+i)), tt.fields...))
			m := alice.next()
			if dispatched := asked.Load() != before; dispatched == tt.ours || (m.Status() == 200) != tt.ours {
				t.Errorf("%s: OPTIONS %s = %d, dispatched: %v, want 200 and not dispatched: %v", tt.name, tt.uri, m.Status(), dispatched, tt.ours)
			}
			if !tt.ours {
				continue
			}
			for name, want := range map[string]string{
				"Allow": strings.Join(Default().Spec.Methods, ", "), "Accept": "application/sdp", "Supported": "path, outbound",
			} {
				if got := header(m, name); got != want {
					t.Errorf("%s: %s = %q, want %q", tt.name, name, got, want)
				}
			}
		}
	})
}

// spec.methods and spec.unknownMethodAction, over each transport.
func TestMethodsOverEachTransport(t *testing.T) {
	conn := bustest.Local(t)
	serve(t, conn, notFound)
	for _, action := range []string{Respond, Discard} {
		s := start(t, conn, nil, func(cfg *Config) {
			cfg.Spec.Methods = []string{"INVITE", "OPTIONS"}
			cfg.Spec.UnknownMethodAction = action
			for _, p := range []string{"tls", "ws", "wss"} {
				cfg.Spec.Transport = append(cfg.Spec.Transport, Transport{Protocol: p})
			}
		})
		for _, transport := range []string{"udp", "tcp", "tls", "ws", "wss"} {
			c := s.client(transport)
			via := "Via: SIP/2.0/" + strings.ToUpper(transport) + " client.invalid;rport;branch=z9hG4bK"
			c.send(s, c.request(s, "MESSAGE", "sip:bob@example.com", "", via+"message"))
			if action == Respond {
				if m := c.want("SIP/2.0 405"); header(m, "Allow") != "INVITE, OPTIONS, ACK, BYE, CANCEL" {
					t.Errorf("%s: Allow = %q, want INVITE, OPTIONS and what belongs to them", transport, header(m, "Allow"))
				}
			}
			c.send(s, c.request(s, "OPTIONS", "sip:bob@example.com", "", via+"options")) // the next that it hears of
			if m := c.next(); m.CSeqMethod() != message.OPTIONS || m.Status() != 404 {
				t.Errorf("%s, %s: answer to what is taken\n%s\nwant 404", transport, action, m.Bytes())
			}
		}
		want := int64(0)
		if action == Discard {
			want = 5
		}
		if n := s.edge.proxy.Counts().Discarded.Load(); n != want {
			t.Errorf("%s: %d requests discarded, want %d", action, n, want)
		}
	}
}
