package edgeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// E3: each message of RFC 4475, as it is, over UDP and over TCP, to an EdgePort that serves nobody: every request that
// is dispatched is 404. What can be no request of anyone is never dispatched, and the EdgePort is there afterwards.
func TestE3Torture(t *testing.T) {
	const dropped, dispatched = 0, 404
	want := map[string]int{
		// 3.1.1, valid
		"wsinv": dispatched, "intmeth": 405, "esc01": dispatched, "escnull": dispatched, "esc02": 405, "lwsdisp": dispatched,
		"longreq": dispatched, "dblreq": dispatched, "semiuri": dispatched, "transports": dispatched, "mpart01": dispatched,
		"unreason": dropped, "noreason": dropped,
		// 3.1.2, invalid
		"badinv01": dropped, "clerr": 400, "ncl": 400, "scalar02": 400, "scalarlg": dropped, "quotbal": dropped,
		"ltgtruri": 400, "lwsruri": 400, "lwsstart": 400, "trws": dropped, "escruri": 400, "baddate": dispatched,
		"regbadct": dispatched, "badaspec": dropped, "baddn": dropped, "badvers": 505, "mismatch01": 400, "mismatch02": 400,
		"bigcode": dropped,
		// 3.2 to 3.4
		"badbranch": dispatched, "insuf": dropped, "unkscm": 416, "novelsc": 416, "unksm2": dispatched, "bext01": 420,
		"invut": dispatched, "regaut01": dispatched, "multi01": dropped, "mcl01": dropped, "bcast": dropped, "zeromf": 483,
		"cparam01": dispatched, "cparam02": dispatched, "regescrt": dispatched, "sdp01": dispatched, "inv2543": dispatched,
		"test": dropped, // no message, but in the archive
	}
	// Handed over in process, the decision is made before the next message of a client is read.
	s := start(t, bustest.Local(t), func(r *bus.Request, _ *processorpb.MessageRequest) {
		r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{
			MessageType: &sipmessagepb.SIPMessage_ResponseType{ResponseType: sipmessagepb.ResponseType_NOT_FOUND},
		}})})
	}, nil)
	messages := torture(t)
	for name, status := range want {
		data, ok := messages[name]
		if !ok {
			t.Errorf("%s is not in the archive", name)
		}
		delete(messages, name)
		before := s.edge.proxy.Counts().Dispatched.Load()
		t.Run("UDP "+name, func(t *testing.T) {
			c := port5060(t)
			c.send(s, string(data))
			if got := s.statusBefore(c); got != status {
				t.Errorf("answer = %d, want %d", got, status)
			}
		})
		t.Run("TCP "+name, func(t *testing.T) {
			size, err := message.Frame(data)
			c := s.tcpClient()
			c.t = t
			_, _ = c.stream.Write(data) // fails if it is closed meanwhile
			if err == nil && size == 0 {
				c.stream.(*net.TCPConn).CloseWrite() // or the rest is waited for
			}
			got := s.statusBefore(c)
			switch framed := err == nil && size > 0; {
			case !framed && got != dropped:
				t.Errorf("answer to what is no message on a stream = %d, want none", got)
			case framed && got != status && (got != dropped || status == dispatched):
				t.Errorf("answer = %d, want %d", got, status)
			}
		})
		if n := s.edge.proxy.Counts().Dispatched.Load() - before; n != 0 && status != dispatched {
			t.Errorf("%s was dispatched %d times, want never", name, n)
		}
		udpClient(t).quiet(s)
	}
	for name := range messages {
		t.Errorf("%s of the archive has no row in the table", name)
	}
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
// end of its connection; 0 for none.
func (s *system) statusBefore(c *client) (status int) {
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
			return status
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
