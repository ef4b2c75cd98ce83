package transport

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"
)

const (
	v2     = "\r\n\r\n\x00\r\nQUIT\n"
	v2IPv4 = v2 + "\x21\x11\x00\x0f\xc0\x00\x02\x01\xc0\x00\x02\x02\x30\x39\x13\xc4\x04\x00\x00" // with a TLV
	v2IPv6 = v2 + "\x21\x21\x00\x24\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x30\x39\x13\xc4"
)

func TestProxyHeader(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     string // empty: none
		ok       bool
	}{
		{"v1 IPv4", "PROXY TCP4 192.0.2.1 192.0.2.2 12345 5060\r\n", "192.0.2.1:12345", true},
		{"v1 IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 12345 5060\r\n", "[2001:db8::1]:12345", true},
		{"v1 unknown", "PROXY UNKNOWN\r\n", "", true},
		{"v1 unknown with more", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "", true},
		{"v2 IPv4", v2IPv4, "192.0.2.1:12345", true},
		{"v2 IPv6", v2IPv6, "[2001:db8::1]:12345", true},
		{"v2 local", v2 + "\x20\x00\x00\x00", "", true},
		{"v2 unspecified", v2 + "\x21\x00\x00\x02ab", "", true},
		{"v1 family", "PROXY TCP6 192.0.2.1 192.0.2.2 12345 5060\r\n", "", false},
		{"v1 port", "PROXY TCP4 192.0.2.1 192.0.2.2 65536 5060\r\n", "", false},
		{"v1 zone", "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n", "", false},
		{"v1 endless", "PROXY " + strings.Repeat("x", 102), "", false},
		{"v2 version", v2 + "\x31\x11\x00\x00", "", false},
		{"v2 short", v2 + "\x21\x11\x00\x04abcd", "", false},
		{"v2 UDP", v2 + "\x21\x12\x00\x00", "", false},
		{"v2 huge", v2 + "\x21\x11\xff\xff", "", false},
		{"none", "OPTIONS sip:a SIP/2.0\r\n", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, size, err := proxyHeader([]byte(tt.in + "rest"))
			if !tt.ok {
				if err == nil {
					t.Errorf("proxyHeader(%q) = %v, want an error", tt.in, from)
				}
				return
			}
			want, _ := netip.ParseAddrPort(tt.want)
			if err != nil || size != len(tt.in) || from != want {
				t.Errorf("proxyHeader(%q) = %v, %d, %v, want %v, %d", tt.in, from, size, err, want, len(tt.in))
			}
			for n := range len(tt.in) {
				if _, size, err := proxyHeader([]byte(tt.in[:n])); size != 0 || err != nil {
					t.Fatalf("proxyHeader(%q) = %d, %v, want more", tt.in[:n], size, err)
				}
			}
		})
	}
}

// Whom a load balancer connects for is told before TLS and WebSocket, and counts.
func TestProxied(t *testing.T) {
	for _, protocol := range []Protocol{TCP, TLS, WS, WSS} {
		t.Run(protocol.String(), func(t *testing.T) {
			cfg := on(protocol, "127.0.0.1")
			cfg.Listen[0].Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.8/32")}
			cfg.Limits.PerSource = 2
			e := serve(t, cfg, nil)
			msg := text("a", 10)
			// In one packet with what follows, where that is not TLS, which reads for itself.
			connect := func(from, header string) {
				t.Helper()
				c := e.client(t, from)
				switch protocol {
				case TCP:
					write(t, c, header+msg)
				case WS:
					write(t, c, header+handshake+offer+"\r\n"+frame(fin|text1, msg))
				case TLS:
					write(t, c, header)
					write(t, tls.Client(c, e.clientTLS()), msg)
				case WSS:
					write(t, c, header)
					p, _ := ask(t, tls.Client(c, e.clientTLS()), handshake+offer+"\r\n")
					write(t, p, frame(fin|text1, msg))
				}
			}
			remote := func(want string) {
				t.Helper()
				f := e.want(t, msg)
				if f.Remote().String() != want {
					t.Errorf("Remote() = %v, want %s", f.Remote(), want)
				}
				if f.Local() != e.addr() {
					t.Errorf("Local() = %v, want %v", f.Local(), e.addr())
				}
			}
			connect("127.0.0.8", v2IPv4)
			remote("192.0.2.1:12345")
			connect("127.0.0.8", "PROXY TCP4 192.0.2.1 192.0.2.2 12346 5060\r\n")
			remote("192.0.2.1:12346")
			connect("127.0.0.8", v2IPv6)
			remote("[2001:db8::1]:12345")

			// The third of one client is too many, and the load balancer itself has no such limit.
			c := e.client(t, "127.0.0.8")
			write(t, c, v2IPv4)
			if got := readEnd(t, c); got != "" {
				t.Errorf("answered %q, want nothing", got)
			}
			e.wantClosed(t, noHandshake)

			// Without a header from where one is due, with one from elsewhere.
			c = e.client(t, "127.0.0.8")
			write(t, c, msg)
			e.wantClosed(t, noHandshake)
			c = e.client(t, "127.0.0.1")
			write(t, c, v2IPv4)
			if f := wait(t, e.closed, "the end of a connection"); f.Remote().Addr().String() != "127.0.0.1" {
				t.Errorf("Remote() = %v, want 127.0.0.1", f.Remote())
			}
			e.stop()
			e.mu.Lock()
			defer e.mu.Unlock()
			if len(e.sources) != 0 {
				t.Errorf("sources = %v after the end, want none", e.sources)
			}
		})
	}
}

// FuzzProxyHeader reads a header whole and as much of it as has come: what was decided of a part is not undone by the rest.
func FuzzProxyHeader(f *testing.F) {
	for _, in := range []string{v2IPv4, v2IPv6, v2Mapped, "PROXY TCP4 192.0.2.1 192.0.2.2 12345 5060\r\n", "PROXY UNKNOWN\r\n", "PROXY TCP6 ::1 ::1 1 65536\r\n"} {
		f.Add([]byte(in))
		f.Add([]byte(in + "OPTIONS sip:a SIP/2.0\r\n"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = data[:min(len(data), 300)]
		from, size, err := proxyHeader(data)
		if size > len(data) || size > 0 && err != nil || from.IsValid() && (size == 0 || from.Addr().Zone() != "" || from.Addr().Is4In6()) {
			t.Fatalf("proxyHeader(%q) = %v, %d, %v", data, from, size, err)
		}
		for n := range data {
			partFrom, partSize, partErr := proxyHeader(data[:n])
			if partErr != nil && err == nil || partSize > 0 && (partFrom != from || partSize != size || size > n) {
				t.Fatalf("proxyHeader(%q) = %v, %d, %v, and of the first %d bytes %v, %d, %v", data, from, size, err, n, partFrom, partSize, partErr)
			}
		}
	})
}
