package location

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/routr-fabric/routr/bus"
)

func TestR14CanonicalAOR(t *testing.T) {
	tests := []struct{ name, in, want, err string }{
		{"canonical", "sip:1001@sip.local", "sip:1001@sip.local", ""},
		{"sips", "sips:1001@sip.local", "sips:1001@sip.local", ""},
		{"backend", "backend:conference", "backend:conference", ""},
		{"a backend's name keeps its case", "BACKEND:Conference;x", "backend:Conference;x", ""},
		{"no user", "sip:sip.local", "sip:sip.local", ""},
		{"scheme and host have no case, the user has", "SIP:Alice@SIP.Local", "sip:Alice@sip.local", ""},
		{"parameters, escape, host", "sip:%31001@SIP.LOCAL;x=y", "sip:1001@sip.local", ""},
		{"headers", "sip:1001@sip.local?Subject=a", "sip:1001@sip.local", ""},
		{"parameters of the user stay", "sip:1001;phone-context=x@sip.local;user=phone", "sip:1001;phone-context=x@sip.local", ""},
		{"the port stays", "sip:1001@sip.local:5060", "sip:1001@sip.local:5060", ""},
		{"IPv6", "sip:1001@[2001:DB8::1]:5060;lr", "sip:1001@[2001:db8::1]:5060", ""},
		{"an escaped @", "sip:a%40b@sip.local", "sip:a@b@sip.local", ""},
		{"an escaped escape stays", "sip:%2531001@sip.local", "sip:%2531001@sip.local", ""},
		{"NUL is data", "sip:1001%00@sip.local", "sip:1001\x00@sip.local", ""},

		{"tel", "tel:+1", "", `INVALID_ARGUMENT: aor tel:+1 has an invalid schema, only "sip:", "sips:" or "backend:" are allowed`},
		{"no scheme", "1001@sip.local", "", `INVALID_ARGUMENT: aor 1001@sip.local has an invalid schema, only "sip:", "sips:" or "backend:" are allowed`},
		{"empty", "", "", `INVALID_ARGUMENT: aor  has an invalid schema, only "sip:", "sips:" or "backend:" are allowed`},
		{"no host", "sip:1001@;lr", "", "INVALID_ARGUMENT: aor sip:1001@;lr has no host"},
		{"no name", "backend:", "", "INVALID_ARGUMENT: aor backend: has no name behind the scheme"},
		{"broken escape", "sip:1%4@sip.local", "", "INVALID_ARGUMENT: aor sip:1%4@sip.local has a '%' without two hex digits"},
		{"too long", "sip:" + strings.Repeat("1", 600), "", "INVALID_ARGUMENT: aor has 604 bytes, want at most 512"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := canonicalAOR(tt.in)
			var text string
			if err != nil {
				text = err.Error()
			}
			if got != tt.want || text != tt.err {
				t.Errorf("canonicalAOR(%q) = %q, %q, want %q, %q", tt.in, got, text, tt.want, tt.err)
			}
		})
	}
}

func FuzzCanonicalAOR(f *testing.F) {
	for _, s := range []string{"sip:%31001@SIP.LOCAL;x=y", "sip:%2531@h", "sip:%%331@h", "backend:x", "sips:a@b@c;d@e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once, err := canonicalAOR(s)
		if err != nil {
			if !errors.Is(err, &bus.Error{Code: bus.InvalidArgument}) {
				t.Errorf("canonicalAOR(%q): %v, want INVALID_ARGUMENT", s, err)
			}
			return
		}
		if twice, err := canonicalAOR(once); err != nil || twice != once {
			t.Errorf("canonicalAOR(%q) = %q, %v, want it to stay", once, twice, err)
		}
	})
}

// A key as nats-server takes it, in one token of a subject.
func isKey(s string) bool { return regexp.MustCompile(`^[-/_=a-zA-Z0-9]+$`).MatchString(s) }

func TestKeyOf(t *testing.T) {
	tests := []struct{ aor, want string }{
		{"sip:1001@sip.local", "sip=3A1001=40sip=2Elocal"},
		{"backend:conference", "backend=3Aconference"},
		{"sips:a=b*>. \x00@h", "sips=3Aa=3Db=2A=3E=2E=20=00=40h"},
		{"sip:é@h", "sip=3A=C3=A9=40h"},
	}
	for _, tt := range tests {
		if got := keyOf(tt.aor); got != tt.want {
			t.Errorf("keyOf(%q) = %q, want %q", tt.aor, got, tt.want)
		}
		if got, ok := aorOf(tt.want); !ok || got != tt.aor {
			t.Errorf("aorOf(%q) = %q, %v, want %q", tt.want, got, ok, tt.aor)
		}
	}
	for c := range 256 {
		aor := "sip:" + string([]byte{byte(c)}) + "@h"
		key := keyOf(aor)
		if got, ok := aorOf(key); !isKey(key) || !ok || got != aor {
			t.Errorf("byte %#x: keyOf(%q) = %q and back %q, %v", c, aor, key, got, ok)
		}
	}
	for _, key := range []string{"", "a.b", "=4", "=4x", "=61", "sip=3a1", "*", ">"} {
		if aor, ok := aorOf(key); ok {
			t.Errorf("aorOf(%q) = %q, want none", key, aor)
		}
	}
}

func FuzzKeyOf(f *testing.F) {
	f.Add("sip:1001@sip.local")
	f.Add("=3A")
	f.Fuzz(func(t *testing.T, s string) {
		if aor, ok := aorOf(s); ok && keyOf(aor) != s {
			t.Errorf("aorOf(%q) = %q, whose key is %q", s, aor, keyOf(aor))
		}
		aor := "sip:" + s
		key := keyOf(aor)
		if got, ok := aorOf(key); !isKey(key) || !ok || got != aor {
			t.Errorf("keyOf(%q) = %q and back %q, %v", aor, key, got, ok)
		}
	})
}
