package processor

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

const phoneCredentials = `Digest username="1001", realm="sip.local", nonce="ZxY3", uri="sip:1002@sip.local;transport=TCP", ` +
	`response="c4b79a63227ae7a6980018c3543fc3d0", cnonce="6b8b4567", nc=00000001, qop=auth, algorithm=MD5`

func TestParseCredentials(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     Credentials
		bad      bool
	}{
		{name: "phone", in: phoneCredentials, want: Credentials{
			Username: "1001", Realm: "sip.local", Nonce: "ZxY3", URI: "sip:1002@sip.local;transport=TCP",
			Response: "c4b79a63227ae7a6980018c3543fc3d0", CNonce: "6b8b4567", NC: "00000001", QOP: "auth", Algorithm: "MD5",
		}},
		{name: "spelling", in: "dIgEsT\t USERNAME = \"a\" ,\r\n QOP=\"auth\",, ,nc=1,", want: Credentials{Username: "a", QOP: "auth", NC: "1"}},
		{name: "quoted pairs", in: `Digest username="a\"b\\c, d=\e"`, want: Credentials{Username: `a"b\c, d=e`}},
		{name: "unknown parameters", in: `Digest auts="x,y", username="a", userhash=false`, want: Credentials{Username: "a"}},
		{name: "empty quoted string", in: `Digest opaque="", username="a"`, want: Credentials{Username: "a"}},
		{name: "uri without quotation marks", in: `Digest uri=sip:a@b;x=y`, want: Credentials{URI: "sip:a@b;x=y"}},
		{name: "scheme alone", in: "Digest ", want: Credentials{}},
		{name: "no scheme", in: "", bad: true},
		{name: "no blank", in: "Digest", bad: true},
		{name: "basic", in: "Basic MTAwMToxMjM0", bad: true},
		{name: "another scheme", in: `DigestX username="a"`, bad: true},
		{name: "twice", in: `Digest nonce="a", Nonce="b"`, bad: true},
		{name: "open quotation mark", in: `Digest username="a`, bad: true},
		{name: "backslash at the end", in: `Digest username="a\`, bad: true},
		{name: "no value", in: `Digest username=, realm="b"`, bad: true},
		{name: "no equals sign", in: `Digest username "a"`, bad: true},
		{name: "no name", in: `Digest ="a"`, bad: true},
		{name: "no comma", in: `Digest username="a" realm="b"`, bad: true},
		{name: "junk behind a quoted string", in: `Digest username="a"b`, bad: true},
	} {
		got, ok := ParseCredentials(tt.in)
		if ok == tt.bad {
			t.Errorf("ParseCredentials(%s) ok = %t, want %t", tt.name, ok, !tt.bad)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("ParseCredentials(%s) (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestParseCredentialsAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { ParseCredentials(phoneCredentials) }); n != 0 {
		t.Errorf("ParseCredentials allocates %g times, want 0", n)
	}
}

func TestCredentialsOf(t *testing.T) {
	got, ok := credentialsOf(&sipmessagepb.Authorization{
		Scheme: "digest", Username: "1001", Realm: "sip.local", Nonce: "n", Uri: "sip:sip.local", Response: "r",
		Algorithm: "MD5", CNonce: "c", Qop: "auth", Opaque: "o", NonceCount: 0x1a,
	})
	want := Credentials{
		Username: "1001", Realm: "sip.local", Nonce: "n", URI: "sip:sip.local", Response: "r",
		Algorithm: "MD5", CNonce: "c", QOP: "auth", Opaque: "o", NC: "0000001a",
	}
	if !ok || got != want {
		t.Errorf("credentialsOf = %+v, %t, want %+v", got, ok, want)
	}
	if _, ok := credentialsOf(&sipmessagepb.Authorization{Scheme: "Basic"}); ok {
		t.Error("credentialsOf(Basic) is taken")
	}
}

func FuzzParseCredentials(f *testing.F) {
	f.Add(phoneCredentials)
	f.Add(`Digest username="a\"b\\c, d=\e",,qop=auth`)
	f.Add("Digest a=\"\\")
	f.Fuzz(func(t *testing.T, in string) {
		c, ok := ParseCredentials(in)
		if !ok {
			if c != (Credentials{}) {
				t.Fatalf("ParseCredentials(%q) is refused and not empty: %+v", in, c)
			}
			return
		}
		total := 0
		for _, s := range []string{c.Username, c.Realm, c.Nonce, c.URI, c.Response, c.Algorithm, c.CNonce, c.Opaque, c.QOP, c.NC} {
			total += len(s)
		}
		if total > len(in) {
			t.Fatalf("ParseCredentials(%q) has %d bytes of %d", in, total, len(in))
		}
		if !strings.Contains(in, `\`) && !strings.Contains(in, c.Username) {
			t.Fatalf("ParseCredentials(%q).Username = %q, which is no part of it", in, c.Username)
		}
	})
}

func BenchmarkParseCredentials(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		ParseCredentials(phoneCredentials)
	}
}
