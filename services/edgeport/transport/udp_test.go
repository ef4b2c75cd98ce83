package transport

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/routr-fabric/routr/services/edgeport/message"
)

func udpClient(t testing.TB, from string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func datagram(t testing.TB, c *net.UDPConn, to netip.AddrPort, data string) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort([]byte(data), to); err != nil {
		t.Fatal(err)
	}
}

func wantDatagram(t testing.TB, c *net.UDPConn, want string, from netip.AddrPort) {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, got, err := c.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != want || unmap(got) != from {
		t.Fatalf("received %q from %v, %v, want %q from %v", short(string(buf[:n])), got, err, short(want), from)
	}
}

func TestUDP(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "127.0.0.9", "::1"} {
		e := serve(t, on(UDP, addr), echo)
		c := udpClient(t, addr)
		for _, tt := range []struct {
			name, in, want string
		}{
			{"message", text("a", 10), text("a", 10)},
			{"CRLF before", "\r\n\r\n" + text("b", 0), text("b", 0)},
			{"not SIP", "hello", "hello"},
			{"large", strings.Repeat("x", 65000), strings.Repeat("x", 65000)},
		} {
			t.Run(addr+" "+tt.name, func(t *testing.T) {
				datagram(t, c, e.addr(), tt.in)
				f := e.want(t, tt.want)
				wantDatagram(t, c, tt.want, e.addr())
				if !f.Valid() || f.Protocol() != UDP || f.Local() != e.addr() || f.Remote() != addrPort(c.LocalAddr()) {
					t.Errorf("flow = %v %v %v, want %v %v %v", f.Protocol(), f.Local(), f.Remote(), UDP, e.addr(), c.LocalAddr())
				}
				if again, ok := e.Lookup(f.ID()); !ok || again != f {
					t.Errorf("Lookup(%q) = %v, %v, want the flow", f.ID(), again, ok)
				}
			})
		}
	}
}

// Keep-alives are dropped, and nothing that comes ends the reader.
func TestUDPKeepAlive(t *testing.T) {
	e := serve(t, on(UDP, "127.0.0.1"), nil)
	c := udpClient(t, "127.0.0.1")
	for _, data := range []string{"\r\n\r\n", "\r\n", "\x00\x00\x00\x00", "\x00", "", "\n"} {
		datagram(t, c, e.addr(), data)
	}
	datagram(t, c, e.addr(), "end")
	e.want(t, "end")
	if n := e.counters[UDP].keepAlives.Load(); n != 6 {
		t.Errorf("keep-alives = %d, want 6", n)
	}
	if n := e.counters[UDP].messagesIn.Load(); n != 1 {
		t.Errorf("messages = %d, want 1", n)
	}
}

func TestUDPReadError(t *testing.T) {
	e := serve(t, on(UDP, "127.0.0.1"), nil)
	c := udpClient(t, "127.0.0.1")
	datagram(t, c, e.addr(), "before")
	e.want(t, "before")
	// A deadline that has passed makes reads fail until it is lifted.
	if err := e.sockets[0].datagrams.conn.SetReadDeadline(past()); err != nil {
		t.Fatal(err)
	}
	datagram(t, c, e.addr(), "after")
	if err := e.sockets[0].datagrams.conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	e.want(t, "after")
}

func TestUDPTo(t *testing.T) {
	e := serve(t, on(UDP, "127.0.0.1"), nil)
	a, b := udpClient(t, "127.0.0.1"), udpClient(t, "127.0.0.1")
	datagram(t, a, e.addr(), "x")
	f := e.want(t, "x")
	to := f.To(addrPort(b.LocalAddr()))
	to.Send([]byte("y"), nil)
	wantDatagram(t, b, "y", e.addr())
	if to == f || to.To(f.Remote()) != f {
		t.Errorf("To() and back = %v, want %v", to.To(f.Remote()), f)
	}
	again, err := e.Flow(UDP, f.Remote(), "")
	if err != nil || again != f {
		t.Errorf("Flow() = %v, %v, want %v", again, err, f)
	}
	if mapped := f.To(netip.MustParseAddrPort("[::ffff:127.0.0.1]:5060")); mapped != f.To(netip.MustParseAddrPort("127.0.0.1:5060")) {
		t.Errorf("To() a mapped address = %v, want it unmapped", mapped)
	}
}

// The ID of a UDP flow needs no state: it names the flow wherever our address is open, and nowhere else.
func TestUDPFlowID(t *testing.T) {
	cfg := on(UDP, "127.0.0.1")
	cfg.Listen = append(cfg.Listen, on(UDP, "127.0.0.2").Listen[0], on(UDP, "::1").Listen[0])
	e := serve(t, cfg, nil)
	seen := map[string]bool{}
	for _, s := range e.sockets {
		remotes := []string{"127.0.0.1:5060", "127.0.0.1:5061", "192.0.2.9:5060"}
		if s.local.Addr().Is6() {
			remotes = []string{"[::1]:5060", "[2001:db8::9]:65535", "[fe80::9%a-zone]:5060"}
		}
		for _, remote := range remotes {
			f := Flow{socket: s, peer: netip.MustParseAddrPort(remote)}
			id := f.ID()
			if seen[id] || len(id) > 256 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
				t.Errorf("ID() of %v to %s = %q, want one of its own, of 256 letters, digits, - and _ at most", s.local, remote, id)
			}
			seen[id] = true
			if got, ok := e.Lookup(id); !ok || got != f {
				t.Errorf("Lookup(%q) = %v, %v, want the flow from %v to %s", id, got, ok, s.local, remote)
			}
		}
	}
	local := e.sockets[0].local
	remote := netip.MustParseAddrPort("192.0.2.9:5060")
	id := datagramID(local, remote)
	for _, tt := range []struct{ name, in string }{
		{"prefix alone", "u"},
		{"cut off", id[:len(id)-1]},
		{"longer", id + "A"},
		{"padded", id + "="},
		{"other letter", "v" + id[1:]},
		{"no base64", "u" + id[1:4] + "!" + id[5:]},
		{"line break", id[:9] + "\n" + id[9:]},
		{"line breaks at the end", id + "\r\n\r\n"},
		{"endless", "u" + strings.Repeat("A", 1<<16)},
		{"other port of ours", datagramID(netip.AddrPortFrom(local.Addr(), local.Port()^1), remote)},
		{"other address of ours", datagramID(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), local.Port()), remote)},
		{"other family", datagramID(local, netip.MustParseAddrPort("[2001:db8::9]:5060"))},
		{"mapped address", datagramID(local, netip.MustParseAddrPort("[::ffff:192.0.2.9]:5060"))},
		{"no port", datagramID(local, netip.MustParseAddrPort("192.0.2.9:0"))},
		{"multicast", datagramID(local, netip.MustParseAddrPort("224.0.1.75:5060"))},
		{"no addresses", datagramID(netip.AddrPort{}, netip.AddrPort{})},
	} {
		if f, ok := e.Lookup(tt.in); ok {
			t.Errorf("%s: Lookup(%q) = %v to %v, want none", tt.name, short(tt.in), f.Local(), f.Remote())
		}
	}
	for _, remote := range []string{"127.0.0.9:5060", "[::1]:5060", "192.0.2.9:5060", "192.0.2.9:0", "[::ffff:127.0.0.1]:5060", "0.0.0.0:1"} {
		to := netip.MustParseAddrPort(remote)
		chosen, err := e.Flow(UDP, to, "")
		f, ok := e.Lookup(UDPFlowID(to))
		if ok != (err == nil) || f != chosen {
			t.Errorf("Lookup(UDPFlowID(%s)) = %v, %v, want what Flow chooses: %v, %v", remote, f, ok, chosen, err)
		}
	}
	f, _ := e.Lookup(id)
	e.stop()
	if _, ok := e.Lookup(f.ID()); ok {
		t.Error("Lookup() finds a UDP flow whose socket is closed")
	}
}

func FuzzUDPFlowID(f *testing.F) {
	l := New(on(UDP, "127.0.0.1"), nil, nil, slog.New(slog.DiscardHandler), noop.Meter{})
	if err := l.Listen(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.closeListeners() })
	f.Add(datagramID(l.sockets[0].local, netip.MustParseAddrPort("192.0.2.9:5060")))
	f.Add(datagramID(netip.MustParseAddrPort("[fe80::1%eth0]:1"), netip.MustParseAddrPort("[::1]:2")))
	f.Add(UDPFlowID(netip.MustParseAddrPort("127.0.0.9:5060")))
	f.Add("u")
	f.Add("u\n" + datagramID(l.sockets[0].local, netip.MustParseAddrPort("192.0.2.9:5060"))[1:])
	f.Fuzz(func(t *testing.T, id string) {
		if flow, ok := l.Lookup(id); ok && flow.ID() != id && UDPFlowID(flow.Remote()) != id {
			t.Errorf("Lookup(%q).ID() = %q, want the same", id, flow.ID())
		}
	})
}

func TestUDPSendFails(t *testing.T) {
	e := serve(t, on(UDP, "127.0.0.1"), nil)
	loopback := Flow{socket: e.sockets[0]}
	for _, tt := range []struct {
		name, to, data, want string
	}{
		{"no route from loopback", "198.51.100.1:5060", "x", "send udp 198.51.100.1:5060: invalid argument"},
		{"too long", "127.0.0.1:5060", strings.Repeat("x", 1<<16), "send udp 127.0.0.1:5060: message too long"},
		{"other family", "[::1]:5060", "x", "send udp [::1]:5060: the socket " + e.addr().String() + " is of another address family"},
		{"invalid", "0.0.0.0:0", "x", "send udp 0.0.0.0:0: invalid argument"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			failed := make(chan error) // unbuffered: inside Send it would never be received
			loopback.To(netip.MustParseAddrPort(tt.to)).Send([]byte(tt.data), func(err error) { failed <- err })
			if err := wait(t, failed, "the failure"); err.Error() != tt.want {
				t.Errorf("Send() failed with %q, want %q", err, tt.want)
			}
			loopback.To(netip.MustParseAddrPort(tt.to)).Send([]byte(tt.data), nil) // nobody to tell
		})
	}
	e.stop()
	failed := make(chan error)
	loopback.To(e.addr()).Send([]byte("x"), func(err error) { failed <- err })
	if err := wait(t, failed, "the failure"); !strings.Contains(err.Error(), "closed") {
		t.Errorf("Send() after the end failed with %q, want closed", err)
	}
}

// What Carries says is what the kernel does. A connection carries whatever there is.
func TestCarries(t *testing.T) {
	for addr, most := range map[string]int{"127.0.0.1": 65507, "::1": 65527} {
		e := serve(t, on(UDP, addr), nil)
		c := udpClient(t, addr)
		f := Flow{socket: e.sockets[0], peer: addrPort(c.LocalAddr())}
		failed := make(chan error)
		fail := func(err error) { failed <- err }
		if !f.Carries(most) || f.Carries(most+1) {
			t.Errorf("%s: Carries(%d) = %v, Carries(%d) = %v, want true and false", addr, most, f.Carries(most), most+1, f.Carries(most+1))
		}
		f.Send(make([]byte, most+1), fail)
		if err := wait(t, failed, "the failure"); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("%s: Send() of %d bytes failed with %v, want %v", addr, most+1, err, syscall.EMSGSIZE)
		}
		large := strings.Repeat("x", most)
		f.Send([]byte(large), fail)
		wantDatagram(t, c, large, e.addr())
	}
	e := serve(t, on(TCP, "127.0.0.1"), nil)
	write(t, e.client(t, "127.0.0.1"), text("a", 0))
	if f := e.want(t, text("a", 0)); !f.Carries(message.MaxSize) {
		t.Errorf("Carries(%d) over TCP = false, want true", message.MaxSize)
	}
}

func TestUDPFlow(t *testing.T) {
	e := serve(t, Config{Listen: []Listen{at(UDP, "0.0.0.0:0"), at(UDP, "[::1]:0")}}, nil)
	for _, tt := range []struct{ name, to, from, err string }{
		{name: "loopback", to: "127.0.0.9:5060", from: "127.0.0.1"},
		{name: "IPv6 loopback", to: "[::1]:5060", from: "::1"},
		{name: "mapped", to: "[::ffff:127.0.0.1]:5060", from: "127.0.0.1"},
		{name: "family without socket", to: "[2001:db8::1]:5060", err: "reach udp [2001:db8::1]:5060: no udp socket of its family reaches it, add one to spec.transport"},
		{name: "no port", to: "127.0.0.1:0", err: "reach udp 127.0.0.1:0: want an address and a port"},
		{name: "unspecified", to: "0.0.0.0:5060", err: "reach udp 0.0.0.0:5060: want the address of one host"},
		{name: "multicast", to: "224.0.1.75:5060", err: "reach udp 224.0.1.75:5060: want the address of one host"},
		{name: "broadcast", to: "255.255.255.255:5060", err: "reach udp 255.255.255.255:5060: want the address of one host"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := e.Flow(UDP, netip.MustParseAddrPort(tt.to), "")
			if tt.err != "" {
				if err == nil || err.Error() != tt.err || f.Valid() {
					t.Errorf("Flow() = %v, %v, want %s", f, err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if f.Local().Addr() != netip.MustParseAddr(tt.from) {
				t.Errorf("Flow(%s) is from %v, want %v", tt.to, f.Local(), tt.from)
			}
		})
	}
	// Every address of this machine is reached from itself.
	addrs, err := localAddrs(netip.IPv4Unspecified())
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		f, err := e.Flow(UDP, netip.AddrPortFrom(addr, 5060), "")
		if err != nil || f.Local().Addr() != addr {
			t.Errorf("Flow(%v) is from %v, %v, want %v", addr, f, err, addr)
		}
	}
	if _, err := e.Flow(WS, netip.MustParseAddrPort("127.0.0.1:5061"), ""); err == nil {
		t.Error("Flow(WS) = nil, want an error")
	}
}

// Among several sockets the kernel's routes decide, and are remembered for a while and not without a bound.
func TestRoutes(t *testing.T) {
	var r routes
	addr := netip.MustParseAddr("127.0.0.1")
	for range routesKept + 10 {
		got, err := r.source(addr)
		if err != nil || !got.IsLoopback() {
			t.Fatalf("source(%v) = %v, %v, want loopback", addr, got, err)
		}
		addr = addr.Next()
	}
	if n := len(r.known); n != 10 {
		t.Errorf("%d routes remembered, want 10", n)
	}
}

func TestUDPSendAllocates(t *testing.T) {
	e := serve(t, on(UDP, "127.0.0.1"), nil)
	c := udpClient(t, "127.0.0.1")
	f, err := e.Flow(UDP, addrPort(c.LocalAddr()), "")
	if err != nil {
		t.Fatal(err)
	}
	data := []byte(text("a", 300))
	if n := testing.AllocsPerRun(100, func() { f.Send(data, nil) }); n != 0 {
		t.Errorf("Send() allocates %v times, want 0", n)
	}
}
