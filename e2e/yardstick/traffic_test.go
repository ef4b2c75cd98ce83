package main

import (
	"testing"
	"time"
)

// The load is what it says on every transport, also without a server: each op goes through all that belongs to it, and
// has its times.
func TestTraffic(t *testing.T) {
	for _, p := range ports() {
		for _, what := range []string{"call", "message", "ring"} {
			t.Run(p.transport+" "+what, func(t *testing.T) {
				const n, links = 30, 3
				traffic, err := connect(t.Context(), p.transport, links, true)
				if err != nil {
					t.Fatal(err)
				}
				defer traffic.close()
				began := time.Now()
				r, err := traffic.play(t.Context(), what, traffic.callers, 1000, n, 10)
				if err != nil {
					t.Fatal(err)
				}
				least := time.Duration(0)
				if what == "call" {
					least = ringTime + talkTime
				}
				if took := time.Since(began); took < least {
					t.Errorf("%d ops took %v, want %v at least", n, took, least)
				}
				for i := range r.ops {
					o := &r.ops[i]
					if o.state.Load() != over || o.request.Load() <= 0 || o.response.Load() <= 0 {
						t.Errorf("op %d: state %d, request %d ns, response %d ns on their way; want state %d and times above 0",
							i, o.state.Load(), o.request.Load(), o.response.Load(), over)
					}
				}
			})
		}
	}
}

func TestParseTransports(t *testing.T) {
	tests := []struct {
		in   string
		want int
	}{{"all", 5}, {"udp", 1}, {"tls,ws", 2}, {"sctp", 0}, {"", 0}}
	for _, tt := range tests {
		got, err := parseTransports(tt.in)
		if len(got) != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("parseTransports(%q) = %v, %v; want %d of them", tt.in, got, err, tt.want)
		}
	}
}
