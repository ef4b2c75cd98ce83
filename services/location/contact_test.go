package location

import (
	"sync/atomic"
	"testing"

	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
)

func bindingOf(r *locationpb.Route) *binding {
	return &binding{route: r, contact: identify(r), turn: new(atomic.Uint64)}
}

func withURI(uri string) *locationpb.Route { return &locationpb.Route{ContactUri: uri} }

func TestR13Same(t *testing.T) {
	plain := func(user, host, port string, transport commonpb.Transport) *locationpb.Route {
		return &locationpb.Route{User: user, Host: host, Port: port, Transport: transport}
	}
	outbound := func(uri, instance string, id int32) *locationpb.Route {
		return &locationpb.Route{ContactUri: uri, Instance: instance, RegId: id}
	}
	tests := []struct {
		name string
		a, b *locationpb.Route
		want bool
	}{
		// The examples of RFC 3261 19.1.4.
		{"escape, host, order",
			withURI("sip:%61lice@atlanta.com;transport=TCP"), withURI("sip:alice@AtLanTa.CoM;Transport=tcp"), true},
		{"unknown parameter in one", withURI("sip:carol@chicago.com"), withURI("sip:carol@chicago.com;newparam=5"), true},
		{"another one", withURI("sip:carol@chicago.com"), withURI("sip:carol@chicago.com;security=on"), true},
		{"order of parameters and headers",
			withURI("sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com"),
			withURI("sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com"), true},
		{"order of headers",
			withURI("sip:alice@atlanta.com?subject=project%20x&priority=urgent"),
			withURI("sip:alice@atlanta.com?priority=urgent&subject=project%20x"), true},
		{"case of the user",
			withURI("SIP:ALICE@AtLanTa.CoM;Transport=udp"), withURI("sip:alice@AtLanTa.CoM;Transport=UDP"), false},
		{"port 5060 is not its absence", withURI("sip:bob@biloxi.com"), withURI("sip:bob@biloxi.com:5060"), false},
		{"a transport in one", withURI("sip:bob@biloxi.com"), withURI("sip:bob@biloxi.com;transport=udp"), false},
		{"port and transport",
			withURI("sip:bob@biloxi.com"), withURI("sip:bob@biloxi.com:6000;transport=tcp"), false},
		{"a header in one", withURI("sip:carol@chicago.com"), withURI("sip:carol@chicago.com?Subject=next%20meeting"), false},
		{"a name is not its address", withURI("sip:bob@phone21.boxesbybob.com"), withURI("sip:bob@192.0.2.4"), false},
		{"security in both",
			withURI("sip:carol@chicago.com;security=on"), withURI("sip:carol@chicago.com;security=off"), false},

		{"another order of unknown parameters", withURI("sip:c@h;x=1;y=%32;z"), withURI("sip:c@h;Z;Y=2;x=1"), true},
		{"one of many differs", withURI("sip:c@h;x=1;y=2;z=3"), withURI("sip:c@h;z=4;y=2;x=1"), false},
		{"a value in one, none in the other", withURI("sip:c@h;x=1;ob"), withURI("sip:c@h;x=1;ob=1"), false},
		{"of two the first counts", withURI("sip:c@h;x=1;x=2"), withURI("sip:c@h;x=1"), true},
		{"sips is not sip", withURI("sip:a@h"), withURI("sips:a@h"), false},
		{"user parameter in one", withURI("sip:1@h"), withURI("sip:1@h;user=phone"), false},
		{"an escaped reserved character is not itself", withURI("sip:a%3Bb@h"), withURI("sip:a;b@h"), false},
		{"hex digits have no case", withURI("sip:a%3Bb@h"), withURI("sip:a%3bb@h"), true},
		{"other scheme", withURI("tel:+1"), withURI("tel:+2"), false},

		{"four fields", plain("1001", "Host", "5060", commonpb.Transport_UDP), plain("1001", "host", "5060", commonpb.Transport_UDP), true},
		{"user", plain("1001", "h", "5060", 0), plain("1002", "h", "5060", 0), false},
		{"port", plain("1001", "h", "5060", 0), plain("1001", "h", "5061", 0), false},
		{"transport", plain("1001", "h", "5060", commonpb.Transport_UDP), plain("1001", "h", "5060", commonpb.Transport_TCP), false},
		{"a URI in one", plain("1001", "h", "5060", 0),
			&locationpb.Route{User: "1001", Host: "h", Port: "5060", ContactUri: "sip:1001@h"}, true},

		{"same instance and reg-id", outbound("sip:a@x.invalid", "<urn:uuid:1>", 1), outbound("sip:a@y.invalid", "<urn:uuid:1>", 1), true},
		{"second flow", outbound("sip:a@x.invalid", "<urn:uuid:1>", 1), outbound("sip:a@x.invalid", "<urn:uuid:1>", 2), false},
		{"instance without reg-id", outbound("sip:a@x", "<urn:uuid:1>", 0), outbound("sip:a@y", "<urn:uuid:1>", 0), false},
		{"outbound in one", outbound("sip:a@x", "<urn:uuid:1>", 1), withURI("sip:a@x"), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := bindingOf(tt.a), bindingOf(tt.b)
			if ab, ba := same(a, b), same(b, a); ab != tt.want || ba != tt.want {
				t.Errorf("same(%v, %v) = %v, the other way %v, want %v", tt.a, tt.b, ab, ba, tt.want)
			}
		})
	}
}

func FuzzSame(f *testing.F) {
	f.Add("sip:%61lice@atlanta.com;transport=TCP?a=b", "sip:alice@AtLanTa.CoM;Transport=tcp?A=b")
	f.Add("sip:;;=;%@?&=&", "x")
	f.Fuzz(func(t *testing.T, x, y string) {
		a, b := bindingOf(withURI(x)), bindingOf(withURI(y))
		if same(a, b) != same(b, a) {
			t.Errorf("same(%q, %q) depends on the order", x, y)
		}
		if again := bindingOf(withURI(x)); !same(a, again) || a.contact.id != again.contact.id {
			t.Errorf("same(%q, %q) = false, want true", x, x)
		}
	})
}
