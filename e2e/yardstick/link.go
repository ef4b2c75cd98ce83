package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// ports are where the server listens, transport by transport in the order in which they are shown.
func ports() []listening {
	return []listening{{"udp", serverPort}, {"tcp", serverPort}, {"tls", serverPort + 1}, {"ws", serverPort + 2}, {"wss", serverPort + 3}}
}

type listening struct {
	transport string
	port      int
}

// link is a socket of the load: a connection, or a UDP socket that talks to one address. One goroutine receives; any may
// send.
type link struct {
	net.Conn
	transport string
	contact   string   // host, port and parameters of the Contact URI of who is there
	server    string   // its address
	side      ws.State // of a WebSocket
	in        *bufio.Reader
	buf       []byte

	mu sync.Mutex // a message at a time
}

const (
	dialTime     = 5 * time.Second
	socketBuffer = 4 << 20
	readBuffer   = 16 << 10
	datagramSize = 1 << 16
)

func newLink(transport string, c net.Conn, side ws.State) *link {
	l := &link{Conn: c, transport: transport, side: side, in: bufio.NewReaderSize(c, readBuffer), contact: c.LocalAddr().String()}
	switch transport {
	case "udp":
		l.buf = make([]byte, datagramSize)
	case "ws", "wss": // RFC 7118 5.2: a browser has no address to name
		l.contact = strings.ToLower(rand.Text()) + ".invalid;transport=ws"
	default:
		l.contact += ";transport=" + transport
	}
	return l
}

// dial is a link to a listening point, from an address of the host.
func dial(ctx context.Context, transport, to string) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	if transport == "udp" {
		peer, err := netip.ParseAddrPort(to)
		if err != nil {
			return nil, err
		}
		c, err := udpSocket()
		if err != nil {
			return nil, err
		}
		return newLink(transport, datagrams{c, peer}, 0), nil
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
	c, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	if transport == "tls" || transport == "wss" {
		secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // its certificate is made for the day
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("tls with %s: %w", to, err)
		}
		c = secure
	}
	if transport == "ws" || transport == "wss" {
		opener := ws.Dialer{Protocols: []string{"sip"}, NetDial: func(context.Context, string, string) (net.Conn, error) { return c, nil }}
		if _, _, _, err := opener.Dial(ctx, "ws://"+to); err != nil { // its TLS stands already
			return nil, fmt.Errorf("websocket with %s: %w", to, err)
		}
	}
	return newLink(transport, c, ws.StateClientSide), nil
}

// pair is two links that are connected with each other, and no server between.
func pair(ctx context.Context, transport string) (a, b *link, err error) {
	if transport == "udp" {
		x, err := udpSocket()
		if err != nil {
			return nil, nil, err
		}
		y, err := udpSocket()
		if err != nil {
			return nil, nil, err
		}
		address := func(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }
		return newLink(transport, datagrams{x, address(y)}, 0), newLink(transport, datagrams{y, address(x)}, 0), nil
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	type accepted struct {
		link *link
		err  error
	}
	far := make(chan accepted, 1)
	go func() {
		l, err := accept(ctx, transport, ln)
		far <- accepted{l, err}
	}()
	a, err = dial(ctx, transport, ln.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	end := <-far
	return a, end.link, end.err
}

func accept(ctx context.Context, transport string, ln net.Listener) (*link, error) {
	c, err := ln.Accept()
	if err != nil {
		return nil, err
	}
	if transport == "tls" || transport == "wss" {
		cert, err := certificate()
		if err != nil {
			return nil, err
		}
		secure := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		c = secure
	}
	if transport == "ws" || transport == "wss" {
		u := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == "sip" }}
		if _, err := u.Upgrade(c); err != nil {
			return nil, err
		}
	}
	return newLink(transport, c, ws.StateServerSide), nil
}

func certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// datagrams is a UDP socket as a connection.
type datagrams struct {
	*net.UDPConn
	to netip.AddrPort
}

func udpSocket() (*net.UDPConn, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(host)})
	if err != nil {
		return nil, err
	}
	return c, errors.Join(c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer))
}

func (d datagrams) Write(b []byte) (int, error) { return d.WriteToUDPAddrPort(b, d.to) }

// send writes one message.
func (l *link) send(data []byte) error {
	if l.transport == "ws" || l.transport == "wss" {
		frame := ws.NewTextFrame(data)
		if l.side.ClientSide() {
			frame = ws.MaskFrame(frame)
		}
		var err error
		if data, err = ws.CompileFrame(frame); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.Write(data)
	return err
}

// receive waits for the next message, which is valid until the next call.
func (l *link) receive() ([]byte, error) {
	switch l.transport {
	case "udp":
		n, err := l.Read(l.buf)
		return l.buf[:n], err
	case "ws", "wss":
		data, _, err := wsutil.ReadData(struct {
			io.Reader
			io.Writer
		}{l.in, l.Conn}, l.side)
		return data, err
	}
	l.buf = l.buf[:0]
	length := 0
	for {
		line, err := l.in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		l.buf = append(l.buf, line...)
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length:")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return nil, fmt.Errorf("read a message: %w", err)
			}
		}
		if len(line) == 2 {
			break
		}
	}
	head := len(l.buf)
	l.buf = append(l.buf, make([]byte, length)...)
	_, err := io.ReadFull(l.in, l.buf[head:])
	return l.buf, err
}
