package transport

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/routr-fabric/routr/services/edgeport/guard"
)

// attacker is where the clients of these tests connect from that do not mean well.
const attacker = "127.0.0.66"

// guarded is a layer with a guard that knows no friends, and what that has banned.
func guarded(t *testing.T, cfg Config, change func(*guard.Config)) (*edge, chan guard.Ban) {
	t.Helper()
	told := make(chan guard.Ban, 100)
	gc := guard.Config{BanTime: time.Hour, MaxBanTime: time.Hour, Banned: func(b guard.Ban) { told <- b }}
	if change != nil {
		change(&gc)
	}
	var err error
	if cfg.Guard, err = guard.New(gc, slog.New(slog.DiscardHandler), noop.Meter{}); err != nil {
		t.Fatal(err)
	}
	return serve(t, cfg, nil), told
}

const tlsHello = "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03"

// What is no SIP is closed without an answer, and leads to a ban.
func TestGarbageA21(t *testing.T) {
	old := func(t *testing.T, c net.Conn) {
		t.Helper()
		cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		if err := tls.Client(c, cfg).Handshake(); err == nil {
			t.Error("Handshake of TLS 1.1 = nil, want an error")
		}
	}
	bytes := func(data string) func(*testing.T, net.Conn) {
		return func(t *testing.T, c net.Conn) {
			t.Helper()
			write(t, c, data)
			if got := readEnd(t, c); got != "" {
				t.Errorf("answered %q, want nothing", got)
			}
		}
	}
	tests := []struct {
		name     string
		protocol Protocol
		do       func(t *testing.T, c net.Conn)
		want     string
		after    int
	}{
		{"A21 HTTP on TCP", TCP, bytes("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "http", 5},
		{"A21 TLS on TCP", TCP, bytes(tlsHello), "garbage", 10},
		{"A21 random bytes on TCP", TCP, bytes("\x8f\x00\x01\xff"), "garbage", 10},
		{"A21 HTTP on TLS", TLS, bytes("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "http", 5},
		{"A21 random bytes on TLS", TLS, bytes("\x8f\x00\x01\xff\x00"), "garbage", 10},
		{"A21 an old TLS", TLS, old, "failed-handshake", 50},
		{"A21 TLS on WebSocket", WS, bytes(tlsHello), "garbage", 10},
		{"A21 random bytes on a secure WebSocket", WSS, bytes("\x8f\x00\x01\xff\x00"), "garbage", 10},
		{"A21 a page on WebSocket", WS, func(t *testing.T, c net.Conn) {
			t.Helper()
			write(t, c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			readEnd(t, c) // what is HTTP on both sides is answered
		}, "failed-handshake", 50},
		{"A30 a frame without a mask", WS, func(t *testing.T, c net.Conn) {
			t.Helper()
			p := opened(t, c)
			write(t, p, "\x81\x02hi")
			p.wantEnd(t, 1002)
		}, "garbage", 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, told := guarded(t, on(tt.protocol, "127.0.0.1"), nil)
			offences := 0
			for len(told) == 0 && offences < 4*tt.after { // a slow machine forgives a little meanwhile
				offences++
				c := e.client(t, attacker)
				tt.do(t, c)
				c.Close()
				wait(t, e.closed, "the end of a connection")
			}
			b := wait(t, told, "a ban")
			if offences < tt.after {
				t.Errorf("banned after %d, want %d", offences, tt.after)
			}
			if b.Reason != tt.want || b.Prefix != netip.MustParsePrefix(attacker+"/32") {
				t.Errorf("banned %v for %s, want %s for %s", b.Prefix, b.Reason, attacker, tt.want)
			}
			// The reset may come before the connection stands on this side.
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(attacker)}, Timeout: 20 * time.Second}
			if c, err := d.Dial("tcp", e.addr().String()); err == nil {
				readEnd(t, c)
				c.Close()
			}
			if n := e.counters[tt.protocol].refused[unwelcome].Load(); n != 1 {
				t.Errorf("%d connections were refused, want 1", n)
			}
			e.phone(t).send(t, text("a", 10)) // a neighbor
			e.want(t, text("a", 10))
		})
	}
}

// What happens to those who mean well is no offence, however often.
func TestNoOffence(t *testing.T) {
	tests := []struct {
		name     string
		protocol Protocol
		do       func(t *testing.T, c *net.TCPConn)
	}{
		{"one that leaves at once", TCP, func(*testing.T, *net.TCPConn) {}},
		{"one that leaves within a message", TCP, func(t *testing.T, c *net.TCPConn) { write(t, c, "INVITE sip:a") }},
		{"one that leaves within the handshake", TLS, func(t *testing.T, c *net.TCPConn) { write(t, c, tlsHello) }},
		{"one whose network is gone within the handshake", TLS, func(t *testing.T, c *net.TCPConn) { write(t, c, tlsHello); reset(t, c) }},
		{"one that does not trust our certificate", TLS, func(t *testing.T, c *net.TCPConn) {
			if err := tls.Client(c, &tls.Config{ServerName: "sip.example.com"}).Handshake(); err == nil {
				t.Error("Handshake = nil, want an error")
			}
		}},
		{"a phone that is not set to TLS", TLS, func(t *testing.T, c *net.TCPConn) { write(t, c, text("a", 10)); readEnd(t, c) }},
		{"a message with a mistake", TCP, func(t *testing.T, c *net.TCPConn) {
			write(t, c, "INVITE sip:a SIP/2.0\r\nFoo: bar\r\n\r\n")
			readEnd(t, c)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, told := guarded(t, on(tt.protocol, "127.0.0.1"), nil)
			for range 55 {
				c := e.client(t, attacker)
				tt.do(t, c)
				c.Close()
				wait(t, e.closed, "the end of a connection")
			}
			if len(told) > 0 {
				t.Errorf("banned for %s, want no ban", (<-told).Reason)
			}
		})
	}
}

// A stranger may name any address in a Contact, and have us connect to it: what comes from there is nobody's offence.
func TestDialedConnectionIsNoOffence(t *testing.T) {
	e, told := guarded(t, on(TCP, "127.0.0.1"), nil)
	l, err := net.Listen("tcp", attacker+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 12 {
		f, err := e.Flow(TCP, addrPort(l.Addr()), "")
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		write(t, c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		readEnd(t, c)
		c.Close()
		e.wantClosed(t, Malformed)
		if f.Accepted() {
			t.Fatal("Accepted() = true of a connection that we opened, want false")
		}
	}
	if len(told) > 0 {
		t.Errorf("banned %v, want no ban", (<-told).Prefix)
	}
}

// Offences behind a load balancer are its client's, and its own mistakes are nobody's.
func TestOffencesBehindALoadBalancer(t *testing.T) {
	cfg := on(TCP, "127.0.0.1")
	cfg.Listen[0].Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.8/32")}
	e, told := guarded(t, cfg, nil)
	send := func(data string) {
		t.Helper()
		c := e.client(t, "127.0.0.8")
		write(t, c, data)
		if got := readEnd(t, c); got != "" {
			t.Errorf("answered %q, want nothing", got)
		}
		wait(t, e.closed, "the end of a connection")
	}
	for range 12 {
		send("GET / HTTP/1.1\r\n\r\n") // without a PROXY header
		send(v2 + "\x20\x00\x00\x00" + "GET / HTTP/1.1\r\n\r\n")
	}
	if len(told) > 0 {
		t.Errorf("banned %v, want no ban", (<-told).Prefix)
	}
	for i := 0; len(told) == 0 && i < 20; i++ {
		send(v2IPv4 + "GET / HTTP/1.1\r\n\r\n")
	}
	if b := wait(t, told, "a ban"); b.Prefix != netip.MustParsePrefix("192.0.2.1/32") {
		t.Errorf("banned %v, want the client 192.0.2.1", b.Prefix)
	}
	send(v2IPv4 + text("a", 10)) // the banned client
	c := e.client(t, "127.0.0.8")
	write(t, c, v2IPv6+text("b", 10)) // another one
	e.want(t, text("b", 10))
}

// Of a source that is banned nothing is taken, by any protocol, but for connections on which somebody has authenticated
// when the ban was not made by a person.
func TestBannedSource(t *testing.T) {
	for _, protocol := range streams() {
		t.Run(protocol.String(), func(t *testing.T) {
			cfg := on(protocol, "127.0.0.1")
			cfg.Listen = append(cfg.Listen, at(UDP, "127.0.0.1:0"))
			e, told := guarded(t, cfg, nil)
			stranger, known := e.phoneOn(t, e.client(t, attacker)), e.phoneOn(t, e.client(t, attacker))
			stranger.send(t, text("a", 0))
			e.want(t, text("a", 0))
			known.send(t, text("b", 0))
			e.want(t, text("b", 0)).Known()

			for e.guard.Offend(netip.MustParseAddr(attacker), guard.Garbage); len(told) == 0; {
				e.guard.Offend(netip.MustParseAddr(attacker), guard.Garbage)
			}
			stranger.send(t, text("c", 0))
			e.wantClosed(t, Unwanted)
			known.send(t, text("d", 0))
			e.want(t, text("d", 0))
			u := udpClient(t, attacker)
			datagram(t, u, e.Points()[1].Addr, text("e", 0))
			datagram(t, udpClient(t, "127.0.0.1"), e.Points()[1].Addr, text("f", 0))
			e.want(t, text("f", 0)) // and not e, which came before

			e.guard.Ban(guard.Ban{Prefix: netip.MustParsePrefix(attacker + "/32"), By: "ops"})
			known.send(t, text("g", 0))
			e.wantClosed(t, Unwanted)
			e.guard.Unban(netip.MustParsePrefix(attacker + "/32"))
			p := e.phoneOn(t, e.client(t, attacker))
			p.send(t, text("h", 0))
			e.want(t, text("h", 0))
		})
	}
}

// Who sends too much loses what is too much, and nothing else happens to it.
func TestRateA4(t *testing.T) {
	for _, protocol := range []Protocol{UDP, TCP} {
		t.Run("A4 "+protocol.String(), func(t *testing.T) {
			e, told := guarded(t, on(protocol, "127.0.0.1"), func(c *guard.Config) {
				c.Rate, c.Burst = 1, 30 // of which the connection takes ten
			})
			c := net.Conn(nil)
			want := 30
			if protocol == UDP {
				u, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(attacker)}, net.UDPAddrFromAddrPort(e.addr()))
				if err != nil {
					t.Fatal(err)
				}
				defer u.Close()
				c = u
			} else {
				c, want = e.client(t, attacker), 20
			}
			const sent = 300
			for range sent {
				write(t, c, text("a", 0))
			}
			// All have been looked at, which a neighbor's message shows for datagrams.
			if protocol == UDP {
				datagram(t, udpClient(t, "127.0.0.1"), e.addr(), text("b", 0))
			} else {
				until(t, "the last message", func() bool { return e.counters[TCP].messagesIn.Load() == sent })
				e.phone(t).send(t, text("b", 0))
			}
			got := 0
			for wait(t, e.got, "a message").data != text("b", 0) {
				got++
			}
			// The clock of a slow machine gives a token a second.
			if got < want || got > sent/2 {
				t.Errorf("%d of %d messages were taken, want %d", got, sent, want)
			}
			if len(told) > 0 {
				t.Error("banned, want no ban for what is too much")
			}
		})
	}
}
