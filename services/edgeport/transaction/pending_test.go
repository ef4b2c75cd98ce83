package transaction

import (
	"context"
	"testing"
	"time"

	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// What a stop has to wait for: requests without a final response, and the ACK to a 2xx, for 2 s.
func TestPending(t *testing.T) {
	tests := []struct {
		name string
		play func(b *bench)
		want int
	}{
		{"nothing", func(*bench) {}, 0},
		{"a request that waits for a decision", func(b *bench) { b.send(request("MESSAGE", "z9hG4bK1")) }, 1},
		{"an INVITE that rings, at both ends", func(b *bench) {
			b.forwarding()
			b.send(request("INVITE", "z9hG4bK1"))
			b.respond(b.user.clients[0], 180, "INVITE")
		}, 2},
		{"a 2xx to an INVITE that has just gone by", func(b *bench) {
			b.send(request("INVITE", "z9hG4bK1"))
			b.answer(200)
			wait(1900 * time.Millisecond)
		}, 1},
		{"a 2xx to an INVITE 2 s ago", func(b *bench) {
			b.send(request("INVITE", "z9hG4bK1"))
			b.answer(200)
			wait(2200 * time.Millisecond)
		}, 0},
		{"a refused INVITE without an ACK", func(b *bench) {
			b.send(request("INVITE", "z9hG4bK1"))
			b.answer(503)
		}, 0},
		{"an answered request", func(b *bench) {
			b.send(request("BYE", "z9hG4bK1"))
			b.answer(200)
		}, 0},
		{"a CANCEL that nobody has answered, and its INVITE", func(b *bench) {
			b.forwarding()
			b.send(request("INVITE", "z9hG4bK1"))
			tx := b.user.clients[0]
			b.respond(tx, 180, "INVITE")
			b.answer(487)
			b.user.servers[0].Do(tx.Cancel)
		}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, transport.UDP, func(b *bench) {
				tt.play(b)
				if got := b.layer.Pending(); got != tt.want {
					t.Errorf("Pending() = %d, want %d", got, tt.want)
				}
			})
		})
	}
}

// Lag shows a lock that is not released: nothing is looked at behind it.
func TestLag(t *testing.T) {
	l := New(&recorder{}, DefaultTimers())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	defer func() { cancel(); <-done }()
	until := func(what string, ok func(lag time.Duration) bool) {
		t.Helper()
		end := time.Now().Add(30 * time.Second)
		for ticker := time.NewTicker(tick / 2); !ok(l.Lag()); <-ticker.C {
			if time.Now().After(end) {
				t.Fatalf("Lag() = %v %s", l.Lag(), what)
			}
		}
	}
	stuck := &l.shards[7].mu
	stuck.Lock()
	until("with a lock held, want it to grow", func(lag time.Duration) bool { return lag > 10*tick })
	stuck.Unlock()
	until("after that, want a tick or two", func(lag time.Duration) bool { return lag <= 2*tick })
}
