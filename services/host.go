package services

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Runner is a service. Run calls ready once it serves. When ctx ends it takes no more work, finishes what it has and
// returns nil; an error means that it cannot serve any longer.
type Runner interface {
	Run(ctx context.Context, ready func()) error
}

// Host runs several services in one process: it starts them in the order in which they were added and stops them in
// reverse, one by one, so that what a service needs is there before it and stays until it is done. A Host is a Runner.
type Host struct {
	log     *slog.Logger
	drain   time.Duration
	abort   <-chan struct{}
	runners []*running
	state   atomic.Pointer[string] // why not all services serve; nil: they do
}

// NewHost makes a Host. drain is how long each service may take to return after it was told to stop. When abort is
// closed the Host returns at once and leaves behind what still runs; nil: it always waits.
func NewHost(log *slog.Logger, drain time.Duration, abort <-chan struct{}) *Host {
	h := &Host{log: log, drain: drain, abort: abort}
	h.state.Store(ptr("it is starting"))
	return h
}

// Ready is nil while all services serve: from the moment when the last one has started to the one when the first is told
// to stop.
func (h *Host) Ready() error {
	if why := h.state.Load(); why != nil {
		return errors.New(*why)
	}
	return nil
}

// Add appends a service. The name is for people: it stands in logs and errors. Not to be called after Run.
func (h *Host) Add(name string, r Runner) {
	h.runners = append(h.runners, &running{name: name, runner: r})
}

// Run starts each service when the one before is ready, calls ready when all are, and stops them all when ctx ends or
// one of them returns. It returns the first error, prefixed with the name of the service; a service that returns
// before it was told to, or that is not done when its drain time is over, is an error. Run may be called once.
func (h *Host) Run(ctx context.Context, ready func()) error {
	failed := make(chan *running, len(h.runners))
	started, err := h.start(ctx, failed)
	if err == nil && ctx.Err() == nil {
		h.state.Store(nil)
		ready()
		select {
		case <-ctx.Done():
		case r := <-failed:
			err = r.failure()
		case <-h.abort:
		}
	}
	h.state.Store(ptr("it is stopping"))
	for i := started - 1; i >= 0; i-- {
		if stopErr := h.stop(h.runners[i]); err == nil {
			err = stopErr
		}
	}
	return err
}

// start starts the services until all are ready, ctx ends or one returns, and says how many it has started.
func (h *Host) start(ctx context.Context, failed chan *running) (int, error) {
	for i, r := range h.runners {
		begin := time.Now()
		isReady := r.start(ctx, failed)
		select {
		case <-isReady:
			h.log.Info("service started", "name", r.name, "took", time.Since(begin).Round(time.Millisecond))
		case f := <-failed: // this one, or one that was ready before
			return i + 1, f.failure()
		case <-ctx.Done():
			return i + 1, nil
		case <-h.abort:
			return i + 1, nil
		}
	}
	return len(h.runners), nil
}

// stop tells r to stop and waits until it has returned, its drain time is over, or the Host is aborted.
func (h *Host) stop(r *running) error {
	select {
	case <-r.done: // it stopped by itself, and Run knows why
		return r.failure()
	default:
	}
	begin := time.Now()
	r.cancel()
	limit := time.NewTimer(h.drain)
	defer limit.Stop()
	select {
	case <-r.done:
	case <-limit.C:
		return fmt.Errorf("%s: still running %v after it was told to stop", r.name, h.drain)
	case <-h.abort:
		// A service that was idle may be done all the same: abort only means not to wait.
		select {
		case <-r.done:
		default:
			return fmt.Errorf("%s: left before it had stopped", r.name)
		}
	}
	if r.err != nil && !errors.Is(r.err, context.Canceled) {
		return fmt.Errorf("%s: %w", r.name, r.err)
	}
	h.log.Info("service stopped", "name", r.name, "took", time.Since(begin).Round(time.Millisecond))
	return nil
}

// running is a service and the goroutine that runs it.
type running struct {
	name   string
	runner Runner
	cancel context.CancelFunc
	done   chan struct{} // closed when Run has returned
	err    error         // what it returned; read after done
}

// start runs r on its own goroutine and returns a channel that is closed when it is ready. The end of ctx does not
// reach the service: only stop cancels it, when its turn has come.
func (r *running) start(ctx context.Context, failed chan<- *running) <-chan struct{} {
	ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.done = make(chan struct{})
	isReady := make(chan struct{})
	go func() {
		defer r.cancel()
		r.err = r.runner.Run(ctx, sync.OnceFunc(func() { close(isReady) }))
		close(r.done)
		failed <- r
	}()
	return isReady
}

// failure is the error of a service that returned before it was told to.
func (r *running) failure() error {
	if r.err == nil {
		return fmt.Errorf("%s: stopped without being told to", r.name)
	}
	return fmt.Errorf("%s: %w", r.name, r.err)
}

// Signals returns a context that ends with the first SIGINT or SIGTERM, and a channel, for NewHost, that is closed by
// the second. release gives the signals their default effect again.
func Signals(parent context.Context) (ctx context.Context, abort <-chan struct{}, release func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	second, end := make(chan struct{}), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for n := 0; n < 2; n++ {
			select {
			case <-signals:
			case <-end:
				return
			}
			if n == 0 {
				cancel()
			} else {
				close(second)
			}
		}
	}()
	return ctx, second, sync.OnceFunc(func() {
		signal.Stop(signals)
		cancel()
		close(end)
	})
}
