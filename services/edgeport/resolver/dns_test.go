package resolver

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// zone is a DNS server that the test runs, on UDP and TCP. What it says can be changed at any time.
type zone struct {
	addr string

	mu      sync.Mutex
	records map[string][]dns.RR // by name and type
	rcodes  map[string]int      // by name, or by name and type
	wild    func(w dns.ResponseWriter, q *dns.Msg) bool
	asked   map[string]int
	servers []*dns.Server
}

// serve runs a server for records in the form of zone files.
func serve(t testing.TB, text string) *zone {
	t.Helper()
	z := &zone{records: make(map[string][]dns.RR), rcodes: make(map[string]int), asked: make(map[string]int)}
	z.add(t, text)
	z.listen(t, "127.0.0.1:0")
	t.Cleanup(z.stop)
	return z
}

func (z *zone) listen(t testing.TB, addr string) {
	t.Helper()
	packets, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	z.addr = packets.LocalAddr().String()
	stream, err := net.Listen("tcp", z.addr)
	if err != nil && strings.HasSuffix(addr, ":0") { // somebody has the TCP port beside the UDP one
		packets.Close()
		z.listen(t, addr)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: z}, {Listener: stream, Handler: z}} {
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		go func() { _ = s.ActivateAndServe() }()
		<-ready
		z.servers = append(z.servers, s)
	}
}

func (z *zone) stop() {
	for _, s := range z.servers {
		_ = s.Shutdown()
	}
	z.servers = nil
}

func (z *zone) add(t testing.TB, text string) {
	t.Helper()
	z.mu.Lock()
	defer z.mu.Unlock()
	p := dns.NewZoneParser(strings.NewReader(text), ".", "")
	p.SetDefaultTTL(60)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		k := rr.Header().Name + dns.TypeToString[rr.Header().Rrtype]
		z.records[k] = append(z.records[k], rr)
	}
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
}

// now replaces what the server does to every query by f, unless f returns false.
func (z *zone) now(f func(w dns.ResponseWriter, q *dns.Msg) bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.wild = f
}

// queries is how many there were since the last call.
func (z *zone) queries() (n int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, m := range z.asked {
		n += m
	}
	clear(z.asked)
	return n
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	name, kind := strings.ToLower(q.Question[0].Name), dns.TypeToString[q.Question[0].Qtype]
	z.asked[name+" "+kind]++
	wild := z.wild
	z.mu.Unlock()
	if wild != nil && wild(w, q) {
		return
	}
	m := z.answer(q)
	if _, ok := w.RemoteAddr().(*net.UDPAddr); ok {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
		m.Truncate(size)
	}
	_ = w.WriteMsg(m)
}

func (z *zone) answer(q *dns.Msg) *dns.Msg {
	z.mu.Lock()
	defer z.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	name, kind := strings.ToLower(q.Question[0].Name), dns.TypeToString[q.Question[0].Qtype]
	for range 20 {
		alias := z.records[name+"CNAME"]
		if len(alias) == 0 {
			break
		}
		m.Answer = append(m.Answer, alias...)
		name = alias[0].(*dns.CNAME).Target
	}
	m.Answer = append(m.Answer, z.records[name+kind]...)
	if code, ok := z.rcodes[name+kind]; ok {
		m.Rcode = code
	} else {
		m.Rcode = z.rcodes[name]
	}
	if len(z.records[name+kind]) == 0 {
		if _, found := z.rcodes[name]; !found && m.Rcode == 0 {
			m.Rcode = dns.RcodeNameError
			for k := range z.records {
				if strings.HasPrefix(k, name) {
					m.Rcode = dns.RcodeSuccess
				}
			}
		}
		if m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError {
			soa, _ := dns.NewRR("test. 600 IN SOA ns.test. root.test. 1 1 1 1 20")
			m.Ns = append(m.Ns, soa)
		}
	}
	if q.IsEdns0() != nil {
		m.SetEdns0(4096, false)
	}
	return m
}

// bench is a Resolver with a clock of its own, no hosts and times that suit a test.
type bench struct {
	*Resolver
	log  *bytes.Buffer
	mu   sync.Mutex
	time time.Time
}

var all = []transport.Protocol{transport.UDP, transport.TCP, transport.TLS, transport.WS, transport.WSS}

func newBench(t testing.TB, cfg Config) *bench {
	t.Helper()
	if cfg.Protocols == nil {
		cfg.Protocols = all
	}
	b := &bench{log: new(bytes.Buffer), time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	r, err := New(cfg, slog.New(slog.NewTextHandler(b.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	b.Resolver = r
	r.now = func() time.Time {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.time
	}
	dice := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	r.intn = func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return dice.IntN(n)
	}
	r.system.hostsPath = filepath.Join(t.TempDir(), "hosts")
	r.system.resolvPath = filepath.Join(t.TempDir(), "resolv.conf")
	r.system.route6 = func() bool { return false }
	t.Cleanup(r.Close)
	return b
}

// hurry makes what waits for silent servers short.
func (b *bench) hurry() {
	l := b.limits
	l.total, l.naptr, l.srv = 2*time.Second, 500*time.Millisecond, time.Second
	l.attempt, l.staleWait, l.grace = 50*time.Millisecond, 50*time.Millisecond, 20*time.Millisecond
	b.bound(l)
}

func (b *bench) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.time = b.time.Add(d)
}

func (b *bench) find(q Query) ([]Candidate, error) {
	type result struct {
		c   []Candidate
		err error
	}
	got := make(chan result, 1)
	b.Lookup(q, func(c []Candidate, err error) { got <- result{c, err} })
	r := <-got
	return r.c, r.err
}

// text is candidates as "udp 192.0.2.1:5060, ...".
func text(cs []Candidate) string {
	var out []string
	for _, c := range cs {
		out = append(out, strings.ToLower(c.Protocol.String())+" "+c.Addr.String())
	}
	return strings.Join(out, ", ")
}

// sorted is for what is in no order.
func sorted(s string) string {
	parts := strings.Split(s, ", ")
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
