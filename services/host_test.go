package services

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// journal is what happened, in order.
type journal struct {
	mu     sync.Mutex
	events []string
}

func (j *journal) add(event string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, event)
}

func (j *journal) expect(t *testing.T, want ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if diff := cmp.Diff(want, j.events); diff != "" {
		t.Errorf("events differ (-want +got):\n%s", diff)
	}
}

// script is a Runner that takes its time and writes down what it does.
type script struct {
	name    string
	journal *journal
	startup time.Duration // until it is ready
	life    time.Duration // until it returns by itself; 0: it does not
	drain   time.Duration // from the end of ctx to the return
	early   error         // returned instead of becoming ready
	err     error         // returned at the end
}

func (s *script) Run(ctx context.Context, ready func()) error {
	time.Sleep(s.startup) // the bubble's clock
	if s.early != nil {
		return s.early
	}
	s.journal.add(s.name + " ready")
	ready()
	var end <-chan time.Time
	if s.life > 0 {
		end = time.After(s.life)
	}
	select {
	case <-end:
	case <-ctx.Done():
		s.journal.add(s.name + " stopping")
		time.Sleep(s.drain)
	}
	s.journal.add(s.name + " done")
	return s.err
}

func host(abort <-chan struct{}, scripts ...*script) (*Host, *journal) {
	h, j := NewHost(slog.New(slog.DiscardHandler), 10*time.Second, abort), &journal{}
	for _, s := range scripts {
		s.journal = j
		h.Add(s.name, s)
	}
	return h, j
}

func TestHost(t *testing.T) {
	broken := errors.New("the disk is full")
	tests := []struct {
		name    string
		scripts []*script
		runFor  time.Duration // until ctx ends
		want    string        // the error
		took    time.Duration
		events  []string
	}{
		{
			name: "starts in order, stops in reverse, one by one",
			scripts: []*script{
				{name: "location", startup: 3 * time.Second, drain: time.Second},
				{name: "connect", drain: 2 * time.Second},
				{name: "edgeport"},
			},
			runFor: time.Minute,
			took:   time.Minute + 3*time.Second,
			events: []string{
				"location ready", "connect ready", "edgeport ready", "host ready",
				"edgeport stopping", "edgeport done", "connect stopping", "connect done", "location stopping", "location done",
			},
		},
		{
			name: "one that cannot start stops those before it and keeps those behind it from starting",
			scripts: []*script{
				{name: "location"},
				{name: "connect", startup: time.Second, early: broken},
				{name: "edgeport"},
			},
			runFor: time.Minute,
			want:   "connect: the disk is full",
			took:   time.Second,
			events: []string{"location ready", "location stopping", "location done"},
		},
		{
			name: "one that fails while another one starts stops all",
			scripts: []*script{
				{name: "location", life: time.Second, err: broken},
				{name: "connect", startup: 3 * time.Second},
			},
			runFor: time.Minute,
			want:   "location: the disk is full",
			took:   3 * time.Second,
			events: []string{"location ready", "location done", "connect ready", "connect stopping", "connect done"},
		},
		{
			name: "one that fails stops all",
			scripts: []*script{
				{name: "location", life: 5 * time.Second, err: broken},
				{name: "edgeport", drain: time.Second},
			},
			runFor: time.Minute,
			want:   "location: the disk is full",
			took:   6 * time.Second,
			events: []string{"location ready", "edgeport ready", "host ready", "location done", "edgeport stopping", "edgeport done"},
		},
		{
			name:    "one that returns nil without being told to has failed",
			scripts: []*script{{name: "location", life: time.Second}},
			runFor:  time.Minute,
			want:    "location: stopped without being told to",
			took:    time.Second,
			events:  []string{"location ready", "host ready", "location done"},
		},
		{
			name: "the drain time of each is bounded",
			scripts: []*script{
				{name: "location", drain: 2 * time.Second},
				{name: "edgeport", drain: 11 * time.Second},
			},
			runFor: time.Minute,
			want:   "edgeport: still running 10s after it was told to stop",
			took:   time.Minute + 12*time.Second,
			events: []string{
				"location ready", "edgeport ready", "host ready",
				"edgeport stopping", "location stopping", "edgeport done", "location done",
			},
		},
		{
			name: "the first error is returned",
			scripts: []*script{
				{name: "location", err: errors.New("flush: no space")},
				{name: "edgeport", err: broken},
			},
			runFor: time.Minute,
			want:   "edgeport: the disk is full",
			took:   time.Minute,
			events: []string{
				"location ready", "edgeport ready", "host ready",
				"edgeport stopping", "edgeport done", "location stopping", "location done",
			},
		},
		{
			name:    "the error of the context is a normal end",
			scripts: []*script{{name: "edgeport", err: context.Canceled}},
			runFor:  time.Minute,
			took:    time.Minute,
			events:  []string{"edgeport ready", "host ready", "edgeport stopping", "edgeport done"},
		},
		{
			name: "the end of ctx stops a start",
			scripts: []*script{
				{name: "location"},
				{name: "connect", startup: 3 * time.Second},
				{name: "edgeport"},
			},
			runFor: time.Second,
			took:   3 * time.Second,
			events: []string{
				"location ready", "connect ready", "connect stopping", "connect done", "location stopping", "location done",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, j := host(nil, tt.scripts...)
				ctx, cancel := context.WithTimeout(t.Context(), tt.runFor)
				defer cancel()
				begin := time.Now()
				err := h.Run(ctx, func() { j.add("host ready") })
				if got := text(err); got != tt.want {
					t.Errorf("Run = %q, want %q", got, tt.want)
				}
				if took := time.Since(begin); took != tt.took {
					t.Errorf("Run took %v, want %v", took, tt.took)
				}
				synctest.Wait()
				j.expect(t, tt.events...)
			})
		})
	}
}

// A Host is ready while all its services are, and not while one drains.
func TestHostReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := host(nil, &script{name: "location"}, &script{name: "edgeport", startup: 2 * time.Second, drain: 2 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx, func() {}) }()
		begin := time.Now()
		for _, tt := range []struct {
			at   time.Duration
			want string
		}{
			{time.Second, "it is starting"},
			{3 * time.Second, ""},
			{59 * time.Second, ""},
			{61 * time.Second, "it is stopping"},
			{63 * time.Second, "it is stopping"},
		} {
			time.Sleep(tt.at - time.Since(begin))
			if got := text(h.Ready()); got != tt.want {
				t.Errorf("Ready() after %v = %q, want %q", tt.at, got, tt.want)
			}
		}
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// A second signal does not wait for anybody.
func TestHostAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		abort := make(chan struct{})
		h, j := host(abort, &script{name: "location", drain: time.Second}, &script{name: "edgeport", drain: 9 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		time.AfterFunc(time.Minute+2*time.Second, func() { close(abort) })
		begin := time.Now()
		err := h.Run(ctx, func() {})
		if got, want := text(err), "edgeport: left before it had stopped"; got != want {
			t.Errorf("Run = %q, want %q", got, want)
		}
		if took, want := time.Since(begin), time.Minute+2*time.Second; took != want {
			t.Errorf("Run took %v, want %v", took, want)
		}
		time.Sleep(10 * time.Second) // until both are done, as nothing outlives the bubble
		synctest.Wait()
		j.expect(t, "location ready", "edgeport ready", "edgeport stopping", "location stopping", "location done", "edgeport done")
	})
}

func TestHostWithoutServices(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if err := NewHost(slog.New(slog.DiscardHandler), time.Second, nil).Run(ctx, cancel); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}

func TestSignals(t *testing.T) {
	ctx, abort, release := Signals(t.Context())
	defer release()
	if err := ctx.Err(); err != nil {
		t.Fatalf("context before a signal = %v, want nil", err)
	}
	kill(t, syscall.SIGTERM)
	<-ctx.Done()
	select {
	case <-abort:
		t.Fatal("abort after one signal is closed, want open")
	default:
	}
	kill(t, syscall.SIGINT)
	<-abort
}

func TestSignalsRelease(t *testing.T) {
	ctx, _, release := Signals(t.Context())
	release()
	release()
	<-ctx.Done()
}

func kill(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), s); err != nil {
		t.Fatalf("kill: %v", err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
