package resolver

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// TestP49Weights looks up 1,000 times for each set, and wants each to be the first as often as its weight says, within
// four standard deviations.
func TestP49Weights(t *testing.T) {
	for _, tt := range []struct {
		name    string
		weights []int
		want    []float64
	}{
		{"70, 20, 10", []int{70, 20, 10}, []float64{0.7, 0.2, 0.1}},
		{"equal", []int{5, 5, 5, 5}, []float64{0.25, 0.25, 0.25, 0.25}},
		{"none", []int{0, 0, 0}, []float64{1. / 3, 1. / 3, 1. / 3}},
		{"none among some", []int{0, 500, 500}, []float64{0.001, 0.5, 0.5}},
		{"greatest", []int{65535, 65535}, []float64{0.5, 0.5}},
		{"one", []int{0}, []float64{1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var zone strings.Builder
			for i, w := range tt.weights {
				fmt.Fprintf(&zone, "_sip._udp.w.test. SRV 1 %d 5060 h%d.test.\nh%d.test. A 192.0.2.%d\n", w, i, i, i)
			}
			zone.WriteString("_sip._udp.w.test. SRV 2 65535 5060 last.test.\nlast.test. A 192.0.2.200\n")
			z := serve(t, zone.String())
			b := newBench(t, Config{Servers: []string{z.addr}, Network: "ip4"})
			first := make(map[netip.Addr]int)
			const picks = 1000
			for range picks {
				got, err := b.find(Query{Host: "w.test", Transport: "udp"})
				if err != nil || len(got) != len(tt.weights)+1 {
					t.Fatalf("%d candidates, %v, want %d", len(got), err, len(tt.weights)+1)
				}
				if last := got[len(got)-1].Addr.String(); last != "192.0.2.200:5060" {
					t.Fatalf("%s comes last, want the one of priority 2", last)
				}
				first[got[0].Addr.Addr()]++
			}
			for i, p := range tt.want {
				n := first[netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})]
				if d := 4*math.Sqrt(picks*p*(1-p)) + 1; math.Abs(float64(n)-picks*p) > d {
					t.Errorf("weight %d came first %d times of %d, want %.0f within %.0f", tt.weights[i], n, picks, picks*p, d)
				}
			}
			if n := z.queries(); n > len(tt.weights)+2 {
				t.Errorf("%d queries, want %d", n, len(tt.weights)+2)
			}
		})
	}
}

func TestArrange(t *testing.T) {
	z := serve(t, "h.test. A 192.0.2.1\nh.test. A 192.0.2.2\nh.test. AAAA 2001:db8::1\nh.test. AAAA 2001:db8::2\n")
	for _, six := range []bool{false, true} {
		b := newBench(t, Config{Servers: []string{z.addr}})
		b.system.route6 = func() bool { return six }
		seen := make(map[string]bool)
		for range 100 {
			got, err := b.find(Query{Host: "h.test", Port: 5060})
			if err != nil || len(got) != 4 || got[0].Addr.Addr().Is6() != six || got[1].Addr.Addr().Is6() != six || got[3].Addr.Addr().Is6() == six {
				t.Fatalf("a route for IPv6: %v, candidates %s, %v", six, text(got), err)
			}
			seen[text(got)] = true
		}
		if len(seen) != 4 {
			t.Errorf("%d orders of 2 and 2 addresses, want 4", len(seen))
		}
	}
}

func TestSameTwice(t *testing.T) {
	z := serve(t, "_sip._udp.s.test. SRV 1 1 5060 h.test.\n_sip._udp.s.test. SRV 1 1 5060 g.test.\n"+
		"_sip._udp.s.test. SRV 1 1 5061 h.test.\nh.test. A 192.0.2.1\ng.test. A 192.0.2.1\n")
	b := newBench(t, Config{Servers: []string{z.addr}})
	got, err := b.find(Query{Host: "s.test", Transport: "udp"})
	if want := "udp 192.0.2.1:5060, udp 192.0.2.1:5061"; sorted(text(got)) != want {
		t.Errorf("candidates %s, %v, want %s in any order", text(got), err, want)
	}
}

func TestP49Failed(t *testing.T) {
	z := serve(t, "_sip._udp.s.test. SRV 1 0 5060 a.test.\n_sip._udp.s.test. SRV 2 0 5060 b.test.\n"+
		"a.test. A 192.0.2.1\nb.test. A 192.0.2.2\n")
	b := newBench(t, Config{Servers: []string{z.addr}})
	q := Query{Host: "s.test", Transport: "udp"}
	const first, second = "udp 192.0.2.1:5060, udp 192.0.2.2:5060", "udp 192.0.2.2:5060, udp 192.0.2.1:5060"
	want := func(when, want string) {
		t.Helper()
		if got, err := b.find(q); text(got) != want {
			t.Errorf("%s: %s, %v, want %s", when, text(got), err, want)
		}
	}
	want("at first", first)
	bad := Candidate{transport.UDP, addrPort("192.0.2.1:5060"), "s.test"}
	for _, after := range []time.Duration{30, 60, 120, 240, 300, 300} {
		after *= time.Second
		b.Failed(bad)
		b.Failed(bad) // of another request at the same time
		want("after a failure", second)
		b.pass(after - time.Millisecond)
		want(fmt.Sprintf("before %v", after), second)
		b.pass(time.Millisecond)
		want(fmt.Sprintf("after %v", after), first)
	}
	b.pass(deadMost)
	b.Failed(bad)
	b.pass(deadFirst)
	want("30 s after a failure long after the others", first)

	b.Failed(bad)
	b.Worked(bad)
	want("when it works", first)
	b.Failed(bad)
	b.pass(deadFirst)
	want("after the first failure since", first)

	b.Failed(bad)
	b.Failed(Candidate{transport.UDP, addrPort("192.0.2.2:5060"), "s.test"})
	want("all are dead", first)
	b.Worked(bad)
	b.Failed(Candidate{transport.TCP, addrPort("192.0.2.1:5060"), "s.test"})
	want("another protocol is dead", first)
}

func TestFailedBound(t *testing.T) {
	b := newBench(t, Config{Servers: []string{"127.0.0.1:1"}})
	for i := range 3000 {
		b.Failed(Candidate{transport.UDP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 5060), ""})
	}
	if n := len(b.dead.entries); n != 1024 {
		t.Errorf("%d places are remembered, want 1024", n)
	}
}
