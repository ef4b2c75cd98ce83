package connect

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/processor"
)

// Where requests from a trusted peer go.
func TestRoute(t *testing.T) {
	registerFrom := func(r request) request {
		r.source = or(r.source, peer)
		return r
	}
	table := []struct {
		name   string
		before []request
		in     request
		want   string
	}{
		{name: "contact as written",
			before: []request{{contacts: []contact{{uri: "sip:1001@198.51.100.7:36080"}}}},
			in:     request{uri: "sip:1001@sip.local"}, want: "sip:1001@198.51.100.7:36080"},
		{name: "NAT",
			before: []request{{sourcePort: 41000, contacts: []contact{{uri: "sip:1001@10.0.0.5:5060"}}}},
			in:     request{uri: "sip:1001@sip.local"}, want: "sip:1001@10.0.0.5:5060 at UDP 198.51.100.7:41000"},
		{name: "browser",
			before: []request{{flow: "f1", sourcePort: 41000, contacts: []contact{{uri: "sip:x@abc.invalid;transport=ws"}}}},
			in:     request{uri: "sip:1001@sip.local"}, want: "sip:x@abc.invalid;transport=ws flow=f1"},
		{name: "a connection, though the contact is its own address",
			before: []request{{flow: "f1", sourcePort: 41000, contacts: []contact{{uri: "sip:1001@198.51.100.7:5060;transport=tcp"}}}},
			in:     request{uri: "sip:1001@sip.local"}, want: "sip:1001@198.51.100.7:5060;transport=tcp at TCP 198.51.100.7:5060 flow=f1"},
		{name: "R23 a connection through a NAT, and nothing else",
			before: []request{{flow: "f1", sourcePort: 41000, contacts: []contact{{uri: "sip:1001@10.0.0.5:5060;transport=tcp"}}}},
			in:     request{uri: "sip:1001@sip.local"}, want: "sip:1001@10.0.0.5:5060;transport=tcp flow=f1"},
		{name: "R23 a flow of RFC 5626 and nothing else",
			before: []request{{flow: "f1", sourcePort: 41000, headers: []string{"Supported: outbound"}, contacts: []contact{{
				uri: "sip:1001@198.51.100.7:5060;transport=tcp;ob", params: map[string]string{"+sip.instance": "<urn:uuid:1>", "reg-id": "1"}}}}},
			in: request{uri: "sip:1001@sip.local"}, want: "sip:1001@198.51.100.7:5060;transport=tcp;ob flow=f1 instance=<urn:uuid:1>"},
		{name: "P61 Path, and not the connection that the REGISTER came on",
			before: []request{{flow: "f1", vias: 2, headers: []string{"Path: <sip:p1;lr>", "Supported: path"}, contacts: []contact{{uri: "sip:1001@198.51.100.7;transport=tcp"}}}},
			in:     request{uri: "sip:1001@sip.local"}, want: "sip:1001@198.51.100.7;transport=tcp path=<sip:p1;lr>"},
		{name: "at another EdgePort",
			before: []request{{edgePort: "edgeport-02", contacts: []contact{{uri: "sip:1001@198.51.100.7"}}}},
			in:     request{uri: "sip:1001@sip.local"}, want: "sip:1001@198.51.100.7 edgeport=edgeport-02 by UDP 203.0.113.1:5060"},
		{name: "P61 Path",
			before: []request{{headers: []string{"Path: <sip:p1;lr>", "Path: <sip:p2;lr>", "Supported: path"}, contacts: []contact{{uri: "sip:1001@10.0.0.5"}}}},
			in:     request{uri: "sip:1001@sip.local"}, want: "sip:1001@10.0.0.5 path=<sip:p1;lr> <sip:p2;lr>"},
		{name: "maddr leads nobody elsewhere",
			before: []request{{contacts: []contact{{uri: "sip:1001@198.51.100.7:5070;maddr=203.0.113.66"}}}},
			in:     request{uri: "sip:1001@sip.local"}, want: "sip:1001@198.51.100.7:5070;maddr=203.0.113.66 at UDP 198.51.100.7:5060"},
		{name: "P17 headers and method of a contact",
			before: []request{{contacts: []contact{{uri: "sip:1001@198.51.100.7;Method=BYE;a=b?Subject=x"}}}},
			in:     request{uri: "sip:1001@sip.local"}, want: "sip:1001@198.51.100.7;a=b"},
		{name: "two bindings, the preferred first",
			before: []request{{contacts: []contact{{uri: "sip:a@198.51.100.7", q: "0.2"}, {uri: "sip:b@198.51.100.7", q: "0.8"}}}},
			in:     request{uri: "sip:1001@sip.local"}, want: "sip:b@198.51.100.7 q=800 + sip:a@198.51.100.7 q=200"},
		{name: "sips: goes to sips: alone",
			before: []request{{contacts: []contact{{uri: "sip:a@198.51.100.7"}, {uri: "sips:b@198.51.100.7"}}}},
			in:     request{uri: "sips:1001@sip.local"}, want: "sips:b@198.51.100.7"},
		{name: "sips: and no sips: binding",
			before: []request{{contacts: []contact{{uri: "sip:a@198.51.100.7"}}}},
			in:     request{uri: "sips:1001@sip.local"}, want: "480 Temporarily Unavailable"},
		{name: "spelling of the Request-URI",
			before: []request{{contacts: []contact{{uri: "sip:1001@198.51.100.7"}}}},
			in:     request{uri: "sip:%31001@SIP.LOCAL:5060;transport=UDP"}, want: "sip:1001@198.51.100.7"},
		{name: "a user without an Agent",
			before: []request{{from: "sip:u000001@sip.local", contacts: []contact{{uri: "sip:u000001@198.51.100.7"}}}},
			in:     request{uri: "sip:u000001@sip.local"}, want: "sip:u000001@198.51.100.7"},
		{name: "another method", before: []request{{contacts: []contact{{uri: "sip:1001@198.51.100.7"}}}},
			in: request{method: "MESSAGE", uri: "sip:1001@sip.local"}, want: "sip:1001@198.51.100.7"},
		{name: "P3 a method nobody knows", before: []request{{contacts: []contact{{uri: "sip:1001@198.51.100.7"}}}},
			in: request{method: "FOO.*", uri: "sip:1001@sip.local"}, want: "sip:1001@198.51.100.7"},
		{name: "P15 no binding", in: request{uri: "sip:1001@sip.local"}, want: "480 Temporarily Unavailable"},
		{name: "P15 unknown user", in: request{uri: "sip:nobody@sip.local"}, want: "404 Not Found"},
		{name: "no user", in: request{uri: "sip:sip.local"}, want: "404 Not Found"},
		{name: "disabled agent", in: request{uri: "sip:1003@sip.local"}, want: "480 Temporarily Unavailable"},
		{name: "P14 foreign domain", in: request{uri: "sip:x@192.0.2.1"}, want: "403 Domain Is Not Served Here"},
		{name: "tel:", in: request{uri: "tel:+15551234"}, want: "416 Unsupported URI Scheme"},
		{name: "long user", in: request{uri: "sip:" + strings.Repeat("a", 1000) + "@sip.local"}, want: "404 Not Found"},
		{name: "P57 in a dialog, reachable", before: []request{{contacts: []contact{{uri: "sip:1001@198.51.100.7"}}}},
			in: request{method: "BYE", uri: "sip:1001@sip.local", toTag: "t"}, want: "sip:1001@198.51.100.7"},
		{name: "P57 in a dialog, no binding", in: request{method: "BYE", uri: "sip:1001@sip.local", toTag: "t"},
			want: "481 Call/Transaction Does Not Exist"},
		{name: "P57 in a dialog, foreign domain", in: request{method: "BYE", uri: "sip:x@192.0.2.1", toTag: "t"},
			want: "481 Call/Transaction Does Not Exist"},
		{name: "P35 CANCEL", in: request{method: "CANCEL", uri: "sip:1001@sip.local"}, want: "481 Call/Transaction Does Not Exist"},
		{name: "ACK of a trusted peer", before: []request{{contacts: []contact{{uri: "sip:1001@198.51.100.7"}}}},
			in: request{method: "ACK", uri: "sip:1001@sip.local", toTag: "t"}, want: "sip:1001@198.51.100.7"},
		{name: "headers of a trusted peer stay", before: []request{{contacts: []contact{{uri: "sip:1001@198.51.100.7"}}}},
			in:   request{uri: "sip:1001@sip.local", headers: []string{"X-Gateway-Auth: x", "P-Asserted-Identity: <sip:ceo@corp>"}},
			want: "sip:1001@198.51.100.7"},
		{name: "credentials end where they are for", before: []request{{contacts: []contact{{uri: "sip:1001@198.51.100.7"}}}},
			in: request{uri: "sip:1001@sip.local", headers: []string{
				`Proxy-Authorization: Digest realm="sip.local", username="a"`,
				`proxy-authorization: Digest realm="elsewhere", username="a"`,
				`Proxy-Authorization: Digest realm="Other.local", username="a"`,
				"Proxy-Authorization: Basic eA==",
			}},
			want: "sip:1001@198.51.100.7 -Proxy-Authorization +proxy-authorization +Proxy-Authorization"},
		{name: "credentials for others stay", before: []request{{contacts: []contact{{uri: "sip:1001@198.51.100.7"}}}},
			in:   request{uri: "sip:1001@sip.local", headers: []string{`Proxy-Authorization: Digest realm="elsewhere", username="a"`}},
			want: "sip:1001@198.51.100.7"},
	}
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, tt := range table {
			t.Run(tt.name, func(t *testing.T) {
				f := newFabric(t, conn, nil)
				for _, r := range tt.before {
					if got := f.send(registerFrom(r)); got.GetMessage().GetStatusCode() != 200 {
						t.Fatalf("REGISTER before = %s, want 200", describe(got))
					}
				}
				tt.in.method = or(tt.in.method, "INVITE")
				tt.in.source, tt.in.callID = peer, "call-2"
				if diff := cmp.Diff(tt.want, describe(f.send(tt.in))); diff != "" {
					t.Errorf("%s %s (-want +got):\n%s", tt.in.method, tt.in.uri, diff)
				}
			})
		}
	})
}

// Where a stranger's Path leads: the first hop of it is where the REGISTER came from, whatever stands there. Else who may
// register could have requests sent to anybody, in our name.
func TestPathOfStranger(t *testing.T) {
	const at = "sip:1001@10.0.0.5"
	table := []struct {
		name string
		in   request
		want string
	}{
		{"the sender", request{headers: []string{"Path: <sip:192.0.2.1:5080;lr>"}}, at + " path=<sip:192.0.2.1:5080;lr>"},
		{"the sender, then others", request{headers: []string{"Path: <sip:192.0.2.1;lr>", "Path: <sip:edge.example.com;lr>"}},
			at + " path=<sip:192.0.2.1;lr> <sip:edge.example.com;lr>"},
		{"the sender by IPv6", request{source: "2001:db8::1", headers: []string{"Path: <sip:[2001:db8:0::1];lr>"}},
			at + " path=<sip:[2001:db8:0::1];lr>"},
		{"somebody else", request{headers: []string{"Path: <sip:203.0.113.66:5080;lr>"}},
			at + " at UDP 192.0.2.1:5080 path=<sip:203.0.113.66:5080;lr>"},
		{"a name", request{headers: []string{"Path: <sip:gateway.example.com;lr>"}},
			at + " at UDP 192.0.2.1:0 path=<sip:gateway.example.com;lr>"},
		{"somebody else, over TCP", request{flow: "f1", sourcePort: 40000, headers: []string{"Path: <sip:gateway.example.com;lr;transport=TCP>"}},
			at + " at TCP 192.0.2.1:0 path=<sip:gateway.example.com;lr;transport=TCP>"},
		{"somebody else, over TLS", request{flow: "f1", sourcePort: 40000, headers: []string{"Path: <sips:gateway.example.com;lr>"}},
			at + " at TLS 192.0.2.1:0 path=<sips:gateway.example.com;lr>"},
		{"maddr", request{headers: []string{"Path: <sip:192.0.2.1;maddr=203.0.113.66;lr>"}},
			at + " at UDP 192.0.2.1:0 path=<sip:192.0.2.1;maddr=203.0.113.66;lr>"},
	}
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, tt := range table {
			t.Run(tt.name, func(t *testing.T) {
				f := newFabric(t, conn, nil)
				tt.in.headers = append(tt.in.headers, "Supported: path")
				tt.in.contacts = []contact{{uri: at}}
				if got := f.call(phone{}, tt.in); got.GetMessage().GetStatusCode() != 200 {
					t.Fatalf("REGISTER = %s, want 200", describe(got))
				}
				got := f.send(request{method: "INVITE", uri: "sip:1001@sip.local", source: peer, callID: "call-2"})
				if diff := cmp.Diff(tt.want, describe(got)); diff != "" {
					t.Errorf("INVITE (-want +got):\n%s", diff)
				}
			})
		}
	})
}

// How another EdgePort is reached by SIP: where it listens, or by its external address if that says nothing.
func TestEdgePortAddrs(t *testing.T) {
	points := func(list ...string) (all []*processorpb.NetInterface) {
		for _, host := range list {
			all = append(all, &processorpb.NetInterface{Host: host, Port: 5060, Transport: commonpb.Transport_TCP})
		}
		return all
	}
	for _, tt := range []struct {
		name string
		in   *locationpb.Route
		want []string
	}{
		{"an address", &locationpb.Route{ListeningPoints: points("192.0.2.1")}, []string{"192.0.2.1"}},
		{"every address, with an external one", &locationpb.Route{ListeningPoints: points("0.0.0.0", "::"), ExternalAddrs: []string{"edge.example.com"}},
			[]string{"edge.example.com", "edge.example.com"}},
		{"every address", &locationpb.Route{ListeningPoints: points("0.0.0.0", "192.0.2.1", "::")}, []string{"192.0.2.1"}},
	} {
		var got []string
		for _, at := range edgePortAddrs(tt.in) {
			got = append(got, at.Host)
			if at.Port != 5060 || at.Transport != commonpb.Transport_TCP {
				t.Errorf("%s: %v, want port 5060 and TCP", tt.name, at)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// Authorization for us is removed, whatever the EdgePort made of it.
func TestAuthorizationIsRemoved(t *testing.T) {
	f := newFabric(t, bustest.Connect(t), nil)
	f.send(request{source: peer, contacts: []contact{{uri: "sip:1001@198.51.100.7"}}})
	for realm, want := range map[string]string{"SIP.local": "sip:1001@198.51.100.7 -Authorization", "elsewhere": "sip:1001@198.51.100.7"} {
		r := request{method: "INVITE", uri: "sip:1001@sip.local", source: peer}.build()
		r.Message.Authorization = authorizationOf(`Digest realm="` + realm + `", username="x"`)
		got, err := f.post(r)
		if err != nil || describe(got) != want {
			t.Errorf("INVITE with Authorization for %s = %s, %v, want %s", realm, describe(got), err, want)
		}
	}
}

// A response that the dispatcher sends here goes on as it is.
func TestResponsePasses(t *testing.T) {
	f := newFabric(t, bustest.Connect(t), nil)
	in := &processorpb.MessageRequest{Method: processorpb.Method_INVITE}
	in.Message = f.send(request{method: "INVITE", uri: "sip:nobody@sip.local", source: peer}).Message
	got, err := f.post(in)
	if err != nil || got.GetMessage().GetStatusCode() != 404 {
		t.Errorf("process(404) = %v, %v, want the 404 itself", got, err)
	}
}

// A binding that a client of Routr v2 has made has no contact URI, and odd ones are left out.
func TestMakeTargets(t *testing.T) {
	routes := []*locationpb.Route{
		{User: "1001", Host: "192.0.2.1", Port: "5070", Transport: commonpb.Transport_TCP},
		{Host: "192.0.2.2"},
		{ContactUri: "tel:+1", Host: "192.0.2.3", Port: "5060"},
		{ContactUri: "sip:a@[2001:db8::1]", Host: "2001:db8::1", Port: "5060"},
		{ContactUri: "sip:a@10.0.0.1", Host: "192.0.2.4", Port: "none"},
		{ContactUri: "sip:a@[2001:db8:0::1];transport=tcp", Host: "2001:db8::1", Port: "41000", Dialable: true}, // its flow has ended
		{ContactUri: "sip:a@[2001:db8:0::1]:5062;transport=tcp", Host: "2001:db8::1", Port: "41000", Dialable: true, Flow: "f"},
	}
	got := describe(&processorpb.MessageResponse{Targets: makeTargets(routes, false, "")})
	want := "sip:1001@192.0.2.1:5070;transport=tcp + sip:192.0.2.2 + sip:a@[2001:db8::1] + sip:a@10.0.0.1" +
		" + sip:a@[2001:db8:0::1];transport=tcp + sip:a@[2001:db8:0::1]:5062;transport=tcp at TCP 2001:db8:0::1:5062 flow=f"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("makeTargets (-want +got):\n%s", diff)
	}
}

func FuzzRequestURI(f *testing.F) {
	f.Add("sip:a@h;method=BYE;x=1?Subject=y")
	f.Add("sips:h;METHOD;?")
	f.Fuzz(func(t *testing.T, text string) {
		contact, ok := processor.ParseURI(text)
		if !ok {
			return
		}
		got, ok := processor.ParseURI(requestURI(text))
		if !ok || got.User != contact.User || got.Host != contact.Host || got.Port != contact.Port || got.Query != "" {
			t.Fatalf("requestURI(%q) = %q, want the same user, host and port, and no headers", text, requestURI(text))
		}
		for p := range strings.SplitSeq(got.Params, ";") {
			if name, _, _ := strings.Cut(p, "="); strings.EqualFold(name, "method") {
				t.Fatalf("requestURI(%q) = %q, want no method", text, requestURI(text))
			}
		}
	})
}
