package connect

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	"github.com/routr-fabric/routr/services/processor"
)

// flowContact is a contact that is a flow of RFC 5626.
func flowContact(uri, regID string) contact {
	return contact{uri: uri, expires: "60", params: map[string]string{"+sip.instance": `"<urn:uuid:1>"`, "reg-id": regID}}
}

// R22: registration of flows (RFC 5626), by way of a trusted peer, so that no challenge is in the way.
func TestR22Outbound(t *testing.T) {
	const (
		uri     = "sip:1001@10.0.0.5:40000;transport=tcp;ob"
		as      = "<" + uri + ">;expires=60"
		id      = `;+sip.instance="<urn:uuid:1>"`
		granted = "200 OK | Contact: " + as + id + ";reg-id=1 | Require: outbound | Flow-Timer: 120"
	)
	supported := []string{"Supported: path, outbound"}
	table := []struct {
		name   string
		before []request
		in     request
		want   string
	}{
		{name: "a flow", in: request{flow: "f1", headers: supported, contacts: []contact{flowContact(uri, "1")}}, want: granted},
		{name: "required", in: request{flow: "f1", headers: []string{"Require: outbound"}, contacts: []contact{flowContact(uri, "1")}}, want: granted},
		{name: "the same flow with another contact",
			before: []request{{flow: "f1", callID: "a", headers: supported, contacts: []contact{flowContact("sip:1001@x.invalid", "1")}}},
			in:     request{flow: "f2", callID: "b", headers: supported, contacts: []contact{flowContact(uri, "1")}}, want: granted},
		{name: "a second flow",
			before: []request{{flow: "f1", headers: supported, contacts: []contact{flowContact(uri, "1")}}},
			in:     request{flow: "f2", cSeq: 2, headers: supported, contacts: []contact{flowContact(uri, "2")}},
			want:   "200 OK | Contact: " + as + id + ";reg-id=2 | Contact: " + as + id + ";reg-id=1 | Require: outbound | Flow-Timer: 120"},
		{name: "a flow is removed by its reg-id",
			before: []request{{flow: "f1", headers: supported, contacts: []contact{flowContact(uri, "1")}}},
			in: request{flow: "f2", cSeq: 2, headers: supported, contacts: []contact{{uri: "sip:1001@other.invalid", expires: "0",
				params: map[string]string{"+sip.instance": "<urn:uuid:1>", "reg-id": "1"}}}},
			want: "200 OK | Require: outbound | Flow-Timer: 120"},
		{name: "not supported by the UA", in: request{flow: "f1", contacts: []contact{flowContact(uri, "1")}},
			want: "200 OK | Contact: " + as + id},
		{name: "over UDP", in: request{headers: supported, contacts: []contact{flowContact(uri, "1")}},
			want: "200 OK | Contact: " + as + id},
		{name: "over UDP, required", in: request{headers: []string{"Require: outbound, path"}, contacts: []contact{flowContact(uri, "1")}},
			want: "420 Bad Extension | Unsupported: outbound"},
		{name: "required without reg-id", in: request{flow: "f1", headers: []string{"Require: outbound"}, contacts: []contact{{uri: uri, expires: "60"}}},
			want: "420 Bad Extension | Unsupported: outbound"},
		{name: "reg-id without instance", in: request{flow: "f1", headers: supported,
			contacts: []contact{{uri: uri, expires: "60", params: map[string]string{"reg-id": "1"}}}}, want: "200 OK | Contact: " + as},
		{name: "reg-id of 0", in: request{flow: "f1", headers: supported, contacts: []contact{flowContact(uri, "0")}},
			want: "200 OK | Contact: " + as + id},
		{name: "reg-id that is too high", in: request{flow: "f1", headers: supported, contacts: []contact{flowContact(uri, "2147483648")}},
			want: "200 OK | Contact: " + as + id},
		{name: "the highest reg-id", in: request{flow: "f1", headers: supported, contacts: []contact{flowContact(uri, "2147483647")}},
			want: strings.Replace(granted, "reg-id=1", "reg-id=2147483647", 1)},
		{name: "two contacts", in: request{flow: "f1", headers: supported, contacts: []contact{flowContact(uri, "1"), {uri: "sip:1001@192.0.2.9"}}},
			want: "400 One Contact With reg-id Is One Flow"},
		{name: "one contact comes, one goes", in: request{flow: "f1", headers: supported,
			contacts: []contact{flowContact(uri, "1"), {uri: "sip:1001@192.0.2.9", expires: "0"}}}, want: granted},
		{name: "a first hop without support", in: request{flow: "f1", vias: 2, headers: supported, contacts: []contact{flowContact(uri, "1")}},
			want: "439 First Hop Lacks Outbound Support"},
		{name: "only a later hop has support", in: request{vias: 3, headers: append([]string{"Path: <sip:edge;lr;ob>", "Path: <sip:first;lr>"}, supported...),
			contacts: []contact{flowContact(uri, "1")}}, want: "439 First Hop Lacks Outbound Support"},
		{name: "a first hop with support", in: request{vias: 3, headers: append([]string{"Path: <sip:core;lr>", "Path: <sip:flow1@edge;lr;OB>"}, supported...),
			contacts: []contact{flowContact(uri, "1")}},
			want: "200 OK | Contact: " + as + id + ";reg-id=1 | Path: <sip:core;lr> | Path: <sip:flow1@edge;lr;OB> | Require: outbound"},
		{name: "a first hop without support, and nobody asks", in: request{flow: "f1", vias: 2, contacts: []contact{flowContact(uri, "1")}},
			want: "200 OK | Contact: " + as + id},
	}
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, tt := range table {
			t.Run(tt.name, func(t *testing.T) {
				f := newFabric(t, conn, nil)
				for _, r := range tt.before {
					r.source = peer
					if got := f.send(r); got.GetMessage().GetStatusCode() != 200 {
						t.Fatalf("REGISTER before = %s, want 200", describe(got))
					}
				}
				tt.in.source = peer
				if diff := cmp.Diff(tt.want, describe(f.send(tt.in))); diff != "" {
					t.Errorf("REGISTER (-want +got):\n%s", diff)
				}
			})
		}
	})
}

// P61: the Service-Route (RFC 3608) and the Flow-Timer are those of the configuration.
func TestP61ServiceRoute(t *testing.T) {
	cfg := testConfig()
	cfg.Spec.FlowTimer, cfg.Spec.ServiceRoute = 25, []string{"sip:edge.example.com;lr", "sip:core.example.com;transport=tcp;lr"}
	f := newFabricOf(t, bustest.Local(t), cfg, nil)
	const routes = " | Service-Route: <sip:edge.example.com;lr> | Service-Route: <sip:core.example.com;transport=tcp;lr>"
	for _, tt := range []struct {
		name string
		in   request
		want string
	}{
		{"query", request{}, "200 OK" + routes},
		{"with a Path and a flow", request{flow: "f1", headers: []string{"Supported: outbound, path", "Path: <sip:p;lr;ob>"}, contacts: []contact{flowContact("sip:1001@x.invalid", "1")}},
			`200 OK | Contact: <sip:1001@x.invalid>;expires=60;+sip.instance="<urn:uuid:1>";reg-id=1 | Path: <sip:p;lr;ob>` + routes + " | Require: outbound"},
		{"with a flow to us", request{flow: "f1", cSeq: 2, headers: []string{"Supported: outbound"}, contacts: []contact{flowContact("sip:1001@x.invalid", "1")}},
			`200 OK | Contact: <sip:1001@x.invalid>;expires=60;+sip.instance="<urn:uuid:1>";reg-id=1` + routes + " | Require: outbound | Flow-Timer: 25"},
		{"refused", request{cSeq: 3, contacts: []contact{{uri: phoneContact, expires: "1"}}}, "423 Interval Too Brief | Min-Expires: 60"},
	} {
		tt.in.source = peer
		if diff := cmp.Diff(tt.want, describe(f.send(tt.in))); diff != "" {
			t.Errorf("REGISTER %s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestDialable(t *testing.T) {
	for _, tt := range []struct {
		contact, from string
		want          bool
	}{
		{"sip:a@192.0.2.1;transport=tcp", "192.0.2.1", true},
		{"sip:a@192.0.2.1:5070;Transport=TLS", "192.0.2.1", true},
		{"sips:a@192.0.2.1", "192.0.2.1", true},
		{"sips:a@192.0.2.1;transport=tcp", "192.0.2.1", true},
		{"sip:a@[2001:DB8::1];transport=tcp", "2001:db8::1", true},
		{"sip:a@192.0.2.1;transport=tcp", "::ffff:192.0.2.1", true},
		{"sip:a@10.0.0.5;transport=tcp", "192.0.2.1", false},
		{"sip:a@phone.example.com;transport=tcp", "192.0.2.1", false},
		{"sip:a@x.invalid;transport=ws", "192.0.2.1", false},
		{"sip:a@192.0.2.1;transport=ws", "192.0.2.1", false},
		{"sips:a@192.0.2.1;transport=ws", "192.0.2.1", false},
		{"sip:a@192.0.2.1", "192.0.2.1", false}, // which is UDP
		{"sip:a@192.0.2.1;transport=udp", "192.0.2.1", false},
		{"sip:a@192.0.2.1;transport=tcp;maddr=10.0.0.1", "192.0.2.1", false},
		{"sip:a@192.0.2.1;transport=tcp", "", false},
	} {
		u, ok := processor.ParseURI(tt.contact)
		if !ok {
			t.Fatalf("ParseURI(%s) is not ok", tt.contact)
		}
		if got := dialable(u, tt.from); got != tt.want {
			t.Errorf("dialable(%s, %s) = %v, want %v", tt.contact, tt.from, got, tt.want)
		}
	}
}

func FuzzPathURI(f *testing.F) {
	f.Add(`<sip:p1;lr;ob>`)
	f.Add(`"a \" < b" <sip:p1;lr>;x=y`)
	f.Add(`"\`)
	f.Fuzz(func(t *testing.T, value string) {
		u, ok := pathURI(value)
		if ok && (u.Host == "" || !strings.Contains(value, u.Host)) {
			t.Errorf("pathURI(%q) = host %q, want one that is in it", value, u.Host)
		}
		if ok && !strings.Contains(value, ">") {
			t.Errorf("pathURI(%q) is ok, want no URI without angle brackets", value)
		}
	})
}
