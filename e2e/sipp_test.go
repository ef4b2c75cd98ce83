package e2e_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// phonePort is where a phone takes requests, on an address that it shares with no one.
const phonePort = 5070

// A phone is an agent of the domain on an address of its own. One SIPp process after the other plays it.
type phone struct {
	server    string // host:port that it sends everything to
	user      string
	password  string
	host      string
	transport string    // udp or tcp, and of a softphone tls
	netns     namespace // where it is; empty: with the test
}

// addr is where the phone takes requests.
func (p *phone) addr() string { return net.JoinHostPort(p.host, strconv.Itoa(phonePort)) }

// sipp is one SIPp process that plays a scenario.
type sipp struct {
	scenario string
	cmd      *exec.Cmd
	stderr   bytes.Buffer
	messages string     // the file of all messages sent and received
	errors   string     // the file in which SIPp says what it did not expect
	exited   chan error // gets what the process ended with
}

// play plays scenario, a file of sipp/ without its .xml, to its end. The call, if it is one, is for the user peer.
// args are SIPp's and come last, so they win over what is set here.
func (p *phone) play(t *testing.T, scenario, peer string, args ...string) *sipp {
	t.Helper()
	s := p.start(t, scenario, peer, args...)
	s.wait(t)
	return s
}

// lenient has SIPp go on when a message comes that is not the next of its scenario. It takes one for such that is sent
// again because SIPp itself was slow, as it is on a machine that others use too. What never comes is missed all the same.
var lenient = []string{"-default_behaviors", "all,-abortunexp"}

// listen starts a scenario that waits for a request, and returns when the phone can be reached.
func (p *phone) listen(t *testing.T, scenario string, args ...string) *sipp {
	t.Helper()
	s := p.start(t, scenario, "", slices.Concat(lenient, args)...)
	s.await(t, "listen on "+p.addr(), func() bool { return listens(t, s.cmd.Process.Pid, p.transport, p.addr()) })
	return s
}

// hold registers over one connection, keeps it, and plays scenario for the request that arrives on it. It returns when
// the phone is registered. Such a process has no end of its own; its messages tell how the scenario went.
func (p *phone) hold(t *testing.T, scenario string) *sipp {
	t.Helper()
	s := p.start(t, "register_hold", "", slices.Concat(lenient, []string{"-oocsf", scenarioFile(scenario), "-key", "expires", "600"})...)
	s.await(t, "register", func() bool { return s.count(t, received, "SIP/2.0 200 ") > 0 })
	return s
}

// start starts scenario and leaves it to run; it is killed when the test ends.
func (p *phone) start(t *testing.T, scenario, peer string, args ...string) *sipp {
	t.Helper()
	dir := t.TempDir()
	s := &sipp{
		scenario: scenario,
		messages: filepath.Join(dir, "messages"),
		errors:   filepath.Join(dir, "errors"),
		exited:   make(chan error, 1),
	}
	// SIPp expands no keyword inside [authentication], so the header comes whole, as a field of its own.
	users := filepath.Join(dir, "users.csv")
	write(t, users, "SEQUENTIAL\n%s;[authentication username=%[1]s password=%s];%s\n", p.user, p.password, peer)
	// SIPp writes the address it sends to into the digest; RFC 3261 22.4 wants the Request-URI.
	uri := domain
	if peer != "" {
		uri = peer + "@" + domain
	}
	mode := "u1"
	if p.transport == "tcp" {
		mode = "t1"
	}
	s.cmd = p.netns.command("sipp", slices.Concat([]string{
		p.server, "-sf", scenarioFile(scenario), "-inf", users, "-key", "domain", domain, "-auth_uri", uri,
		"-t", mode, "-i", p.host, "-p", strconv.Itoa(phonePort), "-mp", "16000", "-max_socket", "1000",
		"-m", "1", "-d", "50", "-timeout", "60s", "-timeout_error", "-nostdin",
		"-trace_msg", "-message_file", s.messages, "-trace_err", "-error_file", s.errors,
	}, args)...)
	s.cmd.Stderr = &s.stderr
	s.cmd.SysProcAttr = diesWithTest()
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("start SIPp: %v (apt-get install --no-install-recommends sip-tester)", err)
	}
	go func() { s.exited <- s.cmd.Wait() }()
	t.Cleanup(func() {
		s.kill() // on SIGTERM SIPp would wait for its open calls
		if t.Failed() {
			unexpected, _ := os.ReadFile(s.errors)
			messages, _ := os.ReadFile(s.messages)
			t.Logf("sipp %s at %s:\n%s%s%s", s.scenario, p.addr(), s.stderr.Bytes(), unexpected, messages)
		}
	})
	return s
}

// wait waits for the end of the scenario, which must have gone as written.
func (s *sipp) wait(t *testing.T) {
	t.Helper()
	if err := s.end(); err != nil {
		t.Fatalf("sipp %s: %v", s.scenario, err)
	}
}

// end waits for the end of the process. SIPp's exit code is 0 if all calls went as written, 1 if one did not, 255 if
// they were not over in time or could not begin.
func (s *sipp) end() error {
	err := <-s.exited
	s.exited <- err
	return err
}

// await waits until done, for as long as the process lives.
func (s *sipp) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for !done() {
		select {
		case err := <-s.exited:
			s.exited <- err
			t.Fatalf("sipp %s ended before it did %s: %v", s.scenario, what, err)
		case <-poll.C:
		}
	}
}

// Directions of a message, as the phone sees it and SIPp writes it.
const (
	sent     = "sent"
	received = "received"
)

// exchanged is a message that a phone sent or received.
type exchanged struct {
	at        time.Time
	direction string
	text      string
}

// is reports whether m went in that direction and begins with prefix.
func (m exchanged) is(direction, prefix string) bool {
	return m.direction == direction && strings.HasPrefix(m.text, prefix)
}

// exchangedHead matches what SIPp writes before each message: when, over what and which way it went. It may follow a
// remark, without a new line.
var exchangedHead = regexp.MustCompile(`-{20,} (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+)\n(?:UDP|TCP) message (sent|received) .*:\n\n`)

// kill ends the process at once.
func (s *sipp) kill() {
	s.cmd.Process.Kill()
	s.end()
}

// find returns the messages so far that went in that direction and begin with prefix, in order.
func (s *sipp) find(t *testing.T, direction, prefix string) []exchanged {
	t.Helper()
	all, err := os.ReadFile(s.messages)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var found []exchanged
	heads := exchangedHead.FindAllSubmatchIndex(all, -1)
	for i, h := range heads {
		end := len(all)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		at, err := time.ParseInLocation("2006-01-02 15:04:05.000000", string(all[h[2]:h[3]]), time.Local)
		if err != nil {
			t.Fatal(err)
		}
		m := exchanged{at: at, direction: string(all[h[4]:h[5]]), text: string(all[h[1]:end])}
		if m.is(direction, prefix) {
			found = append(found, m)
		}
	}
	return found
}

// count is how many messages find finds.
func (s *sipp) count(t *testing.T, direction, prefix string) int {
	t.Helper()
	return len(s.find(t, direction, prefix))
}

// answered says whether the phone has sent a 200 to a request of that method.
func (s *sipp) answered(t *testing.T, method string) bool {
	t.Helper()
	return slices.ContainsFunc(s.find(t, sent, "SIP/2.0 200 "), func(m exchanged) bool {
		return regexp.MustCompile(`\nCSeq: \d+ ` + method + `\b`).MatchString(m.text)
	})
}

// saw checks how many messages of a kind the phone received. One that was sent again, as it was, is one.
func (s *sipp) saw(t *testing.T, want int, prefix string) {
	t.Helper()
	different := make(map[string]bool)
	for _, m := range s.find(t, received, prefix) {
		different[strings.TrimSpace(m.text)] = true
	}
	if got := len(different); got != want {
		t.Errorf("sipp %s received %d x %q, want %d", s.scenario, got, prefix, want)
	}
}

// scenarioFile is the path of a scenario.
func scenarioFile(scenario string) string { return filepath.Join("sipp", scenario+".xml") }

// listens reports whether someone in the network namespace of a process listens on an IPv4 address, as /proc has it:
// looking does not disturb it, as a datagram or a connection would.
func listens(t *testing.T, pid int, transport, addr string) bool {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, transport))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	ip := a.IP.To4()
	// The address in the byte order of the machine, then the peer: none yet.
	local := fmt.Sprintf(": %02X%02X%02X%02X:%04X 00000000:0000 ", ip[3], ip[2], ip[1], ip[0], a.Port)
	return bytes.Contains(sockets, []byte(local))
}
