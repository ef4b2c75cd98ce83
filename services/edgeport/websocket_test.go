package edgeport

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// socket is a connection whose messages are those of a WebSocket.
type socket struct{ net.Conn }

func (s socket) Write(b []byte) (int, error) { return len(b), wsutil.WriteClientText(s.Conn, b) }

func (s socket) Read(b []byte) (int, error) {
	data, err := wsutil.ReadServerText(s.Conn)
	return copy(b, data), err
}

// page is a browser that is connected to s.
func (s *system) page() *client {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	conn, _, _, err := ws.Dialer{Protocols: []string{"sip"}}.Dial(ctx, "ws://"+s.ws)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return &client{t: s.t, stream: socket{conn}}
}

// W11, W12 and W14: browsers, which have no address, are reached on the connections that they opened, in a dialog too;
// one that is gone is 480, or 430 in a dialog, at once and without a look for its name.
func TestW11W12W14Browsers(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		const bobURI = "sip:bob@bob1.invalid;transport=ws"
		var flow atomic.Value // of bob
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			if req.Method == processorpb.Method_REGISTER {
				flow.Store(req.Flow)
				r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: bobURI}}})})
				return
			}
			r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: bobURI, Flow: flow.Load().(string)}}})})
		}, func(c *Config) { c.Spec.Transport = append(c.Spec.Transport, Transport{Protocol: "ws"}) })
		alice, bob := s.page(), s.page()

		via := func(host, branch string) string { return "Via: SIP/2.0/WS " + host + ";branch=" + branch }
		bob.send(s, bob.request(s, "REGISTER", "sip:example.com", "", via("bob1.invalid", "z9hG4bKr"), "Contact: <"+bobURI+">"))
		bob.want("SIP/2.0 480") // a WebSocket is never dialled

		from := "Contact: <sip:alice@alice1.invalid;transport=ws>"
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "", via("alice1.invalid", "z9hG4bKi"), from, "Call-ID: w12"))
		alice.want("SIP/2.0 100")
		invite := bob.want("INVITE " + bobURI + " SIP/2.0")
		if v := values(invite, message.KindVia); len(v) != 2 || !strings.HasPrefix(v[0], "SIP/2.0/WS "+s.ws+";") {
			t.Errorf("Via = %q, want SIP/2.0/WS %s on top", v, s.ws)
		}
		if rr := values(invite, message.KindRecordRoute); len(rr) != 1 || !strings.HasSuffix(rr[0], "@"+s.ws+";transport=ws;lr>") {
			t.Errorf("Record-Route = %q, want one of %s;transport=ws", rr, s.ws)
		}
		bob.send(s, response(invite, 200, "bob-tag", "Contact: <"+bobURI+">"))
		ok := alice.want("SIP/2.0 200")
		if v := values(ok, message.KindVia); len(v) != 1 || !strings.HasPrefix(v[0], "SIP/2.0/WS alice1.invalid;") {
			t.Errorf("W11: Via = %q, want the sent-by as alice wrote it, alone", v)
		}
		route := "Route: " + values(ok, message.KindRecordRoute)[0]
		to := "To: <sip:bob@example.com>;tag=bob-tag"
		alice.send(s, alice.request(s, "ACK", bobURI, "", via("alice1.invalid", "z9hG4bKa"), from, "Call-ID: w12", route, to))
		bob.want("ACK " + bobURI)
		bob.send(s, bob.request(s, "INFO", "sip:alice@alice1.invalid;transport=ws", "", via("bob1.invalid", "z9hG4bKf"), "Call-ID: w12", route,
			"From: <sip:bob@example.com>;tag=bob-tag", "To: <sip:alice@example.com>;tag=alice-tag"))
		alice.send(s, response(alice.want("INFO sip:alice@alice1.invalid"), 200, ""))
		bob.want("SIP/2.0 200")

		bob.stream.Close()
		eventually(t, "a browser that is gone is not there", func() bool {
			_, live := s.edge.transport.Lookup(flow.Load().(string))
			return !live
		})
		alice.send(s, alice.request(s, "BYE", bobURI, "", via("alice1.invalid", "z9hG4bKbye"), from, "Call-ID: w12", route, to))
		alice.want("SIP/2.0 430")
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "", via("alice1.invalid", "z9hG4bKi2"), from, "Call-ID: w12b"))
		alice.want("SIP/2.0 100")
		alice.want("SIP/2.0 480")
		if n := s.queries.Load(); n != 0 {
			t.Errorf("W11, W12: the name server was asked %d times, want never", n)
		}
	})
}
