package resolver

import (
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	checkInterval = 5 * time.Second
	maxFile       = 1 << 20
	maxServers    = 8
)

// system is what this host says about names: its servers, its file of hosts, and whether it can send IPv6. All is looked
// at again every five seconds, when it is needed.
type system struct {
	mu         sync.Mutex
	fixed      []string // the servers of the Config
	resolvPath string
	hostsPath  string
	route6     func() bool

	checked       time.Time
	resolv, table file
	found         []string
	names         map[string][]netip.Addr
	six           bool
}

func newSystem(servers []string) system {
	return system{fixed: servers, resolvPath: "/etc/resolv.conf", hostsPath: "/etc/hosts", route6: route6}
}

// servers to ask; never none.
func (s *system) servers(now time.Time) []string {
	if len(s.fixed) > 0 {
		return s.fixed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.check(now)
	return s.found
}

// hosts are the addresses of a canonical name in the file of hosts.
func (s *system) hosts(now time.Time, name string) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.check(now)
	return s.names[name]
}

func (s *system) sends6(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.check(now)
	return s.six
}

func (s *system) check(now time.Time) {
	if !s.checked.IsZero() && now.Before(s.checked.Add(checkInterval)) {
		return
	}
	s.checked = now
	s.six = s.route6()
	if text, changed := s.resolv.read(s.resolvPath); changed {
		s.found = readServers(text)
	}
	if text, changed := s.table.read(s.hostsPath); changed {
		s.names = readHosts(text)
	}
}

// file is a file that was read.
type file struct {
	known bool
	size  int64
	time  time.Time
}

// read is the text of the file if it changed since the last time, empty if there is none.
func (f *file) read(path string) (text string, changed bool) {
	now := file{known: true}
	info, err := os.Stat(path)
	if err == nil {
		now.size, now.time = info.Size(), info.ModTime()
	}
	if *f == now {
		return "", false
	}
	*f = now
	r, err := os.Open(path)
	if err != nil {
		return "", true
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxFile))
	if err != nil {
		return "", true
	}
	return string(data), true
}

// readServers are the servers that a resolv.conf names, or the one of this host, as for the C library.
func readServers(text string) (servers []string) {
	// Its errors are those of reading, and there are none from a string.
	if c, err := dns.ClientConfigFromReader(strings.NewReader(text)); err == nil {
		for _, s := range c.Servers {
			if _, err := netip.ParseAddr(s); err == nil && len(servers) < maxServers {
				servers = append(servers, net.JoinHostPort(s, c.Port))
			}
		}
	}
	if len(servers) == 0 {
		servers = []string{"127.0.0.1:53"}
	}
	return servers
}

// readHosts is a hosts(5) file, by canonical name.
func readHosts(text string) map[string][]netip.Addr {
	names := make(map[string][]netip.Addr)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil || addr.Zone() != "" {
			continue
		}
		addr = addr.Unmap()
		for _, name := range fields[1:] {
			if name = canonical(name); isName(name) && !slices.Contains(names[name], addr) && len(names[name]) < maxRecords {
				names[name] = append(names[name], addr)
			}
		}
	}
	return names
}

// route6 says whether there is a route for IPv6. Connecting a UDP socket sends nothing; the address is of the prefix for
// documentation (RFC 3849).
func route6() bool {
	conn, err := net.Dial("udp6", "[2001:db8::1]:9")
	if err != nil {
		return false
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	return ok && local.IP.IsGlobalUnicast()
}
