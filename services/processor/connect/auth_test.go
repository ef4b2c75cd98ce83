package connect

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/processor"
)

// authorizationOf is the field that the EdgePort makes of the first Authorization.
func authorizationOf(value string) *sipmessagepb.Authorization {
	c, _ := processor.ParseCredentials(value)
	a := &sipmessagepb.Authorization{
		Scheme: "Digest", Username: c.Username, Realm: c.Realm, Nonce: c.Nonce, Uri: c.URI, Response: c.Response,
		Algorithm: c.Algorithm, CNonce: c.CNonce, Opaque: c.Opaque, Qop: c.QOP,
	}
	if c.NC != "" {
		a.NonceCount = atoi(c.NC)
	}
	return a
}

// What strangers may do, with a phone that answers the challenge.
func TestStrangers(t *testing.T) {
	bound := []contact{{uri: "sip:1001@192.0.2.1:5060", expires: "600"}}
	const ok = "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=600"
	table := []struct {
		name  string
		phone phone
		in    request
		want  string // "challenge" for another challenge
	}{
		{name: "REGISTER", in: request{contacts: bound}, want: ok},
		{name: "D3 REGISTER with MD5", phone: phone{algorithm: "MD5"}, in: request{contacts: bound}, want: ok},
		{name: "query", in: request{}, want: "200 OK"},
		{name: "R16 To of another agent", in: request{to: "sip:1002@sip.local", contacts: bound}, want: "403 Forbidden"},
		{name: "R16 To of nobody", in: request{to: "sip:nobody@sip.local", contacts: bound}, want: "403 Forbidden"},
		{name: "R16 From of another agent", in: request{from: "sip:1002@sip.local", to: "sip:1001@sip.local", contacts: bound}, want: "403 Forbidden"},
		{name: "R16 From of another domain", in: request{from: "sip:1001@other.local", to: "sip:1001@sip.local", contacts: bound}, want: "403 Forbidden"},
		{name: "R16 spelling", in: request{from: "sip:%31001@SIP.local;x", to: "sip:100%31@sip.local", contacts: bound}, want: ok},
		{name: "agents that share credentials", in: request{from: "sip:1005@sip.local", contacts: bound}, want: ok},
		{name: "disabled agent", phone: phone{user: "1003"}, in: request{from: "sip:1003@sip.local", contacts: bound}, want: "challenge"},
		{name: "agent without credentials", in: request{from: "sip:1006@sip.local", contacts: bound}, want: "403 Forbidden"},
		{name: "D5 wrong password", phone: phone{password: "guess"}, in: request{contacts: bound}, want: "challenge"},
		{name: "D5 unknown user", phone: phone{user: "nobody"}, in: request{contacts: bound}, want: "challenge"},
		{name: "user of another domain", in: request{uri: "sip:other.local", from: "sip:1001@other.local", contacts: bound}, want: "challenge"},
		{name: "D9 REGISTER for the AOR as uri", phone: phone{digestURI: "sip:1001@sip.local"}, in: request{contacts: bound},
			want: "400 Digest URI Is Not The Request-URI"},
		{name: "SIPp's uri", phone: phone{digestURI: "sip:203.0.113.1:5060"}, in: request{contacts: bound}, want: ok},

		{name: "INVITE", in: request{method: "INVITE", uri: "sip:1002@sip.local"},
			want: "sip:1002@192.0.2.2:5060 -Proxy-Authorization"},
		{name: "INVITE with MD5", phone: phone{algorithm: "MD5"}, in: request{method: "INVITE", uri: "sip:1002@sip.local"},
			want: "sip:1002@192.0.2.2:5060 -Proxy-Authorization"},
		{name: "INVITE with headers of others", in: request{method: "INVITE", uri: "sip:1002@sip.local", headers: []string{
			"X-Edgeport-Ref: a", "x-gateway-auth: b", "X-Call-Direction: c", "X-Request-URI: d", "P-Asserted-Identity: e", "X-Mine: f", "Subject: g",
		}}, want: "sip:1002@192.0.2.2:5060 -X-Edgeport-Ref -x-gateway-auth -X-Call-Direction -X-Request-URI -P-Asserted-Identity -Proxy-Authorization"},
		{name: "W22 INVITE of an anonymous caller", in: request{method: "INVITE", from: "sip:anonymous@Anonymous.invalid",
			uri: "sip:1002@sip.local", headers: []string{"Privacy: id", "P-Preferred-Identity: <sip:1001@sip.local>"}},
			want: "sip:1002@192.0.2.2:5060 -P-Preferred-Identity -Proxy-Authorization"},
		{name: "W22 INVITE of an anonymous stranger", phone: phone{user: "nobody"},
			in: request{method: "INVITE", from: "sip:anonymous@anonymous.invalid", uri: "sip:1002@sip.local"}, want: "challenge"},
		{name: "W22 INVITE of a disabled agent who is anonymous", phone: phone{user: "1003"},
			in: request{method: "INVITE", from: "sip:anonymous@anonymous.invalid", uri: "sip:1002@sip.local"}, want: "challenge"},
		{name: "INVITE, From of another agent", in: request{method: "INVITE", from: "sip:1002@sip.local", uri: "sip:1002@sip.local"},
			want: "403 From Is Not The Authenticated User"},
		{name: "INVITE, From of nobody", in: request{method: "INVITE", from: "sip:nobody@sip.local", uri: "sip:1002@sip.local"},
			want: "403 From Is Not The Authenticated User"},
		{name: "D9 INVITE with the uri of another", phone: phone{digestURI: "sip:1006@sip.local"},
			in: request{method: "INVITE", uri: "sip:1002@sip.local"}, want: "400 Digest URI Is Not The Request-URI"},
		{name: "D9 escaped twin", phone: phone{digestURI: "sip:100%32@sip.local"},
			in: request{method: "INVITE", uri: "sip:1002@sip.local"}, want: "sip:1002@192.0.2.2:5060 -Proxy-Authorization"},
		{name: "INVITE to an unknown user", in: request{method: "INVITE", uri: "sip:nobody@sip.local"}, want: "404 Not Found"},
		{name: "INVITE without a binding", in: request{method: "INVITE", uri: "sip:1006@sip.local"}, want: "480 Temporarily Unavailable"},
		{name: "P14 INVITE to a foreign domain", in: request{method: "INVITE", uri: "sip:x@192.0.2.1"}, want: "403 Domain Is Not Served Here"},
		{name: "BYE of a dialog that is gone", in: request{method: "BYE", uri: "sip:x@192.0.2.1", toTag: "t"}, want: "481 Call/Transaction Does Not Exist"},
	}
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, tt := range table {
			t.Run(tt.name, func(t *testing.T) {
				f := newFabric(t, conn, nil)
				if tt.in.method == "INVITE" {
					f.call(phone{user: "1002"}, request{from: "sip:1002@sip.local", source: "192.0.2.2", contacts: []contact{{uri: "sip:1002@192.0.2.2:5060"}}})
				}
				got := f.call(tt.phone, tt.in)
				if tt.want == "challenge" {
					status := map[bool]int32{true: 401, false: 407}[tt.in.method == ""]
					if got.GetMessage().GetStatusCode() != status || strings.Contains(describe(got), "stale") {
						t.Errorf("answer = %s, want %d that is not stale", describe(got), status)
					}
					return
				}
				if diff := cmp.Diff(tt.want, describe(got)); diff != "" {
					t.Errorf("answer (-want +got):\n%s", diff)
				}
			})
		}
	})
}

// What is refused to strangers without a challenge, and what is challenged alike.
func TestStrangersWithoutCredentials(t *testing.T) {
	f := newFabric(t, bustest.Connect(t), nil)
	for _, tt := range []struct {
		name string
		in   request
		want int32
	}{
		{"REGISTER", request{contacts: []contact{{uri: phoneContact}}}, 401},
		{"A2 REGISTER of nobody", request{from: "sip:nobody@sip.local"}, 401},
		{"INVITE", request{method: "INVITE", uri: "sip:1002@sip.local"}, 407},
		{"A2 INVITE to nobody", request{method: "INVITE", uri: "sip:nobody@sip.local"}, 407},
		{"A2 INVITE from nobody", request{method: "INVITE", from: "sip:nobody@sip.local", uri: "sip:1002@sip.local"}, 407},
		{"A2 OPTIONS", request{method: "OPTIONS", uri: "sip:1002@sip.local"}, 407},
		{"INVITE from elsewhere", request{method: "INVITE", from: "sip:1001@elsewhere", uri: "sip:1002@sip.local"}, 403},
		{"W22 anonymous INVITE", request{method: "INVITE", from: "sip:anonymous@anonymous.invalid", uri: "sip:1002@sip.local"}, 407},
		{"W22 anonymous INVITE to a foreign domain", request{method: "INVITE", from: "sip:anonymous@anonymous.invalid", uri: "sip:x@192.0.2.66"}, 403},
		{"W22 anonymous REGISTER", request{from: "sip:anonymous@anonymous.invalid", contacts: []contact{{uri: phoneContact}}}, 401},
		{"D14 ACK", request{method: "ACK", uri: "sip:1002@sip.local", toTag: "t"}, 481},
		{"D14 CANCEL", request{method: "CANCEL", uri: "sip:1002@sip.local"}, 481},
		{"forged X-Edgeport-Ref", request{method: "INVITE", uri: "sip:x@192.0.2.66", headers: []string{"X-Edgeport-Ref: edgeport-02"}}, 407},
		{"forged X-Gateway-Auth", request{headers: []string{"X-Gateway-Auth: cGJ4LTE6MTIzNA=="}}, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := f.send(tt.in); got.GetMessage().GetStatusCode() != tt.want {
				t.Errorf("answer = %s, want %d", describe(got), tt.want)
			}
		})
	}
}

// D1, D2 on the bus; the realm is the domain of who is asked, however it was written.
func TestD1D2ChallengeOnTheBus(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		f := newFabric(t, conn, nil)
		for _, tt := range []struct {
			in          request
			name, realm string
		}{
			{request{uri: "sip:SIP.local"}, "WWW-Authenticate", "sip.local"},
			{request{uri: "sip:other.local"}, "WWW-Authenticate", "other.local"},
			{request{method: "INVITE", uri: "sip:1002@sip.local", from: "sip:x@OTHER.local"}, "Proxy-Authenticate", "other.local"},
		} {
			got := values(f.send(tt.in), tt.name)
			if len(got) != 2 || !strings.Contains(got[0], "algorithm=SHA-256") || !strings.Contains(got[1], "algorithm=MD5") {
				t.Fatalf("%s = %q, want SHA-256 and then MD5", tt.name, got)
			}
			for _, c := range got {
				if !strings.HasPrefix(c, `Digest realm="`+tt.realm+`", nonce="`) || !strings.Contains(c, `qop="auth"`) {
					t.Errorf("%s = %s, want the realm %s and qop auth", tt.name, c, tt.realm)
				}
			}
		}
	})
}

// D6, D7: stale says that the password was right.
func TestD6D7D8Stale(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		in := request{contacts: []contact{{uri: phoneContact}}}
		f := newFabric(t, conn, func(s *Service) { s.nonceLifetime = -time.Second })
		if got := describe(f.call(phone{}, in)); strings.Count(got, "stale=true") != 2 || !strings.HasPrefix(got, "401 ") {
			t.Errorf("D6 REGISTER with an old nonce = %s, want 401 with stale in both challenges", got)
		}
		if got := describe(f.call(phone{password: "guess"}, in)); strings.Contains(got, "stale") || !strings.HasPrefix(got, "401 ") {
			t.Errorf("D6 REGISTER with an old nonce and a wrong password = %s, want 401 without stale", got)
		}
	})
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		f := newFabric(t, conn, nil)
		in := request{contacts: []contact{{uri: phoneContact}}}
		first := f.send(in)
		for _, tt := range []struct {
			name  string
			count int
			cSeq  uint32
			want  string
		}{{"first use", 1, 1, "200 "}, {"D7 replay", 1, 2, "401 "}, {"D8 grown", 2, 3, "200 "}, {"D8 not grown", 2, 4, "401 "}} {
			in.cSeq = tt.cSeq
			got := describe(f.send(phone{count: tt.count}.answer(t, in, first)))
			if !strings.HasPrefix(got, tt.want) || strings.HasPrefix(got, "401") != strings.Contains(got, "stale=true") {
				t.Errorf("%s = %s, want %swith stale for 401", tt.name, got, tt.want)
			}
		}
	})
}

// D10: credentials of a REGISTER are none for an INVITE.
func TestD10SplicedCredentials(t *testing.T) {
	f := newFabric(t, bustest.Connect(t), nil)
	register := request{method: "REGISTER", uri: "sip:sip.local"}
	header := phone{}.credentials(t, register, f.send(register))
	for _, uri := range []string{"sip:sip.local", "sip:1002@sip.local"} {
		invite := request{method: "INVITE", uri: uri, headers: []string{strings.Replace(header, "WWW-", "Proxy-", 1)}}
		if got := f.send(invite); got.GetMessage().GetStatusCode() != 407 {
			t.Errorf("INVITE %s with credentials of a REGISTER = %s, want 407", uri, describe(got))
		}
	}
}

// The EdgePort reads the first Authorization into a field of its own.
func TestAuthorizationField(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		f := newFabric(t, conn, nil)
		in := request{contacts: []contact{{uri: phoneContact, expires: "600"}}}
		_, value, _ := strings.Cut(phone{}.credentials(t, in, f.send(in)), ": ")
		r := in.build()
		r.Message.Authorization = authorizationOf(value)
		got, err := f.post(r)
		if want := "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=600"; err != nil || describe(got) != want {
			t.Errorf("REGISTER = %s, %v, want %s", describe(got), err, want)
		}
	})
}

// D7, D11: a nonce of one instance is good at another, but no request is good at both; and once the instance is gone its
// nonces are stale.
func TestD7D11NonceOfAnotherInstance(t *testing.T) {
	server := bustest.Server(t)
	a := newFabric(t, bustest.Dial(t, server, func(c *bus.Config) { c.Local = true }), nil)
	b := newProcessor(t, bustest.Dial(t, server, func(c *bus.Config) { c.Local = true }), "connect-2")
	in := request{contacts: []contact{{uri: phoneContact, expires: "600"}}}
	challenge := a.send(in)
	for i, step := range []struct {
		at    *fabric
		count int
		want  string
	}{{b, 1, "200"}, {b, 1, "401 stale"}, {a, 1, "401 stale"}, {a, 2, "200"}, {b, 2, "401 stale"}, {b, 3, "200"}} {
		in.cSeq = uint32(i + 1)
		if got := outcome(step.at.send(phone{count: step.count}.answer(t, in, challenge))); got != step.want {
			t.Errorf("step %d: REGISTER with nc %d at %s = %s, want %s", i, step.count, or(step.at.ref, "connect"), got, step.want)
		}
	}
	a.stop()
	in.cSeq = 10
	again := b.send(phone{count: 4}.answer(t, in, challenge))
	if got := outcome(again); got != "401 stale" {
		t.Errorf("REGISTER with a nonce of an instance that is gone = %s, want 401 stale", got)
	}
	if got := outcome(b.send(phone{}.answer(t, in, again))); got != "200" {
		t.Errorf("REGISTER with the new nonce = %s, want 200", got)
	}
}

// outcome is the status of an answer, and whether it is stale.
func outcome(m *processorpb.MessageResponse) string {
	status := itoa(m.GetMessage().GetStatusCode())
	if strings.Contains(describe(m), "stale=true") {
		status += " stale"
	}
	return status
}
