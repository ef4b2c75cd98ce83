//go:build unix

package transport

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
)

// warned tells of log records.
type warned chan string

func (w warned) Enabled(context.Context, slog.Level) bool { return true }
func (w warned) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		w <- r.Message
	}
	return nil
}
func (w warned) WithAttrs([]slog.Attr) slog.Handler { return w }
func (w warned) WithGroup(string) slog.Handler      { return w }

// Without descriptors accept waits, says so once, and goes on when there are some.
func TestNoDescriptors(t *testing.T) {
	warnings := make(warned, 10)
	e := &edge{got: make(chan received, 10), closed: make(chan Flow, 10)}
	e.Layer = New(on(TCP, "127.0.0.1"), func(f Flow, data []byte) { e.got <- received{f, string(data)} },
		func(f Flow) { e.closed <- f }, slog.New(warnings), noop.Meter{})
	if err := e.Listen(); err != nil {
		t.Fatal(err)
	}
	c := e.client(t, "127.0.0.1") // the kernel accepts for now
	write(t, c, text("late", 0))

	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	defer restore()
	e.run(t)
	if got := wait(t, warnings, "a warning"); !strings.Contains(got, "accept") {
		t.Errorf("warned of %q, want accept", got)
	}
	<-time.After(100 * time.Millisecond) // the time over which attempts are counted, not an event
	if n := e.counters[TCP].refused[acceptFailed].Load(); n < 2 || n > 7 {
		t.Errorf("%d attempts to accept within 100 ms, want 2 to 7", n)
	}
	restore()
	e.want(t, text("late", 0))
	if n := len(warnings); n != 0 {
		t.Errorf("%d more warnings, want none", n)
	}
}

func TestDescriptors(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before) }()
	for _, tt := range []struct{ files, want int }{{400, 336}, {1024, 896}} {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(tt.files), Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		warnings := make(warned, 1)
		l := New(Config{Limits: Limits{Connections: 5000}}, nil, nil, slog.New(warnings), noop.Meter{})
		if l.limits.Connections != tt.want || len(warnings) != 1 {
			t.Errorf("with %d files: %d connections, %d warnings, want %d, 1", tt.files, l.limits.Connections, len(warnings), tt.want)
		}
	}
}

func TestDialFails(t *testing.T) {
	cfg := on(TCP, "127.0.0.1")
	cfg.Limits.Dial = 100 * time.Millisecond
	e := serve(t, cfg, nil)

	// A listener whose queue is full lets a connect wait.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	full := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*syscall.SockaddrInet4).Port))
	for i := 0; ; i++ {
		c, err := net.DialTimeout("tcp", full.String(), 100*time.Millisecond)
		if err != nil {
			break
		}
		defer c.Close()
		if i == 10 {
			t.Fatal("the queue of the listener does not fill")
		}
	}

	f, err := e.Flow(TCP, full, "")
	if err != nil {
		t.Fatal(err)
	}
	if port := f.Local().Port(); port != 0 {
		t.Errorf("Local() has port %d before the connection stands, want 0", port)
	}
	failed := make(chan error)
	for range 3 {
		f.Send([]byte("x"), func(err error) { failed <- err })
	}
	for range 3 {
		if err := wait(t, failed, "a failure"); !strings.Contains(err.Error(), "timeout") {
			t.Errorf("Send() failed with %q, want a timeout", err)
		}
	}
	e.wantClosed(t, unreachable)

	// The end of the layer does not wait for a dial.
	cfg.Limits.Dial = time.Hour
	e = serve(t, cfg, nil)
	if f, err = e.Flow(TCP, full, ""); err != nil {
		t.Fatal(err)
	}
	f.Send([]byte("x"), func(err error) { failed <- err })
	go e.stop()
	wait(t, failed, "the failure")
	e.wantClosed(t, byShutdown)
	if _, err := e.Flow(TCP, full, ""); err == nil {
		t.Error("Flow() after the end = nil, want an error")
	}
}
