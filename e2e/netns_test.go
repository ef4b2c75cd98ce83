package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// namespace is a network namespace with a name; empty: that of the test.
type namespace string

// command is a command that runs there. `ip netns exec` becomes it, so signals reach it.
func (n namespace) command(name string, args ...string) *exec.Cmd {
	if n == "" {
		return exec.Command(name, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", string(n), name}, args...)...)
}

// run runs a command there to its end, with input, and returns what it prints.
func (n namespace) run(t *testing.T, input, name string, args ...string) string {
	t.Helper()
	cmd := n.command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// namespacePrefix begins the names of all namespaces of these tests; the number of the process that made it follows.
const namespacePrefix = "routr-e2e-"

// newNamespaces makes network namespaces, each with its own loopback interface and forwarding, and removes them with all
// that is in them when the test ends.
func newNamespaces(t *testing.T, roles ...string) map[string]namespace {
	t.Helper()
	removeLeftovers(t)
	made := make(map[string]namespace)
	for _, role := range roles {
		n := namespace(fmt.Sprintf("%s%d-%s", namespacePrefix, os.Getpid(), role))
		if out, err := exec.Command("ip", "netns", "add", string(n)).CombinedOutput(); err != nil {
			t.Fatalf("make network namespace %s: %v, want to be root on a Linux that has them, and iproute2\n%s", n, err, out)
		}
		t.Cleanup(func() {
			if out, err := exec.Command("ip", "netns", "delete", string(n)).CombinedOutput(); err != nil {
				t.Errorf("delete network namespace %s: %v\n%s", n, err, out)
			}
		})
		n.run(t, "", "ip", "link", "set", "lo", "up")
		n.run(t, "", "sysctl", "-qw", "net.ipv4.ip_forward=1")
		made[role] = n
	}
	return made
}

// removeLeftovers removes the namespaces of runs that were killed.
func removeLeftovers(t *testing.T) {
	t.Helper()
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		t.Fatalf("list network namespaces: %v, want iproute2 (apt-get install --no-install-recommends iproute2)", err)
	}
	for _, line := range strings.Split(string(out), "\n") {
		name, _, _ := strings.Cut(line, " ")
		rest, ours := strings.CutPrefix(name, namespacePrefix)
		number, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(number)
		if !ours || err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		// Another run may be removing it too.
		if out, err := exec.Command("ip", "netns", "delete", name).CombinedOutput(); err != nil {
			t.Logf("delete network namespace %s of a run that is no more: %v\n%s", name, err, out)
		}
	}
}

// end is an end of a cable.
type end struct {
	netns     namespace
	link      string // its name
	addr      string
	isDefault bool // everything that is not here goes there
}

// connect puts a cable between two namespaces. Each end knows the address of the other.
func connect(t *testing.T, a, b end) {
	t.Helper()
	a.netns.run(t, "", "ip", "link", "add", a.link, "type", "veth", "peer", "name", b.link, "netns", string(b.netns))
	for _, e := range [][2]end{{a, b}, {b, a}} {
		own, other := e[0], e[1]
		own.netns.run(t, "", "ip", "address", "add", own.addr, "peer", other.addr, "dev", own.link)
		own.netns.run(t, "", "ip", "link", "set", own.link, "up")
	}
	for _, e := range [][2]end{{a, b}, {b, a}} {
		if own, other := e[0], e[1]; own.isDefault {
			own.netns.run(t, "", "ip", "route", "add", "default", "via", other.addr)
		}
	}
}

// What a run that was killed has left behind is removed by the next one; what another run uses is not.
func TestLeftoverNamespaces(t *testing.T) {
	t.Parallel()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	left := fmt.Sprintf("%s%d-home", namespacePrefix, gone.Process.Pid)
	used := fmt.Sprintf("%s%d-used", namespacePrefix, os.Getppid())
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "delete", used).CombinedOutput(); err != nil {
			t.Errorf("delete network namespace %s: %v\n%s", used, err, out)
		}
	})
	for _, name := range []string{left, used} {
		if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
			t.Fatalf("make network namespace %s: %v\n%s", name, err, out)
		}
	}
	made := newNamespaces(t, "another")["another"]
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{left: false, used: true, string(made): true} {
		if got := strings.Contains(string(out), name); got != want {
			t.Errorf("network namespace %s is there = %v, want %v:\n%s", name, got, want, out)
		}
	}
}

// noServerEnv has the test binary run tests without the server that others need.
const noServerEnv = "ROUTR_E2E_NO_SERVER"

// Where the kernel refuses network namespaces the tests of NAT fail, and say what they want. None passes unseen.
func TestE11NamespacesAreRefused(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestE5NAT$")
	cmd.Env = append(os.Environ(), noServerEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, Pdeathsig: syscall.SIGKILL} // there it is nobody
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("start the tests in a user namespace: %v, want to be root on a Linux that has them", err)
	}
	if err == nil || !strings.Contains(string(out), "--- FAIL: TestE5NAT") || !strings.Contains(string(out), "want to be root on a Linux that has them") {
		t.Errorf("TestE5NAT without the right to make network namespaces: %v, want it to fail and to say so:\n%s", err, out)
	}
}
