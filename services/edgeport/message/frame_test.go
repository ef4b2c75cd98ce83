package message

import (
	"bytes"
	"strings"
	"testing"
)

func TestFrame(t *testing.T) {
	const head = "MESSAGE sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/TCP a\r\n"
	tests := []struct {
		name, in string
		want     int // -1 for an error
	}{
		{"empty", "", 0},
		{"line breaks", "\r\n\r\n", 0},
		{"half a start line", "MESSAGE sip:b@exam", 0},
		{"half a method", "MESS", 0},
		{"half a status line", "SIP/2.", 0},
		{"no end of headers", head + "Content-Length: 0\r\n", 0},
		{"no body", head + "Content-Length: 0\r\n\r\n", len(head) + 21},
		{"line breaks before", "\r\n\r\n" + head + "Content-Length: 0\r\n\r\n", len(head) + 25},
		{"body", head + "Content-Length: 5\r\n\r\nhello", len(head) + 26},
		{"half a body", head + "Content-Length: 5\r\n\r\nhel", 0},
		{"next message", head + "Content-Length: 5\r\n\r\nhelloMESSAGE", len(head) + 26},
		{"compact", head + "l : 5\r\n\r\nhello", len(head) + 14},
		{"folded", head + "Content-Length:\r\n\t5\r\n\r\nhello", len(head) + 28},
		{"folded in the middle", head + "Content-Length: 5\r\n 0\r\n\r\n", -1},
		{"in another header", head + "X: a\r\n Content-Length: 9\r\nl: 0\r\n\r\n", len(head) + 34},
		{"response", "SIP/2.0 200 OK\r\nl: 0\r\n\r\n", 24},
		{"none", head + "\r\n", -1},
		{"two", head + "Content-Length: 5\r\nl: 5\r\n\r\nhello", -1},
		{"negative", head + "Content-Length: -999\r\n\r\n", -1},
		{"huge", head + "Content-Length: 4294967295\r\n\r\n", -1},
		{"too long with its headers", head + "Content-Length: 131050\r\n\r\n", -1},
		{"head too long", head + "l: 0\r\nX: " + strings.Repeat("y", MaxHead) + "\r\n\r\n", -1},
		{"a word", head + "Content-Length: five\r\n\r\n", -1},
		{"bare LF before it", head + "X: a\nl: 5\r\n\r\nhello", -1},
		{"HTTP", "GET / HTTP/1.1\r\n", -1},
		{"TLS", "\x16\x03\x01\x02\x00", -1},
		{"zeros", "\x00\x00", -1},
		{"long word", strings.Repeat("A", 65), -1},
		{"endless start line", "MESSAGE " + strings.Repeat("a", MaxHead), -1},
		{"endless header section", head + strings.Repeat("X: y\r\n", MaxHead/6), -1},
		{"endless line breaks", strings.Repeat("\r\n", MaxHead), -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, err := Frame([]byte(tt.in))
			if err != nil {
				n = -1
			}
			if n != tt.want {
				t.Errorf("Frame = %d, %v, want %d", n, err, tt.want)
			}
			checkFramer(t, []byte(tt.in), n)
		})
	}
}

// checkFramer compares a Framer that gets one byte more each time with one that gets all at once.
func checkFramer(t *testing.T, in []byte, want int) {
	t.Helper()
	var f Framer
	for i := range len(in) + 1 {
		n, err := f.Next(in[:i])
		switch {
		case err != nil:
			if want > 0 {
				t.Errorf("Next of %d bytes = %v, want %d", i, err, want)
			}
			return // what is broken may be seen before all is there
		case n > 0:
			if n != want || n != i {
				t.Errorf("Next of %d bytes = %d, want %d", i, n, want)
			}
			return
		}
	}
	if want != 0 {
		t.Errorf("Next of all = 0, want %d", want)
	}
}

func TestFramerGoesOn(t *testing.T) {
	one := base("", "Content-Length: 5")
	stream := bytes.Repeat(append(one, "hello"...), 50)
	var f Framer
	count := 0
	for buf := stream; len(buf) > 0; count++ {
		n, err := f.Next(buf)
		if err != nil || n == 0 {
			t.Fatalf("Next of message %d = %d, %v", count, n, err)
		}
		var m Message
		if err := m.Parse(buf[:n], DefaultLimits()); err != nil {
			t.Fatalf("Parse of message %d = %v", count, err)
		}
		buf = buf[n:]
	}
	if count != 50 {
		t.Errorf("%d messages, want 50", count)
	}
}

// A peer that sends a byte at a time makes us look at each byte once or so.
func TestFramerRemembers(t *testing.T) {
	in := append(base("")[:100], bytes.Repeat([]byte("X: y\r\n"), 1000)...)
	var f Framer
	for i := range len(in) {
		if _, err := f.Next(in[:i]); err != nil {
			t.Fatal(err)
		}
		if f.line && f.seen < i {
			t.Fatalf("after %d bytes the Framer remembers %d", i, f.seen)
		}
	}
}
