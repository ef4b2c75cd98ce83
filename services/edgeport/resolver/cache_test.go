package resolver

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestTTL(t *testing.T) {
	z := serve(t, "zero.test. 0 A 192.0.2.1\nminute.test. 60 A 192.0.2.1\nday.test. 86400 A 192.0.2.1\n"+
		"top.test. 4294967295 A 192.0.2.1\nalias.test. 10 CNAME minute.test.\nempty.test. 60 TXT x\n"+
		"mixed.test. 60 A 192.0.2.1\nmixed.test. 30 A 192.0.2.2\n")
	z.mu.Lock()
	z.rcodes["fails.test."] = dns.RcodeServerFailure
	z.mu.Unlock()
	for _, tt := range []struct {
		name string
		ttl  time.Duration
	}{
		{"zero.test", time.Second},
		{"top.test", time.Second},
		{"minute.test", time.Minute},
		{"day.test", time.Hour},
		{"alias.test", 10 * time.Second},
		{"mixed.test", 30 * time.Second},
		{"missing.test", 20 * time.Second}, // the MINIMUM of the SOA
		{"empty.test", 20 * time.Second},
		{"fails.test", time.Second},
	} {
		b := newBench(t, Config{Servers: []string{z.addr}, Network: "ip4"})
		q := Query{Host: tt.name, Port: 5060}
		z.queries()
		asks := func(when string, want int) {
			t.Helper()
			b.find(q)
			if n := z.queries(); n != want {
				t.Errorf("%s: %d queries %s, want %d", tt.name, n, when, want)
			}
		}
		asks("at first", 1)
		b.pass(tt.ttl - time.Millisecond)
		asks("before its time is over", 0)
		b.pass(time.Millisecond)
		asks("after it", 1)
	}
}

// TestNegativeTTL is what a server says about a name that is not there.
func TestNegativeTTL(t *testing.T) {
	for _, tt := range []struct {
		soa  string
		want time.Duration
	}{
		{"test. 600 IN SOA ns.test. root.test. 1 1 1 1 7", 7 * time.Second},
		{"test. 5 IN SOA ns.test. root.test. 1 1 1 1 600", 5 * time.Second},
		{"test. 86400 IN SOA ns.test. root.test. 1 1 1 1 86400", 30 * time.Second},
		{"", time.Second},
	} {
		m := new(dns.Msg).SetQuestion("h.test.", dns.TypeA)
		m.Rcode = dns.RcodeNameError
		if tt.soa != "" {
			soa, err := dns.NewRR(tt.soa)
			if err != nil {
				t.Fatal(err)
			}
			m.Ns = []dns.RR{soa}
		}
		set, _, _ := readAnswer(m, "h.test", dns.TypeA, maxChain)
		if got := lifetime(set); got != tt.want {
			t.Errorf("SOA %q: %v, want %v", tt.soa, got, tt.want)
		}
	}
}

func TestEntries(t *testing.T) {
	z := serve(t, "h.test. 3600 A 192.0.2.1\n")
	b := newBench(t, Config{Servers: []string{z.addr}, Network: "ip4"})
	l := b.limits
	l.entries = 8
	b.bound(l)
	b.find(Query{Host: "h.test", Port: 5060})
	for i := range 100 {
		b.find(Query{Host: fmt.Sprintf("x%d.test", i), Port: 5060})
	}
	b.cache.mu.Lock() // the last one is put there after it was found
	n := len(b.cache.entries)
	b.cache.mu.Unlock()
	if n != 8 {
		t.Errorf("%d entries, want 8", n)
	}
	if n := b.Counts.Evicted.Load(); n != 93 {
		t.Errorf("%d evicted, want 93", n)
	}
	z.queries()
	b.find(Query{Host: "h.test", Port: 5060})
	if n := z.queries(); n != 0 {
		t.Error("a flood of names that do not exist drove out one that does")
	}
}

// TestGone is DNS gone and back.
func TestGone(t *testing.T) {
	z := serve(t, world)
	b := newBench(t, Config{Servers: []string{z.addr}})
	b.hurry()
	q := Query{Host: "full.test"}
	const want = "tls 192.0.2.10:5071"
	found := func(when string) {
		t.Helper()
		if got, err := b.find(q); text(got) != want {
			t.Errorf("%s: %s, %v, want %s", when, text(got), err, want)
		}
	}
	found("at first")
	b.pass(61 * time.Second) // the records are over, and so is what is negative
	addr := z.addr
	z.stop()
	found("gone")
	if b.Counts.Stale.Load() == 0 {
		t.Error("stale records were used, and not counted")
	}
	if _, err := b.find(Query{Host: "other.test"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a name not known before: %v, want %v", err, ErrUnavailable)
	}
	sent := b.Counts.Queries.Load()
	found("gone, noticed")
	if n := b.Counts.Queries.Load(); n != sent {
		t.Errorf("%d queries while DNS is known to be gone, want none", n-sent)
	}
	b.pass(staleTime / 2)
	found("gone for half an hour")
	b.pass(staleTime / 2)
	if got, err := b.find(q); !errors.Is(err, ErrUnavailable) {
		t.Errorf("gone for more than an hour: %s, %v, want %v", text(got), err, ErrUnavailable)
	}
	if n := strings.Count(b.log.String(), "does not answer"); n != 1 {
		t.Errorf("said %d times that DNS is gone, want once:\n%s", n, b.log)
	}
	z.listen(t, addr)
	b.pass(2 * time.Second)
	found("back")
	if n := strings.Count(b.log.String(), "answers again"); n != 1 {
		t.Errorf("said %d times that DNS is back, want once:\n%s", n, b.log)
	}
}

// TestStale is a server that is there, and does not give what it gave before.
func TestStale(t *testing.T) {
	for _, tt := range []struct {
		name  string
		wild  func(w dns.ResponseWriter, q *dns.Msg) bool
		stale bool
	}{
		{"silent", func(dns.ResponseWriter, *dns.Msg) bool { return true }, true},
		{"SERVFAIL", rcode(dns.RcodeServerFailure), true},
		{"NXDOMAIN", rcode(dns.RcodeNameError), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			z := serve(t, "h.test. A 192.0.2.1\n")
			b := newBench(t, Config{Servers: []string{z.addr}, Network: "ip4"})
			b.hurry()
			q := Query{Host: "h.test", Port: 5060}
			if _, err := b.find(q); err != nil {
				t.Fatal(err)
			}
			b.pass(time.Minute + time.Second)
			z.now(tt.wild)
			got, err := b.find(q)
			if stale := err == nil && len(got) == 1; stale != tt.stale {
				t.Errorf("%s, %v, want a stale answer: %v", text(got), err, tt.stale)
			}
			if !tt.stale && !errors.Is(err, ErrNotFound) {
				t.Errorf("%v, want %v", err, ErrNotFound)
			}
			z.queries()
			b.find(q)
			if n := z.queries(); n != 0 {
				t.Errorf("%d queries right after, want none", n)
			}
		})
	}
}

func rcode(code int) func(w dns.ResponseWriter, q *dns.Msg) bool {
	return func(w dns.ResponseWriter, q *dns.Msg) bool {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, code))
		return true
	}
}
