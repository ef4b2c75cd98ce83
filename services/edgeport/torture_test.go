package edgeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// What becomes of an ordeal.
const (
	dropped    = 0
	dispatched = 404 // as whoever decides knows nobody
)

// ordeal is a message that its receiver may stumble over.
type ordeal struct {
	name     string
	data     string // empty: the one of the archive that has this name
	udp, tcp int    // the final status of the answer
	closed   bool   // the connection that it came on, with or without an answer
}

// E3: each message of RFC 4475, as it is, over UDP and over TCP, to an EdgePort that serves nobody. What can be no request
// of anyone is never dispatched; what cannot be read is the last of its connection; what is dispatched can be passed on
// as it is; and the EdgePort is there afterwards.
func TestE3Torture(t *testing.T) {
	s := startOrdeals(t, "127.0.0.1", port5060)
	messages := torture(t)
	for _, o := range []ordeal{
		// 3.1.1, valid
		{"M1 wsinv", "", dispatched, dispatched, false},
		{"M2 intmeth", "", 405, 405, false},
		{"M3 esc01", "", dispatched, dispatched, false},
		{"M4 escnull", "", dispatched, dispatched, false},
		{"M5 esc02", "", 405, 405, false},
		{"M6 lwsdisp", "", dispatched, dispatched, false},
		{"M7 longreq", "", dispatched, dispatched, false},
		{"M8 dblreq", "", dispatched, dispatched, true}, // five bytes behind the second request are no SIP
		{"M9 semiuri", "", dispatched, dispatched, false},
		{"M10 transports", "", dispatched, dispatched, false},
		{"M11 mpart01", "", dispatched, dispatched, false},
		{"M12 unreason", "", dropped, dropped, false},
		{"M13 noreason", "", dropped, dropped, false},
		// 3.1.2, invalid
		{"M14 badinv01", "", dropped, dropped, true},
		{"M15 clerr", "", 400, dropped, true},
		{"M16 ncl", "", 400, dropped, true},
		{"M17 scalar02", "", 400, 400, true},
		{"M18 scalarlg", "", dropped, dropped, true},
		{"M19 quotbal", "", dropped, dropped, true},
		{"M20 ltgtruri", "", 400, 400, true},
		{"M21 lwsruri", "", 400, 400, true},
		{"M22 lwsstart", "", 400, 400, true},
		{"M23 trws", "", dropped, dropped, true},
		{"M24 escruri", "", 400, 400, true},
		{"M25 baddate", "", dispatched, dispatched, false},
		{"M26 regbadct", "", dispatched, dispatched, false},
		{"M27 badaspec", "", dropped, dropped, true},
		{"M28 baddn", "", dropped, dropped, true},
		{"M29 badvers", "", 505, 505, true},
		{"M30 mismatch01", "", 400, 400, true},
		{"M31 mismatch02", "", 400, 400, true},
		{"M32 bigcode", "", dropped, dropped, true},
		// 3.2 to 3.4
		{"M33 badbranch", "", dispatched, dispatched, false},
		{"M34 insuf", "", dropped, dropped, true},
		{"M35 unkscm", "", 416, 416, false},
		{"M36 novelsc", "", 416, 416, false},
		{"M37 unksm2", "", dispatched, dispatched, false},
		{"M38 bext01", "", 420, 420, false},
		{"M39 invut", "", dispatched, dispatched, false},
		{"M40 regaut01", "", dispatched, dispatched, false},
		{"M41 multi01", "", dropped, dropped, true},
		{"M42 mcl01", "", dropped, dropped, true},
		{"M43 bcast", "", dropped, dropped, false},
		{"M44 zeromf", "", 483, 483, false},
		{"M45 cparam01", "", dispatched, dispatched, false},
		{"M46 cparam02", "", dispatched, dispatched, false},
		{"M47 regescrt", "", dispatched, dispatched, false},
		{"M48 sdp01", "", dispatched, dispatched, false},
		{"M49 inv2543", "", dispatched, dropped, true}, // no Content-Length: a stream cannot carry it
		{"M50 test", "", dropped, dropped, true},       // no message, but in the archive
	} {
		_, file, _ := strings.Cut(o.name, " ")
		data, ok := messages[file]
		if !ok {
			t.Errorf("%s is not in the archive", file)
		}
		delete(messages, file)
		o.data = string(data)
		s.run(t, o)
	}
	for name := range messages {
		t.Errorf("%s of the archive has no row in the table", name)
	}
}

// ordeals is an EdgePort for them.
type ordeals struct {
	*system
	client func(t *testing.T) *client // over UDP
	callee *atomic.Pointer[client]    // where what is dispatched goes; nil: it is 404
}

// startOrdeals runs an EdgePort on addr, with clients of the given kind.
func startOrdeals(t *testing.T, addr string, newClient func(t *testing.T) *client) *ordeals {
	t.Helper()
	o := &ordeals{client: newClient, callee: new(atomic.Pointer[client])}
	// Handed over in process, the decision is made before the next message of a client is read.
	o.system = start(t, bustest.Local(t), func(r *bus.Request, req *processorpb.MessageRequest) {
		if bob := o.callee.Load(); bob != nil {
			to(bob)(r, req)
		} else {
			notFound(r, req)
		}
	}, func(cfg *Config) { cfg.Spec.BindAddr = addr })
	return o
}

func (s *ordeals) run(t *testing.T, o ordeal) {
	t.Run(o.name, func(t *testing.T) {
		count := &s.edge.proxy.Counts().Dispatched
		before, want := count.Load(), int64(0)
		t.Run("UDP", func(t *testing.T) {
			c := s.client(t)
			c.send(s.system, o.data)
			if got, _ := s.statusBefore(c); got != o.udp {
				t.Errorf("answer = %d, want %d", got, o.udp)
			}
		})
		if o.udp == dispatched {
			want++
		}
		t.Run("TCP", func(t *testing.T) {
			c := s.tcpClient()
			c.t = t
			_, _ = c.stream.Write([]byte(o.data)) // fails if it is closed meanwhile
			if size, err := message.Frame([]byte(o.data)); err == nil && size == 0 {
				c.stream.(*net.TCPConn).CloseWrite() // or the rest is waited for
			}
			if got, closed := s.statusBefore(c); got != o.tcp || closed != o.closed {
				t.Errorf("answer = %d, closed = %v, want %d, %v", got, closed, o.tcp, o.closed)
			}
		})
		if o.tcp == dispatched {
			want++
			if size, err := message.Frame([]byte(o.data)); err == nil && size < len(o.data) {
				want++ // there is another one behind it
			}
		}
		if n := count.Load() - before; n != want {
			t.Errorf("it was dispatched %d times, want %d", n, want)
		}
		if o.udp == dispatched {
			t.Run("passed on", func(t *testing.T) { s.passOn(t, o.data) })
		}
		s.client(t).quiet(s.system)
	})
}

// passOn sends a request that comes to a callee as it was, but for what a proxy has to change. From the same address it
// has to be another request than the one before.
func (s *ordeals) passOn(t *testing.T, data string) {
	data = strings.Replace(data, "=z9hG4bK-", "=z9hG4bK-again-", 1)
	alice, bob := s.client(t), udpOn(t, s.edge.cfg.Spec.BindAddr)
	s.callee.Store(bob)
	defer s.callee.Store(nil)
	var want message.Message
	if err := want.Parse([]byte(data), message.DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	alice.send(s.system, data)
	got := bob.next()
	if string(got.MethodText()) != string(want.MethodText()) {
		t.Errorf("method = %q, want %q", got.MethodText(), want.MethodText())
	}
	if d := cmp.Diff(notOurs(want.Bytes()), notOurs(got.Bytes())); d != "" {
		t.Errorf("what is no affair of a proxy (-want +got):\n%s", d)
	}
	sent, received := values(&want, message.KindVia), values(got, message.KindVia)
	if len(received) != 1+len(sent) || !slices.Equal(received[2:], sent[1:]) {
		t.Fatalf("Via = %q, want ours above %q", received, sent)
	}
	top, err := message.ParseVia([]byte(received[1]))
	if was := want.TopVia(); err != nil || string(top.SentBy()) != string(was.SentBy()) || string(top.Branch) != string(was.Branch) {
		t.Errorf("Via of the caller = %q, want %q", received[1], was.Text)
	}
	bob.send(s.system, response(got, 404, "b"))
	if got, _ := s.statusBefore(alice); got != 404 {
		t.Errorf("answer = %d, want 404", got)
	}
}

// notOurs are the headers and the body of a message without those that a proxy may change.
func notOurs(data []byte) []string {
	return slices.DeleteFunc(lines(string(data))[1:], func(l string) bool {
		return slices.Contains([]string{"via", "route", "record-route", "max-forwards", "max-breadth"}, nameOf(l))
	})
}

// torture are the messages of RFC 4475, byte for byte, as a module that tests use anyway carries them.
func torture(t *testing.T) map[string][]byte {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/emiago/sipgo").Output()
	if err != nil {
		t.Fatalf("go list -m github.com/emiago/sipgo: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "sip/testdata/torture/*/*.dat"))
	if err != nil {
		t.Fatal(err)
	}
	messages := make(map[string][]byte, len(files))
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		messages[strings.TrimSuffix(filepath.Base(f), ".dat")] = data
	}
	return messages
}

// port5060 is a client at port 5060 of an address of its own: there the answer to a request without rport goes.
func port5060(t *testing.T) *client {
	t.Helper()
	for range 100 {
		socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, byte(1+rand.IntN(250)), byte(rand.IntN(250)), byte(1+rand.IntN(250))), Port: 5060})
		if err == nil {
			t.Cleanup(func() { socket.Close() })
			return &client{t: t, udp: socket}
		}
	}
	t.Fatal("port 5060 is in use at each of 100 addresses of the loopback network")
	return nil
}

// statusBefore is the final response that c receives before the answer to an OPTIONS that it sends now, or before the
// end of its connection; 0 for none. It says whether the connection has ended.
func (s *system) statusBefore(c *client) (status int, closed bool) {
	c.t.Helper()
	options := c.request(s, "OPTIONS", "sip:"+s.udp, "z9hG4bKprobe"+fmt.Sprint(rand.Uint64()), "Call-ID: probe")
	if c.tcp() {
		_, _ = c.stream.Write([]byte(options)) // as above
	} else {
		c.send(s, options)
	}
	for {
		text := c.text()
		if text == "" || strings.Contains(text, "\r\nCall-ID: probe\r\n") {
			return status, text == ""
		}
		var n int
		if _, err := fmt.Sscanf(text, "SIP/2.0 %d ", &n); err != nil {
			c.t.Fatalf("%s received\n%s\nwant a response", c.addr(), text)
		} else if n >= 200 {
			status = n
		}
	}
}

// text is the next message that c receives, of which not everything may be right: an answer repeats what was asked. It is
// empty at the end of the connection.
func (c *client) text() string {
	c.t.Helper()
	data := make([]byte, 65536)
	if !c.tcp() {
		c.udp.SetReadDeadline(time.Now().Add(patience))
		n, err := c.udp.Read(data)
		if err != nil {
			c.t.Fatal(err)
		}
		return string(data[:n])
	}
	c.stream.SetReadDeadline(time.Now().Add(patience))
	for {
		if n, err := message.Frame(c.buf); err != nil {
			c.t.Fatalf("%s received what is no message: %v\n%q", c.addr(), err, c.buf)
		} else if n > 0 {
			text := string(c.buf[:n])
			c.buf = c.buf[n:]
			return text
		}
		n, err := c.stream.Read(data)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Fatal(err)
		} else if err != nil {
			return ""
		}
		c.buf = append(c.buf, data[:n]...)
	}
}
