package transport

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"
)

// Two layers talk, close each other's connections and dial anew, all at once, and are stopped in the middle of it. Each
// connection is told closed once, each failure once, and nothing is left.
func TestChaos(t *testing.T) {
	for _, protocol := range []Protocol{TCP, TLS} {
		t.Run(protocol.String(), func(t *testing.T) {
			more := make(chan struct{}, 100) // an answer, a failure or an end: a sender goes on
			goOn := func() {
				select {
				case more <- struct{}{}:
				default:
				}
			}
			var mu sync.Mutex
			ended := make(map[Flow]int)
			closed := func(f Flow) {
				mu.Lock()
				defer mu.Unlock()
				ended[f]++
				goOn()
			}
			layer := func(cfg Config, h Handler) *edge {
				e := &edge{Layer: New(cfg, h, closed, slog.New(slog.DiscardHandler), noop.Meter{})}
				if err := e.Listen(); err != nil {
					t.Fatal(err)
				}
				e.run(t)
				return e
			}
			callee := layer(on(protocol, "127.0.0.1"), func(f Flow, data []byte) {
				if f.Send(data, nil); rand.IntN(20) == 0 {
					f.Close([]Reason{Malformed, Unwanted}[rand.IntN(2)])
				}
			})
			cfg := on(protocol, "127.0.0.1")
			if protocol == TLS {
				cfg.RootCAs = callee.trust()
			}
			var answers atomic.Int64
			enough := make(chan struct{})
			caller := layer(cfg, func(f Flow, _ []byte) {
				goOn()
				if answers.Add(1) == 200 {
					close(enough)
				}
				if rand.IntN(50) == 0 {
					go f.Close(Unwanted)
				}
			})

			stop := make(chan struct{})
			var senders sync.WaitGroup
			for i := range 4 {
				senders.Go(func() {
					for n := 0; ; n++ {
						if n >= 4 { // so many are under way
							select {
							case <-stop:
								return
							case <-more:
							}
						}
						f, err := caller.Flow(protocol, callee.addr(), "")
						if err != nil {
							return // it is stopped
						}
						var failures atomic.Int64
						f.Send([]byte(text(fmt.Sprint("m", i, "-", n), rand.IntN(20000))), func(err error) {
							goOn()
							if failures.Add(1) != 1 || !strings.HasPrefix(err.Error(), "send ") {
								t.Errorf("failure %d of a message: %v, want one", failures.Load(), err)
							}
						})
						if rand.IntN(40) == 0 {
							f.Close(Malformed)
						}
					}
				})
			}
			wait(t, enough, "200 answers")
			var stopping sync.WaitGroup
			stopping.Go(caller.stop)
			stopping.Go(callee.stop)
			stopping.Wait()
			close(stop)
			senders.Wait()
			for _, e := range []*edge{caller, callee} {
				e.wantReleased(t)
				e.mu.RLock()
				if n := len(e.conns) + len(e.dialed) + len(e.sources); n != 0 {
					t.Errorf("%d connections, %d dialed, %d sources are left, want none", len(e.conns), len(e.dialed), len(e.sources))
				}
				e.mu.RUnlock()
				if n := e.counters[protocol].open(); n != 0 {
					t.Errorf("%d connections are counted as open, want none", n)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			total := int64(0)
			for f, n := range ended {
				if total++; n != 1 {
					t.Errorf("closed was called %d times for the connection to %v, want once", n, f.Remote())
				}
			}
			opened := int64(0)
			for _, e := range []*edge{caller, callee} {
				opened += e.counters[protocol].accepted.Load() + e.counters[protocol].dialed.Load()
			}
			if total != opened {
				t.Errorf("closed was called for %d connections, want all %d", total, opened)
			}
		})
	}
}
