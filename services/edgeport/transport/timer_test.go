package transport

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
)

// pipes runs f with a layer that has no sockets, in a bubble of time that passes by itself. connect gives the layer a
// connection, and the test the other end of it.
func pipes(t *testing.T, limits Limits, f func(e *edge, connect func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		e := &edge{got: make(chan received, 100), closed: make(chan Flow, 100)}
		e.Layer = New(Config{Limits: limits}, func(f Flow, data []byte) { e.got <- received{f, string(data)} },
			func(f Flow) { e.closed <- f }, slog.New(slog.DiscardHandler), noop.Meter{})
		if err := e.Listen(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan struct{})
		go func() {
			defer close(served)
			if err := e.Serve(ctx); err != nil {
				t.Error(err)
			}
		}()
		e.stop = func() {
			cancel()
			<-served
		}
		f(e, func() net.Conn {
			ours, peers := net.Pipe()
			e.admit(&listener{Listen: Listen{Protocol: TCP}}, ours)
			return peers
		})
		e.stop()
	})
}

// ends waits for the end of a connection and compares when and why it came.
func (e *edge) ends(t *testing.T, since time.Time, after time.Duration, why Reason) {
	t.Helper()
	f := <-e.closed // of what arrives on it; its own end is a moment later
	took := time.Since(since)
	<-f.conn.done
	got, err := f.conn.stopped()
	if took != after || got != why {
		t.Errorf("closed for %q after %v (%v), want %q after %v", got, took, err, why, after)
	}
}

func TestReadTimes(t *testing.T) {
	const s = time.Second
	message := text("a", 100)
	for _, tt := range []struct {
		name  string
		steps []any // what the peer writes, and how long it waits
		after time.Duration
		want  Reason
	}{
		{"A8 nothing", nil, 5 * s, noMessage},
		{"keep-alives only", []any{s, "\r\n", s, "\r\n", s, "\r\n", s, "\r", s / 2, "\n"}, 5 * s, noMessage},
		{"A8 first message is slow", []any{4 * s, message[:20], s / 2, message[20:30]}, 5 * s, noMessage},
		{"first message in time", []any{4 * s, message[:20], s / 2, message[20:]}, 4*s + s/2 + 30*time.Minute, idle},
		{"second message is slow", []any{message, time.Minute, message[:20], 4 * s, message[20:40], 5 * s, message[40:60]}, time.Minute + 10*s, slowMessage},
		{"second message begins with the first", []any{message + message[:20]}, 10 * s, slowMessage},
		{"each has its time", []any{message + message[:20], 9 * s, message[20:] + message[:20], 9 * s, message[20:] + message[:20]}, 28 * s, slowMessage},
		{"A8 byte by byte", []any{message, s, message[:1], s, message[1:2], s, message[2:3], s, message[3:4]}, 11 * s, slowMessage},
		{"T9 idle", []any{message}, 30 * time.Minute, idle},
		{"messages keep it", []any{message, 29 * time.Minute, message, 29 * time.Minute, message}, 88 * time.Minute, idle},
		{"keep-alives keep it", []any{message, 29 * time.Minute, "\r\n", 29 * time.Minute, "\r\n"}, 88 * time.Minute, idle},
		{"half a CRLF is no message", []any{message, s, "\r"}, s + 30*time.Minute, idle},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pipes(t, Limits{}, func(e *edge, connect func() net.Conn) {
				c, begin := connect(), time.Now()
				go func() { _, _ = io.Copy(io.Discard, c) }() // pongs
				for _, step := range tt.steps {
					switch step := step.(type) {
					case string:
						write(t, c, step)
					case time.Duration:
						<-time.After(step)
					}
				}
				e.ends(t, begin, tt.after, tt.want)
			})
		})
	}
}

// A connection that we opened owes us nothing, but what it begins it has to end.
func TestReadTimesOfDialed(t *testing.T) {
	pipes(t, Limits{Idle: time.Hour}, func(e *edge, _ func() net.Conn) {
		ours, peers := net.Pipe()
		c := e.newConn(TCP, addrPort(nil), addrPort(nil))
		c.dialed = true
		c.attach(ours)
		begin := time.Now()
		e.wg.Go(c.run)
		<-time.After(time.Minute)
		write(t, peers, "OPTIONS")
		e.ends(t, begin, time.Minute+10*time.Second, slowMessage)
	})
}

func TestT10HalfCloseTime(t *testing.T) {
	pipes(t, Limits{}, func(e *edge, connect func() net.Conn) {
		c, begin := connect(), time.Now()
		write(t, c, text("a", 0))
		f := (<-e.got).flow
		c.Close()
		if gone := <-e.closed; gone != f || time.Since(begin) != 0 {
			t.Errorf("closed(%v) after %v, want %v at once", gone, time.Since(begin), f)
		}
		<-f.conn.done
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("the other half was closed after %v, want 5s", took)
		}
	})
	// Who has said nothing gets no answers either.
	pipes(t, Limits{}, func(e *edge, connect func() net.Conn) {
		c, begin := connect(), time.Now()
		c.Close()
		e.ends(t, begin, 0, peerClosed)
	})
}

func TestWriteTime(t *testing.T) {
	pipes(t, Limits{}, func(e *edge, connect func() net.Conn) {
		c, begin := connect(), time.Now()
		write(t, c, text("a", 0))
		f := (<-e.got).flow
		failed := make(chan error, 20)
		// A pipe takes nothing that is not read.
		for range 3 {
			f.Send([]byte(strings.Repeat("x", 60000)), func(err error) { failed <- err })
		}
		<-time.After(4 * time.Second)
		read(t, c, strings.Repeat("x", 60000))
		<-time.After(4 * time.Second)
		read(t, c, strings.Repeat("x", 30000))
		e.ends(t, begin, 9*time.Second, stalled) // each batch has 5 s
		e.stop()
		if n := len(failed); n != 2 {
			t.Errorf("%d messages failed, want the 2 that were not read whole", n)
		}
	})
}

// A flood of small messages to a peer that does not read is bounded by more than their bytes.
func TestQueueOfSmallMessages(t *testing.T) {
	pipes(t, Limits{Queue: 66000}, func(e *edge, connect func() net.Conn) {
		c := connect()
		write(t, c, text("a", 0))
		f := (<-e.got).flow
		sent := 0
		for ; f.conn.alive(); sent++ {
			f.Send([]byte("\r\n"), nil)
		}
		if sent != 1001 {
			t.Errorf("%d messages of 2 bytes were taken, want 1000", sent-1)
		}
		<-e.closed
	})
}
