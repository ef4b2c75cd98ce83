package edgeport

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// What the EdgePort answers by itself, without asking anyone.
func TestRefused(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			t.Errorf("dispatched %v, want it refused", req)
			r.Fail(bus.Errorf(bus.Internal, "not expected"))
		}, func(cfg *Config) { cfg.Spec.Methods = []string{"INVITE", "OPTIONS"} })
		tests := []struct {
			name, method, uri string
			fields            []string
			want              string
			header, value     string
		}{
			{"method that is not taken", "MESSAGE", "sip:bob@example.com", nil, "SIP/2.0 405 Method Not Allowed", "Allow", "INVITE, OPTIONS, ACK, BYE, CANCEL"},
			{"methods are case-sensitive", "invite", "sip:bob@example.com", nil, "SIP/2.0 405", "Allow", "INVITE, OPTIONS, ACK, BYE, CANCEL"},
			{"unknown scheme", "INVITE", "nobodyKnowsThisScheme:totallyopaquecontent", nil, "SIP/2.0 416", "", ""},
			{"P4: Max-Forwards is used up", "INVITE", "sip:bob@example.com", []string{"Max-Forwards: 0"}, "SIP/2.0 483", "", ""},
			{"P9: Proxy-Require", "INVITE", "sip:bob@example.com", []string{"Proxy-Require: foo, bar"}, "SIP/2.0 420", "Unsupported", "foo, bar"},
			{"OPTIONS to us", "OPTIONS", "sip:" + s.udp, []string{"Max-Forwards: 0"}, "SIP/2.0 200 OK", "Allow", "INVITE, OPTIONS, ACK, BYE, CANCEL"},
			{"P5: Max-Forwards is no number", "INVITE", "sip:bob@example.com", []string{"Max-Forwards: 300"}, "SIP/2.0 400", "", ""},
			{"other version", "INVITE", "sip:bob@example.com", nil, "SIP/2.0 505", "", ""},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				alice := udpClient(t)
				text := alice.request(s, tt.method, tt.uri, "z9hG4bK1", tt.fields...)
				if tt.name == "other version" {
					text = strings.Replace(text, " SIP/2.0\r\n", " SIP/7.0\r\n", 1)
				}
				alice.send(s, text)
				m := alice.next()
				if !strings.HasPrefix(string(m.Bytes()), tt.want) {
					t.Errorf("answer\n%s\nwant %s", m.Bytes(), tt.want)
				}
				if got := header(m, tt.header); tt.header != "" && got != tt.value {
					t.Errorf("%s = %q, want %q", tt.header, got, tt.value)
				}
				if len(m.ToTag()) == 0 {
					t.Error("P56: answer has no To tag")
				}
			})
		}
	})
}

// unknownMethodAction Discard: nothing is answered.
func TestDiscard(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		s := start(t, conn, nil, func(cfg *Config) {
			cfg.Spec.Methods = []string{"INVITE", "OPTIONS"}
			cfg.Spec.UnknownMethodAction = Discard
		})
		alice := udpClient(t)
		alice.send(s, alice.request(s, "FOO", "sip:bob@example.com", "z9hG4bK1"))
		alice.quiet(s)
	})
}

// P3: an extension method with dots and stars in it is a method like any other, and reaches the bus as it is.
func TestP3ExtensionMethod(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		const method = "!interesting-Method0123456789_*+`.%indeed'~"
		alice, bob := udpClient(t), udpClient(t)
		names := make(chan string, 1)
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			names <- req.MethodName
			to(bob)(r, req)
		}, func(cfg *Config) { cfg.Spec.Methods = append(cfg.Spec.Methods, method) })
		const odd = "x-Nobody.Knows~This :\t a=<b>; \"c\"  "
		alice.send(s, alice.request(s, method, "sip:bob@example.com", "z9hG4bK1", odd))
		m := bob.want(method + " sip:bob@")
		if !strings.Contains(string(m.Bytes()), "\r\n"+odd+"\r\n") {
			t.Errorf("the header %q has changed:\n%s", odd, m.Bytes())
		}
		bob.send(s, response(m, 200, "b"))
		alice.want("SIP/2.0 200")
		if got := <-names; got != method {
			t.Errorf("method_name = %q, want %q", got, method)
		}
	})
}

// What becomes of a decision that is not to forward: one table from the bus to SIP.
func TestDecisions(t *testing.T) {
	answer := func(m *sipmessagepb.SIPMessage) decider {
		return func(r *bus.Request, _ *processorpb.MessageRequest) {
			r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Message: m})})
		}
	}
	fail := func(code bus.Code) decider {
		return func(r *bus.Request, _ *processorpb.MessageRequest) { r.Fail(bus.Errorf(code, "as the test wants it")) }
	}
	target := func(target *processorpb.Target) decider {
		return func(r *bus.Request, _ *processorpb.MessageRequest) {
			r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Targets: []*processorpb.Target{target}})})
		}
	}
	response := func(t sipmessagepb.ResponseType) *sipmessagepb.SIPMessage_ResponseType {
		return &sipmessagepb.SIPMessage_ResponseType{ResponseType: t}
	}
	tests := []struct {
		name   string
		decide decider
		want   string
		header string
		value  string
	}{
		{"nobody serves", nil, "SIP/2.0 503 Service Unavailable", "Retry-After", "*"},
		{"unavailable", fail(bus.Unavailable), "SIP/2.0 503", "Retry-After", "*"},
		{"deadline", fail(bus.DeadlineExceeded), "SIP/2.0 504", "", ""},
		{"internal", fail(bus.Internal), "SIP/2.0 500", "", ""},
		{"response", answer(&sipmessagepb.SIPMessage{
			MessageType: response(sipmessagepb.ResponseType_PROXY_AUTHENTICATION_REQUIRED),
			Extensions:  []*sipmessagepb.Extension{{Name: "Proxy-Authenticate", Value: `Digest realm="x"`}},
		}), "SIP/2.0 407 Proxy Authentication Required", "Proxy-Authenticate", `Digest realm="x"`},
		{"reason phrase", answer(&sipmessagepb.SIPMessage{MessageType: response(sipmessagepb.ResponseType_FORBIDDEN), ReasonPhrase: "Not for you"}),
			"SIP/2.0 403 Not for you", "", ""},
		{"status without a name", answer(&sipmessagepb.SIPMessage{MessageType: response(sipmessagepb.ResponseType_CLIENT_ERROR), StatusCode: 422}),
			"SIP/2.0 422", "", ""},
		{"provisional status", answer(&sipmessagepb.SIPMessage{MessageType: response(sipmessagepb.ResponseType_RINGING)}), "SIP/2.0 500", "", ""},
		{"empty answer", answer(nil), "SIP/2.0 500", "", ""},
		{"target that is us", target(&processorpb.Target{Uri: "sip:bob@SELF"}), "SIP/2.0 482", "", ""},
		{"target without an address", target(&processorpb.Target{Uri: "sip:bob@rnd.invalid"}), "SIP/2.0 480", "", ""},
		{"target of a protocol that nobody speaks", target(&processorpb.Target{Uri: "sip:bob@127.0.0.1;transport=sctp"}), "SIP/2.0 480", "", ""},
	}
	modes(t, func(t *testing.T, conn *bus.Conn) {
		var current atomic.Pointer[decider]
		s := start(t, conn, nil, nil)
		alice := udpClient(t)
		for i, tt := range tests {
			current.Store(&tt.decide)
			if tt.decide != nil && tests[i-1].decide == nil {
				serve(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) { (*current.Load())(r, req) })
			}
			if strings.Contains(tt.name, "is us") {
				ourselves := target(&processorpb.Target{Uri: "sip:bob@" + s.udp})
				current.Store(&ourselves)
			}
			branch := "z9hG4bK" + string(rune('a'+i))
			alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", branch))
			alice.want("SIP/2.0 100")
			m := alice.next()
			if !strings.HasPrefix(string(m.Bytes()), tt.want) {
				t.Errorf("%s: answer\n%s\nwant %s", tt.name, m.Bytes(), tt.want)
			}
			got := header(m, tt.header)
			if tt.header != "" && got != tt.value && (tt.value != "*" || got == "") {
				t.Errorf("%s: %s = %q, want %q", tt.name, tt.header, got, tt.value)
			}
			alice.send(s, alice.request(s, "ACK", "sip:bob@example.com", branch, "To: <sip:bob@example.com>;tag="+string(m.ToTag())))
		}
	})
}

// P43, P47: a target that says 503, and one that cannot be reached, are a 500 for the caller, who is not told to wait: that
// is between the target and us.
func TestP43P47FailedTargets(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		closed := tcpServer(t)
		closed.listener.Close()
		var next atomic.Pointer[client]
		next.Store(bob)
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) { to(next.Load())(r, req) }, nil)
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1"))
		bob.send(s, response(bob.want("MESSAGE"), 503, "b", "Retry-After: 120"))
		if got := header(alice.want("SIP/2.0 500"), "Retry-After"); got != "" {
			t.Errorf("Retry-After = %q, want none: it is the target's", got)
		}
		next.Store(closed)
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK2"))
		alice.want("SIP/2.0 500")
	})
}

// P28 with a slow decision: the INVITE that is sent again while it is pending is not dispatched again.
func TestP28RetransmissionIsNotDispatchedAgain(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		held := make(chan *bus.Request, 10)
		s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) { held <- r }, nil)
		text := alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1")
		alice.send(s, text)
		alice.want("SIP/2.0 100")
		alice.send(s, text)
		alice.want("SIP/2.0 100")
		r := <-held
		r.Reply(bus.Reply{Body: bus.Value(toTarget(bob))})
		bob.want("INVITE")
		bob.quiet(s)
		if n := len(held); n != 0 {
			t.Errorf("dispatched %d times more, want once in all", n)
		}
	})
}

// An ACK that belongs to no dialog of ours goes nowhere.
func TestStrayAck(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		alice.send(s, alice.request(s, "ACK", "sip:bob@"+bob.addr(), "z9hG4bK1"))
		alice.send(s, alice.request(s, "ACK", "sip:bob@"+bob.addr(), "z9hG4bK2", "Route: <sip:"+bob.addr()+";lr>"))
		alice.quiet(s)
		bob.quiet(s)
		if n := s.edge.proxy.Counts().StrayAcks.Load(); n != 2 {
			t.Errorf("counted %d stray ACKs, want 2", n)
		}
	})
}
