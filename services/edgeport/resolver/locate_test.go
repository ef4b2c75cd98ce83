package resolver

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// world is the records of the tests of RFC 3263's rules.
const world = `
plain.test.           A     192.0.2.1
plain.test.           AAAA  2001:db8::1

; the example of RFC 3263 4.1
full.test.            NAPTR 50 50 "s" "SIPS+D2T" "" _sips._tcp.full.test.
full.test.            NAPTR 90 50 "s" "SIP+D2T"  "" _sip._tcp.full.test.
full.test.            NAPTR 100 50 "s" "SIP+D2U" "" _sip._udp.full.test.
full.test.            A     192.0.2.99
_sips._tcp.full.test. SRV   0 1 5071 a.full.test.
_sip._tcp.full.test.  SRV   0 1 5070 a.full.test.
_sip._udp.full.test.  SRV   1 1 5072 b.full.test.
_sip._udp.full.test.  SRV   0 1 5070 a.full.test.
a.full.test.          A     192.0.2.10
b.full.test.          A     192.0.2.11

; one order, elsewhere
order.test.           NAPTR 10 20 "s" "SIP+D2U" "" _sip._udp.other.test.
order.test.           NAPTR 10 10 "S" "sip+d2t" "" _sip._tcp.other.test.
order.test.           NAPTR 10 5  "u" "E2U+sip" "!^.*$!sip:x@x.test!" .
order.test.           NAPTR 20 1  "s" "SIPS+D2T" "" _sips._tcp.other.test.
_sip._udp.other.test. SRV   0 0 5060 h.other.test.
_sip._tcp.other.test. SRV   0 0 5060 h.other.test.
_sips._tcp.other.test. SRV  0 0 5061 h.other.test.
h.other.test.         A     192.0.2.20

web.test.             NAPTR 10 10 "s" "SIPS+D2W" "" _sips._ws.web.test.
web.test.             NAPTR 10 20 "s" "SIP+D2W"  "" _sip._ws.web.test.
_sips._ws.web.test.   SRV   0 0 8443 h.web.test.
_sip._ws.web.test.    SRV   0 0 8080 h.web.test.
h.web.test.           A     192.0.2.30

direct.test.          NAPTR 10 10 "a" "SIP+D2T" "" h.web.test.
hollow.test.          NAPTR 10 10 "s" "SIP+D2T" "" _sip._tcp.hollow.test.
hollow.test.          A     192.0.2.40
closed.test.          NAPTR 10 10 "s" "SIP+D2T" "" _sip._tcp.closed.test.
closed.test.          A     192.0.2.41
_sip._tcp.closed.test. SRV  0 0 0 .

; SRV alone
srv.test.             A     192.0.2.50
_sip._udp.srv.test.   SRV   10 0 5060 one.srv.test.
_sip._udp.srv.test.   SRV   5  0 5080 two.srv.test.
_sip._tcp.srv.test.   SRV   0  0 5060 one.srv.test.
_sips._tcp.srv.test.  SRV   0  0 5061 two.srv.test.
one.srv.test.         A     192.0.2.51
two.srv.test.         A     192.0.2.52

noudp.test.           A     192.0.2.60
_sip._udp.noudp.test. SRV   0 0 0 .
gone.test.            A     192.0.2.61
_sip._udp.gone.test.  SRV   0 0 5060 missing.test.
half.test.            A     192.0.2.62
_sip._udp.half.test.  SRV   0 0 5060 missing.test.
_sip._udp.half.test.  SRV   1 0 5060 plain.test.
_sip._udp.half.test.  SRV   2 0 5060 x.invalid.
_sip._udp.half.test.  SRV   3 0 5060 192.0.2.63.

alias.test.           CNAME c1.test.
c1.test.              CNAME plain.test.
loop.test.            CNAME pool.test.
pool.test.            CNAME loop.test.
toinvalid.test.       CNAME x.invalid.
a.b.local.            A     192.0.2.70
evil.test.            A     0.0.0.0
evil.test.            A     224.0.0.1
evil.test.            A     255.255.255.255
evil.test.            AAAA  ::
evil.test.            AAAA  ff02::1
evil.test.            AAAA  ::ffff:192.0.2.71

_sips._tcp.half.test. SRV   0 0 5061 plain.test.
`

func TestP48P50Locate(t *testing.T) {
	z := serve(t, world)
	z.mu.Lock()
	z.rcodes["nonaptr.test.NAPTR"] = dns.RcodeServerFailure
	z.rcodes["nosrv.test.NAPTR"] = dns.RcodeNotImplemented
	z.rcodes["_sip._udp.nosrv.test."] = dns.RcodeRefused
	z.rcodes["bad.test."] = dns.RcodeServerFailure
	z.rcodes["_sip._udp.bad.test."] = dns.RcodeServerFailure
	z.mu.Unlock()
	z.add(t, "nonaptr.test. A 192.0.2.80\n_sip._udp.nonaptr.test. SRV 0 0 5090 plain.test.\nnosrv.test. A 192.0.2.81")

	insecure := []transport.Protocol{transport.UDP, transport.TCP}
	tls := []transport.Protocol{transport.TLS}
	for _, tt := range []struct {
		name string
		q    Query
		cfg  Config
		want string
		err  error
		asks int // -1: any number
	}{
		// 4.1 and 4.2: numeric hosts
		{name: "numeric", q: Query{Host: "192.0.2.1"}, want: "udp 192.0.2.1:5060"},
		{name: "numeric, port", q: Query{Host: "192.0.2.1", Port: 5070}, want: "udp 192.0.2.1:5070"},
		{name: "numeric, tcp", q: Query{Host: "192.0.2.1", Transport: "TCP"}, want: "tcp 192.0.2.1:5060"},
		{name: "numeric, sips", q: Query{Host: "192.0.2.1", Secure: true}, want: "tls 192.0.2.1:5061"},
		{name: "numeric, ws", q: Query{Host: "192.0.2.1", Transport: "ws"}, want: "ws 192.0.2.1:80"},
		{name: "numeric, sips, ws", q: Query{Host: "192.0.2.1", Transport: "ws", Secure: true}, want: "wss 192.0.2.1:443"},
		{name: "IPv6 reference", q: Query{Host: "[2001:DB8::1]"}, want: "udp [2001:db8::1]:5060"},
		{name: "IPv6", q: Query{Host: "2001:db8::1", Port: 1}, want: "udp [2001:db8::1]:1"},
		{name: "mapped", q: Query{Host: "[::ffff:192.0.2.1]"}, want: "udp 192.0.2.1:5060"},
		{name: "zone", q: Query{Host: "fe80::1%lo"}, err: ErrNotFound},
		{name: "no udp here", q: Query{Host: "192.0.2.1"}, cfg: Config{Protocols: tls}, want: "tls 192.0.2.1:5061"},

		// an explicit port: neither NAPTR nor SRV
		{name: "port", q: Query{Host: "full.test", Port: 5099}, want: "udp 192.0.2.99:5099", asks: 2},
		{name: "port, sips", q: Query{Host: "full.test", Port: 5099, Secure: true}, want: "tls 192.0.2.99:5099", asks: 2},
		{name: "port, tcp", q: Query{Host: "full.test", Port: 5099, Transport: "tcp"}, want: "tcp 192.0.2.99:5099", asks: 2},

		// an explicit transport: SRV, no NAPTR
		{name: "tcp", q: Query{Host: "full.test", Transport: "tcp"}, want: "tcp 192.0.2.10:5070", asks: 3},
		{name: "tls", q: Query{Host: "full.test", Transport: "tls"}, want: "tls 192.0.2.10:5071", asks: 3},
		{name: "sips over tcp", q: Query{Host: "full.test", Transport: "tcp", Secure: true}, want: "tls 192.0.2.10:5071", asks: 3},
		{name: "ws", q: Query{Host: "web.test", Transport: "ws"}, want: "ws 192.0.2.30:8080", asks: 3},
		{name: "sips over ws", q: Query{Host: "web.test", Transport: "ws", Secure: true}, want: "wss 192.0.2.30:8443", asks: 3},
		{name: "udp, priorities", q: Query{Host: "full.test", Transport: "udp"}, want: "udp 192.0.2.10:5070, udp 192.0.2.11:5072", asks: 5},
		{name: "tcp without SRV", q: Query{Host: "plain.test", Transport: "tcp"}, want: "tcp 192.0.2.1:5060, tcp [2001:db8::1]:5060", asks: 3},
		{name: "sips over udp", q: Query{Host: "full.test", Transport: "udp", Secure: true}, err: ErrProtocol},
		{name: "sctp", q: Query{Host: "full.test", Transport: "sctp"}, err: ErrProtocol},
		{name: "tcp is not spoken", q: Query{Host: "full.test", Transport: "tcp"}, cfg: Config{Protocols: tls}, err: ErrProtocol},
		{name: "sips where nothing is secure", q: Query{Host: "full.test", Secure: true}, cfg: Config{Protocols: insecure}, err: ErrProtocol},
		{name: "numeric sips where nothing is secure", q: Query{Host: "192.0.2.1", Secure: true}, cfg: Config{Protocols: insecure}, err: ErrProtocol},

		// NAPTR
		{name: "NAPTR", q: Query{Host: "full.test"}, want: "tls 192.0.2.10:5071", asks: 4},
		{name: "NAPTR, in capitals with a dot", q: Query{Host: "FULL.test."}, want: "tls 192.0.2.10:5071", asks: 4},
		{name: "NAPTR, no TLS here", q: Query{Host: "full.test"}, cfg: Config{Protocols: insecure}, want: "tcp 192.0.2.10:5070", asks: 4},
		{name: "NAPTR, udp alone", q: Query{Host: "full.test"}, cfg: Config{Protocols: insecure[:1]}, want: "udp 192.0.2.10:5070, udp 192.0.2.11:5072", asks: 6},
		{name: "NAPTR, sips", q: Query{Host: "full.test", Secure: true}, want: "tls 192.0.2.10:5071", asks: 4},
		{name: "preference within one order", q: Query{Host: "order.test"}, want: "tcp 192.0.2.20:5060, udp 192.0.2.20:5060", asks: 5},
		{name: "sips skips to its order", q: Query{Host: "order.test", Secure: true}, want: "tls 192.0.2.20:5061", asks: 4},
		{name: "RFC 7118", q: Query{Host: "web.test"}, want: "wss 192.0.2.30:8443, ws 192.0.2.30:8080", asks: 5},
		{name: "RFC 7118, sips", q: Query{Host: "web.test", Secure: true}, want: "wss 192.0.2.30:8443", asks: 4},
		{name: "none of the services is spoken", q: Query{Host: "web.test"}, cfg: Config{Protocols: insecure}, err: ErrNotFound, asks: -1},
		{name: "flag a", q: Query{Host: "direct.test"}, want: "tcp 192.0.2.30:5060", asks: 3},
		{name: "NAPTR without SRV", q: Query{Host: "hollow.test"}, want: "tcp 192.0.2.40:5060", asks: 4},
		{name: "NAPTR to no service", q: Query{Host: "closed.test"}, err: ErrNotFound, asks: 2},

		// SRV without NAPTR
		{name: "SRV", q: Query{Host: "srv.test"}, want: "udp 192.0.2.52:5080, udp 192.0.2.51:5060, tcp 192.0.2.51:5060", asks: 8},
		{name: "SRV, sips", q: Query{Host: "srv.test", Secure: true}, want: "tls 192.0.2.52:5061", asks: 5},
		{name: "SRV, TLS alone", q: Query{Host: "srv.test"}, cfg: Config{Protocols: tls}, want: "tls 192.0.2.52:5061", asks: 4},
		{name: "SRV refuses udp", q: Query{Host: "noudp.test"}, want: "tcp 192.0.2.60:5060", asks: 6},
		{name: "SRV refuses what was asked for", q: Query{Host: "noudp.test", Transport: "udp"}, err: ErrNotFound, asks: 1},
		{name: "SRV to nowhere", q: Query{Host: "gone.test", Transport: "udp"}, err: ErrNotFound, asks: 3},
		{name: "SRV half to nowhere", q: Query{Host: "half.test", Transport: "udp"}, want: "udp 192.0.2.1:5060, udp [2001:db8::1]:5060", asks: 5},

		// A and AAAA
		{name: "addresses", q: Query{Host: "plain.test"}, want: "udp 192.0.2.1:5060, udp [2001:db8::1]:5060", asks: 6},
		{name: "addresses, sips", q: Query{Host: "plain.test", Secure: true}, want: "tls 192.0.2.1:5061, tls [2001:db8::1]:5061", asks: 5},
		{name: "IPv4 alone", q: Query{Host: "plain.test", Port: 5060}, cfg: Config{Network: "ip4"}, want: "udp 192.0.2.1:5060", asks: 1},
		{name: "IPv6 alone", q: Query{Host: "plain.test", Port: 5060}, cfg: Config{Network: "ip6"}, want: "udp [2001:db8::1]:5060", asks: 1},
		{name: "CNAME", q: Query{Host: "alias.test", Port: 5060}, want: "udp 192.0.2.1:5060, udp [2001:db8::1]:5060", asks: 2},
		{name: "CNAME loop", q: Query{Host: "loop.test", Port: 5060}, err: ErrNotFound, asks: -1},
		{name: "CNAME to .invalid", q: Query{Host: "toinvalid.test", Port: 5060}, err: ErrNotFound, asks: 2},
		{name: ".local is a name", q: Query{Host: "a.b.local", Port: 5060}, want: "udp 192.0.2.70:5060", asks: 2},
		{name: "addresses of no host", q: Query{Host: "evil.test", Port: 5060}, err: ErrNotFound, asks: 2},

		// what is not there, and what cannot be had
		{name: "NXDOMAIN", q: Query{Host: "missing.test"}, err: ErrNotFound, asks: 6},
		{name: "SERVFAIL for NAPTR", q: Query{Host: "nonaptr.test"}, cfg: Config{Protocols: insecure[:1]}, want: "udp 192.0.2.1:5090, udp [2001:db8::1]:5090", asks: -1},
		{name: "neither NAPTR nor SRV", q: Query{Host: "nosrv.test"}, cfg: Config{Protocols: insecure[:1]}, want: "udp 192.0.2.81:5060", asks: -1},
		{name: "SERVFAIL", q: Query{Host: "bad.test"}, err: ErrUnavailable, asks: -1},

		// never asked for
		{name: ".invalid", q: Query{Host: "df7jal23ls0d.invalid", Transport: "ws"}, err: ErrNotFound},
		{name: ".INVALID.", q: Query{Host: "x.INVALID."}, err: ErrNotFound},
		{name: "localhost", q: Query{Host: "localhost"}, want: "udp 127.0.0.1:5060, udp [::1]:5060"},
		{name: "nothing", q: Query{}, err: ErrNotFound},
		{name: "a mistaken address", q: Query{Host: "192.0.2.256"}, err: ErrNotFound},
		{name: "no name", q: Query{Host: "a b.test"}, err: ErrNotFound},
		{name: "empty label", q: Query{Host: "a..test"}, err: ErrNotFound},
		{name: "long label", q: Query{Host: strings.Repeat("a", 64) + ".test"}, err: ErrNotFound},
		{name: "long name", q: Query{Host: strings.Repeat("a.", 130) + "test"}, err: ErrNotFound},
		{name: "no room for the service", q: Query{Host: strings.Repeat("a.", 124) + "test", Transport: "udp"}, err: ErrNotFound, asks: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Servers = []string{z.addr}
			b := newBench(t, tt.cfg)
			z.queries()
			got, err := b.find(tt.q)
			if text(got) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("Lookup(%+v) = %s, %v, want %s, %v", tt.q, text(got), err, tt.want, tt.err)
			}
			if n := z.queries(); tt.asks >= 0 && n != tt.asks {
				t.Errorf("Lookup(%+v) asked %d times, want %d", tt.q, n, tt.asks)
			}
			for _, c := range got {
				if want := strings.ToLower(strings.Trim(tt.q.Host, "[].")); c.ServerName != want && !strings.Contains(tt.name, "mapped") {
					t.Errorf("server name %q, want %q", c.ServerName, want)
				}
				if tt.q.Secure && !c.Protocol.Secure() {
					t.Errorf("%s for a sips URI", c.Protocol)
				}
			}
		})
	}
}

// TestBounds has more of everything than is followed.
func TestBounds(t *testing.T) {
	var zone strings.Builder
	for i := range 100 {
		fmt.Fprintf(&zone, "_sip._udp.many.test. SRV %d 0 5060 h%d.many.test.\n", i/2, i)
		fmt.Fprintf(&zone, "h%d.many.test. A 192.0.2.%d\n", i, i)
		fmt.Fprintf(&zone, "wide.test. A 198.51.100.%d\n", i)
		fmt.Fprintf(&zone, "naptr.test. NAPTR 1 %d \"s\" \"SIP+D2U\" \"\" _sip._udp.n%d.test.\n", i, i)
		fmt.Fprintf(&zone, "long%d.test. CNAME long%d.test.\n", i, i+1)
	}
	zone.WriteString("long100.test. A 192.0.2.1\nlong93.test. A 192.0.2.1\n")
	z := serve(t, zone.String())
	b := newBench(t, Config{Servers: []string{z.addr}, Network: "ip4"})
	for _, tt := range []struct {
		q          Query
		candidates int
		asks       int
	}{
		{Query{Host: "many.test", Transport: "udp"}, maxTargets, 2 + maxTargets}, // one over UDP, again over TCP
		{Query{Host: "wide.test", Port: 5060}, maxRecords, 2},
		{Query{Host: "naptr.test"}, 0, 2 + maxChoices + 1},
		{Query{Host: "long0.test", Port: 5060}, 0, 1},
	} {
		z.queries()
		got, err := b.find(tt.q)
		if n := z.queries(); len(got) != tt.candidates || n > tt.asks {
			t.Errorf("Lookup(%+v) = %d candidates, %v with %d queries, want %d with %d", tt.q, len(got), err, n, tt.candidates, tt.asks)
		}
	}
}

// TestChase is a server that gives one CNAME at a time.
func TestChase(t *testing.T) {
	z := serve(t, "near.test. CNAME n1.test.\nn1.test. CNAME n2.test.\nn2.test. A 192.0.2.1\n"+
		"endless.test. CNAME endless.test.")
	z.now(func(w dns.ResponseWriter, q *dns.Msg) bool {
		m := z.answer(q)
		if len(m.Answer) > 1 {
			m.Answer = m.Answer[:1]
		}
		m.Rcode, m.Ns = 0, nil
		_ = w.WriteMsg(m)
		return true
	})
	b := newBench(t, Config{Servers: []string{z.addr}, Network: "ip4"})
	if got, err := b.find(Query{Host: "near.test", Port: 5060}); text(got) != "udp 192.0.2.1:5060" {
		t.Errorf("Lookup(near.test) = %s, %v, want udp 192.0.2.1:5060", text(got), err)
	}
	if n := z.queries(); n != 3 {
		t.Errorf("%d queries, want 3", n)
	}
	// A different name each time.
	z.now(func(w dns.ResponseWriter, q *dns.Msg) bool {
		m := new(dns.Msg).SetReply(q)
		rr, _ := dns.NewRR(q.Question[0].Name + " 60 CNAME x" + q.Question[0].Name)
		m.Answer = []dns.RR{rr}
		_ = w.WriteMsg(m)
		return true
	})
	if got, err := b.find(Query{Host: "far.test", Port: 5060}); !errors.Is(err, ErrNotFound) {
		t.Errorf("Lookup(far.test) = %s, %v, want %v", text(got), err, ErrNotFound)
	}
	if n := z.queries(); n != maxChain {
		t.Errorf("%d queries, want %d", n, maxChain)
	}
}
