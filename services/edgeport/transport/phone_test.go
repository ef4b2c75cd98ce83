package transport

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
)

// phone is a client of whatever stream protocol.
type phone struct {
	net.Conn // TCP, or TLS in it
	raw      *net.TCPConn
	r        *bufio.Reader
	page     *page // of WS and WSS
}

// streams are the protocols of a phone.
func streams() []Protocol { return []Protocol{TCP, TLS, WS, WSS} }

// phone connects to the first listening point of e, from its own address.
func (e *edge) phone(t *testing.T) *phone {
	t.Helper()
	at := e.Points()[0]
	return e.phoneOn(t, e.client(t, at.Addr.Addr().String()))
}

// phoneOn is a phone on a connection to the first listening point of e.
func (e *edge) phoneOn(t *testing.T, raw *net.TCPConn) *phone {
	t.Helper()
	at := e.Points()[0]
	p := &phone{Conn: raw, raw: raw}
	if at.Protocol.Secure() {
		cfg := e.clientTLS()
		cfg.ServerName = at.Addr.Addr().String()
		p.Conn = tls.Client(raw, cfg)
	}
	p.r = bufio.NewReader(p.Conn)
	if at.Protocol == WS || at.Protocol == WSS {
		p.page = opened(t, p.Conn)
	}
	return p
}

// send writes messages, all at once.
func (p *phone) send(t *testing.T, messages ...string) {
	t.Helper()
	all := ""
	for _, m := range messages {
		if p.page != nil {
			m = frame(fin|text1, m)
		}
		all += m
	}
	write(t, p.Conn, all)
}

// want reads one message.
func (p *phone) want(t *testing.T, message string) {
	t.Helper()
	if p.page != nil {
		p.page.want(t, fin|text1, message)
		return
	}
	buf := make([]byte, len(message))
	n, err := io.ReadFull(p.r, buf)
	if err != nil || string(buf) != message {
		t.Fatalf("read %q, %v, want %q", short(string(buf[:n])), err, short(message))
	}
}

// wantEnd wants nothing but an end as the protocol has it: a close frame with that code, a close_notify, a FIN.
func (p *phone) wantEnd(t *testing.T, code uint16) {
	t.Helper()
	if p.page != nil {
		p.page.wantEnd(t, code) // TLS would say that its end is missing
		return
	}
	if rest, err := io.ReadAll(p.r); len(rest) != 0 || err != nil {
		t.Errorf("read %q, %v, want a proper end", short(string(rest)), err)
	}
}

// wantRefused wants nobody to listen at e any more.
func (e *edge) wantRefused(t *testing.T) {
	t.Helper()
	c, err := net.Dial("tcp", e.addr().String())
	if _, ok := errors.AsType[*net.OpError](err); !ok {
		t.Errorf("connecting to %v = %v, want it refused", e.addr(), err)
	}
	if err == nil {
		c.Close()
	}
}

// talk is a client that is served.
func talk(t *testing.T, e *edge) {
	t.Helper()
	msg := text("t", 10)
	p := e.phone(t)
	p.send(t, msg)
	e.want(t, msg).Send([]byte("ok"), nil)
	p.want(t, "ok")
}
