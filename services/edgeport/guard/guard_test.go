package guard

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
)

// defaults are those of the EdgePort.
func defaults() Config {
	return Config{
		Ref:   "edge1",
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Rate:  2000, Burst: 10000, BanTime: 5 * time.Minute, MaxBanTime: 24 * time.Hour, FeedInterval: time.Hour,
		Scanners: []string{"friendly-scanner", "SIPVicious"},
	}
}

func newGuard(t testing.TB, cfg Config) *Guard {
	t.Helper()
	g, err := New(cfg, slog.New(slog.DiscardHandler), noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// run runs g until the end of the test.
func run(t *testing.T, g *Guard) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() { g.Run(ctx) })
	t.Cleanup(func() { cancel(); wait.Wait() })
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func nets(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func TestAdmit(t *testing.T) {
	cfg := defaults()
	cfg.Allow = nets("127.0.0.0/8", "198.51.100.7/32", "2001:db8:1::/48", "::ffff:203.0.113.200/128")
	cfg.Deny = nets("198.51.100.0/24", "198.51.100.64/26", "2001:db8::/32", "0.0.0.0/8")
	g := newGuard(t, cfg)
	g.feed.set(nets("192.0.2.1/32"))
	g.Ban(Ban{Prefix: netip.MustParsePrefix("203.0.113.9/24"), By: "ops"})
	g.Ban(Ban{Prefix: netip.MustParsePrefix("10.1.2.3/32"), By: "ops"})
	g.Ban(Ban{Prefix: netip.MustParsePrefix("127.0.0.1/32"), By: "ops"})
	g.Ban(Ban{Prefix: netip.MustParsePrefix("::ffff:10.9.0.0/112"), By: "ops"})
	tests := []struct {
		name, in string
		want     bool
	}{
		{"nobody has said anything of it", "8.8.8.8", true},
		{"denied", "198.51.100.8", false},
		{"denied twice", "198.51.100.65", false},
		{"above what is denied twice", "198.51.100.200", false},
		{"behind what is denied", "198.51.101.0", true},
		{"before what is denied", "198.51.99.255", true},
		{"denied and allowed", "198.51.100.7", true},
		{"IPv4 within IPv6 is IPv4", "::ffff:198.51.100.8", false},
		{"IPv6 denied", "2001:db8:2::1", false},
		{"IPv6 denied and allowed", "2001:db8:1::1", true},
		{"IPv6 with a zone", "2001:db8:2::1%eth0", false},
		{"in the feed", "192.0.2.1", false},
		{"beside the feed", "192.0.2.2", true},
		{"within a banned network", "203.0.113.77", false},
		{"within a banned network, and allowed in the spelling of IPv6", "203.0.113.200", true},
		{"banned", "10.1.2.3", false},
		{"beside the banned", "10.1.2.4", true},
		{"banned in the spelling of IPv6", "10.9.200.1", false},
		{"allowed is never banned", "127.0.0.1", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for i := range 3 {
				if got := g.Admit(addr(tt.in)); got != tt.want {
					t.Errorf("Admit(%s) = %t, want %t, the time %d", tt.in, got, tt.want, i)
				}
			}
			if got := g.Accept(addr(tt.in)); got != tt.want {
				t.Errorf("Accept(%s) = %t, want %t", tt.in, got, tt.want)
			}
			if got := g.Barred(addr(tt.in)); got == tt.want {
				t.Errorf("Barred(%s) = %t, want %t", tt.in, got, !tt.want)
			}
		})
	}
}

// One that is not there turns nothing away.
func TestNoGuard(t *testing.T) {
	var g *Guard
	a := addr("192.0.2.1")
	taken, barred := g.AdmitOn(a, false)
	if !g.Admit(a) || !g.Accept(a) || !taken || barred || g.Barred(a) || g.Offend(a, Garbage) || g.Scanner(a, []byte("x")) {
		t.Error("a nil guard turns something away, want nothing")
	}
	g.Vouch(a)
}

func TestScannerA1(t *testing.T) {
	g := newGuard(t, defaults())
	tests := []struct {
		name, in string
		source   string
		want     bool
	}{
		{"A1 svmap", "friendly-scanner", "192.0.2.1", true},
		{"A1 in capitals, within more", "Mozilla/5.0 FRIENDLY-SCANNER 0.3", "192.0.2.1", true},
		{"A1 a pattern in capitals", "sipvicious", "2001:db8::1", true},
		{"a phone", "Grandstream GXP2170 1.0.11.64", "192.0.2.1", false},
		{"none", "", "192.0.2.1", false},
		{"one that is allowed", "friendly-scanner", "127.0.0.1", false},
		{"a long one with it at its end", fmt.Sprintf("%300s", "friendly-scanner"), "192.0.2.1", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := g.counts.dropped[scanned].total.Load()
			if got := g.Scanner(addr(tt.source), []byte(tt.in)); got != tt.want {
				t.Errorf("Scanner(%s, %q) = %t, want %t", tt.source, tt.in, got, tt.want)
			}
			if n := g.counts.dropped[scanned].total.Load() - before; (n == 1) != tt.want {
				t.Errorf("Scanner(%s, %q) counted %d", tt.source, tt.in, n)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	tests := []struct {
		name, in string
		want     Offence
	}{
		{"A21 HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", HTTP},
		{"A21 a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc", Garbage},
		{"A21 random bytes", "\x8f\xe1\x00\x07", Garbage},
		{"A21 a line that is no SIP", "HELLO world\r\n", Garbage},
		{"SIP with a mistake", "INVITE sip:bob SIP/2.0\r\nFoo\r\n\r\n", 0},
		{"a response with a mistake", "SIP/2.0 200 OK\r\n\r\n", 0},
		{"SIP behind line breaks", "\r\n\r\nINVITE sip:bob SIP/2.0\r\n\r\n", 0},
		{"nothing", "", 0},
		{"line breaks", "\r\n", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := Judge([]byte(tt.in)); got != tt.want || ok != (tt.want != 0) {
				t.Errorf("Judge(%q) = %v, %t, want %v", tt.in, got, ok, tt.want)
			}
		})
	}
}

func FuzzJudge(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add([]byte("\r\nINVITE sip:a SIP/2.0\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		what, ok := Judge(data)
		if ok != (what == Garbage || what == HTTP) {
			t.Errorf("Judge(%q) = %v, %t", data, what, ok)
		}
		g := Guard{scanners: [][]byte{[]byte("scanner")}}
		g.Scanner(addr("192.0.2.1"), data)
	})
}

// Of a good message, and of one from a banned source.
func BenchmarkAdmit(b *testing.B) {
	cfg := defaults()
	cfg.Rate, cfg.Burst = 1_000_000, 10_000_000 // the benchmark is faster than any source may be
	g := newGuard(b, cfg)
	var feed []netip.Prefix
	for i := range 100_000 {
		feed = append(feed, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)}), 32))
	}
	g.feed.set(feed)
	for i := range 10_000 {
		g.Ban(Ban{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)})
	}
	g.Ban(Ban{Prefix: netip.MustParsePrefix("203.0.113.0/24")})
	agent := []byte("Grandstream GXP2170 1.0.11.64")
	for _, tt := range []struct{ name, in string }{
		{"good", "192.0.2.1"}, {"good6", "2001:db8::1"}, {"allowed", "127.0.0.1"}, {"banned", "203.0.113.1"}, {"listed", "100.0.5.5"},
	} {
		b.Run(tt.name, func(b *testing.B) {
			a := addr(tt.in)
			b.ReportAllocs()
			for b.Loop() {
				g.Admit(a)
			}
		})
	}
	b.Run("scanner", func(b *testing.B) {
		a := addr("192.0.2.1")
		b.ReportAllocs()
		for b.Loop() {
			g.Scanner(a, agent)
		}
	})
	b.Run("spoofed", func(b *testing.B) {
		b.ReportAllocs()
		for i := uint32(0); b.Loop(); i++ {
			g.Admit(netip.AddrFrom4([4]byte{byte(i>>24) | 128, byte(i >> 16), byte(i >> 8), byte(i)}))
		}
	})
}

// None of this allocates: a flood costs time only.
func TestAdmitAllocatesNothing(t *testing.T) {
	g := newGuard(t, defaults())
	g.Ban(Ban{Prefix: netip.MustParsePrefix("203.0.113.0/24")})
	agent := []byte("friendly-scanner")
	for _, in := range []string{"192.0.2.1", "2001:db8::1", "127.0.0.1", "203.0.113.1", "::ffff:192.0.2.1"} {
		a := addr(in)
		if n := testing.AllocsPerRun(20000, func() { g.Admit(a); g.AdmitOn(a, true); g.Accept(a); g.Scanner(a, agent) }); n != 0 {
			t.Errorf("a message from %s takes %v allocations, want 0", in, n)
		}
	}
}
