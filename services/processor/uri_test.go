package processor

import (
	"testing"

	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

func TestParseURI(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want URI
		bad  bool
	}{
		{in: "sip:bob@sip.local", want: URI{User: "bob", Host: "sip.local"}},
		{in: "SIPS:bob:pw@SIP.Local:5061;transport=tcp;lr?a=b", want: URI{Secure: true, User: "bob", Host: "SIP.Local", Port: 5061, Params: "transport=tcp;lr", Query: "a=b"}},
		{in: "sip:192.0.2.1", want: URI{Host: "192.0.2.1"}},
		{in: "sip:a;b?c@[2001:db8::1]:5060", want: URI{User: "a;b?c", Host: "[2001:db8::1]", Port: 5060}},
		{in: "sip:[::1]", want: URI{Host: "[::1]"}},
		{in: "sip:%31001@h", want: URI{User: "%31001", Host: "h"}},
		{in: "sip:@h", want: URI{Host: "h"}},
		{in: "sip:", bad: true},
		{in: "sip:bob@", bad: true},
		{in: "sip:bob@;x=y", bad: true},
		{in: "sip:h:0", bad: true},
		{in: "sip:h:65536", bad: true},
		{in: "sip:h:-1", bad: true},
		{in: "sip:[::1", bad: true},
		{in: "sip:a]b", bad: true},
		{in: "tel:+15551234", bad: true},
		{in: "sip:bob@h>", bad: true},
		{in: "sip:bob@h x", bad: true},
		{in: "sip:bob@h\r\nVia: x", bad: true},
		{in: "", bad: true},
	} {
		got, ok := ParseURI(tt.in)
		if ok == tt.bad || ok && got != tt.want {
			t.Errorf("ParseURI(%q) = %+v, %t, want %+v, %t", tt.in, got, ok, tt.want, !tt.bad)
		}
	}
}

func TestEqualURI(t *testing.T) {
	bob := &sipmessagepb.SipURI{User: "bob", Host: "Sip.Local"}
	for _, tt := range []struct {
		name, text string
		uri        *sipmessagepb.SipURI
		want       bool
	}{
		{"the same text", "tel:+1", &sipmessagepb.SipURI{Raw: "tel:+1"}, true},
		{"another text", "tel:+1", &sipmessagepb.SipURI{Raw: "tel:+2"}, false},
		{"nothing", "", &sipmessagepb.SipURI{}, false},
		{"no Request-URI", "sip:bob@sip.local", nil, false},
		{"host in another case", "sip:bob@SIP.LOCAL", bob, true},
		{"escaped twin", "sip:%62ob@sip.local", bob, true},
		{"user in another case", "sip:Bob@sip.local", bob, false},
		{"another user", "sip:carol@sip.local", bob, false},
		{"no user", "sip:sip.local", bob, false},
		{"sips", "sips:bob@sip.local", bob, false},
		{"default port is not no port", "sip:bob@sip.local:5060", bob, false},
		{"absent port as -1", "sip:bob@sip.local", &sipmessagepb.SipURI{User: "bob", Host: "sip.local", Port: -1}, true},
		{"headers", "sip:bob@sip.local?Subject=x", bob, false},
		{"transport in one of them", "sip:bob@sip.local;transport=tcp", bob, true},
		{"transport in both", "sip:bob@sip.local;Transport=TCP", &sipmessagepb.SipURI{User: "bob", Host: "sip.local", TransportParam: "tcp"}, true},
		{"another transport", "sip:bob@sip.local;transport=tcp", &sipmessagepb.SipURI{User: "bob", Host: "sip.local", TransportParam: "udp"}, false},
		{"maddr in one of them", "sip:bob@sip.local;maddr=192.0.2.1", bob, false},
		{"maddr in the other", "sip:bob@sip.local", &sipmessagepb.SipURI{User: "bob", Host: "sip.local", MAddrParam: "192.0.2.1"}, false},
		{"user parameter in the other", "sip:+1@sip.local", &sipmessagepb.SipURI{User: "+1", Host: "sip.local", UserParam: "phone"}, false},
		{"method parameter", "sip:bob@sip.local;method=BYE", bob, false},
		{"ttl", "sip:bob@sip.local;ttl=1", bob, false},
		{"unknown parameter in one of them", "sip:bob@sip.local;x=1;;", bob, true},
		{"unknown parameter differs", "sip:bob@sip.local;X=1", &sipmessagepb.SipURI{User: "bob", Host: "sip.local", Parameters: map[string]string{"x": "2"}}, false},
		{"IPv6 without brackets", "sip:[::1]", &sipmessagepb.SipURI{Host: "::1"}, true},
	} {
		if got := equalURI(tt.text, tt.uri); got != tt.want {
			t.Errorf("equalURI(%s: %s) = %t, want %t", tt.name, tt.text, got, tt.want)
		}
	}
}

func TestURIText(t *testing.T) {
	for _, tt := range []struct {
		in   *sipmessagepb.SipURI
		want string
	}{
		{nil, ""},
		{&sipmessagepb.SipURI{Raw: "sip:%62ob@h;x"}, "sip:%62ob@h;x"},
		{&sipmessagepb.SipURI{Host: "h"}, "sip:h"},
		{&sipmessagepb.SipURI{User: "bob", Host: "h", Port: 5061, Secure: true, TransportParam: "tls", LrParam: true}, "sips:bob@h:5061;transport=tls;lr"},
		{&sipmessagepb.SipURI{User: "bob", Host: "h", Port: -1, MAddrParam: "m", UserParam: "phone", MethodParam: "BYE"}, "sip:bob@h;maddr=m;user=phone;method=BYE"},
	} {
		if got := URIText(tt.in); got != tt.want {
			t.Errorf("URIText(%v) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		"1001": "1001", "%31001": "1001", "%2531": "%31", "a%": "a%", "a%4": "a%4", "a%zz": "a%zz", "%c3%a9": "é", "%+1": "%+1",
	} {
		if got := Unescape(in); got != want {
			t.Errorf("Unescape(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	for _, s := range []string{"sip:bob:pw@h:5060;a=b?c=d", "sips:[::1]:1", "sip:%%@h;maddr=;ttl=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		u, ok := ParseURI(in)
		if !ok {
			return
		}
		if u.Host == "" || u.Port < 0 || u.Port > 65535 {
			t.Fatalf("ParseURI(%q) = %+v", in, u)
		}
		if !equalURI(in, &sipmessagepb.SipURI{Raw: in}) {
			t.Fatalf("equalURI(%q) with itself is false", in)
		}
		equalURI(in, &sipmessagepb.SipURI{User: u.User, Host: u.Host, Port: int32(u.Port), Secure: u.Secure})
		Unescape(u.User)
	})
}
