package edgeport

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// P19: calls between any two of the five transports, with requests in both directions. Where the two differ, each side
// has a Record-Route of its own (RFC 5658), so that the first one of its route set is an address that it can reach.
func TestP19W15Matrix(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		x := startExchange(t, conn, nil)
		for _, from := range transports {
			for _, to := range transports {
				t.Run("P19 "+from+"->"+to, func(t *testing.T) {
					pair := from + "-" + to
					caller, callee := x.phone(t, from, "alice-"+pair), x.phone(t, to, "bob-"+pair)
					for i, hangsUp := range []string{"caller", "callee"} {
						a, b := x.call(t, caller, callee, fmt.Sprintf("%s-%d", pair, i))
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

// leg is one side of a dialog (RFC 3261 12).
type leg struct {
	*phone
	callID        string
	local, remote string // From and To of its requests
	target        string // the other side's Contact
	route         []string
	cseq          int
}

// call makes a call between two phones of one EdgePort.
func (x *exchange) call(t *testing.T, caller, callee *phone, callID string) (a, b *leg) {
	t.Helper()
	a, b = establish(t, caller, callee, callee.target(), callID)
	want := 2
	if caller.transport == callee.transport {
		want = 1
	}
	if len(a.route) != want {
		t.Fatalf("Record-Route = %q, want %d", a.route, want)
	}
	return a, b
}

// establish makes a call that the callee, which is the target, answers, and checks on the way what the EdgePorts add for
// the rest of the dialog.
func establish(t *testing.T, caller, callee *phone, target *processorpb.Target, callID string) (a, b *leg) {
	t.Helper()
	answer := &processorpb.MessageResponse{Targets: []*processorpb.Target{target}}
	caller.x.decides(callID, func(r *bus.Request, _ *processorpb.MessageRequest) { r.Reply(bus.Reply{Body: bus.Value(answer)}) })
	from, to := "<sip:alice@example.com>;tag=a-"+callID, "<sip:bob@example.com>"
	a = &leg{phone: caller, callID: callID, local: from, remote: to, target: callee.scheme() + ":bob@example.com"}
	a.send("INVITE")
	caller.want("SIP/2.0 100")
	invite := callee.want("INVITE " + callee.contact() + " SIP/2.0")
	to += ";tag=b-" + callID
	callee.client.send(callee.x.system, response(invite, 180, "b-"+callID, "Contact: <"+callee.contact()+">"))
	ringing := caller.want("SIP/2.0 180")
	callee.client.send(callee.x.system, response(invite, 200, "b-"+callID, "Contact: <"+callee.contact()+">"))
	ok := caller.want("SIP/2.0 200")

	b = &leg{phone: callee, callID: callID, local: to, remote: from, target: contactOf(t, invite), cseq: 100}
	b.route = values(invite, message.KindRecordRoute) // 12.1.1
	a.remote, a.target = to, contactOf(t, ok)
	a.route = values(ok, message.KindRecordRoute) // 12.1.2
	slices.Reverse(a.route)
	if early := values(ringing, message.KindRecordRoute); !slices.Equal(early, b.route) || len(a.route) != len(b.route) {
		t.Errorf("Record-Route = %q in the INVITE, %q in the 180, %q in the 200; want the same", b.route, early, values(ok, message.KindRecordRoute))
	}
	for _, l := range []*leg{a, b} {
		l.wantNearest(t)
	}
	a.send("ACK")
	b.wantInDialog("ACK")
	return a, b
}

// wantNearest checks that the first Route leads to where the EdgePort listens for the phone's own transport.
func (l *leg) wantNearest(t *testing.T) {
	t.Helper()
	if len(l.route) == 0 {
		t.Fatalf("%s has no Route, want one", l.name)
	}
	name, err := message.ParseNameAddr([]byte(l.route[0]))
	if err != nil {
		t.Fatalf("Record-Route %q: %v", l.route[0], err)
	}
	uri, err := message.ParseURI(name.URI)
	if err != nil {
		t.Fatalf("Record-Route %q: %v", l.route[0], err)
	}
	transport, _ := uri.Param("transport")
	_, loose := uri.Param("lr")
	parameter := map[string]string{"udp": "", "tls": "tls", "tcp": "tcp", "ws": "ws", "wss": "wss"}[l.transport]
	if l.secure {
		parameter = map[string]string{"tls": "", "wss": "ws"}[l.transport]
	}
	got := fmt.Sprintf("%s:%s:%d %s lr=%v", uri.Scheme, uri.Host, uri.Port, transport, loose)
	want := fmt.Sprintf("%s:%s %s lr=true", l.scheme(), l.x.point(l.transport), parameter)
	if got != want {
		t.Errorf("the first Route of %s = %s, want %s", l.name, got, want)
	}
}

// reinvite has l change the session, and other agree.
func (l *leg) reinvite(other *leg) {
	l.t.Helper()
	l.send("INVITE")
	l.phone.want("SIP/2.0 100")
	other.answer(other.wantInDialog("INVITE"))
	l.phone.want("SIP/2.0 200")
	l.send("ACK")
	other.wantInDialog("ACK")
}

// send sends a request of the dialog.
func (l *leg) send(method string) {
	l.t.Helper()
	if method != "ACK" {
		l.cseq++
	}
	fields := []string{
		l.via(fmt.Sprintf("%s-%d-%s", l.callID, l.cseq, method)),
		"From: " + l.local, "To: " + l.remote, "Call-ID: " + l.callID, fmt.Sprintf("CSeq: %d %s", l.cseq, method),
		"Contact: <" + l.contact() + ">",
	}
	for _, r := range l.route {
		fields = append(fields, "Route: "+r)
	}
	l.client.send(l.x.system, l.request(l.x.system, method, l.target, "", fields...))
}

// wantInDialog is the next request, which has to have come as one of the dialog: by the right transport, to the Contact,
// and with nothing of the Route left.
func (l *leg) wantInDialog(method string) *message.Message {
	l.t.Helper()
	m := l.phone.want(method + " " + l.contact() + " SIP/2.0")
	if n := m.Count(message.KindRoute); n != 0 {
		l.t.Errorf("%s at %s has %d Routes, want none", method, l.name, n)
	}
	if via := m.TopVia(); string(via.Transport) != strings.ToUpper(l.transport) || string(via.SentBy()) != l.x.point(l.transport) {
		l.t.Errorf("%s at %s has Via %s, want %s %s", method, l.name, via.Text, strings.ToUpper(l.transport), l.x.point(l.transport))
	}
	return m
}

// answer answers a request with 200.
func (l *leg) answer(req *message.Message) {
	l.t.Helper()
	l.client.send(l.x.system, response(req, 200, "", "Contact: <"+l.contact()+">"))
}

func contactOf(t *testing.T, m *message.Message) string {
	t.Helper()
	contact, _ := m.Get(message.KindContact)
	name, err := message.ParseNameAddr(contact)
	if err != nil {
		t.Fatalf("Contact %q: %v", contact, err)
	}
	return string(name.URI)
}
