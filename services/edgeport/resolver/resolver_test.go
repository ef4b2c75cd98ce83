package resolver

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/routr-fabric/routr/services/edgeport/transport"
)

func TestNew(t *testing.T) {
	udp := []transport.Protocol{transport.UDP}
	for _, tt := range []struct {
		cfg Config
		ok  bool
	}{
		{Config{Protocols: udp}, true},
		{Config{Protocols: udp, Network: "ip6", Servers: []string{"192.0.2.1:53", "[2001:db8::1]:53"}}, true},
		{Config{}, false},
		{Config{Protocols: []transport.Protocol{3}}, false},
		{Config{Protocols: []transport.Protocol{200}}, false},
		{Config{Protocols: udp, Network: "tcp"}, false},
		{Config{Protocols: udp, Servers: []string{"192.0.2.1"}}, false},
		{Config{Protocols: udp, Servers: []string{"ns.test:53"}}, false},
		{Config{Protocols: udp, Servers: []string{"192.0.2.1:99999"}}, false},
	} {
		r, err := New(tt.cfg, slog.New(slog.DiscardHandler))
		if (err == nil) != tt.ok {
			t.Errorf("New(%+v) = %v, want ok: %v", tt.cfg, err, tt.ok)
		}
		if r != nil {
			r.Close()
		}
	}
}

// held is a server that answers when it may.
func held(t *testing.T, text string) (z *zone, asked chan string, release func()) {
	z = serve(t, text)
	asked, gate := make(chan string, 10000), make(chan struct{})
	z.now(func(_ dns.ResponseWriter, q *dns.Msg) bool {
		asked <- q.Question[0].Name
		<-gate
		return false
	})
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	return z, asked, release
}

func TestShared(t *testing.T) {
	z, asked, release := held(t, "h.test. A 192.0.2.1\nh.test. A 192.0.2.2\n")
	b := newBench(t, Config{Servers: []string{z.addr}, Network: "ip4"})
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := make(map[string]int)
	look := func(q Query) {
		wg.Add(1)
		b.Lookup(q, func(c []Candidate, err error) {
			defer wg.Done()
			mu.Lock()
			defer mu.Unlock()
			seen[fmt.Sprint(text(c), err)]++
		})
	}
	for range 200 {
		look(Query{Host: "h.test", Port: 5060})
		look(Query{Host: "H.TEST.", Port: 5060, Transport: "UDP"})
	}
	<-asked
	look(Query{Host: "h.test", Port: 5061}) // another search, the same records
	release()
	wg.Wait()
	if len(seen) != 3 && len(seen) != 4 {
		t.Errorf("answers %v, want both orders for port 5060 and one for 5061", seen)
	}
	if n := z.queries(); n != 1 {
		t.Errorf("%d queries, want 1", n)
	}
	if n := b.Counts.Shared.Load(); n != 399 {
		t.Errorf("%d shared lookups, want 399", n)
	}
}

func TestBusy(t *testing.T) {
	z, asked, release := held(t, "")
	b := newBench(t, Config{Servers: []string{z.addr}, Network: "ip4"})
	l := b.limits
	l.searches, l.waiting, l.fetches = 2, 5, 2
	b.bound(l)
	answers := make(chan error, 10)
	for i := range 6 {
		b.Lookup(Query{Host: fmt.Sprintf("h%d.test", i), Port: 5060}, func(_ []Candidate, err error) { answers <- err })
	}
	if err := <-answers; !errors.Is(err, ErrBusy) {
		t.Errorf("the sixth lookup: %v, want %v", err, ErrBusy)
	}
	<-asked
	<-asked
	select {
	case name := <-asked:
		t.Errorf("%s is the third search at a time, want 2", name)
	default:
	}
	release()
	for range 5 {
		if err := <-answers; !errors.Is(err, ErrNotFound) {
			t.Errorf("a lookup that had to wait: %v, want %v", err, ErrNotFound)
		}
	}
	if n := b.Counts.Refused.Load(); n != 1 {
		t.Errorf("%d refused, want 1", n)
	}
}

// TestCachedWhileBusy wants what is known to be found while every slot waits for a slow server.
func TestCachedWhileBusy(t *testing.T) {
	z := serve(t, "h.test. A 192.0.2.1\n")
	b := newBench(t, Config{Servers: []string{z.addr}, Network: "ip4"})
	l := b.limits
	l.searches = 1
	b.bound(l)
	if _, err := b.find(Query{Host: "h.test", Port: 5060}); err != nil {
		t.Fatal(err)
	}
	asked, gate := make(chan struct{}), make(chan struct{})
	z.now(func(_ dns.ResponseWriter, _ *dns.Msg) bool {
		close(asked)
		<-gate
		return false
	})
	slow := make(chan error, 1)
	b.Lookup(Query{Host: "slow.test", Port: 5060}, func(_ []Candidate, err error) { slow <- err })
	<-asked
	if got, err := b.find(Query{Host: "h.test", Port: 5060}); text(got) != "udp 192.0.2.1:5060" {
		t.Errorf("%s, %v, want the address", text(got), err)
	}
	z.now(nil)
	close(gate)
	if err := <-slow; !errors.Is(err, ErrNotFound) {
		t.Errorf("slow.test: %v, want %v", err, ErrNotFound)
	}
}

func TestClose(t *testing.T) {
	z, asked, release := held(t, "")
	defer release()
	b := newBench(t, Config{Servers: []string{z.addr}})
	answers := make(chan error, 3)
	done := func(_ []Candidate, err error) { answers <- err }
	b.Lookup(Query{Host: "h.test"}, done)
	b.Lookup(Query{Host: "h.test"}, done)
	<-asked
	b.Close()
	b.Lookup(Query{Host: "192.0.2.1"}, done)
	for range 3 {
		if err := <-answers; !errors.Is(err, ErrClosed) {
			t.Errorf("done got %v, want %v", err, ErrClosed)
		}
	}
}

// TestReentrant looks up from done, as a proxy that fails over does, with locks held that done takes.
func TestReentrant(t *testing.T) {
	b := newBench(t, Config{Servers: []string{"127.0.0.1:1"}})
	var mu sync.Mutex
	left, end := 10, make(chan struct{})
	var next func([]Candidate, error)
	next = func([]Candidate, error) {
		mu.Lock()
		defer mu.Unlock()
		if left--; left == 0 {
			close(end)
			return
		}
		b.Lookup(Query{Host: "192.0.2.1"}, next)
	}
	mu.Lock()
	b.Lookup(Query{Host: "192.0.2.1"}, next)
	mu.Unlock()
	<-end
}

func BenchmarkLookupCached(b *testing.B) {
	z := serve(b, world)
	r, err := New(Config{Protocols: all, Servers: []string{z.addr}}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	done := make(chan error, 1)
	for b.Loop() {
		r.Lookup(Query{Host: "full.test"}, func(_ []Candidate, err error) { done <- err })
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

func TestTotal(t *testing.T) {
	z, _, release := held(t, "")
	defer release()
	b := newBench(t, Config{Servers: []string{z.addr}})
	l := b.limits
	l.total, l.naptr, l.srv = 150*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond
	b.bound(l)
	began := time.Now()
	_, err := b.find(Query{Host: "h.test"})
	if took := time.Since(began); !errors.Is(err, ErrUnavailable) || took < l.total || took > 10*l.total {
		t.Errorf("a silent server: %v after %v, want %v after %v", err, took, ErrUnavailable, l.total)
	}
	if l := defaultLimits(); l.total != 5*time.Second {
		t.Errorf("the time for a lookup is %v, want 5s", l.total)
	}
}
