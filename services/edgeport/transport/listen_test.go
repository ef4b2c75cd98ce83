package transport

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
)

func layer(t *testing.T, listen ...Listen) *Layer {
	return New(Config{Listen: listen}, func(Flow, []byte) {}, func(Flow) {}, slog.New(slog.DiscardHandler), noop.Meter{})
}

func at(p Protocol, addr string) Listen {
	return Listen{Protocol: p, Addr: netip.MustParseAddrPort(addr)}
}

// shut closes a layer that listens.
func shut(t *testing.T, l *Layer) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Serve(ctx); err != nil {
		t.Error(err)
	}
}

func TestListenPoints(t *testing.T) {
	l := layer(t, at(TCP, "127.0.0.1:0"), at(UDP, "0.0.0.0:0"), at(UDP, "[::1]:0"), at(TCP, "0.0.0.0:0"))
	if err := l.Listen(); err != nil {
		t.Fatal(err)
	}
	defer shut(t, l)
	points := l.Points()
	if len(points) != 4 {
		t.Fatalf("Points() = %v, want 4", points)
	}
	for i, want := range l.cfg.Listen {
		got := points[i]
		if got.Protocol != want.Protocol || got.Addr.Addr() != want.Addr.Addr() || got.Addr.Port() == 0 {
			t.Errorf("Points()[%d] = %v, want %v with a port", i, got, want)
		}
	}
	if err := l.Listen(); err == nil {
		t.Error("second Listen() = nil, want an error")
	}
}

func TestListenAllOrNone(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	takenUDP, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer takenUDP.Close()
	free := func() (s string) {
		l := layer(t, at(UDP, "127.0.0.1:0"))
		if err := l.Listen(); err != nil {
			t.Fatal(err)
		}
		defer shut(t, l)
		return l.Points()[0].Addr.String()
	}()

	for _, tt := range []struct {
		name, want string
		in         Listen
	}{
		{"tcp port taken", "listen tcp " + taken.Addr().String() + ": address already in use – another SIP server? choose another port in spec.transport", at(TCP, taken.Addr().String())},
		{"udp port taken", "listen udp " + takenUDP.LocalAddr().String() + ": address already in use – another SIP server? choose another port in spec.transport", at(UDP, takenUDP.LocalAddr().String())},
		{"not ours", "listen udp 198.51.100.1:5060: cannot assign requested address – it is not of this machine, choose another bindAddr in spec.transport", at(UDP, "198.51.100.1:5060")},
		{"protocol", "listen  127.0.0.1:0: no such protocol", at(Protocol(3), "127.0.0.1:0")},
		{"no certificate", "listen tls 127.0.0.1:0: read certificate none.pem: open none.pem: no such file or directory", Listen{Protocol: TLS, Addr: netip.MustParseAddrPort("127.0.0.1:0"), TLS: TLSConfig{CertFile: "none.pem", KeyFile: "none.pem"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := layer(t, at(UDP, free), tt.in)
			err := l.Listen()
			if err == nil || err.Error() != tt.want {
				t.Errorf("Listen() = %v, want %s", err, tt.want)
			}
			if points := l.Points(); len(points) != 0 {
				t.Errorf("Points() = %v, want none", points)
			}
			again, err := net.ListenPacket("udp4", free)
			if err != nil {
				t.Fatalf("the first listening point stayed open: %v", err)
			}
			again.Close()
		})
	}
}

// An answer leaves from the address that the client sent to, whichever that is.
func TestWildcard(t *testing.T) {
	for _, wildcard := range []string{"0.0.0.0", "::"} {
		for _, p := range []Protocol{UDP, TCP} {
			t.Run(fmt.Sprint(p, " ", wildcard), func(t *testing.T) {
				e := serve(t, on(p, wildcard), echo)
				addrs, err := localAddrs(netip.MustParseAddr(wildcard))
				if err != nil {
					t.Fatal(err)
				}
				if wildcard == "::" && !addrs[0].Is4() && len(addrs) == 1 {
					t.Fatalf("localAddrs(::) = %v, want IPv4 too", addrs)
				}
				for _, addr := range addrs {
					to := netip.AddrPortFrom(addr, e.addr().Port())
					c, err := net.Dial(p.lower(), to.String()) // connected: takes nothing from another address
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
						t.Fatal(err)
					}
					msg := text("w", 10)
					write(t, c, msg)
					f := e.want(t, msg)
					read(t, c, msg)
					if f.Local() != to {
						t.Errorf("Local() = %v, want %v", f.Local(), to)
					}
					if want := addrPort(c.LocalAddr()); f.Remote() != want {
						t.Errorf("Remote() = %v, want %v", f.Remote(), want)
					}
				}
			})
		}
	}
}
