package transport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/routr-fabric/routr/services/edgeport/message"
)

// T4 to T8: however a stream is cut, the messages are the same.
func TestStream(t *testing.T) {
	var fifty []string
	for i := range 50 {
		fifty = append(fifty, text(fmt.Sprint("m", i), 300+i))
	}
	for _, tt := range []struct {
		name string
		in   string
		cut  func(left int) int // how much to write next
		want []string
		pong string
	}{
		{name: "one", in: text("a", 100), want: []string{text("a", 100)}},
		{name: "no body", in: text("a", 0) + text("b", 0), want: []string{text("a", 0), text("b", 0)}},
		{name: "T6 fifty in one write", in: strings.Join(fifty, ""), want: fifty},
		{name: "T4 T6 fifty, cut anywhere", in: strings.Join(fifty, "\r\n"), cut: func(int) int { return rand.IntN(900) }, want: fifty},
		{name: "T5 byte at a time", in: text("a", 300) + text("b", 10), cut: func(int) int { return 1 }, want: []string{text("a", 300), text("b", 10)}},
		{name: "W10 128 KiB", in: sized("a", message.MaxSize), want: []string{sized("a", message.MaxSize)}},
		{name: "128 KiB between others", in: text("a", 9) + sized("b", message.MaxSize) + text("c", 9), cut: func(int) int { return 1460 }, want: []string{text("a", 9), sized("b", message.MaxSize), text("c", 9)}},
		{name: "T4 cut in the last CRLF", in: text("a", 0), cut: func(left int) int { return max(left-1, 1) }, want: []string{text("a", 0)}},
		{name: "T7 leading CRLFs", in: "\r\n" + text("a", 0) + "\r\n" + text("b", 0), want: []string{text("a", 0), text("b", 0)}},
		{name: "T8 ping", in: text("a", 0) + "\r\n\r\n", want: []string{text("a", 0)}, pong: "\r\n"},
		{name: "T8 ping in pieces", in: text("a", 0) + "\r\n\r\n", cut: func(int) int { return 1 }, want: []string{text("a", 0)}, pong: "\r\n"},
		{name: "T8 pings in one write", in: strings.Repeat("\r\n\r\n", 500) + text("a", 0), want: []string{text("a", 0)}, pong: "\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := serve(t, on(TCP, "127.0.0.1"), nil)
			c := e.client(t, "127.0.0.1")
			for in := tt.in; in != ""; {
				n := len(in)
				if tt.cut != nil {
					n = min(tt.cut(n), n)
				}
				write(t, c, in[:n])
				in = in[n:]
			}
			var f Flow
			for _, want := range tt.want {
				f = e.want(t, want)
			}
			if tt.pong != "" {
				read(t, c, tt.pong)
			}
			f.Send([]byte("end"), nil) // nothing was answered but the ping
			read(t, c, "end")
			e.wantReleased(t)
		})
	}
}

// What can become no message ends the connection, and gets no answer.
func TestMalformed(t *testing.T) {
	noise := make([]byte, 300)
	for i := range noise {
		noise[i] = byte(rand.Uint32()) | 0x80
	}
	for _, tt := range []struct {
		name, in string
		want     Reason
	}{
		{"A21 HTTP", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed},
		{"A21 TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Malformed},
		{"A21 noise", string(noise), Malformed},
		{"CR alone", "\r" + text("a", 0), Malformed},
		{"LF alone", "\n" + text("a", 0), Malformed},
		{"no Content-Length", "OPTIONS sip:a SIP/2.0\r\nCall-ID: a\r\n\r\n", Malformed},
		{"negative Content-Length", "OPTIONS sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n", Malformed},
		{"A16 two Content-Lengths", "OPTIONS sip:a SIP/2.0\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", Malformed},
		{"A13 huge Content-Length", "OPTIONS sip:a SIP/2.0\r\nContent-Length: 4294967295\r\n\r\n", Malformed},
		{"A13 more than 128 KiB", "OPTIONS sip:a SIP/2.0\r\nContent-Length: 131072\r\n\r\n", tooBig},
		{"A14 endless headers", "OPTIONS sip:a SIP/2.0\r\n" + strings.Repeat("X: y\r\n", 20000), tooBig},
		{"A14 endless line", "OPTIONS sip:a SIP/2.0\r\nX: " + strings.Repeat("y", 100000), tooBig},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := serve(t, on(TCP, "127.0.0.1"), nil)
			c := e.client(t, "127.0.0.1")
			good := text("good", 3)
			write(t, c, good)
			_, _ = c.Write([]byte(tt.in + text("after", 0))) // may fail: it is closed meanwhile
			e.want(t, good)
			f := e.wantClosed(t, tt.want)
			if got := readEnd(t, c); got != "" {
				t.Errorf("answered %q, want nothing", got)
			}
			if n := len(e.got); n != 0 {
				t.Errorf("%d more messages, want none", n)
			}
			if _, ok := e.Lookup(f.ID()); ok {
				t.Error("Lookup() finds the closed connection")
			}
		})
	}
}

func TestMessageLimit(t *testing.T) {
	cfg := on(TCP, "127.0.0.1")
	cfg.Limits.Message = 1000
	e := serve(t, cfg, nil)
	c := e.client(t, "127.0.0.1")
	write(t, c, sized("a", 1000)+sized("b", 1001))
	e.want(t, sized("a", 1000))
	e.wantClosed(t, tooBig)
}

func TestFlowOfConnection(t *testing.T) {
	e := serve(t, on(TCP, "127.0.0.1"), nil)
	c := e.client(t, "127.0.0.3")
	write(t, c, text("a", 0)+text("b", 0))
	f := e.want(t, text("a", 0))
	if again := e.want(t, text("b", 0)); again != f {
		t.Errorf("second message on flow %v, want %v", again, f)
	}
	if f.Protocol() != TCP || f.Local() != e.addr() || f.Remote() != addrPort(c.LocalAddr()) || len(f.ID()) != 20 {
		t.Errorf("flow = %v %v %v %q, want TCP %v %v and 20 letters", f.Protocol(), f.Local(), f.Remote(), f.ID(), e.addr(), c.LocalAddr())
	}
	if got, ok := e.Lookup(f.ID()); !ok || got != f {
		t.Errorf("Lookup(%q) = %v, %v, want the flow", f.ID(), got, ok)
	}
	if f.To(netip.MustParseAddrPort("127.0.0.1:1")) != f {
		t.Error("To() of a connection is another flow")
	}
	other := e.client(t, "127.0.0.3")
	write(t, other, text("c", 0))
	if g := e.want(t, text("c", 0)); g == f || g.ID() == f.ID() {
		t.Errorf("two connections have the flows %v and %v", f, g)
	}
	for _, id := range []string{"", "AAAAAAAAAAAAAAAAAAAA", f.ID()[:19]} {
		if _, ok := e.Lookup(id); ok {
			t.Errorf("Lookup(%q) finds a connection", id)
		}
	}
	if (Flow{}).Valid() || !f.Valid() {
		t.Errorf("Valid() of no flow = %v, of a flow = %v", Flow{}.Valid(), f.Valid())
	}

	c.Close()
	if gone := wait(t, e.closed, "the end of a connection"); gone != f {
		t.Errorf("closed(%v), want %v", gone, f)
	}
	if _, ok := e.Lookup(f.ID()); ok {
		t.Error("Lookup() finds a connection whose peer has gone")
	}
}

// A peer that has closed its half gets the answers to what it asked.
func TestT10HalfClose(t *testing.T) {
	e := serve(t, on(TCP, "127.0.0.1"), nil)
	c := e.client(t, "127.0.0.1")
	write(t, c, text("a", 0))
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	f := e.want(t, text("a", 0))
	if gone := wait(t, e.closed, "the end of a connection"); gone != f {
		t.Errorf("closed(%v), want %v", gone, f)
	}
	f.Send([]byte("answer"), func(err error) { t.Errorf("Send() failed: %v", err) })
	f.Send([]byte(strings.Repeat("x", 500000)), func(err error) { t.Errorf("Send() failed: %v", err) })
	e.stop() // ends the wait for more, but not before all is written
	if got, want := readEnd(t, c), "answer"+strings.Repeat("x", 500000); got != want {
		t.Errorf("read %q, want %q", short(got), short(want))
	}
	if n := len(e.closed); n != 0 {
		t.Errorf("closed was called %d times more", n)
	}
}

// A message that is cut off by the end of the connection is none.
func TestTruncated(t *testing.T) {
	e := serve(t, on(TCP, "127.0.0.1"), nil)
	c := e.client(t, "127.0.0.1")
	write(t, c, text("a", 100)[:150])
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	e.wantClosed(t, broken)
	if n := len(e.got); n != 0 {
		t.Errorf("%d messages, want none", n)
	}
}

// reset closes c in a way that its peer cannot take for the end of one half.
func reset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestReset(t *testing.T) {
	e := serve(t, on(TCP, "127.0.0.1"), nil)
	c := e.client(t, "127.0.0.1")
	write(t, c, text("a", 0))
	f := e.want(t, text("a", 0))
	reset(t, c)
	e.wantClosed(t, broken)
	failed := make(chan error)
	f.Send([]byte("x"), func(err error) { failed <- err })
	if err := wait(t, failed, "the failure"); !strings.HasPrefix(err.Error(), "send tcp "+f.Remote().String()+": ") {
		t.Errorf("Send() failed with %q, want what was sent where", err)
	}
}

func TestConnectionLimits(t *testing.T) {
	cfg := on(TCP, "127.0.0.1")
	cfg.Limits.Connections, cfg.Limits.PerSource = 5, 3
	e := serve(t, cfg, echo)
	talk := func(c net.Conn) {
		t.Helper()
		write(t, c, text("a", 0))
		read(t, c, text("a", 0))
	}
	var open []*net.TCPConn
	for _, from := range []string{"127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"} {
		c := e.client(t, from)
		talk(c)
		open = append(open, c)
	}
	refused := func(from string, why refusal) {
		t.Helper()
		before := e.counters[TCP].refused[why].Load()
		if got := readEnd(t, e.client(t, from)); got != "" {
			t.Errorf("a refused connection got %q", got)
		}
		if n := e.counters[TCP].refused[why].Load(); n != before+1 {
			t.Errorf("refused for %q = %d, want %d", why, n, before+1)
		}
	}
	refused("127.0.0.1", perSource)
	talk(e.client(t, "127.0.0.3"))
	refused("127.0.0.4", tooMany)
	if _, err := e.Flow(TCP, e.addr(), ""); err == nil {
		t.Error("Flow() beyond the limit = nil, want an error")
	}
	// A place that is free is taken again.
	reset(t, open[0])
	e.wantClosed(t, broken)
	talk(e.client(t, "127.0.0.1"))
	for _, c := range open[1:] {
		talk(c)
	}

	// One that has been silent for minutes makes room.
	e.mu.Lock()
	var silent *conn
	for _, c := range e.conns {
		if silent = c; c.remote == addrPort(open[1].LocalAddr()) {
			break
		}
	}
	e.mu.Unlock()
	silent.active.Store(int64(e.now() - evictable - time.Second))
	talk(e.client(t, "127.0.0.4"))
	if gone := e.wantClosed(t, evicted); gone.conn != silent {
		t.Errorf("closed %v, want %v", gone.Remote(), silent.remote)
	}
}

func TestSource(t *testing.T) {
	for in, want := range map[string]string{"192.0.2.1": "192.0.2.1", "2001:db8:1:2:3::4": "2001:db8:1:2::", "::1": "::"} {
		if got := source(netip.MustParseAddr(in)); got != netip.MustParseAddr(want) {
			t.Errorf("source(%s) = %v, want %s", in, got, want)
		}
	}
}

// An idle connection takes little, whatever came before.
func TestIdleMemory(t *testing.T) {
	const n = 500
	used := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc + m.StackInuse)
	}
	var clients []net.Conn
	dial := func(addr netip.AddrPort) net.Conn {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
		return c
	}
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()

	// What the half of the client takes is seen at connections that nobody accepts.
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	before := used()
	for range n {
		dial(addrPort(nobody.Addr()))
	}
	half := used() - before

	e := serve(t, on(TCP, "127.0.0.1"), echo)
	large := sized("a", 20000) // the buffer grows for it, and shrinks again
	before = used()
	for range n {
		c := dial(e.addr())
		write(t, c, large)
		read(t, c, large)
		e.want(t, large)
	}
	each := (used() - before - half) / n
	t.Logf("an idle connection takes %d bytes", each)
	if each > 10<<10 {
		t.Errorf("an idle connection takes %d bytes, want 10 KiB at most", each)
	}
	runtime.KeepAlive(clients)
}
