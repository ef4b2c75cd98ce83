// Package e2e_test is the system as its users meet it: the real binary, as one process and as many, and clients that
// others wrote. It needs SIPp, baresip, Chromium and Node; `go tool task deps` installs them.
package e2e_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// The domain of every system under test, and the ports of its listeners: for UDP and TCP, and for TLS.
const (
	domain  = "sip.test"
	sipPort = "5060"
	tlsPort = "5061"
)

// What the tests share, set up by TestMain.
var (
	binary string // the server under test
	hosts  *network
)

func TestMain(m *testing.M) {
	if from, to, ok := strings.Cut(os.Getenv(keepAliveEnv), " "); ok {
		fmt.Fprintln(os.Stderr, "keep alive:", keepAlive(from, to))
		os.Exit(1)
	}
	if os.Getenv(noServerEnv) != "" {
		os.Exit(m.Run())
	}
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func testMain(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "routr-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if hosts, err = newNetwork(); err != nil {
		return 0, err
	}
	defer hosts.taken.Close()
	binary = filepath.Join(dir, "routr")
	// With the race detector: a race makes the exit code 66, which process.stop does not accept.
	if out, err := exec.Command("go", "build", "-race", "-o", binary, "../services/routr").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// network hands out loopback addresses, so that every server and every phone has the SIP ports for itself.
type network struct {
	number int          // the addresses are 127.number.x.y
	taken  net.Listener // keeps other runs of these tests out of it
	last   atomic.Uint32
}

func newNetwork() (*network, error) {
	for n := 32; n < 250; n++ {
		l, err := net.Listen("tcp4", fmt.Sprintf("127.%d.0.1:%s", n, sipPort))
		if err == nil {
			return &network{number: n, taken: l}, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
	}
	return nil, errors.New("every network from 127.32.0.0/16 to 127.249.0.0/16 is in use by other runs")
}

// next returns an address that nobody had before.
func (n *network) next() string {
	i := n.last.Add(1) + 1
	return fmt.Sprintf("127.%d.%d.%d", n.number, i>>8, i&255)
}

// A system is the server under test, in whichever number of processes.
type system struct {
	host      string // of the SIP listeners
	nats      string // URL of the bus
	passwords map[string]string
	unused    chan string // agents that no test has taken yet
	processes map[string]*process
}

// saysReady matches the line with which the server tells that it serves ("already in use" does not).
var saysReady = regexp.MustCompile(`\bready\b`)

// run starts one process of the server and waits until it is ready.
func (s *system) run(t *testing.T, name string, args ...string) {
	t.Helper()
	s.processes[name] = launch(t, "routr "+name, exec.Command(binary, args...))
	s.processes[name].await(t, saysReady)
}

// restart starts a process that is no more once again.
func (s *system) restart(t *testing.T, name string) {
	t.Helper()
	s.run(t, name, s.processes[name].cmd.Args[1:]...)
}

// modes are the ways to run the system.
var modes = []struct {
	name  string
	start func(t *testing.T) *system
}{{"one", startOne}, {"fabric", startFabric}}

// startOne starts the whole system in one process.
func startOne(t *testing.T) *system {
	s := newSystem()
	s.run(t, "one", s.one(t, fmt.Sprintf(edgeportYAML, s.host), strings.TrimPrefix(s.nats, "nats://"))...)
	return s
}

// one writes the files of a system in one process, with that EdgePort and a bus that listens on an address, and returns
// the arguments to start it with.
func (s *system) one(t *testing.T, edgeport, bus string) []string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/config/edgeport.yaml", "%s", edgeport)
	write(t, dir+"/config/dispatcher.yaml", dispatcherYAML)
	write(t, dir+"/config/connect.yaml", connectYAML)
	write(t, dir+"/config/location.yaml", locationYAML, "memory")
	write(t, dir+"/config/bus.yaml", busYAML, bus)
	write(t, dir+"/resources/all.yaml", "%s", s.resources())
	return []string{"one", "--config", dir + "/config", "--resources", dir + "/resources", "--data", dir + "/data", "--http", ""}
}

// startFabric starts a NATS server and, each in a process of its own, an EdgePort and two of every other service.
func startFabric(t *testing.T) *system {
	s := startServices(t)
	file := t.TempDir() + "/edgeport.yaml"
	write(t, file, edgeportYAML, s.host)
	s.run(t, "edgeport", "edgeport", "--config", file, "--nats", s.nats)
	return s
}

// startServices starts a NATS server and, each in a process of its own, two of every service but the EdgePort.
func startServices(t *testing.T) *system {
	t.Helper()
	s := newSystem()
	dir := t.TempDir()
	write(t, dir+"/dispatcher.yaml", dispatcherYAML)
	write(t, dir+"/connect.yaml", connectYAML)
	write(t, dir+"/location.yaml", locationYAML, "nats")
	write(t, dir+"/resources/all.yaml", "%s", s.resources())
	s.run(t, "nats", "nats", "--listen", strings.TrimPrefix(s.nats, "nats://"), "--data", dir+"/data")
	for _, copy := range []string{"-1", "-2"} {
		s.run(t, "location"+copy, "location", "--config", dir+"/location.yaml", "--nats", s.nats)
		s.run(t, "connect"+copy, "processor", "--config", dir+"/connect.yaml", "--resources", dir+"/resources", "--nats", s.nats)
		s.run(t, "dispatcher"+copy, "dispatcher", "--config", dir+"/dispatcher.yaml", "--nats", s.nats)
	}
	return s
}

func newSystem() *system {
	host := hosts.next()
	s := &system{
		host:      host,
		nats:      "nats://" + net.JoinHostPort(host, "4222"),
		passwords: make(map[string]string),
		unused:    make(chan string, 64),
		processes: make(map[string]*process),
	}
	for _, user := range []string{"alice", "bob", "1001", "1002"} {
		s.passwords[user] = rand.Text()
		s.unused <- user
	}
	for i := len(s.unused); i < cap(s.unused); i++ {
		user := "user" + strconv.Itoa(i)
		s.passwords[user] = rand.Text()
		s.unused <- user
	}
	return s
}

// phone returns a phone of an agent that no other test uses. transport is udp, tcp or tls.
func (s *system) phone(t *testing.T, transport string) *phone {
	t.Helper()
	port := sipPort
	if transport == "tls" {
		port = tlsPort
	}
	select {
	case user := <-s.unused:
		return &phone{
			server: net.JoinHostPort(s.host, port), user: user, password: s.passwords[user],
			host: hosts.next(), transport: transport,
		}
	default:
		t.Fatalf("all %d agents of the system are taken", cap(s.unused))
		return nil
	}
}

// resources are the domain and its agents, in the layout of the published server's files.
func (s *system) resources() string {
	var b strings.Builder
	fmt.Fprintf(&b, domainYAML, domain)
	for user, password := range s.passwords {
		fmt.Fprintf(&b, agentYAML, user, password)
	}
	return b.String()
}

const (
	edgeportYAML = `
apiVersion: v2beta1
kind: EdgePort
ref: edgeport-01
metadata: {region: e2e}
spec:
  bindAddr: %s
  methods: [REGISTER, INVITE, ACK, BYE, CANCEL, OPTIONS, MESSAGE]
  processor: {addr: "nats://"}
  transport:
    - {protocol: udp, port: 5060}
    - {protocol: tcp, port: 5060}
    - {protocol: tls, port: 5061}
`
	dispatcherYAML = `
apiVersion: v2beta1
kind: MessageDispatcher
ref: dispatcher
spec:
  processors:
    - ref: connect
      addr: "nats://"
      methods: [REGISTER, INVITE, MESSAGE]
      matchFunc: req => true
`
	// Only MD5: SIPp 3.6 gives up when SHA-256 is offered first, baresip 1.0 when it is offered at all.
	connectYAML = `
apiVersion: v2beta1
kind: Processor
ref: connect
spec: {algorithms: [MD5]}
`
	locationYAML = `
apiVersion: v2beta1
kind: Location
metadata: {region: e2e}
spec:
  cache: {provider: %s}
`
	busYAML = `
apiVersion: v2beta1
kind: Bus
ref: bus
spec: {listen: "%s"}
`
	domainYAML = `
apiVersion: v2beta1
kind: Domain
ref: domain-01
metadata: {name: Test domain}
spec: {context: {domainUri: %s}}
`
	agentYAML = `---
apiVersion: v2beta1
kind: Agent
ref: agent-%[1]s
metadata: {name: Agent %[1]s}
spec: {username: "%[1]s", domainRef: domain-01, credentialsRef: credentials-%[1]s, privacy: None, enabled: true}
---
apiVersion: v2beta1
kind: Credentials
ref: credentials-%[1]s
metadata: {name: Credentials of %[1]s}
spec: {credentials: {username: "%[1]s", password: "%[2]s"}}
`
)

// write writes a file and the folders above it.
func write(t *testing.T, path, format string, args ...any) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
}
