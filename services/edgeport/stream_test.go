package edgeport

import (
	"bytes"
	"strings"
	"testing"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// A18: a malformed message is the last of its connection. It gets its answer, where it can have one, and what comes
// behind it is not looked at.
func TestMalformedEndsConnection(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, tt := range []struct {
			name, field string
			want        string // the answer; empty: none
		}{
			{"answered", "Max-Forwards: many", "SIP/2.0 400"},
			{"too broken for an answer", "From: <sip:a", ""},
			{"A17 bare LF", "X-A: a\nP-Asserted-Identity: <sip:ceo@example.com>", ""},
		} {
			for _, kind := range []string{"tcp", "ws"} {
				t.Run(tt.name+" "+kind, func(t *testing.T) {
					s := start(t, conn, nil, func(c *Config) { c.Spec.Transport = append(c.Spec.Transport, Transport{Protocol: "ws"}) })
					var alice *client
					if kind == "ws" {
						alice = s.page()
					} else {
						alice = s.tcpClient()
					}
					options := func(branch string, fields ...string) string {
						return alice.request(s, "OPTIONS", "sip:"+s.udp, branch, fields...)
					}
					if kind == "ws" {
						alice.send(s, options("z9hG4bK1"))
						alice.send(s, options("z9hG4bK2", tt.field))
						_, _ = alice.stream.Write([]byte(options("z9hG4bK3"))) // may fail: it is closed meanwhile
					} else {
						alice.send(s, options("z9hG4bK1")+options("z9hG4bK2", tt.field)+options("z9hG4bK3"))
					}
					alice.want("SIP/2.0 200")
					if tt.want != "" {
						alice.want(tt.want)
					}
					alice.wantEnd(1007)
				})
			}
		}
		t.Run("not udp", func(t *testing.T) {
			s := start(t, conn, nil, nil)
			alice := udpClient(t)
			alice.send(s, alice.request(s, "OPTIONS", "sip:"+s.udp, "z9hG4bK1", "Max-Forwards: many"))
			alice.want("SIP/2.0 400")
			alice.quiet(s)
		})
	})
}

// W5 and W9: a WebSocket message is one SIP message. A second one in it is not read, and one without a Content-Length goes
// to its end.
func TestOneMessageInAFrame(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		s := start(t, conn, nil, func(c *Config) { c.Spec.Transport = append(c.Spec.Transport, Transport{Protocol: "ws"}) })
		alice := s.page()
		options := func(branch, callID string) string {
			return alice.request(s, "OPTIONS", "sip:"+s.udp, branch, "Call-ID: "+callID)
		}
		for _, tt := range []struct{ name, in string }{
			{"W5 second message", options("z9hG4bK1", "first") + options("z9hG4bK2", "second")},
			{"W9 no Content-Length", strings.Replace(options("z9hG4bK3", "first"), "Content-Length: 0\r\n", "", 1)},
		} {
			t.Run(tt.name, func(t *testing.T) {
				alice.send(s, tt.in)
				alice.send(s, options("z9hG4bK4", "last"))
				for _, want := range []string{"first", "last"} {
					if m := alice.want("SIP/2.0 200"); string(m.CallID()) != want {
						t.Errorf("answer to %s, want %s", m.CallID(), want)
					}
				}
			})
		}
	})
}

// W10: 100 kB of SDP pass over WebSocket and TCP, in requests and in responses, in both directions.
func TestW10LargeBody(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		const line = "a=candidate:1467250027 1 udp 2122260223 192.168.0.196 46243 typ host generation 0\r\n"
		sdp := ("v=0\r\n" + strings.Repeat(line, 2000))[:100_000]
		bob := tcpServer(t)
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) { to(bob)(r, req) },
			func(c *Config) { c.Spec.Transport = append(c.Spec.Transport, Transport{Protocol: "ws"}) })
		alice := s.page()
		answer := func(req *message.Message) string {
			return string(message.AppendResponse(nil, req, &message.Response{Status: 200, ToTag: "b", Body: []byte(sdp), Headers: []message.Field{
				{Name: "Content-Type", Value: "application/sdp"},
				{Name: "Record-Route", Value: strings.Join(values(req, message.KindRecordRoute), ", ")},
			}}))
		}
		wantBody := func(m *message.Message) *message.Message {
			t.Helper()
			if !bytes.Equal(m.Body(), []byte(sdp)) {
				t.Errorf("%.20s has a body of %d bytes, want the %d that were sent", m.Bytes(), len(m.Body()), len(sdp))
			}
			return m
		}
		via := func(branch string) string { return "Via: SIP/2.0/WS alice1.invalid;branch=" + branch }
		contact := "Contact: <sip:alice@alice1.invalid;transport=ws>"
		kind := "Content-Type: application/sdp"

		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "", via("z9hG4bK1"), contact, kind, "\r\n"+sdp))
		alice.want("SIP/2.0 100")
		bob.send(s, answer(wantBody(bob.want("INVITE"))))
		rr := values(wantBody(alice.want("SIP/2.0 200")), message.KindRecordRoute)
		var routes, back []string
		for i := range rr {
			routes = append(routes, "Route: "+rr[len(rr)-1-i])
			back = append(back, "Route: "+rr[i])
		}
		to := "To: <sip:bob@example.com>;tag=b"
		alice.send(s, alice.request(s, "ACK", "sip:bob@"+bob.addr()+";transport=tcp", "", append(routes, via("z9hG4bK2"), contact, to)...))
		bob.want("ACK")
		bob.send(s, bob.request(s, "INVITE", "sip:alice@alice1.invalid;transport=ws", "z9hG4bK3", append(back,
			"From: <sip:bob@example.com>;tag=b", "To: <sip:alice@example.com>;tag=alice-tag", kind, "\r\n"+sdp)...))
		bob.want("SIP/2.0 100")
		alice.send(s, answer(wantBody(alice.want("INVITE"))))
		wantBody(bob.want("SIP/2.0 200"))
	})
}
