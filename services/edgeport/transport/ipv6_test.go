package transport

import (
	"fmt"
	"net/netip"
	"testing"
)

// All transports serve IPv6, and flows say so.
func TestIPv6(t *testing.T) {
	for _, protocol := range streams() {
		t.Run(protocol.String(), func(t *testing.T) {
			e := serve(t, on(protocol, "::1"), echo)
			p := e.phone(t)
			big := text("big", 20000)
			p.send(t, text("a", 10), big)
			f := e.want(t, text("a", 10))
			e.want(t, big)
			p.want(t, text("a", 10))
			p.want(t, big)
			if f.Local() != e.addr() || f.Remote() != addrPort(p.raw.LocalAddr()) || !f.Remote().Addr().Is6() {
				t.Errorf("flow = %v %v, want %v %v", f.Local(), f.Remote(), e.addr(), p.raw.LocalAddr())
			}
			if got, ok := e.Lookup(f.ID()); !ok || got != f {
				t.Errorf("Lookup(%q) = %v, %v, want the flow", f.ID(), got, ok)
			}
			go e.stop()
			p.wantEnd(t, 1001)
		})
		t.Run(protocol.String()+" behind a load balancer", func(t *testing.T) {
			cfg := on(protocol, "::1")
			cfg.Listen[0].Proxies = []netip.Prefix{netip.MustParsePrefix("::1/128")}
			for name, tt := range map[string]struct{ header, want string }{
				"v1":             {"PROXY TCP6 2001:db8::1 2001:db8::2 12345 5060\r\n", "[2001:db8::1]:12345"},
				"v1 of IPv4":     {"PROXY TCP4 192.0.2.1 192.0.2.2 12345 5060\r\n", "192.0.2.1:12345"},
				"v1 mapped":      {"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 12345 5060\r\n", "192.0.2.1:12345"},
				"v2":             {v2IPv6, "[2001:db8::1]:12345"},
				"v2 mapped":      {v2Mapped, "192.0.2.1:12345"},
				"v2 of itself":   {v2 + "\x20\x00\x00\x00", ""},
				"v1 of somebody": {"PROXY UNKNOWN\r\n", ""},
			} {
				e := serve(t, cfg, nil)
				raw := e.client(t, "::1")
				write(t, raw, tt.header)
				p := e.phoneOn(t, raw)
				p.send(t, text("a", 0))
				want := tt.want
				if want == "" {
					want = raw.LocalAddr().String()
				}
				if f := e.want(t, text("a", 0)); f.Remote().String() != want {
					t.Errorf("%s: Remote() = %v, want %s", name, f.Remote(), want)
				}
				raw.Close()
				e.stop()
			}
		})
	}
}

const v2Mapped = v2 + "\x21\x21\x00\x24\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x02\x30\x39\x13\xc4"

// An IPv4 address is one however it is written: to listen on, to send to, and as a load balancer or whom it connects for.
func TestIPv4Mapped(t *testing.T) {
	for _, protocol := range []Protocol{UDP, TCP} {
		e := serve(t, on(protocol, "::ffff:127.0.0.1"), echo)
		if !e.addr().Addr().Is4() {
			t.Errorf("%v: Points() = %v, want an IPv4 address", protocol, e.addr())
		}
		peer := serve(t, on(protocol, "127.0.0.1"), nil)
		f, err := e.Flow(protocol, netip.MustParseAddrPort(fmt.Sprintf("[::ffff:127.0.0.1]:%d", peer.addr().Port())), "")
		if err != nil {
			t.Fatal(err)
		}
		f.Send([]byte(text("a", 0)), nil)
		if got := peer.want(t, text("a", 0)); f.Remote() != peer.addr() || !got.Remote().Addr().Is4() {
			t.Errorf("%v: flow to %v, and from %v, want IPv4 addresses", protocol, f.Remote(), got.Remote())
		}
	}
	for in, trusted := range map[string]bool{"::ffff:127.0.0.0/104": true, "127.0.0.0/8": true, "::ffff:0:0/96": true, "::/0": false, "::ffff:127.0.0.9/128": false} {
		cfg := on(TCP, "127.0.0.1")
		cfg.Listen[0].Proxies = []netip.Prefix{netip.MustParsePrefix(in)}
		cfg.Limits.PerSource = 1
		e := serve(t, cfg, nil)
		if got := e.listeners[0].trusts(netip.MustParseAddr("127.0.0.1")); got != trusted {
			t.Errorf("trusts(127.0.0.1) with %s = %v, want %v", in, got, trusted)
		}
		if !trusted {
			continue
		}
		c := e.client(t, "127.0.0.1")
		write(t, c, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"+text("a", 0))
		e.want(t, text("a", 0))
		write(t, e.client(t, "127.0.0.1"), v2Mapped) // the same client, and one is its limit
		e.wantClosed(t, noHandshake)
	}
}
