package transport

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/services/edgeport/message"
)

// drink reads in through an inbox, n bytes at most at a time, until its end or an error.
func drink(l *Layer, data []byte, n int) (messages []string, pinged bool, failed error) {
	in := newInbox(l)
	defer in.release()
	r := bytes.NewReader(data)
	for {
		room, err := in.room()
		if err != nil {
			return messages, pinged, err
		}
		got, err := r.Read(room[:min(n, len(room))])
		if err != nil {
			return messages, pinged, nil
		}
		_, ping, err := in.add(got, func(data []byte) bool { messages = append(messages, string(data)); return true })
		pinged = pinged || ping
		if err != nil {
			return messages, pinged, err
		}
	}
}

// FuzzInbox checks that messages do not depend on how the stream was cut, that they are all of it but line breaks, and
// that all memory is given back.
func FuzzInbox(f *testing.F) {
	f.Add([]byte(text("a", 10)+"\r\n\r\n"+text("b", 5000)), uint16(1))
	f.Add([]byte("\r\n"+text("a", 0)+"\r\n\r\n\r\n"+text("b", 0)[:30]), uint16(7))
	f.Add([]byte("\r\r"), uint16(1))
	f.Add([]byte("OPTIONS sip:a SIP/2.0\r\nl: 70000\r\n\r\n"), uint16(9))
	f.Add([]byte(strings.Repeat(text("c", 900), 10)), uint16(901))
	f.Fuzz(func(t *testing.T, data []byte, n uint16) {
		l := layer(t)
		l.limits.Message = 6000
		whole, pinged, err := drink(l, data, len(data)+1)
		cut, cutPinged, cutErr := drink(l, data, int(n)+1)
		if diff := cmp.Diff(whole, cut); diff != "" {
			t.Errorf("messages differ when read %d bytes at a time (-whole +cut):\n%s", int(n)+1, diff)
		}
		if (err == nil) != (cutErr == nil) || err == nil && pinged != cutPinged {
			t.Errorf("ends with ping %v, %v, and when read %d bytes at a time with %v, %v", pinged, err, int(n)+1, cutPinged, cutErr)
		}
		rest := string(data)
		for _, m := range whole {
			rest = strings.TrimLeft(rest, "\r\n")
			if len(m) > 6000 || !strings.HasPrefix(rest, m) {
				t.Fatalf("message %q is not what follows in the stream", m)
			}
			if size, err := message.Frame([]byte(m)); size != len(m) || err != nil {
				t.Errorf("Frame(%q) = %d, %v, want %d", m, size, err, len(m))
			}
			rest = rest[len(m):]
		}
		if left := l.memory.left.Load(); left != int64(l.limits.Memory) {
			t.Errorf("memory left = %d, want all %d", left, l.limits.Memory)
		}
	})
}

func TestInboxMemory(t *testing.T) {
	l := layer(t)
	l.memory.left.Store(20000)
	in := newInbox(l)
	data := text("a", 30000)
	r := iotest.OneByteReader(strings.NewReader(data))
	for i := 0; ; i++ {
		room, err := in.room()
		if err != nil {
			if !errors.Is(err, errMemory) || i != 8<<10 {
				t.Errorf("room() after %d bytes = %v, want %v after %d", i, err, errMemory, 8<<10)
			}
			break
		}
		n, err := r.Read(room)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := in.add(n, nil); err != nil {
			t.Fatal(err)
		}
	}
	in.release()
	if left := l.memory.left.Load(); left != 20000 {
		t.Errorf("memory left = %d, want 20000", left)
	}
}
