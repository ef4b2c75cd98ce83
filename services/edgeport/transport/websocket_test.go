package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/routr-fabric/routr/services/edgeport/message"
)

// page is a WebSocket client that writes whatever bytes it is told to.
type page struct {
	net.Conn
	r *bufio.Reader
}

// The opcodes of RFC 6455 5.2, and the bit that ends a message.
const (
	more, text1, binary2, closing, ping, pong = 0x0, 0x1, 0x2, 0x8, 0x9, 0xa
	fin                                       = 0x80
)

const handshake = "GET / HTTP/1.1\r\nHost: sip.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

const offer = "Sec-WebSocket-Protocol: sip\r\n"

// ask sends a handshake and returns the answer to it.
func ask(t *testing.T, c net.Conn, request string) (*page, *http.Response) {
	t.Helper()
	write(t, c, request)
	p := &page{c, bufio.NewReader(c)}
	res, err := http.ReadResponse(p.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p, res
}

// page opens a WebSocket.
func (e *edge) page(t *testing.T) *page { return e.phone(t).page }

// opened is a WebSocket on c.
func opened(t *testing.T, c net.Conn) *page {
	t.Helper()
	p, res := ask(t, c, handshake+offer+"\r\n")
	if res.StatusCode != 101 {
		t.Fatalf("handshake = %s, want 101", res.Status)
	}
	return p
}

// frame is one frame, masked.
func frame(first byte, payload string) string {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{1, 0x82, 3, 0x84}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return string(b)
}

// next reads one frame of the server.
func (p *page) next(t *testing.T) (first byte, payload string) {
	t.Helper()
	var head [10]byte
	size := uint64(0)
	_, err := io.ReadFull(p.r, head[:2])
	if err == nil {
		switch size = uint64(head[1]); size {
		case 126:
			_, err = io.ReadFull(p.r, head[2:4])
			size = uint64(binary.BigEndian.Uint16(head[2:]))
		case 127:
			_, err = io.ReadFull(p.r, head[2:10])
			size = binary.BigEndian.Uint64(head[2:])
		}
	}
	data := make([]byte, min(size, 1<<20))
	if err == nil {
		_, err = io.ReadFull(p.r, data)
	}
	if err != nil {
		t.Fatalf("read a frame: %v", err)
	}
	return head[0], string(data)
}

func (p *page) want(t *testing.T, first byte, payload string) {
	t.Helper()
	if f, got := p.next(t); f != first || got != payload {
		t.Fatalf("frame %#x %q, want %#x %q", f, short(got), first, short(payload))
	}
}

// wantEnd wants a close frame with that code, and the end of the connection.
func (p *page) wantEnd(t *testing.T, code uint16) {
	t.Helper()
	p.want(t, fin|closing, string(binary.BigEndian.AppendUint16(nil, code)))
	if rest, err := io.ReadAll(p.r); len(rest) != 0 || err != nil {
		t.Errorf("after the close frame came %q, %v, want the end", rest, err)
	}
}

// W1, W2, W3 and A21: the handshake.
func TestHandshake(t *testing.T) {
	cfg := on(WS, "127.0.0.1")
	cfg.Listen[0].Origins = []string{"https://phone.example.com"}
	for _, tt := range []struct {
		name, in string
		want     int
	}{
		{"W1 sip", handshake + offer, 101},
		{"W1 among others", handshake + "Sec-WebSocket-Protocol: xmpp, sip, sips\r\n", 101},
		{"W1 two headers", handshake + "Sec-WebSocket-Protocol: xmpp\r\nSec-WebSocket-Protocol: sip\r\n", 101},
		{"W2 no subprotocol", handshake, 400},
		{"W2 another subprotocol", handshake + "Sec-WebSocket-Protocol: xmpp\r\n", 400},
		{"W3 origin", handshake + offer + "Origin: https://Phone.example.com\r\n", 101},
		{"W3 another origin", handshake + offer + "Origin: https://evil.example.com\r\n", 403},
		{"W3 path and query", strings.Replace(handshake, "GET /", "GET /ws/v1?token=a%20b", 1) + offer, 101},
		{"W3 order and case", "GET / HTTP/1.1\r\nsec-websocket-protocol: sip\r\nsec-websocket-version: 13\r\nconnection: keep-alive, Upgrade\r\nUPGRADE: WebSocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nhost: a\r\n", 101},
		{"W3 cookies", handshake + offer + "Cookie: " + strings.Repeat("a=b; ", 820) + "\r\n", 101},
		{"extensions are not agreed on", handshake + offer + "Sec-WebSocket-Extensions: permessage-deflate\r\n", 101},
		{"too much", handshake + offer + "Cookie: " + strings.Repeat("a=b; ", 4000) + "\r\n", 431},
		{"no WebSocket", "GET / HTTP/1.1\r\nHost: a\r\n", 400},
		{"version", strings.Replace(handshake, ": 13", ": 8", 1) + offer, 426},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := serve(t, cfg, nil)
			p, res := ask(t, e.client(t, "127.0.0.1"), tt.in+"\r\n")
			if res.StatusCode != tt.want {
				t.Fatalf("handshake = %s, want %d", res.Status, tt.want)
			}
			if tt.want != 101 {
				p.Close() // it has the answer
				e.wantClosed(t, noHandshake)
				return
			}
			if diff := cmp.Diff(http.Header{
				"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Accept": {"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, "Sec-Websocket-Protocol": {"sip"},
			}, res.Header); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
			write(t, p, frame(fin|text1, text("a", 0)))
			e.want(t, text("a", 0))
		})
	}
	for name, in := range map[string]string{"A21 SIP": text("a", 0), "A21 TLS": "\x16\x03\x01\x02\x00\x01", "A21 noise": "\xff\xfe"} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, cfg, nil)
			c := e.client(t, "127.0.0.1")
			write(t, c, in)
			if got := readEnd(t, c); got != "" {
				t.Errorf("answered %q, want nothing", got)
			}
			e.wantClosed(t, noHandshake)
		})
	}
}

// What comes with the handshake in one packet is not lost, and neither is what is cut.
func TestHandshakeInPieces(t *testing.T) {
	e := serve(t, on(WS, "127.0.0.1"), nil)
	c := e.client(t, "127.0.0.1")
	whole := handshake + offer + "\r\n" + frame(fin|text1, text("a", 300)) + frame(fin|text1, text("b", 0))
	for i := range whole[:len(whole)-400] {
		write(t, c, whole[i:i+1])
	}
	write(t, c, whole[len(whole)-400:])
	e.want(t, text("a", 300))
	e.want(t, text("b", 0))
}

// W4 to W10 and W16: frames and messages.
func TestFrames(t *testing.T) {
	whole, sdp := text("a", 300), text("b", 0)+"a=fingerprint:sha-256 4A:AD\r\na=ice-ufrag:x\xc3\xa9\r\na="+strings.Repeat("y", 4096)+"\r\n"
	big := sized("c", message.MaxSize)
	noLength := "OPTIONS sip:a SIP/2.0\r\nCall-ID: a\r\n\r\n"
	for _, tt := range []struct {
		name, in string
		want     []string // messages
		answer   string
	}{
		{"W4 text", frame(fin|text1, whole), []string{whole}, ""},
		{"W4 binary", frame(fin|binary2, "MESSAGE sip:\xff SIP/2.0\r\n\r\n"), []string{"MESSAGE sip:\xff SIP/2.0\r\n\r\n"}, ""},
		{"W5 two frames", frame(fin|text1, whole) + frame(fin|text1, sdp), []string{whole, sdp}, ""},
		{"W5 one delivery each", frame(fin|text1, whole+whole), []string{whole + whole}, ""}, // message.Parse takes the first
		{"W6 fragments", frame(text1, whole[:10]) + frame(more, "") + frame(more, whole[10:200]) + frame(fin|more, whole[200:]), []string{whole}, ""},
		{"W6 control between fragments", frame(text1, big[:9000]) + frame(fin|ping, "hi") + frame(more, big[9000:]) + frame(fin|pong, "") + frame(fin|more, "") + frame(fin|binary2, whole), []string{big, whole}, "hi"},
		{"W7 ping", frame(fin|ping, strings.Repeat("p", 125)), nil, strings.Repeat("p", 125)},
		{"W7 unsolicited pong", frame(fin|pong, "x") + frame(fin|text1, whole), []string{whole}, ""},
		{"W9 no Content-Length", frame(fin|text1, noLength), []string{noLength}, ""},
		{"W10 128 KiB", frame(fin|text1, big), []string{big}, ""},
		{"W16 as it came", frame(fin|text1, sdp), []string{sdp}, ""},
		{"CRLF before", frame(fin|text1, "\r\n"+whole), []string{whole}, ""},
		{"empty", frame(fin|text1, "") + frame(fin|text1, "\r\n") + frame(fin|text1, whole), []string{whole}, ""},
	} {
		for _, step := range []int{len(tt.in), 1000, 7, 1} {
			if step < 1000 && len(tt.in) > 10000 {
				continue
			}
			t.Run(fmt.Sprint(tt.name, " by ", step), func(t *testing.T) {
				e := serve(t, on(WS, "127.0.0.1"), nil)
				p := e.page(t)
				for in := tt.in; in != ""; in = in[min(step, len(in)):] {
					write(t, p, in[:min(step, len(in))])
				}
				var f Flow
				for _, want := range tt.want {
					f = e.want(t, want)
				}
				if tt.answer != "" {
					p.want(t, fin|pong, tt.answer)
				}
				e.wantReleased(t)
				if f.Valid() { // W10, out; W4: what is no text is binary
					f.Send([]byte(big), nil)
					p.want(t, fin|text1, big)
					f.Send([]byte("SIP \xff"), nil)
					p.want(t, fin|binary2, "SIP \xff")
				}
			})
		}
	}
}

// What a big message needed is given back: nothing of a silent page refers to the buffer.
func TestIdlePage(t *testing.T) {
	l := New(Config{}, nil, nil, nil, nil)
	in := newInbox(l)
	in.bound(l.limits.Message + frameRoom)
	f := &frames{limit: l.limits.Message}
	data := frame(fin|text1, text("a", 40000))
	for len(data) > 0 {
		room, err := in.room()
		if err != nil {
			t.Fatal(err)
		}
		n := copy(room, data)
		data = data[n:]
		if _, _, err := f.add(in, n, func([]byte) bool { return true }); err != nil {
			t.Fatal(err)
		}
	}
	in.rest()
	if in.buf != nil || f.reader.Size() != 0 {
		t.Errorf("a buffer of %d bytes and a reader of %d are kept, want none", len(in.buf), f.reader.Size())
	}
}

// W8: the keep-alive of RFC 5626 is a message of its own, and so is its answer.
func TestW8KeepAlive(t *testing.T) {
	e := serve(t, on(WS, "127.0.0.1"), nil)
	p := e.page(t)
	write(t, p, frame(fin|text1, "\r\n\r\n"))
	p.want(t, fin|text1, "\r\n")
	write(t, p, frame(fin|binary2, "\r\n\r\n"))
	p.want(t, fin|text1, "\r\n")
	if n := e.counters[WS].keepAlives.Load(); n != 2 {
		t.Errorf("keep-alives = %d, want 2", n)
	}
}

// A30 and W7: what ends a WebSocket, and with which status.
func TestFrameErrors(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		code     uint16
		want     Reason
	}{
		{"A30 a length of 2^63", "\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00abcd", 1002, Malformed},
		{"A30 a length of 2^62", "\x82\xff\x40\x00\x00\x00\x00\x00\x00\x00abcd", 1009, tooBig},
		{"A30 endless empty fragments", frame(text1, "") + strings.Repeat(frame(more, ""), 100000), 1009, tooBig},
		{"A30 unmasked", "\x81\x02hi", 1002, Malformed},
		{"A30 reserved opcode", frame(fin|3, "x"), 1002, Malformed},
		{"A30 reserved control", frame(fin|0xb, "x"), 1002, Malformed},
		{"A30 compressed", frame(fin|0x40|text1, strings.Repeat("\x00", 5000)), 1002, Malformed},
		{"W10 more than 128 KiB", frame(fin|text1, strings.Repeat("x", message.MaxSize+1)), 1009, tooBig},
		{"W10 more than 128 KiB in fragments", frame(text1, strings.Repeat("x", message.MaxSize)) + frame(fin|more, "x"), 1009, tooBig},
		{"fragment of nothing", frame(fin|more, "x"), 1002, Malformed},
		{"message within a message", frame(text1, "x") + frame(fin|text1, "x"), 1002, Malformed},
		{"long control", frame(fin|ping, strings.Repeat("x", 126)), 1002, Malformed},
		{"control in fragments", frame(ping, "x"), 1002, Malformed},
		{"text that is none", frame(fin|text1, "\xff\xfe"), 1007, Malformed},
		{"close with half a code", frame(fin|closing, "\x03"), 1002, Malformed},
		{"close with a reserved code", frame(fin|closing, "\x03\xed"), 1002, Malformed},
		{"W7 close is echoed", frame(fin|closing, "\x03\xe8bye"), 1000, peerClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := serve(t, on(WS, "127.0.0.1"), nil)
			p := e.page(t)
			begin := time.Now()
			go func() { _, _ = io.WriteString(p, tt.in+frame(fin|text1, text("after", 0))) }() // may fail: it is closed
			p.wantEnd(t, tt.code)
			took := time.Since(begin)
			p.Close()
			e.wantClosed(t, tt.want)
			if n := len(e.got); n != 0 {
				t.Errorf("%d messages, want none", n)
			}
			t.Log("closed after", took)
			e.wantReleased(t)
		})
	}
	t.Run("W7 close without a code", func(t *testing.T) {
		e := serve(t, on(WS, "127.0.0.1"), nil)
		p := e.page(t)
		write(t, p, frame(fin|closing, ""))
		p.want(t, fin|closing, "")
		e.wantClosed(t, peerClosed)
	})
	t.Run("A30 flood of pings", func(t *testing.T) {
		e := serve(t, on(WS, "127.0.0.1"), nil)
		p := e.page(t)
		go func() { _, _ = io.WriteString(p, strings.Repeat(frame(fin|ping, "x"), 100000)+frame(fin|ping, "last")) }()
		for got := ""; got != "last"; _, got = p.next(t) {
		}
	})
}

// W18: who goes without a word is gone at once, and gets nothing more.
func TestW18PageGone(t *testing.T) {
	e := serve(t, on(WS, "127.0.0.1"), nil)
	p := e.page(t)
	write(t, p, frame(fin|text1, text("a", 0)))
	f := e.want(t, text("a", 0))
	p.Close()
	if gone := e.wantClosed(t, peerClosed); gone != f {
		t.Errorf("closed(%v), want %v", gone, f)
	}
	if _, ok := e.Lookup(f.ID()); ok {
		t.Error("Lookup() finds a page that is gone")
	}
}

// W12: nobody dials a WebSocket, neither one that never was nor one that is gone.
func TestW12NoDial(t *testing.T) {
	for _, protocol := range []Protocol{WS, WSS} {
		e := serve(t, on(protocol, "127.0.0.1"), nil)
		p := e.phone(t)
		p.send(t, text("a", 0))
		f := e.want(t, text("a", 0))
		p.raw.Close()
		e.wantClosed(t, peerClosed)
		for _, to := range []netip.AddrPort{e.addr(), f.Remote()} {
			if got, err := e.Flow(protocol, to, ""); !errors.Is(err, ErrNotDialed) {
				t.Errorf("Flow(%v, %v) = %v, %v, want %v", protocol, to, got, err, ErrNotDialed)
			}
		}
		failed := make(chan error, 1)
		f.Send([]byte("x"), func(err error) { failed <- err })
		wait(t, failed, "the failure")
		if n := e.counters[protocol].dialed.Load() + e.counters[protocol].open(); n != 0 {
			t.Errorf("%v: %d connections dialed or open, want none", protocol, n)
		}
	}
}

// W19: a thousand pages are loaded again at once. All of them are served, and nothing of the old ones is left.
func TestW19ReloadStorm(t *testing.T) {
	pages := 1000
	if most := descriptors() / 4; most > 0 && most < pages { // each page is two of them, and there are old and new ones
		pages = most
		t.Logf("the limit of open files allows %d pages", pages)
	}
	cfg := on(WS, "127.0.0.1")
	cfg.Limits.PerSource = 2 * pages // they are behind one NAT, and the new ones come before the old ones are gone
	e := &edge{got: make(chan received, pages), closed: make(chan Flow, pages)}
	e.Layer = New(cfg, func(f Flow, data []byte) {
		f.Send(data, nil)
		e.got <- received{f, string(data)}
	}, func(f Flow) { e.closed <- f }, slog.New(slog.DiscardHandler), noop.Meter{})
	if err := e.Listen(); err != nil {
		t.Fatal(err)
	}
	e.run(t)

	message := func(name string, i int) string { return text(fmt.Sprint(name, i), 300) }
	load := func(name string) (all []net.Conn) {
		for i := range pages {
			c := e.client(t, "127.0.0.1")
			write(t, c, handshake+offer+"\r\n"+frame(fin|text1, message(name, i)))
			all = append(all, c)
		}
		return all
	}
	served := func(name string, all []net.Conn) {
		for i, c := range all {
			p := &page{c, bufio.NewReader(c)}
			if res, err := http.ReadResponse(p.r, nil); err != nil || res.StatusCode != 101 {
				t.Fatalf("handshake of %s %d = %v, %v, want 101", name, i, res, err)
			}
			p.want(t, fin|text1, message(name, i))
			wait(t, e.got, "a message")
		}
	}
	old := load("old")
	served("old", old)
	for _, c := range old {
		c.Close()
	}
	fresh := load("new")
	served("new", fresh)
	for range old {
		if f := wait(t, e.closed, "the end of an old page"); f.conn.alive() {
			t.Errorf("%v is said to be closed, and lives", f.Remote())
		}
	}
	until(t, "nothing but the new pages", func() bool { return e.counters[WS].open() == int64(pages) })
	for _, c := range fresh {
		c.Close()
	}
	for range fresh {
		wait(t, e.closed, "the end of a new page")
	}
	e.wantReleased(t)
	until(t, "nothing", func() bool {
		e.mu.RLock()
		defer e.mu.RUnlock()
		return len(e.conns) == 0 && len(e.sources) == 0 && e.counters[WS].open() == 0
	})
	e.stop()
}

// A WebSocket that is to go is told so.
func TestGoingAway(t *testing.T) {
	e := serve(t, on(WS, "127.0.0.1"), nil)
	p := e.page(t)
	go e.stop()
	p.wantEnd(t, 1001)
}

// A9 and A10: who stalls in a handshake is closed in time, and holds up nobody.
func TestHandshakeStall(t *testing.T) {
	for _, protocol := range []Protocol{TLS, WS, WSS} {
		id := map[Protocol]string{TLS: "A9", WS: "A10", WSS: "A10"}[protocol]
		t.Run(id+" "+protocol.String(), func(t *testing.T) {
			cfg := on(protocol, "127.0.0.1")
			cfg.Limits.Handshake = 300 * time.Millisecond
			e := serve(t, cfg, nil)
			stalled := e.client(t, "127.0.0.2")
			if protocol == WS {
				write(t, stalled, "GET / HT")
			}
			talk(t, e)
			if got := readEnd(t, stalled); got != "" {
				t.Errorf("answered %q, want nothing", got)
			}
			e.wantClosed(t, noHandshake)
		})
	}
}

// FuzzFrames reads frames in pieces of any size: the messages are the same, none is too big, and all memory comes back.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(frame(text1, "abc")+frame(fin|ping, "x")+frame(fin|more, "def")), 3)
	f.Add([]byte("\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00abcd"), 5)
	f.Add([]byte(frame(fin|closing, "\x03\xe8")), 1)
	f.Add([]byte(frame(fin|binary2, "\r\n\r\n")+frame(fin|text1, "\r\n")+frame(fin|pong, "")+frame(fin|text1, "a")), 2)
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		whole, wholeErr := readFrames(t, data, len(data))
		cut, cutErr := readFrames(t, data, step)
		if (wholeErr == nil) != (cutErr == nil) {
			t.Fatalf("read at once it ends with %v, %d bytes at a time with %v", wholeErr, step, cutErr)
		}
		if diff := cmp.Diff(whole, cut); diff != "" {
			t.Fatalf("messages differ when read %d bytes at a time (-whole +cut):\n%s", step, diff)
		}
	})
}

// readFrames reads data step bytes at a time, as far as there is room.
func readFrames(t *testing.T, data []byte, step int) (messages []string, failed error) {
	t.Helper()
	l := New(Config{Limits: Limits{Message: 5000}}, nil, nil, nil, nil)
	in := newInbox(l)
	in.bound(l.limits.Message + frameRoom)
	fr := &frames{limit: l.limits.Message}
	step = max(step, 1)
	for len(data) > 0 && !fr.closed && failed == nil {
		room, err := in.room()
		if err != nil {
			t.Fatal(err) // there is always room for a frame that is not refused
		}
		n := copy(room, data[:min(step, len(data))])
		data = data[n:]
		_, _, failed = fr.add(in, n, func(m []byte) bool {
			if len(m) == 0 || len(m) > l.limits.Message {
				t.Errorf("a message of %d bytes", len(m))
			}
			messages = append(messages, string(m))
			return true
		})
	}
	in.release()
	if n := l.memory.left.Load(); n != int64(l.limits.Memory) {
		t.Errorf("memory left = %d, want all", n)
	}
	return messages, failed
}
