package guard

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/otel/metric/noop"
)

func TestParseLines(t *testing.T) {
	tests := []struct {
		name, in string
		want     []string
		err      string
	}{
		{"addresses, networks, comments, empty lines", "# bad ones\n192.0.2.1\n\n 198.51.100.9/24 # a network\r\n2001:db8::1\n2001:db8::/32", []string{"192.0.2.1/32", "198.51.100.0/24", "2001:db8::1/128", "2001:db8::/32"}, ""},
		{"IPv4 within IPv6", "::ffff:192.0.2.1\n::ffff:192.0.2.0/120", []string{"192.0.2.1/32", "192.0.2.0/24"}, ""},
		{"nothing", "", nil, ""},
		{"a name", "192.0.2.1\nexample.com\n", nil, "line 2: want a network such as 203.0.113.0/24, or an address"},
		{"a zone", "fe80::1%eth0", nil, "line 1: want a network such as 203.0.113.0/24, or an address"},
		{"too many bits", "192.0.2.1/33", nil, "line 1: want a network such as 203.0.113.0/24, or an address"},
		{"too many lines", strings.Repeat("192.0.2.1\n", maxLines+1), nil, "more than 200000 networks, want less"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseLines([]byte(tt.in))
			var text string
			if err != nil {
				text = err.Error()
			}
			var want []netip.Prefix
			for _, s := range tt.want {
				want = append(want, netip.MustParsePrefix(s))
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" || text != tt.err {
				t.Errorf("parseLines = %v, want %q (-want +got):\n%s", err, tt.err, diff)
			}
		})
	}
}

func FuzzLists(f *testing.F) {
	f.Add([]byte("192.0.2.1\n198.51.100.0/24 # x\n2001:db8::/32\n0.0.0.0/0\n::/0"), uint32(0xc0000201))
	f.Add([]byte(`{"ipaddress":["192.0.2.1","no new bans"],"ID":"none"}`), uint32(1))
	f.Add([]byte(`{"ipaddress":"rate limit exceeded","ID":"unauthorized"}`), uint32(1))
	f.Fuzz(func(t *testing.T, data []byte, number uint32) {
		lines, _ := parseLines(data)
		_, listed, _ := parsePage(data)
		all := slices.Concat(lines, listed)
		n := newNetworks(all)
		a := netip.AddrFrom4([4]byte{byte(number >> 24), byte(number >> 16), byte(number >> 8), byte(number)})
		want := slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
		if got := n.has(a); got != want {
			t.Errorf("has(%s) = %t of %v, want %t", a, got, all, want)
		}
	})
}

// write replaces a file, and makes sure that its stamp differs.
func write(t *testing.T, file, text string) {
	t.Helper()
	info, err := os.Stat(file)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err == nil {
		later := info.ModTime().Add(time.Second)
		if err := os.Chtimes(file, later, later); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	allow, deny, feed := filepath.Join(dir, "allow"), filepath.Join(dir, "deny"), filepath.Join(dir, "feed.json")
	write(t, allow, "192.0.2.7\n")
	write(t, deny, "192.0.2.0/24\n")
	write(t, feed, `{"ipaddress":["198.51.100.1"],"ID":"none"}`)
	synctest.Test(t, func(t *testing.T) {
		cfg := defaults()
		cfg.AllowFiles, cfg.DenyFiles, cfg.Feed = []string{allow}, []string{deny}, feed
		var log bytes.Buffer
		g, err := New(cfg, slog.New(slog.NewTextHandler(&log, nil)), noop.Meter{})
		if err != nil {
			t.Fatal(err)
		}
		run(t, g)
		check := func(when string, want string) {
			t.Helper()
			time.Sleep(every + time.Millisecond)
			synctest.Wait()
			got := ""
			for _, a := range []string{"192.0.2.1", "192.0.2.7", "203.0.113.1", "198.51.100.1", "198.51.100.2", "127.0.0.1"} {
				if g.Admit(addr(a)) {
					got += " " + a
				}
			}
			if got != want {
				t.Errorf("%s:%s are taken, want%s", when, got, want)
			}
		}
		check("at first", " 192.0.2.7 203.0.113.1 198.51.100.2 127.0.0.1")
		write(t, deny, "203.0.113.0/24\n")
		check("with another deny list", " 192.0.2.1 192.0.2.7 198.51.100.2 127.0.0.1")
		write(t, deny, "203.0.113.0/24\nexample.com\n")
		write(t, feed, `{`)
		check("with broken lists", " 192.0.2.1 192.0.2.7 198.51.100.2 127.0.0.1")
		if err := os.Remove(deny); err != nil {
			t.Fatal(err)
		}
		check("without a deny list", " 192.0.2.1 192.0.2.7 198.51.100.2 127.0.0.1")
		write(t, deny, "192.0.2.0/24\n")
		write(t, allow, "198.51.100.1\n")
		write(t, feed, `{"ipaddress":["198.51.100.1","198.51.100.2"],"ID":"none"}`)
		check("with three others", " 203.0.113.1 198.51.100.1 127.0.0.1")
		time.Sleep(time.Hour + time.Millisecond)
		synctest.Wait()
		if n := strings.Count(log.String(), "cannot be read"); n != 3 {
			t.Errorf("%d lines in the log say that a list cannot be read, want one for each of three:\n%s", n, log.String())
		}
	})
}

func TestNewReadsFiles(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "deny")
	write(t, bad, "192.0.2.1\nsomewhere\n")
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no file", func(c *Config) { c.AllowFiles = []string{"/nowhere"} }, "read the allow list: open /nowhere: no such file or directory"},
		{"no network", func(c *Config) { c.DenyFiles = []string{bad} }, "read the deny list: " + bad + ": line 2: want a network such as 203.0.113.0/24, or an address"},
		{"no feed", func(c *Config) { c.Feed = bad }, "read the feed list: " + bad + ": want an object with ipaddress and ID: invalid character '.' after top-level value"},
	}
	for _, tt := range tests {
		cfg := defaults()
		tt.change(&cfg)
		if _, err := New(cfg, slog.New(slog.DiscardHandler), noop.Meter{}); fmt.Sprint(err) != tt.want {
			t.Errorf("%s: New = %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestFileIsBounded(t *testing.T) {
	if _, err := readAll(bytes.NewReader(make([]byte, maxFile+1))); err == nil {
		t.Error("readAll of more than 16 MiB = nil, want an error")
	}
}

// One line a minute for each reason, with nothing that a stranger wrote, whatever comes.
func TestLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		cfg := defaults()
		cfg.Deny = nets("203.0.113.0/24")
		g, err := New(cfg, slog.New(slog.NewTextHandler(&log, nil)), noop.Meter{})
		if err != nil {
			t.Fatal(err)
		}
		run(t, g)
		time.Sleep(every / 4) // the log is written between what comes, and never at the same time
		for range 600 {       // ten minutes
			for i := range 50 {
				g.Admit(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}))
				g.Scanner(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), []byte("friendly-scanner\x1b[2J %s"))
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 20 {
			t.Errorf("%d lines, want 20, one a minute for each of two reasons:\n%s", len(lines), log.String())
		}
		for _, l := range lines {
			if strings.Contains(l, "friendly") || strings.Contains(l, "\x1b") {
				t.Errorf("%q has what a stranger wrote in it", l)
			}
		}
		_, first, _ := strings.Cut(lines[0], " ")
		if want := "level=WARN msg=guard action=dropped reason=denied source=203.0.113.0 count="; !strings.HasPrefix(first, want) {
			t.Errorf("the first line is %q, want %s…", first, want)
		}
		_, last, _ := strings.Cut(lines[19], "count=")
		if last != "3000" {
			t.Errorf("the last line counts %s, want the 3000 of a minute", last)
		}
	})
}
