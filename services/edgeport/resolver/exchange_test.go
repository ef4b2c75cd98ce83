package resolver

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// TestServers is servers that do not do what they should, before one that does, and alone.
func TestServers(t *testing.T) {
	udp := func(w dns.ResponseWriter) bool {
		_, ok := w.RemoteAddr().(*net.UDPAddr)
		return ok
	}
	lie := func(change func(m *dns.Msg)) func(z *zone) func(dns.ResponseWriter, *dns.Msg) bool {
		return func(z *zone) func(dns.ResponseWriter, *dns.Msg) bool {
			return func(w dns.ResponseWriter, q *dns.Msg) bool {
				m := z.answer(q).Copy()
				if len(m.Answer) > 0 {
					m.Answer[0].(*dns.A).A = net.IPv4(203, 0, 113, 66)
				}
				change(m)
				_ = w.WriteMsg(m)
				return true
			}
		}
	}
	always := func(f func(dns.ResponseWriter, *dns.Msg) bool) func(z *zone) func(dns.ResponseWriter, *dns.Msg) bool {
		return func(*zone) func(dns.ResponseWriter, *dns.Msg) bool { return f }
	}
	for _, tt := range []struct {
		name  string
		wild  func(z *zone) func(w dns.ResponseWriter, q *dns.Msg) bool
		alone error // nil: it is good enough alone
	}{
		{"silent", always(func(dns.ResponseWriter, *dns.Msg) bool { return true }), ErrUnavailable},
		{"garbage", always(func(w dns.ResponseWriter, q *dns.Msg) bool {
			_, _ = w.Write([]byte("\x00"))
			_, _ = w.Write(append([]byte{byte(q.Id >> 8), byte(q.Id)}, bytes.Repeat([]byte{0xc0}, 60)...))
			return true
		}), ErrUnavailable},
		{"garbage before the answer", always(func(w dns.ResponseWriter, _ *dns.Msg) bool {
			_, _ = w.Write(nil)
			_, _ = w.Write(bytes.Repeat([]byte{0xff}, 500))
			return false
		}), nil},
		{"other id", lie(func(m *dns.Msg) { m.Id++ }), ErrUnavailable},
		{"other name", lie(func(m *dns.Msg) { m.Question[0].Name = "other.test." }), ErrUnavailable},
		{"other type", lie(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTXT }), ErrUnavailable},
		{"no question", lie(func(m *dns.Msg) { m.Question = nil }), ErrUnavailable},
		{"a query", lie(func(m *dns.Msg) { m.Response = false }), ErrUnavailable},
		{"other opcode", lie(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), ErrUnavailable},
		{"other id before the answer", func(z *zone) func(dns.ResponseWriter, *dns.Msg) bool {
			return func(w dns.ResponseWriter, q *dns.Msg) bool {
				lie(func(m *dns.Msg) { m.Id ^= 0x5555 })(z)(w, q)
				return false
			}
		}, nil},
		{"SERVFAIL", always(rcode(dns.RcodeServerFailure)), ErrUnavailable},
		{"REFUSED", always(rcode(dns.RcodeRefused)), ErrUnavailable},
		{"NXDOMAIN", always(rcode(dns.RcodeNameError)), ErrNotFound},
		{"truncated", always(func(w dns.ResponseWriter, q *dns.Msg) bool {
			if !udp(w) {
				return false
			}
			m := new(dns.Msg).SetReply(q)
			m.Truncated = true
			_ = w.WriteMsg(m)
			return true
		}), nil},
		{"truncated within a record", func(z *zone) func(dns.ResponseWriter, *dns.Msg) bool {
			return func(w dns.ResponseWriter, q *dns.Msg) bool {
				if !udp(w) {
					return false
				}
				m := z.answer(q)
				m.Truncated = true
				data, _ := m.Pack()
				_, _ = w.Write(data[:len(data)-3])
				return true
			}
		}, nil},
		{"truncated, and garbage over TCP", always(func(w dns.ResponseWriter, q *dns.Msg) bool {
			if udp(w) {
				m := new(dns.Msg).SetReply(q)
				m.Truncated = true
				_ = w.WriteMsg(m)
			} else {
				_, _ = w.Write([]byte("garbage"))
			}
			return true
		}), ErrUnavailable},
		{"no EDNS", always(func(w dns.ResponseWriter, q *dns.Msg) bool {
			if q.IsEdns0() == nil {
				return false
			}
			m := new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
			m.Question = nil
			_ = w.WriteMsg(m)
			return true
		}), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad, good := serve(t, "h.test. A 192.0.2.1\n"), serve(t, "h.test. A 192.0.2.1\n")
			bad.now(tt.wild(bad))
			q := Query{Host: "h.test", Port: 5060}

			b := newBench(t, Config{Servers: []string{bad.addr}, Network: "ip4"})
			b.hurry()
			got, err := b.find(q)
			if !errors.Is(err, tt.alone) || err == nil && text(got) != "udp 192.0.2.1:5060" {
				t.Errorf("alone: %s, %v, want %v", text(got), err, tt.alone)
			}
			if errors.Is(tt.alone, ErrNotFound) {
				return // an answer like any other
			}
			b = newBench(t, Config{Servers: []string{bad.addr, good.addr}, Network: "ip4"})
			b.hurry()
			if got, err := b.find(q); text(got) != "udp 192.0.2.1:5060" {
				t.Errorf("before a good one: %s, %v, want udp 192.0.2.1:5060", text(got), err)
			}
			if tt.alone != nil {
				bad.queries()
				b.find(Query{Host: "i.test", Port: 5060})
				if n := bad.queries(); n != 0 {
					t.Errorf("the bad one was asked %d times after the good one had answered, want 0", n)
				}
			}
		})
	}
}

// TestAAAASilent is a server that does not answer for AAAA.
func TestAAAASilent(t *testing.T) {
	z := serve(t, "h.test. A 192.0.2.1\n")
	z.now(func(_ dns.ResponseWriter, q *dns.Msg) bool { return q.Question[0].Qtype == dns.TypeAAAA })
	b := newBench(t, Config{Servers: []string{z.addr}})
	b.hurry()
	if got, err := b.find(Query{Host: "h.test", Port: 5060}); text(got) != "udp 192.0.2.1:5060" {
		t.Errorf("%s, %v, want udp 192.0.2.1:5060", text(got), err)
	}
}

func TestHosts(t *testing.T) {
	z := serve(t, "h.test. A 192.0.2.1\n_sip._udp.s.test. SRV 0 0 5070 h.test.\n")
	b := newBench(t, Config{})
	write(t, b.system.hostsPath, "# h.test\n198.51.100.1 H.test. alias # x\n2001:db8::7\th.test\nnonsense h.test\n198.51.100.1 h.test\n198.51.100.9\n")
	host, _, err := net.SplitHostPort(z.addr)
	if err != nil {
		t.Fatal(err)
	}
	write(t, b.system.resolvPath, "nameserver "+host+"\n")
	if got := b.system.servers(b.now()); !cmp.Equal(got, []string{host + ":53"}) {
		t.Errorf("servers %v, want %s:53", got, host)
	}
	b.system.fixed = []string{z.addr}
	for _, tt := range []struct {
		q    Query
		want string
	}{
		{Query{Host: "h.test", Port: 5060}, "udp 198.51.100.1:5060, udp [2001:db8::7]:5060"},
		{Query{Host: "alias", Port: 5060}, "udp 198.51.100.1:5060"},
		{Query{Host: "s.test", Transport: "udp"}, "udp 198.51.100.1:5070, udp [2001:db8::7]:5070"},
	} {
		if got, err := b.find(tt.q); text(got) != tt.want {
			t.Errorf("Lookup(%+v) = %s, %v, want %s", tt.q, text(got), err, tt.want)
		}
	}
	write(t, b.system.hostsPath, "198.51.100.2 other\n")
	b.pass(checkInterval)
	if got, err := b.find(Query{Host: "h.test", Port: 5060}); text(got) != "udp 192.0.2.1:5060" {
		t.Errorf("after h.test left the file: %s, %v, want udp 192.0.2.1:5060", text(got), err)
	}
}

func TestReadServers(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string
	}{
		{"", []string{"127.0.0.1:53"}},
		{"search test\noptions edns0\n", []string{"127.0.0.1:53"}},
		{"nameserver 192.0.2.1\nnameserver 2001:db8::1\n", []string{"192.0.2.1:53", "[2001:db8::1]:53"}},
		{"nameserver fe80::1%eth0\nnameserver ns.test\n#nameserver 192.0.2.9\n", []string{"[fe80::1%eth0]:53"}},
		{strings.Repeat("nameserver 192.0.2.1\n", 20), slicesOf("192.0.2.1:53", 8)},
	} {
		if got := readServers(tt.in); !cmp.Equal(got, tt.want) {
			t.Errorf("readServers(%q) = %v, want %v", tt.in, got, tt.want)
		}
	}
}

func slicesOf(s string, n int) (out []string) {
	for range n {
		out = append(out, s)
	}
	return out
}

// FuzzAnswer reads what a server sent.
func FuzzAnswer(f *testing.F) {
	z := serve(f, world)
	for _, name := range []string{"full.test.", "loop.test.", "_sip._udp.full.test.", "alias.test.", "missing.test."} {
		for _, kind := range []uint16{dns.TypeNAPTR, dns.TypeSRV, dns.TypeA, dns.TypeAAAA} {
			q := new(dns.Msg).SetQuestion(name, kind)
			q.Id = 1
			data, err := z.answer(q).Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data, name, kind)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, name string, kind uint16) {
		q := new(dns.Msg).SetQuestion(name, kind)
		q.Id = 1
		m, err := readMessage(data, q)
		if err != nil {
			return
		}
		set, _, steps := readAnswer(m, canonical(name), kind, maxChain)
		if n := len(set.addrs) + len(set.srvs) + len(set.naptrs); n > maxRecords || steps > maxChain {
			t.Errorf("%d records after %d CNAMEs, want at most %d and %d", n, steps, maxRecords, maxChain)
		}
		if d := lifetime(set); d < ttlLeast || d > ttlMost {
			t.Errorf("kept for %v", d)
		}
	})
}

// FuzzParse reads next hops, and the file of hosts.
func FuzzParse(f *testing.F) {
	f.Add("full.test", uint16(0), "udp", false)
	f.Add("[2001:db8::1]", uint16(5060), "", true)
	f.Add("192.0.2.1 x.test\n", uint16(0), "ws", true)
	b := newBench(f, Config{Servers: []string{"127.0.0.1:1"}})
	f.Fuzz(func(t *testing.T, host string, port uint16, transport string, secure bool) {
		for name, addrs := range readHosts(host) {
			if !isName(name) || len(addrs) == 0 {
				t.Errorf("readHosts(%q) has %q for %v", host, name, addrs)
			}
		}
		readServers(host)
		got, err := b.parse(Query{Host: host, Port: port, Transport: transport, Secure: secure})
		if err != nil {
			return
		}
		if !got.addr.IsValid() {
			if _, ok := dns.IsDomainName(got.host); !ok || !isName(got.host) {
				t.Errorf("%q would be asked for", got.host)
			}
		}
		again, err := b.parse(Query{Host: got.host, Port: port, Transport: transport, Secure: secure})
		if err != nil || again != got {
			t.Errorf("parse(%q) = %+v, of which parse makes %+v, %v", host, got, again, err)
		}
	})
}
