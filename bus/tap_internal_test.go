package bus

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func TestLeaseExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l leases
		if l.match("a.b") {
			t.Error("match without a lease = true")
		}
		if err := l.grant("a.*", 10*time.Second); err != nil {
			t.Fatal(err)
		}
		<-time.After(9 * time.Second)
		if !l.match("a.b") || l.match("b") {
			t.Error("match after 9s of 10 = false for a.b, or true for b")
		}
		if err := l.grant("a.*", 10*time.Second); err != nil { // renewed
			t.Fatal(err)
		}
		<-time.After(9 * time.Second)
		if !l.match("a.b") {
			t.Error("match after the renewal = false")
		}
		<-time.After(time.Second)
		if l.match("a.b") {
			t.Error("match after 10s of 10 = true")
		}
		if err := l.grant("a.*", time.Hour); err != nil {
			t.Fatal(err)
		}
		<-time.After(maxLease)
		if l.match("a.b") {
			t.Errorf("match after %s of an hour = true", maxLease)
		}
		for i := range maxLeases {
			if err := l.grant(fmt.Sprint("a.", i), time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.grant("a.x", time.Second); err == nil {
			t.Errorf("grant of lease %d = nil, want an error", maxLeases+1)
		}
		<-time.After(time.Second)
		if err := l.grant("a.x", time.Second); err != nil {
			t.Errorf("grant after the others are over = %v, want nil", err)
		}
	})
}

func TestMatches(t *testing.T) {
	tests := []struct {
		pattern, subject string
		want             bool
	}{
		{"a.b", "a.b", true},
		{"a.b", "a.c", false},
		{"a.b", "a", false},
		{"a", "a.b", false},
		{"a.*", "a.b", true},
		{"a.*", "a", false},
		{"a.*", "a.b.c", false},
		{"*.b", "a.b", true},
		{"a.>", "a.b", true},
		{"a.>", "a.b.c", true},
		{"a.>", "a", false},
		{">", "a", true},
		{"a.*.c", "a.b.c", true},
		{"a.*.c", "a.b.d", false},
		{"a*", "ab", false},
	}
	for _, tt := range tests {
		if got := matches(tt.pattern, tt.subject); got != tt.want {
			t.Errorf("matches(%q, %q) = %v, want %v", tt.pattern, tt.subject, got, tt.want)
		}
	}
}

// What a stranger publishes as a lease is a lease or nothing.
func FuzzLease(f *testing.F) {
	for _, s := range []string{`{"subject":"routr.v1.>","seconds":15}`, `{"subject":"*","seconds":1}`, `{}`, `null`, `[`, `{"subject":"a..b","seconds":9}`, `{"subject":"a","seconds":1e9}`} {
		f.Add([]byte(s), "routr.v1.dispatch.INVITE")
	}
	f.Fuzz(func(t *testing.T, data []byte, subject string) {
		c := &Conn{log: slog.New(slog.DiscardHandler)}
		c.onLease("", data)
		active := c.leases.active.Load()
		if active == nil {
			return
		}
		for _, a := range *active {
			if !isPattern(a.pattern) || time.Until(a.until) > maxLease {
				t.Errorf("onLease(%q) granted %+v", data, a)
			}
		}
		c.leases.match(subject)
	})
}
