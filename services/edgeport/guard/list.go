package guard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// Bounds of a list, of a feed too.
const (
	maxFile  = 16 << 20 // bytes
	maxLines = 200_000
)

// networks are sorted, and none is within another.
type networks []netip.Prefix

func newNetworks(all []netip.Prefix) networks {
	n := make(networks, 0, len(all))
	for _, p := range all {
		if p = masked(p); p.IsValid() {
			n = append(n, p)
		}
	}
	slices.SortFunc(n, netip.Prefix.Compare)
	kept := n[:0]
	for _, p := range n {
		// Those that hold p come before it, and whatever is between them and p is within them too.
		if len(kept) == 0 || !kept[len(kept)-1].Contains(p.Addr()) {
			kept = append(kept, p)
		}
	}
	return slices.Clip(kept)
}

func (n networks) has(a netip.Addr) bool {
	low, high := 0, len(n)
	for low < high {
		if mid := (low + high) / 2; n[mid].Addr().Compare(a) <= 0 {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low > 0 && n[low-1].Contains(a)
}

// list is networks of the configuration and of files, which are read again when they change.
type list struct {
	name   string
	inline []netip.Prefix
	files  []string
	parse  func([]byte) ([]netip.Prefix, error) // nil: parseLines

	current atomic.Pointer[networks]
	seen    []stamp // of Run, after New
}

// stamp tells one version of a file from another.
type stamp struct {
	time time.Time
	size int64
}

func (l *list) has(a netip.Addr) bool {
	n := l.current.Load()
	return n != nil && n.has(a)
}

func (l *list) set(all []netip.Prefix) {
	n := newNetworks(all)
	l.current.Store(&n)
}

// size is how many networks there are.
func (l *list) size() int64 {
	if n := l.current.Load(); n != nil {
		return int64(len(*n))
	}
	return 0
}

// read reads all files.
func (l *list) read() error {
	l.seen = l.stamps()
	all := slices.Clone(l.inline)
	for _, file := range l.files {
		text, err := readFile(file)
		if err != nil {
			return fmt.Errorf("read the %s list: %w", l.name, err)
		}
		parse := l.parse
		if parse == nil {
			parse = parseLines
		}
		nets, err := parse(text)
		if err != nil {
			return fmt.Errorf("read the %s list: %s: %w", l.name, file, err)
		}
		all = append(all, nets...)
	}
	l.set(all)
	return nil
}

// refresh reads the files again if one has changed. Those that are broken change nothing, and are logged once.
func (l *list) refresh(log *slog.Logger) {
	if len(l.files) == 0 || slices.Equal(l.stamps(), l.seen) {
		return
	}
	if err := l.read(); err != nil {
		log.Error("a list of the guard has changed and cannot be read, what it said before stays in use", "list", l.name, "err", err)
		return
	}
	log.Info("a list of the guard has changed", "list", l.name, "networks", l.size())
}

func (l *list) stamps() []stamp {
	s := make([]stamp, len(l.files))
	for i, file := range l.files {
		if info, err := os.Stat(file); err == nil {
			s[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return s
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

func readAll(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("more than %d MiB, want less", maxFile>>20)
	}
	return text, err
}

// parseLines reads an address or a network a line. What is behind a # is a comment.
func parseLines(text []byte) ([]netip.Prefix, error) {
	var all []netip.Prefix
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line, _, _ = bytes.Cut(line, []byte("#"))
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		p, err := ParsePrefix(string(line))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if all = append(all, p); len(all) > maxLines {
			return nil, errTooMany
		}
	}
	return all, nil
}

var errTooMany = fmt.Errorf("more than %d networks, want less", maxLines)

// ParsePrefix reads address/bits or a single address, IPv4 or IPv6. Bits of the address behind the prefix are not kept.
func ParsePrefix(s string) (netip.Prefix, error) {
	a, err := netip.ParseAddr(s)
	if err == nil && a.Zone() == "" {
		return masked(netip.PrefixFrom(a, a.BitLen())), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, errNoNetwork
	}
	return masked(p), nil
}

var errNoNetwork = errors.New("want a network such as 203.0.113.0/24, or an address")
