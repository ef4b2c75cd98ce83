package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	maxChain   = 8    // CNAMEs followed
	maxRecords = 32   // kept of a record set
	udpSize    = 1232 // what passes everywhere unfragmented
	udpRead    = 4096 // for those that send more all the same
	truncated  = 1 << 9
)

var (
	errAnswer    = errors.New("not the answer to the query")
	errTruncated = errors.New("truncated")
)

// chase asks for k, and on for the names that CNAMEs lead to where the server did not.
func (r *Resolver) chase(ctx context.Context, k key) records {
	ttl := ttlMost
	for name, left := k.name, maxChain; isName(name) && !isReserved(name); {
		m, err := r.query(ctx, name, k.kind)
		if err != nil {
			return records{failed: true}
		}
		set, next, steps := readAnswer(m, name, k.kind, left)
		ttl = min(ttl, set.ttl)
		set.ttl = ttl
		if left -= steps; next == "" || left <= 0 {
			return set
		}
		name = next
	}
	return records{}
}

// readAnswer is what m says about name, and, if it ends at a CNAME, the name to ask for next. It follows at most left
// CNAMEs and says how many it did.
func readAnswer(m *dns.Msg, name string, kind uint16, left int) (set records, next string, steps int) {
	set.ttl = ttlMost
	asked := name
	for step := true; step && steps < left; {
		step = false
		for _, rr := range m.Answer {
			h := rr.Header()
			if canonical(h.Name) != name || h.Class != dns.ClassINET {
				continue
			}
			if c, ok := rr.(*dns.CNAME); ok && kind != dns.TypeCNAME {
				set.ttl = min(set.ttl, seconds(h.Ttl))
				name = canonical(c.Target)
				step = true
				steps++
				break
			}
		}
	}
	for _, rr := range m.Answer {
		h := rr.Header()
		if canonical(h.Name) == name && h.Class == dns.ClassINET && h.Rrtype == kind && set.add(rr) {
			set.ttl = min(set.ttl, seconds(h.Ttl))
		}
	}
	if !set.empty() {
		return set, "", steps
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok { // RFC 2308 5
			set.ttl = min(set.ttl, seconds(soa.Hdr.Ttl), seconds(soa.Minttl))
			return set, "", steps
		}
	}
	if m.Rcode == dns.RcodeSuccess && name != asked {
		return set, name, steps
	}
	set.ttl = 0 // RFC 2308 5: not cached, beyond what a flood needs
	return set, "", steps
}

// add takes a record of the type of the set, if it has room and use for it.
func (s *records) add(rr dns.RR) bool {
	if len(s.addrs)+len(s.srvs)+len(s.naptrs) >= maxRecords {
		return false
	}
	switch rr := rr.(type) {
	case *dns.A:
		if a, ok := netip.AddrFromSlice(rr.A); ok && isHost(a.Unmap()) {
			s.addrs = append(s.addrs, a.Unmap())
		}
	case *dns.AAAA:
		if a, ok := netip.AddrFromSlice(rr.AAAA); ok && !a.Is4In6() && isHost(a) {
			s.addrs = append(s.addrs, a)
		}
	case *dns.SRV:
		s.srvs = append(s.srvs, srv{rr.Priority, rr.Weight, rr.Port, canonical(rr.Target)})
	case *dns.NAPTR:
		flag := strings.ToLower(rr.Flags)
		if flag != "s" && flag != "a" || rr.Regexp != "" {
			return false // RFC 3263 4.1 has no use for others
		}
		s.naptrs = append(s.naptrs, naptr{rr.Order, rr.Preference, flag[0], rr.Service, canonical(rr.Replacement)})
	default:
		return false
	}
	return true
}

// isHost says whether an address can be that of one host: what a stranger's zone says is not to reach all of them, nor,
// as 0.0.0.0 does, whatever listens here.
func isHost(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// seconds is a TTL; RFC 2181 8: what has the top bit set is 0.
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// query asks one server after the other, the one that answered last first, and those that were silent once more.
// Only what is an answer, be it that the name does not exist, is returned; a server that fails is as good as none.
func (r *Resolver) query(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	began := r.now()
	servers := r.system.servers(began)
	left := make([]int, len(servers))
	for i := range left {
		left[i] = (i + int(r.good.Load())) % len(servers)
	}
	heard := false
	var last error
	for round := range 2 {
		silent := left[:0]
		for _, i := range left {
			if ctx.Err() != nil {
				break
			}
			m, err := r.question(ctx, servers[i], name, kind, r.limits.attempt<<round)
			switch {
			case errors.Is(ctx.Err(), context.Canceled):
				return nil, ctx.Err()
			case err != nil:
				last = fmt.Errorf("ask %s for %s: %w", servers[i], name, err)
				silent = append(silent, i)
				continue
			}
			heard = true
			r.health.answered(r.now())
			if m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError {
				r.good.Store(int32(i))
				return m, nil
			}
			last = fmt.Errorf("ask %s for %s: %s", servers[i], name, dns.RcodeToString[m.Rcode])
		}
		left = silent
	}
	switch {
	case last == nil:
		last = ctx.Err()
	case !heard:
		r.health.unanswered(began, r.now(), last)
	}
	return nil, last
}

// question asks one server: with EDNS, without it if the server does not know that, and over TCP if the answer is too
// long for UDP.
func (r *Resolver) question(ctx context.Context, server, name string, kind uint16, timeout time.Duration) (*dns.Msg, error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	q.SetEdns0(udpSize, false)
	m, err := r.exchange(ctx, "udp", server, q, timeout)
	if err == nil && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented || m.Rcode == dns.RcodeBadVers) {
		q = new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
		m, err = r.exchange(ctx, "udp", server, q, timeout)
	}
	if errors.Is(err, errTruncated) {
		r.Counts.TCP.Add(1)
		m, err = r.exchange(ctx, "tcp", server, q, timeout)
	}
	return m, err
}

// exchange sends q and waits for its answer. Each query has a socket, and so a port, of its own; what comes over UDP and
// is not the answer is passed over, so that no stranger can end a query.
func (r *Resolver) exchange(ctx context.Context, network, server string, q *dns.Msg, timeout time.Duration) (*dns.Msg, error) {
	r.Counts.Queries.Add(1)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m, err := func() (*dns.Msg, error) {
		var dialer net.Dialer
		socket, err := dialer.DialContext(ctx, network, server)
		if err != nil {
			return nil, err
		}
		defer socket.Close()
		defer context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })()
		conn := &dns.Conn{Conn: socket, UDPSize: udpRead}
		if err := conn.WriteMsg(q); err != nil {
			return nil, err
		}
		for {
			data, err := conn.ReadMsgHeader(nil)
			if err != nil && !errors.Is(err, dns.ErrShortRead) {
				return nil, err
			}
			m, err := readMessage(data, q)
			if err == nil || errors.Is(err, errTruncated) && network == "udp" {
				return m, err
			}
			r.Counts.Garbage.Add(1)
			if network != "udp" {
				return nil, err
			}
		}
	}()
	if err != nil && !errors.Is(err, errTruncated) {
		r.Counts.Silent.Add(1)
	}
	return m, err
}

// readMessage is data as the answer to q. An error is errAnswer, or errTruncated for an answer that is not whole.
func readMessage(data []byte, q *dns.Msg) (*dns.Msg, error) {
	if len(data) < 12 || uint16(data[0])<<8|uint16(data[1]) != q.Id {
		return nil, errAnswer
	}
	bits := uint16(data[2])<<8 | uint16(data[3])
	var m dns.Msg
	if err := m.Unpack(data); err != nil {
		if bits&truncated != 0 { // cut in the middle of a record, as by servers of old
			return nil, errTruncated
		}
		return nil, errAnswer
	}
	if !m.Response || m.Opcode != dns.OpcodeQuery {
		return nil, errAnswer
	}
	switch {
	case len(m.Question) == 1:
		got, want := m.Question[0], q.Question[0]
		if !strings.EqualFold(got.Name, want.Name) || got.Qtype != want.Qtype || got.Qclass != want.Qclass {
			return nil, errAnswer
		}
	case len(m.Question) > 1 || m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError:
		return nil, errAnswer // only a server that understood nothing may leave the question out
	}
	if m.Truncated {
		return nil, errTruncated
	}
	return &m, nil
}

// health is whether the servers answer at all.
type health struct {
	log  *slog.Logger
	mu   sync.Mutex
	last time.Time // when one answered
	gone bool
	next time.Time // when to ask again for what the cache has, stale
}

func (h *health) answered(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		h.log.Info("DNS answers again")
	}
	h.last, h.gone = now, false
}

// unanswered says that a query had no answer. If no other one had since it began, DNS is gone.
func (h *health) unanswered(began, now time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.last.Before(began) && !h.last.IsZero() {
		return
	}
	if !h.gone {
		h.log.Warn("DNS does not answer; names known before are used for up to an hour beyond their time", "err", err)
	}
	h.gone, h.next = true, now.Add(staleInterval)
}

// down says whether DNS is gone and need not be asked yet.
func (h *health) down(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gone && now.Before(h.next)
}
