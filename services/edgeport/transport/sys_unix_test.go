//go:build unix

package transport

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
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
	until(t, "a third attempt to accept", func() bool { return e.counters[TCP].refused[acceptFailed].Load() >= 3 })
	if err := e.Check(); !errors.Is(err, syscall.EMFILE) || !strings.HasPrefix(err.Error(), "accept tcp4 "+e.addr().String()+": ") {
		t.Errorf("Check() = %v, want what cannot be done where, and that there are too many open files", err)
	}
	restore()
	e.want(t, text("late", 0))
	if err := e.Check(); err != nil {
		t.Errorf("Check() after that = %v, want nil", err)
	}
	if n := e.counters[TCP].reopened.Load(); len(warnings) != 0 || n != 0 {
		t.Errorf("%d more warnings, and %d new sockets, want none", len(warnings), n)
	}
}

// replaceFile makes the descriptor of c another file, which is no socket: every call on it fails from now on.
func replaceFile(t *testing.T, c syscall.Conn) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	raw, err := c.SyscallConn()
	if err == nil {
		err = errors.Join(raw.Control(func(fd uintptr) { err = syscall.Dup2(int(null.Fd()), int(fd)) }), err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// listens is the first listener as it is now.
func (e *edge) listens() net.Listener {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.listeners[0].Listener
}

// A listening point whose socket has died is opened anew, on the same address. What goes on elsewhere is not touched.
func TestE9DeadSocket(t *testing.T) {
	for _, tt := range []struct {
		name     string
		protocol Protocol
		die      func(e *edge)
	}{
		{"tcp closed", TCP, func(e *edge) { e.listens().Close() }},
		{"tcp shut down", TCP, func(e *edge) {
			raw, err := e.listens().(*net.TCPListener).SyscallConn()
			if err == nil {
				err = errors.Join(raw.Control(func(fd uintptr) { err = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }), err)
			}
			if err != nil {
				t.Error(err)
			}
		}},
		{"wss closed", WSS, func(e *edge) { e.listens().Close() }},
		{"udp closed", UDP, func(e *edge) { e.sockets[0].datagrams.close() }},
		{"udp no socket any more", UDP, func(e *edge) {
			d := &e.sockets[0].datagrams
			d.mu.Lock()
			c := d.conn
			d.mu.Unlock()
			replaceFile(t, c)
			// Whoever waits for the old file has to be woken, to find the new one. A deadline that is lifted before he
			// looks would not do that.
			if err := c.SetReadDeadline(past()); err != nil {
				t.Error(err)
			}
			until(t, "an error of the reader", func() bool { return e.counters[UDP].receiveFailed.Load() > 0 })
			if err := c.SetReadDeadline(time.Time{}); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			warnings := make(warned, 10)
			e := &edge{got: make(chan received, 10), closed: make(chan Flow, 10)}
			e.Layer = New(on(tt.protocol, "127.0.0.1"), func(f Flow, data []byte) { e.got <- received{f, string(data)} },
				func(f Flow) { e.closed <- f }, slog.New(warnings), noop.Meter{})
			if err := e.Listen(); err != nil {
				t.Fatal(err)
			}
			for tt.protocol.Secure() && len(warnings) > 0 {
				<-warnings // of the certificate
			}
			e.run(t)
			at := e.addr()
			var before *phone
			if tt.protocol == UDP {
				datagram(t, udpClient(t, "127.0.0.1"), at, text("a", 0))
			} else {
				before = e.phone(t)
				before.send(t, text("a", 0))
			}
			e.want(t, text("a", 0)) // it serves
			tt.die(e)
			if got := wait(t, warnings, "a warning"); !strings.HasPrefix(got, "cannot ") {
				t.Errorf("warned of %q, want what cannot be done", got)
			}
			until(t, "another socket", func() bool { return e.counters[tt.protocol].reopened.Load() == 1 })
			if tt.protocol == UDP {
				c := udpClient(t, "127.0.0.1")
				datagram(t, c, at, "x")
				f := e.want(t, "x")
				f.Send([]byte("y"), nil)
				wantDatagram(t, c, "y", at)
				if again, ok := e.Lookup(f.ID()); !ok || again != f {
					t.Errorf("Lookup() = %v, %v, want the flow", again, ok)
				}
			} else {
				talk(t, e)
				before.send(t, text("b", 0))
				e.want(t, text("b", 0))
			}
			if err := e.Check(); err != nil {
				t.Errorf("Check() = %v, want nil", err)
			}
			if n := len(warnings); n != 0 {
				t.Errorf("%d more warnings, want none", n)
			}
			e.stop()
		})
	}
}

// An address that somebody else has taken meanwhile is tried again until it is free.
func TestE9DeadSocketWhoseAddressIsTaken(t *testing.T) {
	e := serve(t, on(UDP, "127.0.0.1"), nil)
	at := e.addr()
	// Both sides of a race would be right; the lock of the layer decides it.
	e.mu.Lock()
	e.sockets[0].datagrams.close()
	other, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	e.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the trouble", func() bool { return errors.Is(e.Check(), syscall.EADDRINUSE) })
	if err := e.Check(); err == nil || !strings.HasPrefix(err.Error(), "listen udp "+at.String()+": ") {
		t.Errorf("Check() = %v, want what could not be done where", err)
	}
	other.Close()
	until(t, "another socket", func() bool { return e.counters[UDP].reopened.Load() == 1 })
	c := udpClient(t, "127.0.0.1")
	datagram(t, c, at, "x")
	e.want(t, "x")
}

// What nobody wants any more is not opened anew.
func TestDeadSocketAtTheEnd(t *testing.T) {
	cfg := on(TCP, "127.0.0.1")
	cfg.Listen = append(cfg.Listen, on(UDP, "127.0.0.1").Listen...)
	e := serve(t, cfg, nil)
	e.stop()
	if n := e.counters[TCP].reopened.Load() + e.counters[UDP].reopened.Load(); n != 0 {
		t.Errorf("%d sockets were opened anew, want none", n)
	}
	e.wantRefused(t)
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

// allowFiles raises the limit of open files for n connections of a layer, if the system lets us, and returns how many of
// them it allows now.
func allowFiles(t testing.TB, n int) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if most := descriptors(); most == 0 || most >= n {
		return n
	}
	limit.Cur = uint64(n + n/4 + 1000)
	limit.Max = max(limit.Max, limit.Cur)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Logf("the limit of open files allows %d connections, and cannot be raised: %v", descriptors(), err)
		return descriptors()
	}
	return n
}
