package guard

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestRateA4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, defaults())
		flood := addr("192.0.2.1")
		taken := 0
		for range 50_000 { // within no time
			if g.Admit(flood) {
				taken++
			}
		}
		if taken != 10_000 {
			t.Errorf("of 50000 messages at once %d were taken, want the burst of 10000", taken)
		}
		if g.Accept(flood) {
			t.Error("Accept = true for who has used up its rate, want false")
		}
		if !g.Admit(addr("192.0.2.2")) {
			t.Error("a neighbor is not taken, want that it is")
		}
		if g.Barred(flood) || len(g.Bans()) > 0 {
			t.Errorf("who is too fast is barred, want that it waits: UDP alone never bans")
		}
		time.Sleep(time.Second)
		taken = 0
		for range 50_000 {
			if g.Admit(flood) {
				taken++
			}
		}
		if taken != 2000 {
			t.Errorf("of a flood %d messages were taken in the next second, want 2000", taken)
		}
		if n := g.counts.dropped[overRate].total.Load(); n != 40_000+1+48_000 {
			t.Errorf("%d were counted, want all 88001 that were dropped", n)
		}
	})
}

// What the defaults must not hurt.
func TestRateLetsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, defaults())
		trunk, office := addr("192.0.2.1"), addr("192.0.2.2")
		for i := range 60 { // 1,000 messages a second for a minute, in bursts of a second
			for range 1000 {
				if !g.Admit(trunk) {
					t.Fatalf("a trunk with 1000 messages a second lost one in second %d", i)
				}
			}
			time.Sleep(time.Second)
		}
		for range 500 { // phones come back at once: a connection, REGISTER, its challenge answered, two SUBSCRIBEs
			if !g.Accept(office) {
				t.Fatal("of an office with 500 phones one cannot connect")
			}
			for range 4 {
				if !g.Admit(office) {
					t.Fatal("of an office with 500 phones one cannot register")
				}
			}
		}
	})
}

func TestRateOfIPv6IsOfItsNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := defaults()
		cfg.Rate, cfg.Burst = 10, 20
		g := newGuard(t, cfg)
		for i := range 20 {
			if a := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i)}); !g.Admit(a) {
				t.Fatalf("Admit(%s) = false within the burst, want true", a)
			}
		}
		tests := []struct {
			in   string
			want bool
		}{{"2001:db8::ffff:1", false}, {"2001:db8:0:1::1", true}, {"::1", true}, {"0.0.0.0", true}, {"::2", true}}
		for _, tt := range tests {
			if got := g.Admit(addr(tt.in)); got != tt.want {
				t.Errorf("Admit(%s) = %t, want %t", tt.in, got, tt.want)
			}
		}
	})
}

func TestNoRate(t *testing.T) {
	cfg := defaults()
	cfg.Rate = 0
	g := newGuard(t, cfg)
	for range 100_000 {
		if !g.Admit(addr("192.0.2.1")) {
			t.Fatal("Admit = false without a rate, want true")
		}
	}
}

// 50,000 spoofed sources leave nothing behind, and do not make one forgotten that floods.
func TestSpoofedSourcesA4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, defaults())
		flood := addr("192.0.2.1")
		for g.Admit(flood) {
		}
		for i := range 50_000 {
			a := netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)})
			if !g.Admit(a) {
				t.Fatalf("Admit(%s) = false for its first message, want true", a)
			}
			if g.Admit(flood) {
				t.Fatalf("the source that floods was forgotten after %d others, want that it is not", i)
			}
		}
		if n := len(g.records.known) + len(g.bans.known); n != 0 {
			t.Errorf("%d sources are remembered, want none", n)
		}
		time.Sleep(5 * time.Second) // until the burst is full again
		used := 0
		for i := range g.rates.shards {
			for _, set := range g.rates.shards[i].sets {
				for _, c := range set {
					if c.full > g.now() {
						used++
					}
				}
			}
		}
		if used != 0 {
			t.Errorf("%d cells are in use afterwards, want none", used)
		}
	})
}
