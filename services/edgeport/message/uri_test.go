package message

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseURI(t *testing.T) {
	type uri struct {
		Scheme, Opaque, User, Password, Host, HostText string
		Port                                           uint16
		Params, Headers                                string
	}
	tests := []struct {
		in   string
		want *uri // nil: refused
	}{
		{"sip:example.com", &uri{Scheme: "sip", Host: "example.com", HostText: "example.com"}},
		{"SIPS:a@example.com:5061;transport=tcp;lr", &uri{Scheme: "SIPS", User: "a", Host: "example.com", HostText: "example.com", Port: 5061, Params: ";transport=tcp;lr"}},
		{"sip:a:secret@[2001:db8::1]:5070;x?Subject=a&Route=%3Csip:b%3E", &uri{Scheme: "sip", User: "a", Password: "secret", Host: "2001:db8::1", HostText: "[2001:db8::1]", Port: 5070, Params: ";x", Headers: "Subject=a&Route=%3Csip:b%3E"}},
		{"sip:user;par=u%40example.net@example.com", &uri{Scheme: "sip", User: "user;par=u%40example.net", Host: "example.com", HostText: "example.com"}},
		{"sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com", &uri{Scheme: "sip", User: "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*", Password: "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)", Host: "example.com", HostText: "example.com"}},
		{"sip:*11#@pbx_1.local", &uri{Scheme: "sip", User: "*11#", Host: "pbx_1.local", HostText: "pbx_1.local"}},
		{"sip:null-%00-null@example.com", &uri{Scheme: "sip", User: "null-%00-null", Host: "example.com", HostText: "example.com"}},
		{"urn:service:sos", &uri{Scheme: "urn", Opaque: "service:sos"}},
		{"tel:+12015550123;phone-context=x", &uri{Scheme: "tel", Opaque: "+12015550123;phone-context=x"}},
		{"soap.beep://192.0.2.103:3002", &uri{Scheme: "soap.beep", Opaque: "//192.0.2.103:3002"}},
		{"nobodyKnowsThisScheme:totallyopaquecontent", &uri{Scheme: "nobodyKnowsThisScheme", Opaque: "totallyopaquecontent"}},
		{"", nil},
		{"example.com", nil},
		{":a", nil},
		{"1sip:a", nil},
		{"tel:", nil},
		{"sip:", nil},
		{"sip:@example.com", nil},
		{"sip:a@", nil},
		{"sip:a@b@c", nil},
		{"sip:a@b;x=@c", nil},
		{"sip:a@b:0", nil},
		{"sip:a@b:", nil},
		{"sip:a@b:99999", nil},
		{"sip:a@b:5060x", nil},
		{"sip:a@b?", nil},
		{"sip:2001:db8::10", nil},
		{"sip:[2001:db8::10", nil},
		{"sip:[a.example]", nil},
		{"sip:a@b c", nil},
		{"sip:a@b\x00", nil},
		{"<sip:a@b>", nil},
		{"sip:a@b/c", nil},
		{"sip:a@b" + strings.Repeat(";a", MaxParams+1), nil},
	}
	for _, tt := range tests {
		u, err := ParseURI([]byte(tt.in))
		if tt.want == nil {
			if err == nil {
				t.Errorf("ParseURI(%q) = nil, want an error", tt.in)
			}
			continue
		}
		got := &uri{string(u.Scheme), string(u.Opaque), string(u.User), string(u.Password), string(u.Host), string(u.HostText()), u.Port, string(u.Params), string(u.Headers)}
		if d := cmp.Diff(tt.want, got); d != "" || err != nil {
			t.Errorf("ParseURI(%q) = %v (-want +got):\n%s", tt.in, err, d)
		}
		if u.SIP() != (tt.want.Opaque == "") || u.Secure() != strings.EqualFold(tt.want.Scheme, "sips") {
			t.Errorf("ParseURI(%q): SIP = %v, Secure = %v", tt.in, u.SIP(), u.Secure())
		}
	}
}

func TestURIParam(t *testing.T) {
	u, err := ParseURI([]byte("sip:a@b;Transport=UDP;lr;;x==y;transport=tcp"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		ok         bool
	}{
		{"transport", "UDP", true}, {"lr", "", true}, {"x", "=y", true}, {"maddr", "", false},
	} {
		if got, ok := u.Param(tt.name); string(got) != tt.want || ok != tt.ok {
			t.Errorf("Param(%s) = %q, %v, want %q, %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
	var got []string
	for p := range u.All() {
		got = append(got, string(p.Name)+" "+string(p.Value)+" "+string(p.Text))
	}
	if d := cmp.Diff([]string{"Transport UDP ;Transport=UDP", "lr  ;lr", "x =y ;x==y", "transport tcp ;transport=tcp"}, got); d != "" {
		t.Errorf("All (-want +got):\n%s", d)
	}
}

// The examples are those of RFC 3261 19.1.4.
func TestURIEqual(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp", true},
		{"sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5", true},
		{"sip:carol@chicago.com", "sip:carol@chicago.com;security=on", true},
		{"sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com", "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com", true},
		{"sip:alice@atlanta.com?subject=project%20x&priority=urgent", "sip:alice@atlanta.com?priority=urgent&subject=project%20x", true},
		{"SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP", false},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com:5060", false},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp", false},
		{"sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting", false},
		{"sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4", false},
		{"sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;newparam=6", false},
		{"sip:bob@biloxi.com;user=phone", "sip:bob@biloxi.com", false},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com;maddr=192.0.2.1", false},
		{"sip:bob@biloxi.com", "sips:bob@biloxi.com", false},
		{"sip:bob@biloxi.com", "sip:bob:@biloxi.com", false},
		{"sip:b%3Bob@biloxi.com", "sip:b;ob@biloxi.com", false},
		{"sip:b%zzob@biloxi.com", "sip:b%zzob@biloxi.com", true},
		{"tel:+1201", "TEL:+1201", true},
		{"tel:+1201", "tel:+1202", false},
		{"urn:service:sos", "sip:service", false},
	}
	for _, tt := range tests {
		a, err1 := ParseURI([]byte(tt.a))
		b, err2 := ParseURI([]byte(tt.b))
		if err1 != nil || err2 != nil {
			t.Fatalf("ParseURI(%q), ParseURI(%q) = %v, %v", tt.a, tt.b, err1, err2)
		}
		if got := a.Equal(&b); got != tt.want {
			t.Errorf("%q.Equal(%q) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
		if got := b.Equal(&a); got != tt.want {
			t.Errorf("%q.Equal(%q) = %v, want %v", tt.b, tt.a, got, tt.want)
		}
	}
}

func TestParseNameAddr(t *testing.T) {
	type addr struct{ Display, URI, Params, Tag string }
	tests := []struct {
		in   string
		want *addr // nil: refused
	}{
		{"sip:a@b", &addr{URI: "sip:a@b"}},
		{"sip:a@b;tag=1 ; x", &addr{URI: "sip:a@b", Params: ";tag=1 ; x", Tag: "1"}},
		{"sip:a@b \r\n ; TAG = 1", &addr{URI: "sip:a@b", Params: "; TAG = 1", Tag: "1"}},
		{"<sip:a@b;lr>", &addr{URI: "sip:a@b;lr"}},
		{"<sip:a,b@c?x=y>;q=0.5", &addr{URI: "sip:a,b@c?x=y", Params: ";q=0.5"}},
		{"Alice B <sip:a@b>", &addr{Display: "Alice B", URI: "sip:a@b"}},
		{"caller<sip:a@b>", &addr{Display: "caller", URI: "sip:a@b"}},
		{`"a\"b, c; <sip:x>" <sip:a@b>;x="a;b\"c"`, &addr{Display: `a\"b, c; <sip:x>`, URI: "sip:a@b", Params: `;x="a;b\"c"`}},
		{`"" <sip:a@b>`, &addr{URI: "sip:a@b"}},
		{`sip:a@b;x="<"`, &addr{URI: "sip:a@b", Params: `;x="<"`}},
		{"<tel:+1;x=y>;z", &addr{URI: "tel:+1;x=y", Params: ";z"}},
		{"<sip:a@b>;;", &addr{URI: "sip:a@b", Params: ";;"}},
		{"*", &addr{URI: "*"}},
		{"", nil},
		{"Alice", nil},
		{"**", nil},
		{"<>", nil},
		{"<a@b>", nil},
		{"<sip:a@b", nil},
		{"<sip:a@b> x", nil},
		{"<sip:a@b>,<sip:c@d>", nil},
		{"< sip:a@b >", nil},
		{"<sip:a b@c>", nil},
		{"<<sip:a@b>>", nil},
		{`"Alice <sip:a@b>`, nil},
		{`"Alice" B <sip:a@b>`, nil},
		{"Bell, Alexander <sip:a@b>", nil},
		{"sip:a@b?Route=%3Csip:c%3E", nil},
		{"sip:a,b@c", nil},
		{`<sip:a@b>;x="y`, nil},
		{"<sip:a@b>;=y", nil},
		{"<sip:a@b>;x=y z", nil},
		{"<sip:a@b>" + strings.Repeat(";a", MaxParams+1), nil},
	}
	for _, tt := range tests {
		a, err := ParseNameAddr([]byte(tt.in))
		if tt.want == nil {
			if err == nil {
				t.Errorf("ParseNameAddr(%q) = nil, want an error", tt.in)
			}
			continue
		}
		got := &addr{string(a.Display), string(a.URI), string(a.Params), string(a.Tag)}
		if d := cmp.Diff(tt.want, got); d != "" || err != nil {
			t.Errorf("ParseNameAddr(%q) = %v (-want +got):\n%s", tt.in, err, d)
		}
		if a.Wildcard() != (tt.in == "*") {
			t.Errorf("ParseNameAddr(%q).Wildcard() = %v", tt.in, a.Wildcard())
		}
	}
	a, err := ParseNameAddr([]byte(`<sip:a@b>;Q=0.5;+sip.instance="<urn:x>";;reg-id=1`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for p := range a.All() {
		got = append(got, string(p.Name)+" "+string(p.Value)+" "+string(p.Text))
	}
	if d := cmp.Diff([]string{"Q 0.5 ;Q=0.5", `+sip.instance <urn:x> ;+sip.instance="<urn:x>"`, "reg-id 1 ;reg-id=1"}, got); d != "" {
		t.Errorf("All (-want +got):\n%s", d)
	}
	if v, ok := a.Param("q"); string(v) != "0.5" || !ok {
		t.Errorf("Param(q) = %q, %v", v, ok)
	}
}
