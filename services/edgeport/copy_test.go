package edgeport

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// P4: Max-Forwards is 70 if there was none, else one less, down to 0. (For 0 see TestRefused.)
func TestP4MaxForwards(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		for in, want := range map[string]string{"": "70", "255": "254", "70": "69", "007": "6", "1": "0"} {
			text := alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK"+in, "Max-Forwards: "+in, "Call-ID: "+in+"x")
			if in == "" {
				text = strings.Replace(text, "Max-Forwards: \r\n", "", 1)
			}
			alice.send(s, text)
			m := bob.want("MESSAGE")
			if got := header(m, "Max-Forwards"); got != want {
				t.Errorf("Max-Forwards of %q is %q behind us, want %q", in, got, want)
			}
			bob.send(s, response(m, 200, "b"))
			alice.want("SIP/2.0 200")
		}
	})
}

// P5: what is no number below 256 is refused, and wraps nowhere.
func TestP5BadMaxForwards(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice := udpClient(t)
		s := start(t, conn, nil, nil)
		for i, in := range []string{"256", "65536", "4294967297", "99999999999999999999", "-1", "1.5", "many", "1 1"} {
			alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", fmt.Sprint("z9hG4bK", i), "Max-Forwards: "+in))
			if m := alice.next(); m.Status() != 400 {
				t.Errorf("Max-Forwards: %s = %d, want 400", in, m.Status())
			}
		}
		if n := s.edge.proxy.Counts().Dispatched.Load(); n != 0 {
			t.Errorf("dispatched %d requests, want none", n)
		}
	})
}

// P10: Routes that name us are taken off, however many there are, and by whichever of our addresses.
func TestP10OwnRoutes(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1",
			"Route: <sip:"+s.udp+";lr>, \"us\" <sip:"+s.tcp+";transport=tcp;lr>;x=1", "Route: <sip:"+s.udp+";lr>"))
		alice.want("SIP/2.0 100")
		if m := bob.want("INVITE"); m.Count(message.KindRoute) != 0 {
			t.Errorf("Route = %q, want none", values(m, message.KindRoute))
		}
	})
}

// P16, RFC 3261 16.6 step 1: a copy has every header and the body as they came, but for what the proxy has to change.
func TestP16Copy(t *testing.T) {
	var odd []string
	for i := range 30 {
		odd = append(odd, fmt.Sprintf("X-Odd-%d : value, %d;p=\"a,b\"", i%7, i))
	}
	odd = append(odd,
		"Record-Route: <sip:192.0.2.1;lr>;x=1 ,<sip:192.0.2.2;lr;y>",
		"r: \"Carol\" <sip:carol@example.org?Replaces=a%3Bto-tag%3Db>;header=param",
		"Subject:",
		"Accept: application/sdp ,\r\n\ttext/plain",
		"SUPPORTED: 100rel,  timer",
	)
	var binary []byte
	for i := range 256 {
		binary = append(binary, byte(i))
	}
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		sent := alice.request(s, "REFER", "sip:bob@example.com", "z9hG4bK1", append(odd, "\r\n"+string(binary))...)
		alice.send(s, sent)
		m := bob.want("REFER")
		if diff := cmp.Diff(binary, m.Body()); diff != "" {
			t.Errorf("the body differs (-want +got):\n%s", diff)
		}
		// The lines without the start line, and without those that a copy has of its own (see P4, P18, P22, P25).
		lines := func(text string) (lines []string) {
			head, _, _ := strings.Cut(text, "\r\n\r\n")
			for _, line := range strings.Split(head, "\r\n")[1:] {
				name, _, _ := strings.Cut(line, ":")
				own := strings.HasPrefix(line, "Record-Route: ") && strings.HasSuffix(line, "@"+s.udp+";lr>")
				if !own && name != "Via" && name != "Max-Forwards" && name != "Max-Breadth" {
					lines = append(lines, line)
				}
			}
			return lines
		}
		if diff := cmp.Diff(lines(sent), lines(string(m.Bytes()))); diff != "" {
			t.Errorf("the headers differ (-want +got):\n%s", diff)
		}
	})
}

// P17, RFC 3261 16.6 step 2 and 19.1.1: the Request-URI of the copy is that of the target, without what may not be there.
func TestP17RequestURI(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		at := "@" + bob.addr()
		uris := make(chan string, 1)
		s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) { reply(r, &processorpb.Target{Uri: <-uris}) }, nil)
		for name, tt := range map[string]struct{ in, want string }{
			"as it is":       {"sip:bob" + at + ";x=%41;y;ob", "sip:bob" + at + ";x=%41;y;ob"},
			"headers":        {"sip:bob" + at + "?Subject=a%20b&X=?", "sip:bob" + at},
			"method":         {"sip:bob" + at + ";a;method=REGISTER;b=1?X=1", "sip:bob" + at + ";a;b=1"},
			"METHOD":         {"sip:bob" + at + ";METHOD=BYE", "sip:bob" + at},
			"in the user":    {"sip:b?o;method=x" + at + ";a?X=1", "sip:b?o;method=x" + at + ";a"},
			"a longer name":  {"sip:bob" + at + ";methods=INVITE", "sip:bob" + at + ";methods=INVITE"},
			"nothing is odd": {"sip:" + bob.addr(), "sip:" + bob.addr()},
		} {
			uris <- tt.in
			id := strings.ReplaceAll(name, " ", "-")
			alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK"+id, "Call-ID: "+id))
			m := bob.want("MESSAGE")
			if got := string(m.RequestURI()); got != tt.want {
				t.Errorf("%s: Request-URI = %s, want %s", name, got, tt.want)
			}
			bob.send(s, response(m, 200, "b"))
			alice.want("SIP/2.0 200")
		}
	})
}

// P18: a Record-Route goes before those that are there, and only into what may begin a dialog.
func TestP18RecordRoute(t *testing.T) {
	const others = "<sip:192.0.2.1;lr>"
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		for method, recorded := range map[string]bool{
			"INVITE": true, "SUBSCRIBE": true, "REFER": true, "NOTIFY": true,
			"MESSAGE": false, "PUBLISH": false, "INFO": false, "OPTIONS": false, "REGISTER": false,
		} {
			alice.send(s, alice.request(s, method, "sip:bob@example.com", "z9hG4bK"+method, "Call-ID: "+method, "Record-Route: "+others))
			if method == "INVITE" {
				alice.want("SIP/2.0 100")
			}
			m := bob.want(method)
			rr := values(m, message.KindRecordRoute)
			ours := len(rr) == 2 && strings.HasPrefix(rr[0], "<sip:") && strings.HasSuffix(rr[0], "@"+s.udp+";lr>") && rr[1] == others
			if recorded && !ours || !recorded && !slices.Equal(rr, []string{others}) {
				t.Errorf("%s has Record-Route %q, want ours on top: %v", method, rr, recorded)
			}
			bob.send(s, response(m, 404, "b"))
			if method == "INVITE" {
				bob.want("ACK")
			}
			m = alice.want("SIP/2.0 404")
			if method == "INVITE" {
				alice.send(s, alice.request(s, "ACK", "sip:bob@example.com", "z9hG4bK"+method, "Call-ID: "+method, "To: <sip:bob@example.com>;tag="+string(m.ToTag())))
			}
		}
	})
}

// P21: the Record-Routes of a response are not touched, as two of ours are in where the sides differ (RFC 5658).
func TestP21RecordRouteOfResponse(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		bob := udpClient(t)
		s := start(t, conn, to(bob), nil)
		alice := s.tcpClient()
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1", "Record-Route: <sip:192.0.2.1;lr>;x=1"))
		alice.want("SIP/2.0 100")
		invite := bob.want("INVITE")
		bob.send(s, response(invite, 200, "b"))
		want := values(invite, message.KindRecordRoute)
		if got := values(alice.want("SIP/2.0 200"), message.KindRecordRoute); len(got) != 3 || !slices.Equal(got, want) {
			t.Errorf("Record-Route = %q, want the three that bob got, %q", got, want)
		}
	})
}

// P22: the top Via of each copy has a branch of its own, where we are, and the transport it left by.
func TestP22Via(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		seen := map[string]bool{}
		alice, udp, tcp := udpClient(t), udpClient(t), tcpServer(t)
		s := start(t, conn, toAll([]*client{udp, tcp}), nil)
		for i := range 5 {
			alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", fmt.Sprint("z9hG4bK", i)))
			for protocol, c := range map[string]*client{"UDP": udp, "TCP": tcp} {
				m := c.want("MESSAGE")
				via := m.TopVia()
				branch, at := string(via.Branch), map[string]string{"UDP": s.udp, "TCP": s.tcp}[protocol]
				if !strings.HasPrefix(branch, "z9hG4bK") || seen[branch] || string(via.Transport) != protocol || string(via.SentBy()) != at {
					t.Errorf("Via = %s, want %s, %s and a branch not seen before", via.Text, protocol, at)
				}
				seen[branch] = true
				c.send(s, response(m, 404, "b"))
			}
			alice.want("SIP/2.0 404")
		}
	})
}

// P23, P24, P25: what a Via says of its sender is what we know, not what the sender wrote, and responses go there.
func TestP23P24P25Received(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, victim, bob := udpClient(t), udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		port := func(c *client) string {
			_, port, _ := strings.Cut(c.addr(), ":")
			return port
		}
		for name, tt := range map[string]struct{ in, want string }{
			"P23 another host, no rport": {"192.0.2.9:" + port(alice), "192.0.2.9:" + port(alice) + ";received=127.0.0.1"},
			"P23 a name":                 {"pc33.example.com:" + port(alice), "pc33.example.com:" + port(alice) + ";received=127.0.0.1"},
			"P23 itself":                 {alice.addr(), alice.addr()},
			"P24 rport":                  {"192.0.2.9:9;rport", "192.0.2.9:9;received=127.0.0.1;rport=" + port(alice)},
			"P24 itself":                 {alice.addr() + ";rport", alice.addr() + ";received=127.0.0.1;rport=" + port(alice)},
			"P25 rport with a value":     {"192.0.2.9:9;rport=" + port(victim), "192.0.2.9:9;received=127.0.0.1;rport=" + port(alice)},
			"P25 received":               {alice.addr() + ";received=192.0.2.66", alice.addr()},
			"P25 both":                   {"192.0.2.9:9;received=127.0.0.9;rport=" + port(victim), "192.0.2.9:9;received=127.0.0.1;rport=" + port(alice)},
			"P27 maddr":                  {alice.addr() + ";maddr=127.0.0.9", alice.addr() + ";maddr=127.0.0.9"},
		} {
			branch := "z9hG4bK" + strings.NewReplacer(" ", "", ",", "").Replace(name)
			alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "", "Call-ID: "+branch, "Via: SIP/2.0/UDP "+tt.in+";branch="+branch))
			m := bob.want("MESSAGE")
			got := strings.Split(values(m, message.KindVia)[1], ";")
			want := strings.Split("SIP/2.0/UDP "+tt.want+";branch="+branch, ";")
			slices.Sort(got[1:])
			slices.Sort(want[1:])
			if !slices.Equal(got, want) {
				t.Errorf("%s: Via = %q, want %q", name, got, want)
			}
			bob.send(s, response(m, 200, "b"))
			if v := string(alice.want("SIP/2.0 200").TopVia().Branch); v != branch {
				t.Errorf("%s: response for %s, want %s", name, v, branch)
			}
		}
		victim.quiet(s)
	})
}

// P45: a redirection is the caller's to follow. The proxy has no policy that would let a callee choose whom the caller
// pays for, so it passes on what came, when nobody else has answered.
func TestP45Redirection(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		elsewhere := udpClient(t)
		contacts := []string{"<sip:bob@" + elsewhere.addr() + ">;q=0.5", "<tel:+15551234>"}
		redirect := func(m *message.Message, tag string) string {
			return response(m, 302, tag, "Contact: "+contacts[0], "Contact: "+contacts[1])
		}
		t.Run("alone", func(t *testing.T) {
			bob := udpClient(t)
			s, alice := fork(t, conn, []*client{bob})
			bob.send(s, redirect(bob.want("INVITE"), "b"))
			bob.want("ACK")
			m := alice.want("SIP/2.0 302")
			if got := values(m, message.KindContact); !slices.Equal(got, contacts) || string(m.ToTag()) != "b" {
				t.Errorf("302 has Contact %q and tag %s, want %q and b", got, m.ToTag(), contacts)
			}
			elsewhere.quiet(s)
		})
		t.Run("an answer is better", func(t *testing.T) {
			desk, mobile := udpClient(t), udpClient(t)
			s, alice := fork(t, conn, []*client{desk, mobile})
			desk.send(s, redirect(desk.want("INVITE"), "desk"))
			desk.want("ACK")
			mobile.send(s, response(mobile.want("INVITE"), 200, "mobile"))
			alice.want("SIP/2.0 200")
			elsewhere.quiet(s)
		})
		t.Run("the next target is tried first", func(t *testing.T) {
			desk, mobile := udpClient(t), udpClient(t)
			s, alice := fork(t, conn, []*client{desk, mobile}, 1000, 500)
			desk.send(s, redirect(desk.want("INVITE"), "desk"))
			desk.want("ACK")
			mobile.send(s, response(mobile.want("INVITE"), 486, "mobile"))
			mobile.want("ACK")
			alice.want("SIP/2.0 302")
			elsewhere.quiet(s)
		})
	})
}

// P57: a request of a dialog without a Route of ours is dispatched. It goes where the Request-URI leads, if a processor
// says so, else the answer is 481 or 404; nothing is added that would pretend that we are in the dialog.
func TestP57InDialogWithoutRoute(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for name, want := range map[string]string{"481": "SIP/2.0 481", "404": "SIP/2.0 404", "by Request-URI": "SIP/2.0 200"} {
			t.Run(name, func(t *testing.T) {
				alice, bob := udpClient(t), udpClient(t)
				tags := make(chan string, 1)
				s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
					tags <- req.Message.GetTo().GetTag()
					switch name {
					case "481":
						r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{
							MessageType: &sipmessagepb.SIPMessage_ResponseType{ResponseType: sipmessagepb.TypeOf(481)}, StatusCode: 481,
						}})})
					case "404":
						r.Fail(bus.Errorf(bus.NotFound, "as the test wants it"))
					default:
						reply(r, &processorpb.Target{Uri: req.Message.GetRequestUri().GetRaw()})
					}
				}, nil)
				alice.send(s, alice.request(s, "BYE", "sip:bob@"+bob.addr(), "z9hG4bKbye", "To: <sip:bob@example.com>;tag=b"))
				if name == "by Request-URI" {
					m := bob.want("BYE sip:bob@" + bob.addr())
					if rr := values(m, message.KindRecordRoute); len(rr) != 0 {
						t.Errorf("Record-Route = %q, want none", rr)
					}
					bob.send(s, response(m, 200, ""))
				}
				alice.want(want)
				if got := <-tags; got != "b" {
					t.Errorf("dispatched with To tag %q, want b", got)
				}
				bob.quiet(s)
			})
		}
	})
}
