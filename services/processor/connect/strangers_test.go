package connect

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/processor"
)

// with is an answer without what is random in it, and with what the EdgePort is told.
func with(m *processorpb.MessageResponse) string {
	text := regexp.MustCompile(`nonce="[^"]*"`).ReplaceAllString(describe(m), "nonce")
	return text + " " + m.GetMetadata()[processor.OffenceKey]
}

// A2, D15: whoever asks for names gets the same answer for those that exist and those that do not, byte by byte.
func TestA2Enumeration(t *testing.T) {
	f := newFabric(t, bustest.Connect(t), nil)
	f.call(phone{user: "1002"}, request{from: "sip:1002@sip.local", contacts: []contact{{uri: "sip:1002@192.0.2.2"}}})
	for m, method := range []string{"REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE", "BYE"} {
		var first string
		// An agent with a binding, one who is disabled, one without a password, and nobody.
		for i, user := range []string{"1002", "1003", "1006", "nobody"} {
			in := request{method: method, from: "sip:" + user + "@sip.local", source: fmt.Sprintf("203.0.113.%d", 10*m+i)}
			if method != "REGISTER" {
				in.uri = "sip:" + user + "@sip.local"
			}
			challenge := f.send(in)
			wrong := f.send(phone{user: user, password: "guess"}.answer(t, in, challenge))
			got := with(challenge) + "\n" + with(wrong)
			if !strings.HasSuffix(got, processor.OffenceWrongCredentials) {
				t.Errorf("%s of %s with a wrong password = %s, want it told to the EdgePort", method, user, with(wrong))
			}
			if first == "" {
				first = got
			} else if diff := cmp.Diff(first, got); diff != "" {
				t.Errorf("answers to %s of %s differ (-1002 +%s):\n%s", method, user, user, diff)
			}
		}
	}
}

// A3: a thousand passwords for one account from one address.
func TestA3Guessing(t *testing.T) {
	f := newFabric(t, bustest.Connect(t), nil)
	in := request{contacts: []contact{{uri: phoneContact, expires: "600"}}}
	if got := outcome(f.call(phone{}, in)); got != "200" {
		t.Fatalf("REGISTER of the owner before = %s, want 200", got)
	}
	thief := in
	thief.source = "203.0.113.66"
	challenge := f.send(thief)
	told, offences := 0, f.connect.digest.Load()
	for i := range 1000 {
		got := f.send(phone{password: fmt.Sprint("guess", i), count: i + 1}.answer(t, thief, challenge))
		if outcome(got) != "401" {
			t.Fatalf("REGISTER with a guess = %s, want 401", describe(got))
		}
		if got.Metadata[processor.OffenceKey] != "" {
			told++
		}
	}
	// Four at once, and one more each twenty seconds that this took.
	if o := offences.Offences(); told == 0 || o.HeldBack == 0 || o.HeldBack+o.WrongCredentials != 1000 || int64(told) != o.WrongCredentials {
		t.Errorf("of 1,000 passwords %+v, and %d were told to the EdgePort; want most held back, and the others told", o, told)
	}
	if got := outcome(f.call(phone{}, thief)); got != "401" {
		t.Errorf("REGISTER with the right password from there = %s, want 401", got)
	}
	in.cSeq = 2
	if got := outcome(f.call(phone{}, in)); got != "200" {
		t.Errorf("REGISTER of the owner under attack = %s, want 200", got)
	}
}

// A23: what is not a fresh answer to a challenge of ours is none.
func TestA23Digest(t *testing.T) {
	f := newFabric(t, bustest.Connect(t), nil)
	in := request{contacts: []contact{{uri: phoneContact}}}
	challenge := f.send(in)
	good := phone{}.answer(t, in, challenge)
	header := good.headers[len(good.headers)-1]
	nonce := regexp.MustCompile(`nonce="([^"]*)"`).FindStringSubmatch(header)[1]
	for _, tt := range []struct{ name, from, to, want string }{
		{"D11 nonce of somebody else", nonce, "b5a3226fa1899b33872e953643e0bca9", "401 " + processor.OffenceForgedNonce},
		{"D11 nonce with another number", nonce, nonce[:12] + "AAAA" + nonce[16:], "401 " + processor.OffenceForgedNonce},
		{"D12 no qop", `qop=auth, `, "", "401 "},
		{"downgrade to MD5", "algorithm=SHA-256", "algorithm=MD5", "401 " + processor.OffenceWrongCredentials},
		{"-sess", "algorithm=SHA-256", "algorithm=SHA-256-sess", "401 "},
		{"no nonce count", "nc=00000001, ", "", "401 " + processor.OffenceWrongCredentials},
		{"nonce count of another request", "nc=00000001", "nc=00000002", "401 " + processor.OffenceWrongCredentials},
		{"D9 uri of another request", `uri="sip:sip.local"`, `uri="sip:other.local"`, "400 "},
		{"as it was", "", "", "200 "},
		{"D7 once more", "", "", "401 stale "},
	} {
		changed := strings.Replace(header, tt.from, tt.to, 1)
		if changed == header && tt.from != "" {
			t.Fatalf("%s: %q is not in %s", tt.name, tt.from, header)
		}
		in.headers = []string{changed}
		answer := f.send(in)
		if got := outcome(answer) + " " + answer.Metadata[processor.OffenceKey]; got != tt.want {
			t.Errorf("%s = %s, want %s", tt.name, got, tt.want)
		}
	}
}

// A32: who is no party of a call has seen its Call-ID and tags, but has no Route of ours.
func TestA32ThirdParty(t *testing.T) {
	f := newFabric(t, bustest.Connect(t), nil)
	f.call(phone{user: "1002"}, request{from: "sip:1002@sip.local", source: "192.0.2.2", contacts: []contact{{uri: "sip:1002@192.0.2.2:5060"}}})
	for _, method := range []string{"BYE", "INVITE", "REFER", "UPDATE", "INFO", "NOTIFY", "PRACK"} {
		for _, uri := range []string{"sip:1002@sip.local", "sip:1002@192.0.2.2:5060"} {
			in := request{method: method, uri: uri, to: "sip:1002@sip.local", toTag: "sniffed", callID: "sniffed"}
			if got := outcome(f.send(in)); got != "407" {
				t.Errorf("%s %s of a stranger = %s, want 407", method, uri, got)
			}
			if got := outcome(f.call(phone{}, in)); got != "481" {
				t.Errorf("%s %s of another agent = %s, want 481", method, uri, got)
			}
		}
	}
	for _, method := range []string{"ACK", "CANCEL"} {
		if got := outcome(f.send(request{method: method, uri: "sip:1002@sip.local", toTag: "sniffed"})); got != "481" {
			t.Errorf("%s of a stranger = %s, want 481", method, got)
		}
	}
}

// What other parts of the system act upon does not come from a stranger, whatever the method and however it is spelled.
func TestReservedHeadersOfStrangers(t *testing.T) {
	f := newFabric(t, bustest.Connect(t), nil)
	f.call(phone{user: "1002"}, request{from: "sip:1002@sip.local", source: "192.0.2.2", contacts: []contact{{uri: "sip:1002@192.0.2.2:5060"}}})
	reserved := []string{
		"X-Edgeport-Ref", "x-edgeport-ref", "X-EDGEPORT-REF", "X-Gateway-Auth", "X-Call-Direction", "X-Request-URI", "X-Connect-Token",
		"X-Session-Count", "X-DOD-Number", "X-DOD-Privacy", "P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID", "remote-party-id",
	}
	free := []string{"X-Edgeport", "X-Edgeport-Refs", "X-Room-Id", "Privacy", "P-Early-Media", "Reason", "Subject"}
	for _, method := range []string{"INVITE", "MESSAGE", "OPTIONS", "SUBSCRIBE", "FOO"} {
		in := request{method: method, uri: "sip:1002@sip.local"}
		want := "sip:1002@192.0.2.2:5060"
		for _, name := range reserved {
			in.headers = append(in.headers, name+": x")
			want += " -" + name
		}
		for _, name := range free {
			in.headers = append(in.headers, name+": x")
		}
		if diff := cmp.Diff(want+" -Proxy-Authorization", describe(f.call(phone{}, in))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", method, diff)
		}
	}
	// Trust is by the address that a request comes from, and by nothing that is in it.
	in := request{method: "INVITE", uri: "sip:1002@sip.local", from: "sip:1001@sip.local", headers: []string{"X-Forwarded-For: " + peer}}
	r := in.build()
	r.Message.Via[0].Host, r.Message.Via[0].Received = peer, peer
	if got, err := f.post(r); err != nil || outcome(got) != "407" {
		t.Errorf("INVITE with the Via of a trusted peer = %s, %v, want 407", describe(got), err)
	}
	r.Sender.Host = "::ffff:" + peer // a socket for both families says it so
	if got, err := f.post(r); err != nil || !strings.HasPrefix(describe(got), "sip:1002@") {
		t.Errorf("INVITE of a trusted peer = %s, %v, want a target", describe(got), err)
	}
}

// Our domains in every spelling, and what only looks like one of them.
func TestSpellingOfDomains(t *testing.T) {
	res := testResources()
	res.Domains = append(res.Domains, Domain{Ref: "v6", Spec: DomainSpec{Context: DomainContext{DomainURI: "2001:DB8:0:0::1"}}})
	dir, err := newDirectory(res)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"sip.local": "sip.local", "SIP.Local": "sip.local", "sip.local.": "sip.local", "SIP.LOCAL.": "sip.local",
		"other.LOCAL.":  "other.local",
		"[2001:db8::1]": "[2001:db8::1]", "[2001:DB8::0001]": "[2001:db8::1]", "[2001:0db8:0:0:0:0:0.0.0.1]": "[2001:db8::1]",
		"2001:db8::1": "[2001:db8::1]",
		"":            "", ".": "", "sip.local..": "", ".sip.local": "", "sip%2elocal": "", "sip.local%2e": "", "sip.local%00": "", "xsip.local": "",
		"sip.local.example.com": "", "[2001:db8::1%25eth0]": "", "[2001:db8::1%eth0]": "", "[2001:db8::2]": "", "[": "", "[]": "", "[sip.local]": "",
	} {
		got := ""
		if d := dir.domain(host); d != nil {
			got = d.host
		}
		if got != want {
			t.Errorf("domain(%s) = %q, want %q", host, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { dir.domain("sip.local"); dir.domain("192.0.2.1") }); n != 0 {
		t.Errorf("domain allocates %g times, want 0", n)
	}
	res.Domains = append(res.Domains, Domain{Ref: "v6-again", Spec: DomainSpec{Context: DomainContext{DomainURI: "[2001:db8::1]"}}})
	if _, err := newDirectory(res); err == nil {
		t.Error("two spellings of one domain = nil, want an error")
	}
}

// A33: a contact that leads elsewhere is reached where it registered from.
func TestA33ContactOfSomebodyElse(t *testing.T) {
	for _, tt := range []struct{ name, contact, want string }{
		{"host", "sip:+900@203.0.113.99", "sip:+900@203.0.113.99 at UDP 192.0.2.1:5060"},
		{"maddr", "sip:+900@192.0.2.1;maddr=203.0.113.99", "sip:+900@192.0.2.1;maddr=203.0.113.99 at UDP 192.0.2.1:5060"},
		{"MADDR", "sip:+900@192.0.2.1;x;MADDR=203.0.113.99", "sip:+900@192.0.2.1;x;MADDR=203.0.113.99 at UDP 192.0.2.1:5060"},
		{"its own maddr", "sip:1001@192.0.2.1;maddr=192.0.2.1", "sip:1001@192.0.2.1;maddr=192.0.2.1"},
		{"Route in the URI", "sip:1001@192.0.2.1?Route=%3Csip:203.0.113.99%3Blr%3E", "sip:1001@192.0.2.1"},
		{"two hosts", "sip:1001@203.0.113.99@192.0.2.1", "400"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFabric(t, bustest.Connect(t), nil)
			if got := outcome(f.call(phone{}, request{contacts: []contact{{uri: tt.contact}}})); got != "200" {
				if got != tt.want {
					t.Errorf("REGISTER %s = %s, want %s", tt.contact, got, tt.want)
				}
				return
			}
			got := describe(f.call(phone{}, request{method: "INVITE", uri: "sip:1001@sip.local", callID: "call-2"}))
			if got = strings.TrimSuffix(got, " -Proxy-Authorization"); got != tt.want {
				t.Errorf("INVITE to %s = %s, want %s", tt.contact, got, tt.want)
			}
		})
	}
}
