package edgeport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
)

// patience is how long a test waits for what must come. It is no measure of speed: a test that passes never waits it out.
const patience = 10 * time.Second

// system is an EdgePort on a real bus, and the test as its dispatcher.
type system struct {
	t    *testing.T
	edge *EdgePort
	conn *bus.Conn
	udp  string // where it listens
	tcp  string
	tls  string
	ws   string
	wss  string

	stop    func()        // tells the EdgePort to end
	ended   chan struct{} // closed when it has
	queries *atomic.Int64 // what its name server was asked
}

// decider answers what the EdgePort dispatches.
type decider func(r *bus.Request, req *processorpb.MessageRequest)

// start runs an EdgePort on 127.0.0.1. decide may be nil: nobody serves then.
func start(t *testing.T, conn *bus.Conn, decide decider, change func(*Config)) *system {
	t.Helper()
	return startWith(t, conn, decide, change, slog.DiscardHandler, transaction.DefaultTimers())
}

// startTimed is start with other timers.
func startTimed(t *testing.T, conn *bus.Conn, decide decider, change func(*Config), timers transaction.Timers) *system {
	t.Helper()
	return startWith(t, conn, decide, change, slog.DiscardHandler, timers)
}

// startLogging is start with a log.
func startLogging(t *testing.T, conn *bus.Conn, decide decider, change func(*Config), log slog.Handler) *system {
	t.Helper()
	return startWith(t, conn, decide, change, log, transaction.DefaultTimers())
}

func startWith(t *testing.T, conn *bus.Conn, decide decider, change func(*Config), log slog.Handler, timers transaction.Timers) *system {
	t.Helper()
	cfg := Default()
	cfg.Ref = "edge-under-test"
	cfg.Spec.BindAddr = "127.0.0.1"
	cfg.Spec.DrainTime = 0 // what a test leaves behind is not waited for
	cfg.Spec.Transport = []Transport{{Protocol: "udp"}, {Protocol: "tcp"}}
	if change != nil {
		change(&cfg)
	}
	if decide != nil {
		serve(t, conn, decide)
	}
	edge, err := New(cfg, conn, slog.New(log), noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	names, queries := nameServer(t)
	edge.dns = []string{names}
	ctx, cancel := context.WithCancel(context.Background())
	edge.timers = timers
	ready, ended, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- edge.Run(ctx, func() { close(ready) })
		close(ended)
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	s := &system{t: t, edge: edge, conn: conn, stop: cancel, ended: ended, queries: queries}
	for _, p := range edge.Points() {
		protocol, addr, _ := strings.Cut(p, ":")
		switch protocol {
		case "udp":
			s.udp = addr
		case "tcp":
			s.tcp = addr
		case "tls":
			s.tls = addr
		case "ws":
			s.ws = addr
		case "wss":
			s.wss = addr
		}
	}
	return s
}

func serve(t *testing.T, conn *bus.Conn, decide decider) {
	t.Helper()
	service, err := conn.Serve(bus.SubjectDispatch(bus.Every), bus.QueueDispatcher, func(_ context.Context, r *bus.Request) {
		req, err := bus.Decode[processorpb.MessageRequest](r.Body)
		if err != nil {
			r.Fail(err)
			return
		}
		decide(r, req)
	}, bus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := service.Drain(ctx); err != nil {
			t.Error(err)
		}
	})
}

// to is the decision to send a request to a client.
func to(c *client) decider {
	return func(r *bus.Request, _ *processorpb.MessageRequest) { r.Reply(bus.Reply{Body: bus.Value(toTarget(c))}) }
}

func toTarget(c *client) *processorpb.MessageResponse {
	addr := c.addr()
	host, port, _ := net.SplitHostPort(addr)
	next := &processorpb.NetInterface{Host: host}
	fmt.Sscan(port, &next.Port)
	uri := "sip:bob@" + addr
	if c.tcp() {
		next.Transport = commonpb.Transport_TCP
		uri += ";transport=tcp"
	}
	return &processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: uri, NextHop: next}}}
}

// modes runs f with the bus in both ways: handed over in process, and over NATS.
func modes(t *testing.T, f func(t *testing.T, conn *bus.Conn)) { bustest.Modes(t, f) }

// client is a SIP element with a socket.
type client struct {
	t        *testing.T
	udp      *net.UDPConn
	stream   net.Conn
	listener net.Listener
	tls      *tls.Config // of what listener accepts; nil: not encrypted
	server   net.Addr
	buf      []byte
	seen     map[string]bool // requests
}

func udpClient(t *testing.T) *client {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{t: t, udp: conn}
}

// tcpClient is connected to s.
func (s *system) tcpClient() *client {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.tcp)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return &client{t: s.t, stream: conn}
}

// tcpServer waits for connections.
func tcpServer(t *testing.T) *client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &client{t: t, listener: l}
}

func (c *client) tcp() bool { return c.udp == nil }

func (c *client) addr() string {
	switch {
	case c.udp != nil:
		return c.udp.LocalAddr().String()
	case c.listener != nil:
		return c.listener.Addr().String()
	default:
		return c.stream.LocalAddr().String()
	}
}

// send sends text to s.
func (c *client) send(s *system, text string) {
	c.t.Helper()
	var err error
	if c.udp != nil {
		addr, resolveErr := net.ResolveUDPAddr("udp", s.udp)
		if resolveErr != nil {
			c.t.Fatal(resolveErr)
		}
		_, err = c.udp.WriteToUDP([]byte(text), addr)
	} else {
		_, err = c.stream.Write([]byte(text))
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// next is the next message that c receives. A request that comes as it came before is the server's Timer A or E, which a
// busy machine lets run out, and is passed over.
func (c *client) next() *message.Message {
	c.t.Helper()
	for {
		m, err := c.read(patience)
		if err != nil {
			c.t.Fatalf("%s received nothing: %v", c.addr(), err)
		}
		if c.udp == nil || !m.IsRequest() || m.Method() == message.ACK {
			return m
		}
		text := string(m.Bytes())
		if !c.seen[text] {
			if c.seen == nil {
				c.seen = make(map[string]bool)
			}
			c.seen[text] = true
			return m
		}
	}
}

// want is the next message that c receives, which has to begin with start.
func (c *client) want(start string) *message.Message {
	c.t.Helper()
	m := c.next()
	if !bytes.HasPrefix(m.Bytes(), []byte(start)) {
		c.t.Fatalf("%s received\n%s\nwant %s", c.addr(), m.Bytes(), start)
	}
	return m
}

func (c *client) read(limit time.Duration) (*message.Message, error) {
	c.t.Helper()
	data, err := c.receive(limit)
	if err != nil {
		return nil, err
	}
	m := new(message.Message)
	if err := m.Parse(data, message.DefaultLimits()); err != nil {
		c.t.Fatalf("%s received what is no message: %v\n%s", c.addr(), err, data)
	}
	return m, nil
}

// receive is the bytes of the next message, as they came.
func (c *client) receive(limit time.Duration) ([]byte, error) {
	c.t.Helper()
	deadline := time.Now().Add(limit)
	if c.listener != nil && c.stream == nil {
		c.listener.(*net.TCPListener).SetDeadline(deadline)
		conn, err := c.listener.Accept()
		if err != nil {
			return nil, err
		}
		c.t.Cleanup(func() { conn.Close() })
		if c.stream = conn; c.tls != nil {
			c.stream = tls.Server(conn, c.tls)
		}
	}
	data := make([]byte, message.MaxSize)
	if c.udp != nil {
		c.udp.SetReadDeadline(deadline)
		n, from, err := c.udp.ReadFromUDP(data)
		if err != nil {
			return nil, err
		}
		c.server = from
		data = data[:n]
	} else {
		c.stream.SetReadDeadline(deadline)
		for {
			n, err := message.Frame(c.buf)
			if err != nil {
				c.t.Fatalf("%s received what is no message: %v\n%q", c.addr(), err, c.buf)
			}
			if n > 0 {
				data, c.buf = bytes.Clone(c.buf[:n]), c.buf[n:]
				break
			}
			k, err := c.stream.Read(data)
			if err != nil {
				return nil, err
			}
			c.buf = append(c.buf, data[:k]...)
		}
	}
	return data, nil
}

// wantEnd wants the proper end of the connection, a FIN, or a close frame with that code.
func (c *client) wantEnd(code ws.StatusCode) {
	c.t.Helper()
	m, err := c.read(patience)
	if m != nil {
		c.t.Errorf("%s received\n%s\nwant the end", c.addr(), m.Bytes())
		return
	}
	if closed, ok := errors.AsType[wsutil.ClosedError](err); err != io.EOF && (!ok || closed.Code != code) {
		c.t.Errorf("%s ended with %v, want EOF or code %d", c.addr(), err, code)
	}
}

// quiet fails if c has received anything. It asks for an OPTIONS first, whose answer comes behind whatever was sent.
func (c *client) quiet(s *system) {
	c.t.Helper()
	c.send(s, c.request(s, "OPTIONS", "sip:"+s.udp, "z9hG4bKquiet"+fmt.Sprint(time.Now().UnixNano())))
	if m := c.next(); m.CSeqMethod() != message.OPTIONS {
		c.t.Errorf("%s received\n%s\nwant nothing", c.addr(), m.Bytes())
	}
}

// request is the text of a request that c sends.
func (c *client) request(s *system, method, uri, branch string, fields ...string) string {
	transport := "UDP"
	if c.tcp() {
		transport = "TCP"
	}
	given := func(name string) bool {
		for _, f := range fields {
			if strings.HasPrefix(f, name+":") {
				return true
			}
		}
		return false
	}
	lines := []string{method + " " + uri + " SIP/2.0"}
	for _, field := range []string{
		"Via: SIP/2.0/" + transport + " " + c.addr() + ";branch=" + branch + ";rport",
		"Max-Forwards: 70",
		"From: <sip:alice@example.com>;tag=alice-tag",
		"To: <sip:bob@example.com>",
		"Call-ID: call-1",
		"CSeq: 1 " + method,
		"Contact: <sip:alice@" + c.addr() + ">",
	} {
		if name, _, _ := strings.Cut(field, ":"); !given(name) {
			lines = append(lines, field)
		}
	}
	body := ""
	for _, f := range fields {
		if b, found := strings.CutPrefix(f, "\r\n"); found {
			body = b
		} else {
			lines = append(lines, f)
		}
	}
	return strings.Join(lines, "\r\n") + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// response is the text of a response to req.
func response(req *message.Message, status int, tag string, fields ...string) string {
	var headers []message.Field
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		headers = append(headers, message.Field{Name: name, Value: value})
	}
	for v := range req.Values(message.KindRecordRoute) {
		headers = append(headers, message.Field{Name: "Record-Route", Value: string(v.Text)})
	}
	return string(message.AppendResponse(nil, req, &message.Response{Status: status, ToTag: tag, Headers: headers}))
}

// values are the values of a kind of header, in order.
func values(m *message.Message, k message.Kind) []string {
	var list []string
	for v := range m.Values(k) {
		list = append(list, string(v.Text))
	}
	return list
}

// header is the value of a header by name.
func header(m *message.Message, name string) string {
	i, ok := m.FindName(name)
	if !ok {
		return ""
	}
	_, _, value := m.Header(i)
	return string(value)
}
