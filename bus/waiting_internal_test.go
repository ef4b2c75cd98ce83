package bus

import (
	"fmt"
	"testing"
	"time"
)

// The table of pending calls has one mutex. Its cost beside the 10 µs of a call through NATS is why it is not sharded.
func BenchmarkWaiting(b *testing.B) {
	for _, pending := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("pending=%d", pending), func(b *testing.B) {
			b.ReportAllocs()
			c := &Conn{}
			c.calls.init(c)
			defer c.calls.close()
			cl := call{subject: "routr.v1.dispatch.INVITE", deadline: time.Now().Add(time.Hour), done: func(Reply, error) {}}
			for range pending {
				if _, err := c.calls.add(cl); err != nil {
					b.Fatal(err)
				}
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					id, err := c.calls.add(cl)
					if err != nil {
						b.Error(err)
						return
					}
					if _, ok := c.calls.take(id); !ok {
						b.Error("take = false, want the call that was added")
						return
					}
				}
			})
		})
	}
}

func BenchmarkSweep(b *testing.B) {
	b.ReportAllocs()
	c := &Conn{}
	c.calls.init(c)
	for range 10_000 {
		if _, err := c.calls.add(call{deadline: time.Now().Add(time.Hour), done: func(Reply, error) {}}); err != nil {
			b.Fatal(err)
		}
	}
	defer c.calls.close()
	now := time.Now()
	for b.Loop() {
		c.calls.mu.Lock()
		c.calls.due(now) // nothing is
		c.calls.mu.Unlock()
	}
}

func TestMaxCalls(t *testing.T) {
	c := &Conn{}
	c.calls.init(c)
	n := 0
	cl := call{deadline: time.Now().Add(time.Hour), done: func(Reply, error) { n++ }}
	for range maxCalls {
		if _, err := c.calls.add(cl); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.calls.add(cl); CodeOf(err) != Unavailable {
		t.Errorf("call %d = %v, want UNAVAILABLE", maxCalls+1, err)
	}
	c.calls.close()
	if n != maxCalls {
		t.Errorf("%d calls failed by close, want %d", n, maxCalls)
	}
}
