package edgeport

import (
	"slices"
	"strings"
	"testing"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// call makes a call from alice to bob, and returns its Record-Routes as bob got them, the one of his side first.
func call(s *system, alice, bob *client) []string {
	s.t.Helper()
	alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bKcall"))
	alice.want("SIP/2.0 100")
	invite := bob.want("INVITE")
	bob.send(s, response(invite, 200, "b", "Contact: <sip:bob@"+bob.addr()+">"))
	return values(alice.want("SIP/2.0 200"), message.KindRecordRoute)
}

// P11, RFC 3261 16.4: a strict router before us puts our Record-Route value into the Request-URI, and where the request
// is to go into the last Route.
func TestP11StrictRouterBeforeUs(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, name := range []string{"one Record-Route", "two Record-Routes"} {
			t.Run(name, func(t *testing.T) {
				bob := udpClient(t)
				s := start(t, conn, to(bob), nil)
				alice := udpClient(t)
				if name == "two Record-Routes" {
					alice = s.tcpClient()
				}
				rr := call(s, alice, bob)
				slices.Reverse(rr) // as the caller sees them
				routes := append(rr[1:], "<sip:bob@"+bob.addr()+";line=1?X-Odd=1>")
				fields := []string{"Route: " + strings.Join(routes, ", "), "To: <sip:bob@example.com>;tag=b"}
				for _, method := range []string{"ACK", "BYE"} {
					alice.send(s, alice.request(s, method, uriOf(rr[0]), "z9hG4bK"+method, fields...))
					m := bob.want(method + " sip:bob@" + bob.addr() + ";line=1 SIP/2.0\r\n")
					if n := m.Count(message.KindRoute); n != 0 {
						t.Errorf("%s has Route %q, want none", method, values(m, message.KindRoute))
					}
				}
				if n := s.edge.proxy.Counts().Dispatched.Load(); n != 1 {
					t.Errorf("dispatched %d requests, want the INVITE alone", n)
				}
			})
		}
	})
}

// P11: a Request-URI of another call, or of nobody, is a Request-URI like any other.
func TestP11ForgedRequestURI(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob, victim := udpClient(t), udpClient(t), udpClient(t)
		asked := make(chan string, 10)
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			asked <- req.Message.GetRequestUri().GetUser()
			to(bob)(r, req)
		}, nil)
		rr := call(s, alice, bob)
		<-asked
		toTag := "To: <sip:bob@example.com>;tag=b"
		own := uriOf(rr[0])
		for name, tt := range map[string]struct {
			uri    string
			fields []string
		}{
			"of another call":  {own, []string{"Call-ID: another", "Route: <sip:victim@" + victim.addr() + ">", toTag}},
			"outside a dialog": {own, []string{"Route: <sip:victim@" + victim.addr() + ">"}},
			"one byte flipped": {strings.Replace(own, own[14:16], "--", 1), []string{"Route: <sip:victim@" + victim.addr() + ">", toTag}},
			"no Route":         {own, []string{toTag}},
		} {
			alice.send(s, alice.request(s, "MESSAGE", tt.uri, "z9hG4bK"+strings.ReplaceAll(name, " ", "-"), tt.fields...))
			m := bob.want("MESSAGE sip:bob@" + bob.addr())
			if got, want := <-asked, tt.uri[4:strings.IndexByte(tt.uri, '@')]; got != want {
				t.Errorf("%s: dispatched for user %s, want %s", name, got, want)
			}
			bob.send(s, response(m, 200, "b"))
			alice.want("SIP/2.0 200")
		}
		victim.quiet(s)
	})
}

// P12, RFC 3261 16.6 step 6: the next hop is a strict router, by a Route, a Path or the decision of a processor.
func TestP12StrictRouterBehindUs(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		t.Run("in a dialog", func(t *testing.T) {
			alice, bob, next := udpClient(t), udpClient(t), udpClient(t)
			s := start(t, conn, to(bob), nil)
			rr := call(s, alice, bob)
			alice.send(s, alice.request(s, "BYE", "sip:bob@"+bob.addr(), "z9hG4bKbye", "To: <sip:bob@example.com>;tag=b",
				"Route: "+rr[0], "X-Between: 1", "Route: <sip:strict@"+next.addr()+";x=1>, <sip:192.0.2.1;lr>"))
			m := next.want("BYE sip:strict@" + next.addr() + ";x=1 SIP/2.0\r\n")
			if got, want := values(m, message.KindRoute), []string{"<sip:192.0.2.1;lr>", "<sip:bob@" + bob.addr() + ">"}; !slices.Equal(got, want) {
				t.Errorf("Route = %q, want %q", got, want)
			}
		})
		t.Run("loose, in a dialog", func(t *testing.T) {
			alice, bob, next := udpClient(t), udpClient(t), udpClient(t)
			s := start(t, conn, to(bob), nil)
			rr := call(s, alice, bob)
			route := "<sip:" + next.addr() + ";LR=on>"
			alice.send(s, alice.request(s, "BYE", "sip:bob@"+bob.addr(), "z9hG4bKbye", "To: <sip:bob@example.com>;tag=b", "Route: "+rr[0]+", "+route))
			if got := values(next.want("BYE sip:bob@"+bob.addr()), message.KindRoute); !slices.Equal(got, []string{route}) {
				t.Errorf("Route = %q, want %q", got, route)
			}
		})
		t.Run("Path", func(t *testing.T) {
			alice, next := udpClient(t), udpClient(t)
			s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) {
				reply(r, &processorpb.Target{Uri: "sip:bob@192.0.2.1", Path: []string{"<sip:strict@" + next.addr() + ">", "<sip:192.0.2.2;lr>"}})
			}, nil)
			alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
			alice.want("SIP/2.0 100")
			start, route := " sip:strict@"+next.addr()+" SIP/2.0\r\n", []string{"<sip:192.0.2.2;lr>", "<sip:bob@192.0.2.1>"}
			invite := next.want("INVITE" + start)
			if got := values(invite, message.KindRoute); !slices.Equal(got, route) {
				t.Errorf("Route = %q, want %q", got, route)
			}
			next.send(s, response(invite, 180, "b"))
			alice.want("SIP/2.0 180")
			alice.send(s, alice.request(s, "CANCEL", "sip:bob@example.com", "z9hG4bK1"))
			alice.want("SIP/2.0 200")
			if got := values(next.want("CANCEL"+start), message.KindRoute); !slices.Equal(got, route) {
				t.Errorf("CANCEL has Route %q, want that of the INVITE, %q", got, route)
			}
			next.send(s, response(invite, 487, "b"))
			next.want("ACK" + start)
		})
		t.Run("Route of a processor", func(t *testing.T) {
			alice, next := udpClient(t), udpClient(t)
			s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
				uri := &sipmessagepb.SipURI{User: "strict"}
				uri.Host, uri.Port = hostPort(next.addr())
				r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{
					MessageType: &sipmessagepb.SIPMessage_RequestUri{RequestUri: req.Message.GetRequestUri()},
					Route:       []*sipmessagepb.Route{{Address: &sipmessagepb.Address{Uri: uri}}},
				}})})
			}, nil)
			alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1", "Route: <sip:"+s.udp+";lr>"))
			m := next.want("MESSAGE sip:strict@" + next.addr() + " SIP/2.0\r\n")
			if got := values(m, message.KindRoute); !slices.Equal(got, []string{"<sip:bob@example.com>"}) {
				t.Errorf("Route = %q, want the Request-URI", got)
			}
		})
	})
}

// P13, RFC 3261 16.4: what a client wrote into the Request-URI to send the request to us is taken out again.
func TestP13MaddrIsUs(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice := udpClient(t)
		asked := make(chan string, 1)
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			asked <- req.Message.GetRequestUri().GetRaw()
			r.Fail(bus.Errorf(bus.NotFound, "as the test wants it"))
		}, func(cfg *Config) { cfg.Spec.ExternalAddrs = []string{"sip.example.net"} })
		_, port, _ := strings.Cut(s.udp, ":")
		for name, tt := range map[string]struct{ in, want string }{
			"maddr and port":     {"sip:bob@example.com:" + port + ";maddr=127.0.0.1", "sip:bob@example.com"},
			"and transport":      {"sip:bob@example.com:" + port + ";x=1;Transport=UDP;MAddr=127.0.0.1;y", "sip:bob@example.com;x=1;y"},
			"by a name":          {"sip:bob@example.com:" + port + ";maddr=SIP.example.net", "sip:bob@example.com"},
			"IPv6 domain":        {"sip:bob@[2001:db8::1]:" + port + ";maddr=127.0.0.1", "sip:bob@[2001:db8::1]"},
			"another address":    {"sip:bob@example.com:" + port + ";maddr=192.0.2.1", ""},
			"another port":       {"sip:bob@example.com;maddr=127.0.0.1", ""},
			"another transport":  {"sip:bob@example.com:" + port + ";maddr=127.0.0.1;transport=tcp", ""},
			"unknown transport":  {"sip:bob@example.com:" + port + ";maddr=127.0.0.1;transport=foo", ""},
			"no maddr":           {"sip:bob@example.com:" + port + ";transport=udp", ""},
			"maddr in the user":  {"sip:bob;maddr=127.0.0.1@example.com:" + port, ""},
			"sips is not by UDP": {"sips:bob@example.com:" + port + ";maddr=127.0.0.1", ""},
		} {
			id := strings.ReplaceAll(name, " ", "-")
			alice.send(s, alice.request(s, "MESSAGE", tt.in, "z9hG4bK"+id, "Call-ID: "+id))
			if tt.want == "" {
				tt.want = tt.in
			}
			if got := <-asked; got != tt.want {
				t.Errorf("%s: dispatched %s as %s, want %s", name, tt.in, got, tt.want)
			}
			alice.want("SIP/2.0 404")
		}
	})
}

// uriOf is the URI of a Route value.
func uriOf(route string) string {
	_, uri, _ := strings.Cut(route, "<")
	uri, _, _ = strings.Cut(uri, ">")
	return uri
}
