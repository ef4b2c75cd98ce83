package transaction

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// bench is a layer with real sockets around it and a clock that jumps: the sockets are made outside of the bubble of
// synctest and only written and polled in it.
type bench struct {
	t      *testing.T
	layer  *Layer
	caller *peer
	callee *peer
	user   *recorder
}

// peer is a SIP element that the layer talks to.
type peer struct {
	t    *testing.T
	udp  *net.UDPConn   // one of the two
	tcp  net.Conn       //
	flow transport.Flow // to it
}

// inBubble runs f with a layer whose callee is reached over the given protocol.
func inBubble(t *testing.T, protocol transport.Protocol, f func(b *bench)) {
	t.Helper()
	local := netip.MustParseAddrPort("127.0.0.1:0")
	tl := transport.New(transport.Config{Listen: []transport.Listen{{Protocol: transport.UDP, Addr: local}, {Protocol: transport.TCP, Addr: local}}},
		func(transport.Flow, []byte) {}, func(transport.Flow) {}, slog.New(slog.DiscardHandler), noop.Meter{})
	if err := tl.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { serveAndStop(t, tl) })
	b := &bench{t: t, caller: newPeer(t, tl, protocol), callee: newPeer(t, tl, protocol), user: &recorder{}}
	synctest.Test(t, func(t *testing.T) {
		b.layer = New(b.user, DefaultTimers())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go b.layer.Run(ctx)
		f(b)
	})
}

// serveAndStop closes what tl has opened.
func serveAndStop(t *testing.T, tl *transport.Layer) {
	ctx, cancel := contextCancelled()
	defer cancel()
	if err := tl.Serve(ctx); err != nil {
		t.Error(err)
	}
}

func newPeer(t *testing.T, tl *transport.Layer, protocol transport.Protocol) *peer {
	t.Helper()
	p := &peer{t: t}
	var addr netip.AddrPort
	if protocol == transport.UDP {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		p.udp, addr = conn, conn.LocalAddr().(*net.UDPAddr).AddrPort()
	} else {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		addr = l.Addr().(*net.TCPAddr).AddrPort()
		flow, err := tl.Flow(protocol, addr, "")
		if err != nil {
			t.Fatal(err)
		}
		flow.Send([]byte("\r\n\r\n"), nil) // opens the connection
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := conn.Read(make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		p.tcp = conn
	}
	flow, err := tl.Flow(protocol, addr, "")
	if err != nil {
		t.Fatal(err)
	}
	p.flow = flow
	return p
}

// received is what has arrived at p since it was last asked, a start line each.
func (p *peer) received() []string {
	p.t.Helper()
	synctest.Wait()
	var lines []string
	for {
		data := p.poll()
		if data == nil {
			return lines
		}
		for _, m := range strings.Split(string(data), "\r\n\r\n") {
			if line, _, _ := strings.Cut(m, "\r\n"); line != "" {
				lines = append(lines, line)
			}
		}
	}
}

// text is all that has arrived at p since it was last asked, but for what two benches do not share: tags and ports.
func (p *peer) text() string {
	p.t.Helper()
	synctest.Wait()
	var all []byte
	for data := p.poll(); data != nil; data = p.poll() {
		all = append(all, data...)
	}
	return regexp.MustCompile(`(tag=)[0-9a-v]{13}|(rport=)[0-9]+`).ReplaceAllString(string(all), "$1$2ours")
}

// poll reads without waiting.
func (p *peer) poll() []byte {
	p.t.Helper()
	var conn syscall.Conn = p.udp
	if p.udp == nil {
		conn = p.tcp.(*net.TCPConn)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		p.t.Fatal(err)
	}
	buf := make([]byte, 65536)
	n := 0
	if err := raw.Read(func(fd uintptr) bool {
		n, _, err = syscall.Recvfrom(int(fd), buf, syscall.MSG_DONTWAIT)
		return true
	}); err != nil {
		p.t.Fatal(err)
	}
	if n <= 0 {
		return nil
	}
	return buf[:n]
}

// recorder is a user that keeps what it is told.
type recorder struct {
	mu        sync.Mutex // of events: timers bring some
	servers   []*Server
	clients   []*Client
	events    []string
	onRequest func(tx *Server, req *message.Message)
}

func (r *recorder) Request(tx *Server, req *message.Message) {
	r.servers = append(r.servers, tx)
	r.tell("request " + string(req.MethodText()))
	if r.onRequest != nil {
		r.onRequest(tx, req)
	}
}
func (r *recorder) Ack(transport.Flow, *message.Message) { r.tell("ack") }
func (r *recorder) Cancel(*Server)                       { r.tell("cancel") }
func (r *recorder) Response(_ *Client, m *message.Message) {
	r.tell(fmt.Sprint("response ", m.Status()))
}
func (r *recorder) Failed(_ *Client, c Cause) {
	r.tell([]string{"timeout", "transport error", "unanswered"}[c])
}

func (r *recorder) tell(event string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event)
}

// take is what the user was told since it was last asked.
func (r *recorder) take() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.events
	r.events = nil
	return e
}

// request is the text of a request of the caller.
func request(method, branch string, fields ...string) string {
	lines := []string{
		method + " sip:bob@example.com SIP/2.0",
		"Via: SIP/2.0/UDP 127.0.0.1:5070;branch=" + branch + ";rport",
		"Max-Forwards: 70",
		"From: <sip:alice@example.com>;tag=a",
		"To: <sip:bob@example.com>",
		"Call-ID: c1",
		"CSeq: 1 " + method,
	}
	lines = append(lines, fields...)
	return strings.Join(lines, "\r\n") + "\r\nContent-Length: 0\r\n\r\n"
}

// send lets the caller send a message.
func (b *bench) send(text string) {
	b.t.Helper()
	b.layer.Receive(b.caller.flow, parse(b.t, text))
}

// answer answers the first request.
func (b *bench) answer(status int) {
	tx := b.user.servers[0]
	tx.Do(func() { tx.Respond(status, "", nil, nil) })
}

// respond lets the callee answer the request that tx sent.
func (b *bench) respond(tx *Client, status int, method string) {
	b.t.Helper()
	b.layer.Receive(b.callee.flow, parse(b.t, strings.Join([]string{
		fmt.Sprintf("SIP/2.0 %d X", status),
		"Via: SIP/2.0/UDP 127.0.0.1:5060;branch=" + string(Branch(tx.id&^1).Append(nil)),
		"Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK1;rport",
		"From: <sip:alice@example.com>;tag=a",
		"To: <sip:bob@example.com>;tag=b",
		"Call-ID: c1",
		"CSeq: 1 " + method,
		"Content-Length: 0\r\n\r\n",
	}, "\r\n")))
}

func parse(t *testing.T, text string) *message.Message {
	t.Helper()
	m := new(message.Message)
	if err := m.Parse([]byte(text), message.DefaultLimits()); err != nil {
		t.Fatalf("parse %q: %v", text, err)
	}
	return m
}

// forwarding makes the user forward each request to the callee.
func (b *bench) forwarding() {
	b.user.onRequest = func(tx *Server, req *message.Message) {
		branch := tx.NewBranch()
		text := strings.Replace(string(req.Bytes()), "Via: ", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch="+string(branch.Append(nil))+"\r\nVia: ", 1)
		b.user.clients = append(b.user.clients, tx.Forward(branch, b.callee.flow, []byte(text), nil))
	}
}

// wait lets time pass.
func wait(d time.Duration) { time.Sleep(d) } // of the bubble: it costs none
