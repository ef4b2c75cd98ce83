package message

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValues(t *testing.T) {
	tests := []struct {
		name  string
		kind  Kind
		lines []string
		want  []string
	}{
		{"none", KindContact, nil, nil},
		{"one", KindContact, []string{"Contact: <sip:a>"}, []string{"<sip:a>"}},
		{"compact, repeated, joined", KindContact, []string{"m: <sip:a>,<sip:b>", "X: y", "CONTACT: <sip:c>"}, []string{"<sip:a>", "<sip:b>", "<sip:c>"}},
		{"comma in quotes", KindContact, []string{`m: "a\"b, c" <sip:a>;q=1 , <sip:b>`}, []string{`"a\"b, c" <sip:a>;q=1`, "<sip:b>"}},
		{"comma in brackets", KindContact, []string{"m: <sip:a,b@c>,<sip:d>"}, []string{"<sip:a,b@c>", "<sip:d>"}},
		{"comma in a quoted parameter", KindContact, []string{`m: <sip:a>;x="1,2";y,<sip:b>`}, []string{`<sip:a>;x="1,2";y`, "<sip:b>"}},
		{"empty ones", KindAllow, []string{"Allow: ,, INVITE,\t,ACK ,", "Allow:", "Allow: ,"}, []string{"INVITE", "ACK"}},
		{"folded", KindSupported, []string{"k: a,\r\n b\r\n ,c"}, []string{"a", "b", "c"}},
		{"quote that does not end", KindContact, []string{`m: "a, <sip:a>`}, []string{`"a, <sip:a>`}},
		{"bracket that does not end", KindContact, []string{`m: <sip:a, <sip:b>, c`}, []string{`<sip:a, <sip:b>`, "c"}},
		{"no list", KindAuthorization, []string{`Authorization: Digest a="b", c="d"`, "Authorization: X"}, []string{`Digest a="b", c="d"`, "X"}},
		{"no list either", KindDate, []string{"Date: Sat, 13 Nov 2010 23:29:00 GMT"}, []string{"Sat, 13 Nov 2010 23:29:00 GMT"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m Message
			if err := m.Parse(base("", tt.lines...), DefaultLimits()); err != nil {
				t.Fatal(err)
			}
			var got []string
			for v := range m.Values(tt.kind) {
				got = append(got, string(v.Text))
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("Values(%v) (-want +got):\n%s", tt.kind, d)
			}
			if got := m.Count(tt.kind); got != len(tt.want) {
				t.Errorf("Count = %d, want %d", got, len(tt.want))
			}
			for v := range m.Values(tt.kind) {
				if string(v.Text) != tt.want[0] {
					t.Errorf("first value = %q, want %q", v.Text, tt.want[0])
				}
				break
			}
		})
	}
}

func TestFindName(t *testing.T) {
	m := parse(t, "invite.sip")
	for _, tt := range []struct {
		name string
		want int
	}{
		{"Via", 0}, {"v", 0}, {"VIA", 0}, {"From", 3}, {"user-agent", 9}, {"k", 8}, {"X-Absent", -1}, {"s", -1},
	} {
		i, ok := m.FindName(tt.name)
		if !ok {
			i = -1
		}
		if i != tt.want {
			t.Errorf("FindName(%s) = %d, want %d", tt.name, i, tt.want)
		}
	}
	var o Message
	if err := o.Parse(base("", "X-A: 1", "X-B: 2", "x-b: 3"), DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	i, ok := o.FindName("X-b")
	if _, _, v := o.Header(i); !ok || string(v) != "2" {
		t.Errorf("FindName(X-b) = %d %v, want the header with 2", i, ok)
	}
	if _, ok := o.Find(KindOther); ok {
		t.Error("Find(KindOther) = true, want false")
	}
}

func TestKinds(t *testing.T) {
	for k := KindVia; k < numKinds; k++ {
		if k.String() == "" {
			t.Errorf("kind %d has no name", k)
		}
		if got := KindOf(k.String()); got != k {
			t.Errorf("KindOf(%s) = %v", k, got)
		}
		if got := KindOf(strings.ToUpper(k.String())); got != k {
			t.Errorf("KindOf(%s) = %v, want %v", strings.ToUpper(k.String()), got, k)
		}
	}
	for short, want := range map[string]Kind{
		"a": KindAcceptContact, "b": KindReferredBy, "c": KindContentType, "d": KindRequestDisposition,
		"e": KindContentEncoding, "f": KindFrom, "i": KindCallID, "j": KindRejectContact, "k": KindSupported,
		"l": KindContentLength, "m": KindContact, "o": KindEvent, "r": KindReferTo, "s": KindSubject, "t": KindTo,
		"u": KindAllowEvents, "v": KindVia, "x": KindSessionExpires, "y": KindIdentity,
	} {
		if got := KindOf(short); got != want {
			t.Errorf("KindOf(%s) = %v, want %v", short, got, want)
		}
	}
	for m := INVITE; m <= PUBLISH; m++ {
		if got := MethodOf([]byte(m.String())); got != m || m.String() == "" {
			t.Errorf("MethodOf(%q) = %v, want %v", m, got, m)
		}
	}
}

func TestParseVia(t *testing.T) {
	type via struct {
		Transport, Host, Branch, Received, SentBy string
		Port, RPort                               uint16
		HasRPort                                  bool
	}
	tests := []struct {
		in   string
		want *via // nil: refused
	}{
		{"SIP/2.0/UDP 192.0.2.1", &via{Transport: "UDP", Host: "192.0.2.1", SentBy: "192.0.2.1"}},
		{"SIP/2.0/UDP a.example.com:5070;branch=z9hG4bK1;rport", &via{Transport: "UDP", Host: "a.example.com", Port: 5070, Branch: "z9hG4bK1", HasRPort: true, SentBy: "a.example.com:5070"}},
		{"SIP / 2.0\r\n /udp\t a : 5070 ;\r\n Branch = z9hG4bK1 ; RPORT = 7 ; ReCeIvEd=192.0.2.7", &via{Transport: "udp", Host: "a", Port: 5070, Branch: "z9hG4bK1", Received: "192.0.2.7", HasRPort: true, RPort: 7, SentBy: "a : 5070"}},
		{"SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bK1", &via{Transport: "WSS", Host: "df7jal23ls0d.invalid", Branch: "z9hG4bK1", SentBy: "df7jal23ls0d.invalid"}},
		{"SIP/2.0/UDP [2001:db8::9:255];received=[2001:db8::9:1]", &via{Transport: "UDP", Host: "2001:db8::9:255", Received: "[2001:db8::9:1]", SentBy: "[2001:db8::9:255]"}},
		{"SIP/2.0/UDP [::ffff:192.0.2.10]:19823;received=2001:db8::9:1", &via{Transport: "UDP", Host: "::ffff:192.0.2.10", Port: 19823, Received: "2001:db8::9:1", SentBy: "[::ffff:192.0.2.10]:19823"}},
		{`SIP/2.0/UDP a;x="1;branch=2,3";branch=z9hG4bK1`, &via{Transport: "UDP", Host: "a", Branch: "z9hG4bK1", SentBy: "a"}},
		{"SIP/2.0/UDP a;rport=;branch=", &via{Transport: "UDP", Host: "a", HasRPort: true, SentBy: "a"}},
		{"SIP/7.0/UDP a", &via{Transport: "UDP", Host: "a", SentBy: "a"}},
		{"", nil},
		{"SIP/2.0/UDP", nil},
		{"SIP/2.0/UDP ", nil},
		{"SIP/2.0 a", nil},
		{"SIP/2.0/ a", nil},
		{"SIP/2.0/UDP ;branch=1", nil},
		{"SIP/2.0/UDP a:", nil},
		{"SIP/2.0/UDP a:abc", nil},
		{"SIP/2.0/UDP a:-5", nil},
		{"SIP/2.0/UDP a:0", nil},
		{"SIP/2.0/UDP a:99999", nil},
		{"SIP/2.0/UDP 2001:db8::1", nil},
		{"SIP/2.0/UDP [2001:db8::1", nil},
		{"SIP/2.0/UDP []", nil},
		{"SIP/2.0/UDP a b", nil},
		{"SIP/2.0/UDP a;;branch=1", nil},
		{"SIP/2.0/UDP a;", nil},
		{"SIP/2.0/UDP a;branch=1;branch=2", nil},
		{"SIP/2.0/UDP a;rport=x", nil},
		{`SIP/2.0/UDP a;x="1`, nil},
		{"SIP/2.0/UDP a,b", nil},
	}
	for _, tt := range tests {
		v, err := ParseVia([]byte(tt.in))
		if tt.want == nil {
			if err == nil {
				t.Errorf("ParseVia(%q) = nil, want an error", tt.in)
			}
			continue
		}
		got := &via{string(v.Transport), string(v.Host), string(v.Branch), string(v.Received), string(v.SentBy()), v.Port, v.RPort, v.HasRPort}
		if d := cmp.Diff(tt.want, got); d != "" || err != nil {
			t.Errorf("ParseVia(%q) = %v (-want +got):\n%s", tt.in, err, d)
		}
	}
}

func TestAppendVia(t *testing.T) {
	tests := []struct {
		name, in, received string
		rport              uint16
		want               string
	}{
		{"nothing to say", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", "192.0.2.1", 5060, "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1"},
		{"another source", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", "192.0.2.2", 5060, "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;received=192.0.2.2"},
		{"a name", "SIP/2.0/UDP a.example.com;branch=z9hG4bK1", "192.0.2.2", 5060, "SIP/2.0/UDP a.example.com;branch=z9hG4bK1;received=192.0.2.2"},
		{"rport", "SIP/2.0/UDP 192.0.2.1;rport;branch=z9hG4bK1", "192.0.2.1", 4000, "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;received=192.0.2.1;rport=4000"},
		{"lies", "SIP/2.0/UDP 192.0.2.1;RECEIVED=203.0.113.1;rport=53;branch=z9hG4bK1 ; received=[::1]", "192.0.2.1", 4000, "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;received=192.0.2.1;rport=4000"},
		{"lie without a question", "SIP/2.0/UDP 192.0.2.1;received=203.0.113.1", "192.0.2.1", 4000, "SIP/2.0/UDP 192.0.2.1"},
		{"IPv6", "SIP/2.0/UDP [2001:db8:0::1];branch=z9hG4bK1", "2001:db8::1", 4000, "SIP/2.0/UDP [2001:db8:0::1];branch=z9hG4bK1"},
		{"IPv6, another", "SIP/2.0/UDP [2001:db8::1];branch=z9hG4bK1", "fe80::2%eth0", 4000, "SIP/2.0/UDP [2001:db8::1];branch=z9hG4bK1;received=fe80::2"},
		{"mapped", "SIP/2.0/UDP [::ffff:192.0.2.1]", "192.0.2.1", 4000, "SIP/2.0/UDP [::ffff:192.0.2.1]"},
		{"the rest stays", "SIP / 2.0 /TCP a ; x = \"received\" ;\r\n y", "192.0.2.2", 0, "SIP / 2.0 /TCP a ; x = \"received\" ;\r\n y;received=192.0.2.2"},
	}
	for _, tt := range tests {
		v, err := ParseVia([]byte(tt.in))
		if err != nil {
			t.Fatalf("ParseVia(%q) = %v", tt.in, err)
		}
		if got := string(AppendVia(nil, &v, netip.MustParseAddr(tt.received), tt.rport)); got != tt.want {
			t.Errorf("%s: AppendVia = %q, want %q", tt.name, got, tt.want)
		}
	}
}
