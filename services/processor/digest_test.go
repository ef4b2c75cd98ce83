package processor

import (
	"cmp"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	client "github.com/icholy/digest"
	"google.golang.org/protobuf/testing/protocmp"

	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// keys are the keys of one test.
type keys [][]byte

func (k keys) Current() []byte { return k[0] }
func (k keys) All() [][]byte   { return k }

const realm = "sip.local"

// users are the secrets of the only user, 1001.
func users(username string) *Secret {
	if username == "1001" {
		return NewSecret("1001", realm, "correct horse")
	}
	return nil
}

func newDigest(t testing.TB, k Keys, algorithms ...string) *Digest {
	t.Helper()
	d, err := NewDigest(k, NonceLifetime, algorithms...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// attempt is a request with credentials.
type attempt struct {
	method, uri string // as in the request; REGISTER sip:sip.local if empty
	digestURI   string // as in the credentials; uri if empty
	algorithm   string // the first that is offered if empty
	user        string // 1001 if empty
	password    string // the right one if empty
	count       int    // 1 if 0
	source      string // where it comes from; 192.0.2.1 if empty
	cnonce      string // a random one if empty
	change      func(*client.Credentials)
}

// request makes a request without credentials.
func (a attempt) request(t testing.TB) Request {
	t.Helper()
	if a.method == "" {
		a.method, a.uri = "REGISTER", "sip:"+realm
	}
	u, ok := ParseURI(a.uri)
	if !ok {
		t.Fatalf("%q is no URI", a.uri)
	}
	return Request{MessageRequest: &processorpb.MessageRequest{
		MethodName:      a.method,
		Sender:          &processorpb.NetInterface{Host: cmp.Or(a.source, "192.0.2.1"), Port: 5060},
		ListeningPoints: []*processorpb.NetInterface{{Host: "198.51.100.1", Port: 5060}},
		ExternalAddrs:   []string{"203.0.113.9"},
		Message: &sipmessagepb.SIPMessage{MessageType: &sipmessagepb.SIPMessage_RequestUri{RequestUri: &sipmessagepb.SipURI{
			User: u.User, Host: u.Host, Port: int32(u.Port), Secure: u.Secure, Raw: a.uri,
		}}},
	}}
}

// answer makes the request with credentials that answer a challenge.
func (a attempt) answer(t testing.TB, role Role, challenge *processorpb.MessageResponse) Request {
	t.Helper()
	r := a.request(t)
	var chosen *client.Challenge
	for _, e := range challenge.GetMessage().GetExtensions() {
		c, err := client.ParseChallenge(e.Value)
		if err != nil {
			t.Fatalf("challenge %q: %v", e.Value, err)
		}
		if chosen == nil && (a.algorithm == "" || a.algorithm == c.Algorithm) {
			chosen = c
		}
	}
	if chosen == nil {
		t.Fatalf("no challenge for %s in %v", a.algorithm, challenge)
	}
	made, err := client.Digest(chosen, client.Options{
		Method:   r.MethodName,
		URI:      cmp.Or(a.digestURI, r.Message.GetRequestUri().Raw),
		Username: cmp.Or(a.user, "1001"),
		Password: cmp.Or(a.password, "correct horse"),
		Count:    max(a.count, 1),
		Cnonce:   a.cnonce,
	})
	if err != nil {
		t.Fatal(err)
	}
	if a.change != nil {
		a.change(made)
	}
	r.Message.Extensions = append(r.Message.Extensions, NewHeader(role.HeaderName(), made.String()))
	return r
}

// authenticate is Authenticate where nobody else has to be asked.
func authenticate(d *Digest, r Request, role Role, realm string, secretOf func(string) *Secret) (user string, refusal *processorpb.MessageResponse) {
	done := false
	d.Authenticate(context.Background(), r, role, realm, secretOf, func(u string, m *processorpb.MessageResponse) {
		user, refusal, done = u, m, true
	})
	if !done {
		panic("Authenticate has returned without an answer")
	}
	return user, refusal
}

// inAWord is what Authenticate says, in a word.
func inAWord(user string, refusal *processorpb.MessageResponse) string {
	switch m := refusal.GetMessage(); {
	case refusal == nil:
		return "ok " + user
	case m.StatusCode == 400:
		return "400"
	case strings.Contains(m.Extensions[0].Value, "stale=true"):
		return "stale"
	default:
		return "challenge"
	}
}

// D1, D2: what a challenge looks like.
func TestD1D2Challenge(t *testing.T) {
	d := newDigest(t, keys{[]byte("key")}, SHA256, MD5)
	for _, tt := range []struct {
		role       Role
		wantStatus int32
		wantName   string
	}{
		{AsServer, 401, "WWW-Authenticate"},
		{AsProxy, 407, "Proxy-Authenticate"},
	} {
		user, refusal := authenticate(d, attempt{}.request(t), tt.role, realm, users)
		if user != "" || refusal.GetMessage().GetStatusCode() != tt.wantStatus {
			t.Fatalf("Authenticate(no credentials) = %q, %v, want %d", user, refusal, tt.wantStatus)
		}
		var algorithms, nonces []string
		for _, e := range refusal.Message.Extensions {
			c, err := client.ParseChallenge(e.Value)
			if err != nil || e.Name != tt.wantName {
				t.Fatalf("header %s: %s, %v, want %s", e.Name, e.Value, err, tt.wantName)
			}
			if c.Realm != realm || !slices.Equal(c.QOP, []string{"auth"}) || c.Stale {
				t.Errorf("challenge %s: realm %s, qop %v, stale %t, want %s, [auth], false", e.Value, c.Realm, c.QOP, c.Stale, realm)
			}
			algorithms, nonces = append(algorithms, c.Algorithm), append(nonces, c.Nonce)
		}
		if !slices.Equal(algorithms, []string{SHA256, MD5}) {
			t.Errorf("algorithms = %v, want SHA-256 before MD5", algorithms)
		}
		_, again := authenticate(d, attempt{}.request(t), tt.role, realm, users)
		if next, _ := client.ParseChallenge(again.Message.Extensions[0].Value); slices.Contains(nonces, next.Nonce) {
			t.Errorf("the nonce %s is given twice", next.Nonce)
		}
	}
}

func TestNewDigest(t *testing.T) {
	for _, algorithms := range [][]string{nil, {"SHA-512-256"}, {MD5, "MD5-sess"}} {
		if _, err := NewDigest(keys{nil}, NonceLifetime, algorithms...); err == nil {
			t.Errorf("NewDigest(%v) = nil, want an error", algorithms)
		}
	}
}

func TestAuthenticate(t *testing.T) {
	invite := attempt{method: "INVITE", uri: "sip:1002@sip.local"}
	with := func(a attempt, f func(*attempt)) attempt { f(&a); return a }
	for _, tt := range []struct {
		name string
		in   attempt
		want string
	}{
		{"the first offer", attempt{}, "ok 1001"},
		{"D3 MD5 where it is offered", attempt{algorithm: MD5}, "ok 1001"},
		{"no algorithm is MD5", attempt{algorithm: MD5, change: func(c *client.Credentials) { c.Algorithm = "" }}, "ok 1001"},
		{"response in upper case", attempt{change: func(c *client.Credentials) { c.Response = strings.ToUpper(c.Response) }}, "ok 1001"},
		{"INVITE", invite, "ok 1001"},
		{"D4 an algorithm that is not offered", attempt{change: func(c *client.Credentials) { c.Algorithm = "SHA-512-256" }}, "challenge"},
		{"-sess", attempt{change: func(c *client.Credentials) { c.Algorithm = "MD5-sess" }}, "challenge"},
		{"algorithms swapped", attempt{change: func(c *client.Credentials) { c.Algorithm = MD5 }}, "challenge"},
		{"D5 wrong password", attempt{password: "wrong"}, "challenge"},
		{"D5 unknown user", attempt{user: "1002"}, "challenge"},
		{"empty response", attempt{change: func(c *client.Credentials) { c.Response = "" }}, "challenge"},
		{"response too long", attempt{change: func(c *client.Credentials) { c.Response += "00" }}, "challenge"},
		{"long response", attempt{change: func(c *client.Credentials) { c.Response = strings.Repeat("a", 3000) }}, "challenge"},
		{"long cnonce", attempt{change: func(c *client.Credentials) { c.Cnonce = strings.Repeat("a", 3000) }}, "challenge"},
		{"no cnonce", attempt{change: func(c *client.Credentials) { c.Cnonce = "" }}, "challenge"},
		{"another realm", attempt{change: func(c *client.Credentials) { c.Realm = "other" }}, "challenge"},
		{"D12 no qop", attempt{change: func(c *client.Credentials) { c.QOP = "" }}, "challenge"},
		{"auth-int", attempt{change: func(c *client.Credentials) { c.QOP = "auth-int" }}, "challenge"},
		{"D9 uri of another request", with(invite, func(a *attempt) { a.digestURI = "sip:1003@sip.local" }), "400"},
		{"D9 escaped twin", with(invite, func(a *attempt) { a.digestURI = "sip:%31002@sip.local" }), "ok 1001"},
		{"D9 uri is the AOR", attempt{digestURI: "sip:1001@sip.local"}, "400"},
		{"uri names the domain", with(invite, func(a *attempt) { a.digestURI = "sip:sip.local" }), "ok 1001"},
		{"uri names the EdgePort", with(invite, func(a *attempt) { a.digestURI = "sip:198.51.100.1:5060" }), "ok 1001"},
		{"uri names the address outside", with(invite, func(a *attempt) { a.digestURI = "sip:203.0.113.9" }), "ok 1001"},
		{"uri names another server", with(invite, func(a *attempt) { a.digestURI = "sip:192.0.2.66" }), "400"},
		{"uri of another scheme", with(invite, func(a *attempt) { a.digestURI = "tel:1002" }), "400"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDigest(t, keys{[]byte("key")}, SHA256, MD5)
			for _, role := range []Role{AsServer, AsProxy} {
				_, challenge := authenticate(d, tt.in.request(t), role, realm, users)
				if got := inAWord(authenticate(d, tt.in.answer(t, role, challenge), role, realm, users)); got != tt.want {
					t.Errorf("Authenticate as %s = %s, want %s", role.HeaderName(), got, tt.want)
				}
			}
		})
	}
}

// D7, D8: a nonce count must grow.
func TestD7D8NonceCountGrows(t *testing.T) {
	d := newDigest(t, keys{[]byte("key")}, SHA256)
	_, challenge := authenticate(d, attempt{}.request(t), AsServer, realm, users)
	for i, step := range []struct {
		count int
		want  string
	}{{1, "ok 1001"}, {1, "stale"}, {2, "ok 1001"}, {1, "stale"}, {7, "ok 1001"}, {6, "stale"}, {8, "ok 1001"}} {
		a := attempt{count: step.count}
		if got := inAWord(authenticate(d, a.answer(t, AsServer, challenge), AsServer, realm, users)); got != step.want {
			t.Errorf("step %d: Authenticate(nc %d) = %s, want %s", i, step.count, got, step.want)
		}
	}
}

// A wrong password must not use up a nonce count, or strangers could lock users out and fill the table.
func TestWrongPasswordUsesNothing(t *testing.T) {
	d := newDigest(t, keys{[]byte("key")}, SHA256)
	_, challenge := authenticate(d, attempt{}.request(t), AsServer, realm, users)
	bad := attempt{password: "wrong"}
	authenticate(d, bad.answer(t, AsServer, challenge), AsServer, realm, users)
	if n := len(d.nonces.counts.recent); n != 0 {
		t.Errorf("the table has %d entries after a wrong password, want 0", n)
	}
	if got := inAWord(authenticate(d, attempt{}.answer(t, AsServer, challenge), AsServer, realm, users)); got != "ok 1001" {
		t.Errorf("Authenticate after a wrong password = %s, want ok", got)
	}
}

// D6: an expired nonce is stale for who has the password, and nothing else.
func TestD6NonceExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDigest(t, keys{[]byte("key")}, SHA256)
		_, challenge := authenticate(d, attempt{}.request(t), AsServer, realm, users)
		time.Sleep(NonceLifetime - time.Second) // in the bubble's own time
		if got := inAWord(authenticate(d, attempt{}.answer(t, AsServer, challenge), AsServer, realm, users)); got != "ok 1001" {
			t.Errorf("Authenticate(a second before the end) = %s, want ok", got)
		}
		time.Sleep(time.Second)
		again := attempt{count: 2}
		if got := inAWord(authenticate(d, again.answer(t, AsServer, challenge), AsServer, realm, users)); got != "stale" {
			t.Errorf("Authenticate(at the end) = %s, want stale", got)
		}
		wrong := attempt{count: 2, password: "wrong"}
		_, refusal := authenticate(d, wrong.answer(t, AsServer, challenge), AsServer, realm, users)
		if got := inAWord("", refusal); got != "challenge" {
			t.Errorf("Authenticate(at the end, wrong password) = %s, want challenge", got)
		}
		if got := inAWord(authenticate(d, attempt{}.answer(t, AsServer, refusal), AsServer, realm, users)); got != "ok 1001" {
			t.Errorf("Authenticate(new nonce) = %s, want ok", got)
		}
	})
}

// D11: nonces hold through a change of keys, and nobody else can make one.
func TestD11NonceIsBoundToTheKeys(t *testing.T) {
	a := newDigest(t, keys{[]byte("one")}, SHA256)
	_, challenge := authenticate(a, attempt{}.request(t), AsServer, realm, users)
	for _, tt := range []struct {
		name string
		keys keys
		want string
	}{
		{"the same key", keys{[]byte("one")}, "ok 1001"},
		{"after a rotation", keys{[]byte("two"), []byte("one")}, "ok 1001"},
		{"key gone", keys{[]byte("two")}, "stale"},
	} {
		d := newDigest(t, tt.keys, SHA256)
		d.nonces.maker = a.nonces.maker
		if got := inAWord(authenticate(d, attempt{}.answer(t, AsServer, challenge), AsServer, realm, users)); got != tt.want {
			t.Errorf("Authenticate(%s) = %s, want %s", tt.name, got, tt.want)
		}
	}
	for name, forge := range map[string]func(string) string{
		"one character": func(s string) string { return flip(s, 3) },
		"the signature": func(s string) string { return flip(s, len(s)-2) },
		"another text":  func(string) string { return "b5a3226fa1899b33872e953643e0bca9" },
		"empty":         func(string) string { return "" },
		"long":          func(s string) string { return s + s },
	} {
		source := fmt.Sprintf("192.0.2.%d", len(name)) // tries without a nonce of ours are charged to it
		// The client signs what it was given, so the response is right for the forged nonce.
		forged := NewResponse(401, "", NewHeader("WWW-Authenticate", strings.Replace(challenge.Message.Extensions[0].Value,
			nonceOf(t, challenge), forge(nonceOf(t, challenge)), 1)))
		if got := inAWord(authenticate(a, attempt{source: source}.answer(t, AsServer, forged), AsServer, realm, users)); got != "stale" {
			t.Errorf("Authenticate(forged nonce: %s) = %s, want stale", name, got)
		}
		wrong := attempt{source: source, password: "wrong"}
		if got := inAWord(authenticate(a, wrong.answer(t, AsServer, forged), AsServer, realm, users)); got != "challenge" {
			t.Errorf("Authenticate(forged nonce: %s, wrong password) = %s, want challenge", name, got)
		}
	}
	// A nonce of one realm is none of another.
	other := func(string) *Secret { return NewSecret("1001", "other.local", "correct horse") }
	moved := NewResponse(401, "", NewHeader("WWW-Authenticate", strings.Replace(challenge.Message.Extensions[0].Value, realm, "other.local", 1)))
	in := attempt{method: "REGISTER", uri: "sip:other.local"}
	if got := inAWord(authenticate(a, in.answer(t, AsServer, moved), AsServer, "other.local", other)); got != "stale" {
		t.Errorf("Authenticate(nonce of another realm) = %s, want stale", got)
	}
}

func nonceOf(t *testing.T, challenge *processorpb.MessageResponse) string {
	t.Helper()
	c, err := client.ParseChallenge(challenge.Message.Extensions[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	return c.Nonce
}

// flip changes one character of base64 text.
func flip(s string, i int) string {
	b := []byte(s)
	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

// D10: a response made for one method is none for another.
func TestD10ResponseIsBoundToTheMethod(t *testing.T) {
	d := newDigest(t, keys{[]byte("key")}, SHA256, MD5)
	in := attempt{method: "REGISTER", uri: "sip:sip.local"}
	_, challenge := authenticate(d, in.request(t), AsServer, realm, users)
	spliced := in.answer(t, AsServer, challenge)
	spliced.MethodName = "INVITE"
	if got := inAWord(authenticate(d, spliced, AsServer, realm, users)); got != "challenge" {
		t.Errorf("Authenticate(credentials of REGISTER in INVITE) = %s, want challenge", got)
	}
}

// D13: of several credentials those for our realm count.
func TestD13CredentialsForSeveralServers(t *testing.T) {
	d := newDigest(t, keys{[]byte("key")}, SHA256, MD5)
	for _, role := range []Role{AsServer, AsProxy} {
		_, challenge := authenticate(d, attempt{}.request(t), role, realm, users)
		r := attempt{}.answer(t, role, challenge)
		foreign := NewHeader(role.HeaderName(), strings.ReplaceAll(phoneCredentials, realm, "other"))
		r.Message.Extensions = append([]*sipmessagepb.Extension{NewHeader(role.HeaderName(), "Basic x"), foreign}, r.Message.Extensions...)
		if got := inAWord(authenticate(d, r, role, realm, users)); got != "ok 1001" {
			t.Errorf("Authenticate(%s, three of them) = %s, want ok", role.HeaderName(), got)
		}
	}
	// The EdgePort reads the first Authorization into a field of its own.
	_, challenge := authenticate(d, attempt{}.request(t), AsServer, realm, users)
	r := attempt{}.answer(t, AsServer, challenge)
	c, _ := ParseCredentials(r.Message.Extensions[0].Value)
	r.Message.Extensions = nil
	r.Message.Authorization = &sipmessagepb.Authorization{
		Scheme: "Digest", Username: c.Username, Realm: c.Realm, Nonce: c.Nonce, Uri: c.URI, Response: c.Response,
		Algorithm: c.Algorithm, CNonce: c.CNonce, Qop: c.QOP, NonceCount: 1,
	}
	if got := inAWord(authenticate(d, r, AsProxy, realm, users)); got != "challenge" {
		t.Errorf("Authenticate(Authorization) as a proxy = %s, want challenge", got)
	}
	if got := inAWord(authenticate(d, r, AsServer, realm, users)); got != "ok 1001" {
		t.Errorf("Authenticate(Authorization field) = %s, want ok", got)
	}
}

// D15: nothing but the nonce tells an unknown user from a wrong password.
func TestD15UnknownUserLooksLikeWrongPassword(t *testing.T) {
	d := newDigest(t, keys{[]byte("key")}, SHA256, MD5)
	refuse := func(a attempt) *processorpb.MessageResponse {
		_, challenge := authenticate(d, a.request(t), AsServer, realm, users)
		_, refusal := authenticate(d, a.answer(t, AsServer, challenge), AsServer, realm, users)
		nonce := nonceOf(t, refusal)
		for _, e := range refusal.Message.Extensions {
			e.Value = strings.ReplaceAll(e.Value, nonce, strings.Repeat("x", len(nonce)))
		}
		return refusal
	}
	if diff := gocmp.Diff(refuse(attempt{password: "wrong"}), refuse(attempt{user: "1009"}), protocmp.Transform()); diff != "" {
		t.Errorf("unknown user differs from wrong password (-password +user):\n%s", diff)
	}
}

// countingKeys counts how often a nonce was verified.
type countingKeys struct {
	keys
	uses *int
}

func (k countingKeys) All() [][]byte { *k.uses++; return k.keys }

// D15, in time: what is done for an unknown user, a wrong password, and a password that nobody looks at as too many were
// tried, is counted, not measured, and must be the same.
func TestD15SameWork(t *testing.T) {
	type work struct{ hashed, nonces, lookups int }
	for _, algorithm := range []string{SHA256, MD5} {
		for _, signed := range []bool{true, false} {
			var uses int
			d := newDigest(t, countingKeys{keys{[]byte("key")}, &uses}, SHA256, MD5)
			_, challenge := authenticate(d, attempt{}.request(t), AsServer, realm, users)
			if !signed {
				ours := nonceOf(t, challenge)
				for _, e := range challenge.Message.Extensions {
					e.Value = strings.ReplaceAll(e.Value, ours, flip(ours, 3))
				}
			}
			examine := func(user string, want verdict) work {
				t.Helper()
				a := attempt{algorithm: algorithm, user: user, password: "wrong", change: func(c *client.Credentials) { c.Cnonce = "0011223344556677" }}
				r := a.answer(t, AsServer, challenge)
				uses = 0
				lookups := 0
				x := d.examine(r, AsServer, realm, networkOf("192.0.2.1"), func(name string) *Secret { lookups++; return users(name) }, time.Now())
				if x.verdict != want {
					t.Fatalf("examine(%s) = verdict %d, want %d", user, x.verdict, want)
				}
				return work{x.hashed, uses, lookups}
			}
			refused := wrong
			if !signed {
				refused = forged
			}
			known, unknown := examine("1001", refused), examine("1009", refused)
			for i := range networkBurst - 2 {
				examine(fmt.Sprint("200", i), refused)
			}
			held, heldUnknown := examine("1001", heldBack), examine("1009", heldBack)
			if known != unknown || known != held || known != heldUnknown || known.hashed == 0 || known.nonces == 0 || known.lookups != 1 {
				t.Errorf("%s, signed %t: work for a wrong password %+v, an unknown user %+v, held back %+v and %+v, want the same",
					algorithm, signed, known, unknown, held, heldUnknown)
			}
		}
	}
}

// The EdgePort is told what is held against a client; that is no part of the answer to it.
func TestOffences(t *testing.T) {
	d := newDigest(t, keys{[]byte("key")}, SHA256)
	_, ours := authenticate(d, attempt{}.request(t), AsServer, realm, users)
	theirs := NewResponse(401, "", NewHeader("WWW-Authenticate", strings.Replace(ours.Message.Extensions[0].Value, nonceOf(t, ours), "forged", 1)))
	for _, tt := range []struct {
		name      string
		challenge *processorpb.MessageResponse
		in        attempt
		want      string
	}{
		{"right", ours, attempt{}, ""},
		{"replayed", ours, attempt{}, ""},
		{"wrong password", ours, attempt{password: "wrong", count: 2}, OffenceWrongCredentials},
		{"unknown user", ours, attempt{user: "1009"}, OffenceWrongCredentials},
		{"wrong password, forged nonce", theirs, attempt{password: "wrong"}, OffenceForgedNonce},
		{"right, a nonce of a key that is gone", theirs, attempt{}, ""},
		{"uri of another request", ours, attempt{digestURI: "sip:1001@sip.local"}, ""},
	} {
		_, refusal := authenticate(d, tt.in.answer(t, AsServer, tt.challenge), AsServer, realm, users)
		if got := refusal.GetMetadata()[OffenceKey]; got != tt.want {
			t.Errorf("Authenticate(%s) reports %q, want %q", tt.name, got, tt.want)
		}
	}
	if got, want := d.Offences(), (Offences{WrongCredentials: 2, ForgedNonce: 1}); got != want {
		t.Errorf("Offences = %+v, want %+v", got, want)
	}
}

// RFC 7616 3.9.1, and what phones sent to Routr v2.
func TestVectors(t *testing.T) {
	mufasa := NewSecret("Mufasa", "http-auth@example.org", "Circle of Life")
	c := Credentials{
		Nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", URI: "/dir/index.html", NC: "00000001",
		CNonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", QOP: "auth",
	}
	for algorithm, response := range map[string]string{
		MD5:    "8ca523f5e9506fed4657c9700eebdbec",
		SHA256: "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
	} {
		c.Response = response
		if ok, _ := mufasa.verify(algorithm, &c, "GET"); !ok {
			t.Errorf("verify(%s) is false, want RFC 7616's example to be right", algorithm)
		}
		if ok, _ := mufasa.verify(algorithm, &c, "PUT"); ok {
			t.Errorf("verify(%s) is true for another method", algorithm)
		}
	}

	// These have no qop, so Authenticate does not take them (D12). Their first part is the secret.
	for _, tt := range []struct{ user, method, nonce, uri, want string }{
		{"1001", "INVITE", "b5a3226fa1899b33872e953643e0bca9", "sip:1002@sip.local;transport=TCP", "c4b79a63227ae7a6980018c3543fc3d0"},
		{"1001", "REGISTER", "b8fe2321cf489ac475c80c6e5cfa1c22", "sip:sip.local;transport=TCP", "227fe247ff0b9fa4fcf2706b587bf995"},
	} {
		secret := NewSecret(tt.user, "sip.local", "1234")
		a2 := md5.Sum([]byte(tt.method + ":" + tt.uri))
		got := md5.Sum([]byte(string(secret.md5[:]) + ":" + tt.nonce + ":" + hex.EncodeToString(a2[:])))
		if hex.EncodeToString(got[:]) != tt.want {
			t.Errorf("response(%s %s) = %x, want %s", tt.user, tt.method, got, tt.want)
		}
	}
}

func TestNonceCountsForget(t *testing.T) {
	var c nonceCounts
	const made = 1000
	for i := range uint64(2*maxCounts + 2) {
		if !c.use(i, made+uint32(i/maxCounts), 1) {
			t.Fatalf("use(nonce %d) = false, want true", i)
		}
	}
	if n := len(c.recent) + len(c.earlier); n > 2*maxCounts {
		t.Errorf("%d nonces are remembered, want at most %d", n, 2*maxCounts)
	}
	// The nonces of the first table are forgotten, so what was made when they were is refused; the rest is not.
	for _, tt := range []struct {
		name        string
		number      uint64
		made, count uint32
		want        bool
	}{
		{"forgotten, the same count", 5, made, 1, false},
		{"forgotten, a higher count", 6, made, 2, false},
		{"remembered, the same count", maxCounts + 5, made + 1, 1, false},
		{"remembered, a higher count", maxCounts + 5, made + 1, 2, true},
		{"remembered, moved to the recent ones", maxCounts + 5, made + 1, 2, false},
		{"new", 1 << 40, made + 2, 1, true},
		{"new, and made when the forgotten ones were", 1 << 41, made, 1, false},
	} {
		if got := c.use(tt.number, tt.made, tt.count); got != tt.want {
			t.Errorf("use(%s) = %t, want %t", tt.name, got, tt.want)
		}
	}
}

func TestNonceCountText(t *testing.T) {
	for text, want := range map[string]uint32{
		"00000001": 1, "FFFFFFFF": 1<<32 - 1, "0000000a": 10,
		"00000000": 0, "1": 0, "0000000g": 0, "000000001": 0, "+0000001": 0, "0x000001": 0, "0000_001": 0, "": 0,
	} {
		if got, ok := countOf(text); ok != (want > 0) || ok && got != want {
			t.Errorf("countOf(%q) = %d, %t, want %d", text, got, ok, want)
		}
	}
}

func TestNonceOfTheFuture(t *testing.T) {
	n := nonces{keys: keys{[]byte("key")}, lifetime: NonceLifetime}
	now := time.Now()
	for ahead, want := range map[time.Duration]bool{0: true, 29 * time.Second: true, 31 * time.Second: false, time.Hour: false} {
		b, signed := n.read(n.next(realm, 0, now.Add(ahead)), realm)
		if got := n.serves(b.made(), now); !signed || got != want {
			t.Errorf("a nonce made %v ahead: signed %t, serves %t, want true, %t", ahead, signed, got, want)
		}
	}
}

// What a nonce says is what it was made for.
func TestNonceRead(t *testing.T) {
	n := nonces{keys: keys{[]byte("key")}, lifetime: NonceLifetime, maker: 0xfedcba98}
	now := time.Unix(0x76543210, 0)
	b, signed := n.read(n.next(realm, 1<<63|5, now), realm)
	if !signed || b.made() != 0x76543210 || b.maker() != 0xfedcba98 || b.holder() != 1<<63|5 {
		t.Errorf("read(next) = made %x, maker %x, holder %x, signed %t", b.made(), b.maker(), b.holder(), signed)
	}
	other, _ := n.read(n.next(realm, 1<<63|5, now), realm)
	if b.number() == other.number() {
		t.Errorf("two nonces have the number %x", b.number())
	}
}

// fixedNonce is the same in each process of a fuzz test: of the instance 1, and made in 1970.
func fixedNonce(key string) string {
	b := nonce{3: 1, 7: 1}
	b.sign([]byte(key), realm)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Whatever a stranger writes for a nonce is none, unless it is one of ours to the letter.
func FuzzNonce(f *testing.F) {
	n := nonces{keys: keys{[]byte("key"), []byte("old")}, lifetime: NonceLifetime, maker: 1}
	ours := fixedNonce("old")
	f.Add(ours)
	f.Add(flip(ours, 0))
	f.Add(flip(ours, len(ours)-1))
	f.Add(ours + "=")
	f.Add("")
	f.Fuzz(func(t *testing.T, in string) {
		b, signed := n.read(in, realm)
		if signed != (in == ours) {
			t.Fatalf("read(%q) signed = %t, want %t", in, signed, in == ours)
		}
		if !signed && b != (nonce{}) {
			t.Fatalf("read(%q) is not signed, and says %x", in, b)
		}
	})
}

// Whatever a stranger writes into Authorization, nobody is let in but who has the password, and the answer is a challenge
// or a 400.
func FuzzAuthenticate(f *testing.F) {
	d := newDigest(f, keys{[]byte("key")}, SHA256, MD5)
	d.nonces.maker, d.nonces.lifetime = 1, 100*365*24*time.Hour
	challenge := NewResponse(401, "", NewHeader("WWW-Authenticate",
		`Digest realm="`+realm+`", nonce="`+fixedNonce("key")+`", algorithm=SHA-256, qop="auth"`))
	good := attempt{cnonce: "0011"}.answer(f, AsServer, challenge).Message.Extensions[0].Value
	want, _ := ParseCredentials(good)
	first := attempt{}.request(f)
	first.Message.Extensions = append(first.Message.Extensions, NewHeader("Authorization", good))
	if got := inAWord(authenticate(d, first, AsServer, realm, users)); got != "ok 1001" { // and stale from then on
		f.Fatalf("Authenticate(%q) = %s, want ok", good, got)
	}
	f.Add(good)
	f.Add(phoneCredentials)
	for _, change := range [][2]string{
		{"qop=auth", `qop="auth-int"`}, {"nc=00000001", "nc=0000000g"}, {"nc=00000001", "nc=" + strings.Repeat("f", 40)}, {"SHA-256", "MD5"},
		{`username="1001"`, `username="1\\001"`}, {want.URI, "sip:[::1"}, {want.URI, "sip:a@b@c"}, {want.Nonce, ""}, {want.Response, ""},
	} {
		f.Add(strings.Replace(good, change[0], change[1], 1))
	}
	f.Fuzz(func(t *testing.T, value string) {
		r := attempt{}.request(t)
		r.Message.Extensions = append(r.Message.Extensions, NewHeader("Authorization", value))
		user, refusal := authenticate(d, r, AsServer, realm, users)
		if value == good && inAWord(user, refusal) != "stale" {
			t.Fatalf("Authenticate(%q) = %s, want stale", value, inAWord(user, refusal))
		}
		if c, _ := ParseCredentials(value); user != "" && (user != "1001" || c.Nonce != want.Nonce || !strings.EqualFold(c.Response, want.Response)) {
			t.Fatalf("Authenticate(%q) = %q", value, user)
		}
		if status := refusal.GetMessage().GetStatusCode(); user == "" && status != 401 && status != 400 {
			t.Fatalf("Authenticate(%q) = %d, want 401 or 400", value, status)
		}
	})
}

func BenchmarkAuthenticate(b *testing.B) {
	d := newDigest(b, keys{[]byte("key")}, SHA256, MD5)
	secret := users("1001")
	ctx, secretOf := context.Background(), func(string) *Secret { return secret }
	for _, algorithm := range []string{SHA256, MD5} {
		b.Run(algorithm, func(b *testing.B) {
			in := attempt{algorithm: algorithm}
			_, challenge := authenticate(d, in.request(b), AsServer, realm, users)
			r := in.answer(b, AsServer, challenge)
			done := func(_ string, refusal *processorpb.MessageResponse) {
				if refusal != nil {
					b.Fatal(refusal)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				d.nonces.counts = nonceCounts{}
				d.Authenticate(ctx, r, AsServer, realm, secretOf, done)
			}
		})
	}
	refused := func(string, *processorpb.MessageResponse) {}
	b.Run("challenge", func(b *testing.B) {
		r := attempt{}.request(b)
		b.ReportAllocs()
		for b.Loop() {
			d.Authenticate(ctx, r, AsServer, realm, secretOf, refused)
		}
	})
	b.Run("wrong password", func(b *testing.B) {
		_, challenge := authenticate(d, attempt{}.request(b), AsServer, realm, users)
		r := attempt{password: "wrong"}.answer(b, AsServer, challenge)
		b.ReportAllocs()
		for b.Loop() {
			d.Authenticate(ctx, r, AsServer, realm, secretOf, refused)
		}
	})
}
