package guard

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// until is how many offences it takes until source is banned, of at most limit.
func until(g *Guard, source netip.Addr, what Offence, most int) int {
	for i := range most {
		if g.Offend(source, what) {
			return i + 1
		}
	}
	return 0
}

func TestOffencesA21(t *testing.T) {
	tests := []struct {
		in   Offence
		want int
	}{
		{UnansweredChallenge, 50}, {WrongCredentials, 20}, {ForgedNonce, 20}, {FailedHandshake, 50},
		{Garbage, 10}, {HTTP, 5}, {Scan, 4},
	}
	for _, tt := range tests {
		t.Run("A21 "+tt.in.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t, defaults())
				source := addr("192.0.2.1")
				if got := until(g, source, tt.in, 1000); got != tt.want {
					t.Errorf("banned after %d, want %d", got, tt.want)
				}
				if g.Admit(source) || g.Accept(source) {
					t.Error("a banned source is taken, want that it is not")
				}
				if !g.Admit(addr("192.0.2.2")) {
					t.Error("its neighbor is not taken, want that it is")
				}
				time.Sleep(5*time.Minute - time.Nanosecond)
				if g.Admit(source) {
					t.Error("a banned source is taken before the end of its ban")
				}
				time.Sleep(time.Nanosecond)
				if !g.Admit(source) {
					t.Error("a source is not taken after the end of its ban")
				}
				if got, ok := OffenceOf(tt.in.String()); got != tt.in || !ok {
					t.Errorf("OffenceOf(%s) = %v, %t", tt.in, got, ok)
				}
			})
		})
	}
}

func TestBanIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []Ban
		cfg := defaults()
		var g *Guard
		cfg.Banned = func(b Ban) {
			g.Bans() // under no lock
			told = append(told, b)
		}
		g = newGuard(t, cfg)
		now := time.Now()
		for _, s := range []string{"192.0.2.1", "2001:db8::1"} {
			for range 10 { // after the ban too: a connection that was there says more
				g.Offend(addr(s), Scan)
			}
		}
		g.Ban(Ban{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Reason: "abuse", By: "ops"}) // is not made here
		want := []Ban{
			{netip.MustParsePrefix("192.0.2.1/32"), "scanner", "guard/edge1", now.Add(5 * time.Minute)},
			{netip.MustParsePrefix("2001:db8::/64"), "scanner", "guard/edge1", now.Add(5 * time.Minute)},
		}
		if diff := cmp.Diff(want, told, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("Banned differs (-want +got):\n%s", diff)
		}
		want = append([]Ban{{netip.MustParsePrefix("10.0.0.0/8"), "abuse", "ops", time.Time{}}}, want...)
		if diff := cmp.Diff(want, g.Bans(), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("Bans() differs (-want +got):\n%s", diff)
		}
		if !told[0].Automatic() || want[0].Automatic() {
			t.Error("Automatic is wrong")
		}
		time.Sleep(time.Hour)
		if diff := cmp.Diff(want[:1], g.Bans(), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("Bans() an hour later differs (-want +got):\n%s", diff)
		}
	})
}

func TestBansGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, defaults())
		run(t, g)
		source := addr("192.0.2.1")
		for _, want := range []time.Duration{5 * time.Minute, 20 * time.Minute, 80 * time.Minute, 320 * time.Minute, 1280 * time.Minute, 24 * time.Hour, 24 * time.Hour} {
			if until(g, source, Garbage, 10) != 10 {
				t.Fatal("not banned after 10, want that it is, each time")
			}
			if got := time.Until(g.Bans()[0].Until); got != want {
				t.Errorf("the ban lasts %v, want %v", got, want)
			}
			time.Sleep(want)
		}
		time.Sleep(memory)
		until(g, source, Garbage, 10)
		if got := time.Until(g.Bans()[0].Until); got != 5*time.Minute {
			t.Errorf("the ban lasts %v after a day without, want 5m", got)
		}
		g.Unban(netip.MustParsePrefix("192.0.2.1/32"))
		if !g.Admit(source) {
			t.Error("a source is not taken after Unban, want that it is")
		}
		until(g, source, Garbage, 10)
		if got := time.Until(g.Bans()[0].Until); got != 5*time.Minute {
			t.Errorf("the ban lasts %v after Unban, want 5m: it was forgiven", got)
		}
	})
}

// Who shares an address with the bad phone.
func TestSharedAddress(t *testing.T) {
	tests := []struct {
		name    string
		bad     int           // phones with an old password
		every   time.Duration // that each tries
		good    time.Duration // how often somebody authenticates; 0: never
		within  time.Duration
		barrred bool
	}{
		{"one bad phone alone, twice a minute", 1, 30 * time.Second, 0, 24 * time.Hour, false},
		{"one bad phone among good ones, each five seconds", 1, 5 * time.Second, 30 * time.Second, 24 * time.Hour, false},
		{"ten bad phones among good ones, twice a minute", 10, 30 * time.Second, 30 * time.Second, 24 * time.Hour, false},
		{"a list of passwords", 1, 100 * time.Millisecond, 0, 3 * time.Second, true},
		{"a list of passwords from an office", 1, 100 * time.Millisecond, 30 * time.Second, time.Minute, true},
		{"a slow list of passwords", 1, 3 * time.Second, 0, 2 * time.Minute, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t, defaults())
				source := addr("192.0.2.1")
				start, vouched, barred := time.Now(), time.Now(), false
				for time.Since(start) < tt.within && !barred {
					for range tt.bad {
						barred = g.Offend(source, WrongCredentials) || barred
					}
					if tt.good > 0 && time.Since(vouched) >= tt.good {
						vouched = time.Now()
						g.Vouch(source)
					}
					time.Sleep(tt.every)
				}
				if barred != tt.barrred {
					t.Errorf("barred = %t after %v, want %t", barred, time.Since(start), tt.barrred)
				}
			})
		})
	}
}

func TestAllowedNeverOffends(t *testing.T) {
	g := newGuard(t, defaults())
	if n := until(g, addr("127.0.0.1"), Scan, 1000); n != 0 {
		t.Errorf("an allowed source is banned after %d offences, want never", n)
	}
	cfg := defaults()
	cfg.BanTime = 0
	if n := until(newGuard(t, cfg), addr("192.0.2.1"), Scan, 1000); n != 0 {
		t.Errorf("a source is banned after %d offences without bans, want never", n)
	}
}

func TestKnownConnections(t *testing.T) {
	g := newGuard(t, defaults())
	source := addr("192.0.2.1")
	until(g, source, Scan, 10)
	tests := []struct {
		name          string
		known         bool
		taken, barred bool
	}{
		{"a connection on which nobody has authenticated", false, false, true},
		{"one on which somebody has", true, true, false},
	}
	for _, tt := range tests {
		if taken, barred := g.AdmitOn(source, tt.known); taken != tt.taken || barred != tt.barred {
			t.Errorf("%s: AdmitOn = %t, %t, want %t, %t", tt.name, taken, barred, tt.taken, tt.barred)
		}
	}
	g.Ban(Ban{Prefix: origin(source), By: "ops"})
	if taken, barred := g.AdmitOn(source, true); taken || !barred {
		t.Errorf("AdmitOn = %t, %t under the ban of a person, want that it ends", taken, barred)
	}
}

func TestBanReplacesAndIgnores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, defaults())
		p := netip.MustParsePrefix("192.0.2.0/24")
		g.Ban(Ban{Prefix: p, Until: time.Now().Add(-time.Second)})
		g.Ban(Ban{})
		g.Unban(netip.Prefix{})
		if n := len(g.Bans()); n != 0 {
			t.Errorf("%d bans, want none: one has ended, one has no prefix", n)
		}
		g.Ban(Ban{Prefix: p})
		g.Ban(Ban{Prefix: netip.MustParsePrefix("192.0.2.7/24"), Until: time.Now().Add(time.Minute)})
		if n := len(g.Bans()); n != 1 {
			t.Errorf("%d bans, want that the second replaces the first", n)
		}
		time.Sleep(time.Minute)
		if !g.Admit(addr("192.0.2.1")) {
			t.Error("not taken after the end of the later ban, want that it is")
		}
	})
}

func TestBansAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, defaults())
		run(t, g)
		g.Ban(Ban{Prefix: netip.MustParsePrefix("10.0.0.0/8"), By: "ops"})
		for i := range MaxBans + 5000 {
			a := netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)})
			g.Ban(Ban{Prefix: netip.PrefixFrom(a, 32), By: "guard/x", Until: time.Now().Add(time.Hour)})
		}
		if n := g.bans.size(); n != MaxBans {
			t.Errorf("%d bans are kept, want %d", n, MaxBans)
		}
		if g.Admit(addr("10.1.1.1")) {
			t.Error("a ban without an end was dropped for others, want that it stays")
		}
		time.Sleep(time.Hour + sweepEvery)
		if n := g.bans.size(); n != 1 {
			t.Errorf("%d bans are kept after their end, want the one without an end", n)
		}
	})
}

// remembered is how many sources have offences.
func remembered(g *Guard) int {
	g.records.mu.Lock()
	defer g.records.mu.Unlock()
	return len(g.records.known)
}

func TestRecordsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, defaults())
		run(t, g)
		bad := addr("192.0.2.1")
		g.Offend(bad, Scan)
		for i := range maxRecords + 5000 {
			g.Offend(netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)}), FailedHandshake)
		}
		if n := remembered(g); n != maxRecords {
			t.Errorf("%d sources are remembered, want %d", n, maxRecords)
		}
		g.records.mu.Lock()
		kept := g.records.known[origin(bad)] != nil
		g.records.mu.Unlock()
		if !kept {
			t.Error("the source with the most points was forgotten for others, want that it is not")
		}
		g.Vouch(addr("203.0.113.1")) // has done nothing
		time.Sleep(10*time.Minute + sweepEvery)
		if n := remembered(g); n != 0 {
			t.Errorf("%d sources are remembered when all is forgiven, want none", n)
		}
	})
}

func BenchmarkOffend(b *testing.B) {
	g := newGuard(b, defaults())
	b.ReportAllocs()
	for i := uint32(0); b.Loop(); i++ {
		g.Offend(netip.AddrFrom4([4]byte{byte(i>>24) | 128, byte(i >> 16), byte(i >> 8), byte(i)}), Garbage)
	}
}

func ExampleBan() {
	b := Ban{Prefix: netip.MustParsePrefix("203.0.113.7/32"), Reason: WrongCredentials.String(), By: "guard/edge1"}
	fmt.Println(b.Prefix, b.Reason, b.Automatic())
	// Output: 203.0.113.7/32 wrong-credentials true
}
