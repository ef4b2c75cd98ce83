package transport

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
)

// edge is a layer that serves, and what it told.
type edge struct {
	*Layer
	got    chan received
	closed chan Flow
	stop   func() // ends Serve and waits for it
}

type received struct {
	flow Flow
	data string
}

// wantReleased waits until no buffer is in use any more: what was delivered or closed gives its own back a moment later.
func (e *edge) wantReleased(t *testing.T) {
	t.Helper()
	all := int64(e.limits.Memory)
	for end := time.Now().Add(10 * time.Second); e.memory.left.Load() != all; runtime.Gosched() {
		if time.Now().After(end) {
			t.Errorf("memory left = %d, want all %d", e.memory.left.Load(), all)
			return
		}
	}
}

// serve runs a layer until the end of the test. What arrives goes to handle, if there is one, and then to got.
func serve(t *testing.T, cfg Config, handle Handler) *edge {
	t.Helper()
	e := &edge{got: make(chan received, 1000), closed: make(chan Flow, 1000)}
	e.Layer = New(cfg, func(f Flow, data []byte) {
		if handle != nil {
			handle(f, data)
		}
		e.got <- received{f, string(data)}
	}, func(f Flow) { e.closed <- f }, slog.New(slog.DiscardHandler), noop.Meter{})
	if err := e.Listen(); err != nil {
		t.Fatal(err)
	}
	e.run(t)
	return e
}

func (e *edge) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := e.Serve(ctx); err != nil {
			t.Errorf("Serve() = %v, want nil", err)
		}
	}()
	e.stop = func() {
		cancel()
		wait(t, served, "the end of Serve")
	}
	t.Cleanup(e.stop)
}

// on is a listening point with a free port.
func on(p Protocol, addr string) Config {
	return Config{Listen: []Listen{{Protocol: p, Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), 0)}}}
}

// addr is where e listens.
func (e *edge) addr() netip.AddrPort { return e.Points()[0].Addr }

// wait takes the next value of a channel.
func wait[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

// client is a TCP connection to e from the address from.
func (e *edge) client(t *testing.T, from string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.ParseIP(from)}, net.TCPAddrFromAddrPort(e.addr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// text is a message with a body of that size.
func text(name string, body int) string {
	return fmt.Sprintf("MESSAGE sip:%s@example.com SIP/2.0\r\nCall-ID: %s\r\nContent-Length: %d\r\n\r\n%s",
		name, name, body, bytes.Repeat([]byte("x"), body))
}

// sized is a message of exactly that size.
func sized(name string, size int) string {
	body := size - len(text(name, 0))
	for len(text(name, body)) > size {
		body--
	}
	return text(name, body)
}

func write(t *testing.T, c net.Conn, data string) {
	t.Helper()
	if _, err := io.WriteString(c, data); err != nil {
		t.Fatal(err)
	}
}

// read reads exactly what is wanted.
func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	buf := make([]byte, len(want))
	n, err := io.ReadFull(c, buf)
	if err != nil || string(buf) != want {
		t.Fatalf("read %q, %v, want %q", short(string(buf[:n])), err, short(want))
	}
}

// readEnd reads until the server closes, and returns what came before.
func readEnd(t *testing.T, c net.Conn) string {
	t.Helper()
	data, err := io.ReadAll(c)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Fatal("the connection is still open")
	}
	return string(data)
}

func short(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%s… (%d bytes)", s[:80], len(s))
	}
	return s
}

func (e *edge) want(t *testing.T, data string) Flow {
	t.Helper()
	got := wait(t, e.got, "a message")
	if got.data != data {
		t.Fatalf("received %q, want %q", short(got.data), short(data))
	}
	return got.flow
}

// wantClosed waits for the end of a connection, and compares the reason.
func (e *edge) wantClosed(t *testing.T, want Reason) Flow {
	t.Helper()
	f := wait(t, e.closed, "the end of a connection") // of what arrives on it; its own end may be a moment later
	wait(t, f.conn.done, "the reason of that")
	if got, _ := f.conn.stopped(); got != want {
		t.Errorf("connection closed for %q, want %q", got, want)
	}
	count := &e.counters[f.Protocol()].closed[want]
	for end := time.Now().Add(10 * time.Second); count.Load() == 0; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("closed for %q = 0, want it counted", want)
		}
	}
	return f
}

// until waits for something that no channel tells of.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !done(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s did not come", what)
		}
	}
}

func echo(f Flow, data []byte) { f.Send(data, nil) }

func TestParseProtocol(t *testing.T) {
	for _, tt := range []struct {
		in               string
		want             Protocol
		ok               bool
		reliable, secure bool
	}{
		{in: "UDP", want: UDP, ok: true},
		{in: "udp", want: UDP, ok: true},
		{in: "Tcp", want: TCP, ok: true, reliable: true},
		{in: "tls", want: TLS, ok: true, reliable: true, secure: true},
		{in: "WS", want: WS, ok: true, reliable: true},
		{in: "wss", want: WSS, ok: true, reliable: true, secure: true},
		{in: ""}, {in: "SCTP"}, {in: "UDP "}, {in: "TL\u017f"}, {in: "WS\u017f"},
	} {
		got, ok := ParseProtocol(tt.in)
		if got != tt.want || ok != tt.ok {
			t.Errorf("ParseProtocol(%q) = %v, %v, want %v, %v", tt.in, got, ok, tt.want, tt.ok)
		}
		if !ok {
			continue
		}
		if again, _ := ParseProtocol(got.String()); again != got {
			t.Errorf("ParseProtocol(%q) = %v, want %v", got.String(), again, got)
		}
		if got.Reliable() != tt.reliable || got.Secure() != tt.secure {
			t.Errorf("%v: Reliable() = %v, Secure() = %v, want %v, %v", got, got.Reliable(), got.Secure(), tt.reliable, tt.secure)
		}
	}
	if s := Protocol(3).String(); s != "" {
		t.Errorf("Protocol(3).String() = %q, want none", s)
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	for i, want := range []time.Duration{5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000} {
		if got := b.next(); got != want*time.Millisecond {
			t.Errorf("pause %d = %v, want %v", i, got, want*time.Millisecond)
		}
	}
	b.reset()
	if got := b.next(); got != 5*time.Millisecond {
		t.Errorf("pause after reset = %v, want 5ms", got)
	}
}

func TestServeNeedsListen(t *testing.T) {
	l := New(Config{}, nil, nil, slog.New(slog.DiscardHandler), noop.Meter{})
	if err := l.Serve(t.Context()); err == nil {
		t.Error("Serve() before Listen = nil, want an error")
	}
	if _, err := l.Flow(TCP, netip.MustParseAddrPort("127.0.0.1:5060"), ""); err == nil {
		t.Error("Flow() before Listen = nil, want an error")
	}
}
