package transport

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/routr-fabric/routr/services/edgeport/message"
)

// The tests named G are of what SIP stacks are known to get wrong.

// G3: who connects and says nothing, or half of something, is gone after its time, on every transport, and others are
// served meanwhile.
func TestG3ConnectionsHaveDeadlines(t *testing.T) {
	for _, tt := range []struct {
		name     string
		protocol Protocol
		in       string
		want     Reason
	}{
		{"silence on TCP", TCP, "", noMessage},
		{"half a message", TCP, "OPTIONS sip:a SIP/2.0\r\nVia:", noMessage},
		{"half a body", TCP, strings.TrimSuffix(text("a", 10), "x"), noMessage},
		{"silence on TLS", TLS, "", noHandshake},
		{"half a record", TLS, "\x16\x03\x01\x02\x00\x01", noHandshake},
		{"silence on WS", WS, "", noHandshake},
		{"half a request", WS, "GET / HTTP/1.1\r\nHost: a\r\n", noHandshake},
		{"silence on WSS", WSS, "", noHandshake},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := on(tt.protocol, "127.0.0.1")
			cfg.Limits.Handshake, cfg.Limits.FirstMessage = 300*time.Millisecond, 300*time.Millisecond
			e := serve(t, cfg, nil)
			var stalled []net.Conn
			for range 10 {
				c := e.client(t, "127.0.0.2")
				write(t, c, tt.in)
				stalled = append(stalled, c)
			}
			for _, c := range stalled {
				if got := readEnd(t, c); got != "" {
					t.Errorf("answered %q, want nothing", got)
				}
				e.wantClosed(t, tt.want)
			}
			until(t, "the end of all of them", func() bool {
				e.mu.RLock()
				defer e.mu.RUnlock()
				return len(e.conns)+len(e.sources) == 0
			})
			e.wantReleased(t)
		})
	}
}

// G8, A14: a head that does not end takes 64 KiB and no more, however it comes.
func TestG8A14EndlessHead(t *testing.T) {
	for _, tt := range []struct{ name, part string }{
		{"headers", "X: y\r\n"}, {"one line", "yyyyyyyy"}, {"folded lines", "\r\n y"}, {"white space", "    "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := serve(t, on(TCP, "127.0.0.1"), nil)
			c := e.client(t, "127.0.0.1")
			write(t, c, "OPTIONS sip:a SIP/2.0\r\nX: ")
			part := []byte(strings.Repeat(tt.part, 4096/len(tt.part)))
			for written := 0; ; written += len(part) {
				if _, err := c.Write(part); err != nil {
					break
				} else if written > 64<<20 {
					t.Fatalf("%d bytes were taken, want the end", written)
				}
			}
			e.wantClosed(t, tooBig)
			if n := e.counters[TCP].bytesIn.Load(); n > message.MaxSize {
				t.Errorf("%d bytes were read, want %d at most", n, message.MaxSize)
			}
			e.wantReleased(t)
		})
	}
}

// G11: what a WebSocket may carry is carried: texts and binaries, whole and in fragments with a ping between them, small
// and of 128 KiB, and two CRLFs.
func TestG11WebSocket(t *testing.T) {
	e := serve(t, on(WS, "127.0.0.1"), nil)
	p := e.page(t)
	whole, large := text("a", 100), sized("b", message.MaxSize)
	write(t, p.Conn, frame(fin|text1, whole))
	e.want(t, whole)
	write(t, p.Conn, frame(fin|binary2, whole))
	e.want(t, whole)
	write(t, p.Conn, frame(text1, whole[:50])+frame(more, whole[50:60])+frame(fin|ping, "are you there?")+frame(more, "")+frame(fin|more, whole[60:]))
	e.want(t, whole)
	p.want(t, fin|pong, "are you there?")
	write(t, p.Conn, frame(fin|text1, large))
	f := e.want(t, large)
	write(t, p.Conn, frame(fin|text1, "\r\n\r\n"))
	p.want(t, fin|text1, "\r\n")
	f.Send([]byte(large), nil)
	p.want(t, fin|text1, large)
	write(t, p.Conn, frame(fin|closing, "\x03\xe8bye"))
	p.wantEnd(t, 1000)
}

// G28: a peer that does not read costs nobody else anything: what is sent to it returns at once, and it is closed when it
// has had its time.
func TestG28PeerThatDoesNotRead(t *testing.T) {
	for _, protocol := range streams() {
		t.Run(protocol.String(), func(t *testing.T) {
			cfg := on(protocol, "127.0.0.1")
			cfg.Limits.Write = 300 * time.Millisecond
			e := serve(t, cfg, nil)
			raw := e.client(t, "127.0.0.2")
			if err := raw.SetReadBuffer(1024); err != nil {
				t.Fatal(err)
			}
			wedged := e.phoneOn(t, raw)
			msg := text("a", 10)
			wedged.send(t, msg)
			f := e.want(t, msg)
			data := []byte(strings.Repeat("x", 4000))
			for f.conn.alive() && queued(f) == 0 {
				f.Send(data, nil)
			}
			e.wantClosed(t, stalled)
			talk(t, e)
			e.wantReleased(t)
		})
	}
}

// G27: which end of a connection is ours does not depend on who opened it, nor on its transport.
func TestG27LocalAndRemote(t *testing.T) {
	for _, protocol := range streams() {
		t.Run(protocol.String(), func(t *testing.T) {
			e := serve(t, on(protocol, "127.0.0.1"), nil)
			p := e.phone(t)
			p.send(t, text("a", 1))
			if f := e.want(t, text("a", 1)); f.Local() != e.addr() || f.Remote() != addrPort(p.raw.LocalAddr()) {
				t.Errorf("flow = %v %v, want %v %v", f.Local(), f.Remote(), e.addr(), p.raw.LocalAddr())
			}
		})
	}
}
