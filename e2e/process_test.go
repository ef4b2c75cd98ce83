package e2e_test

import (
	"bytes"
	"errors"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	startTime = 30 * time.Second // for a process to print what it is waited for
	stopTime  = 30 * time.Second // for a process to end when it is told to
)

// A process is one that a test started, and all that it has printed.
type process struct {
	name   string
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended, with err
	err    error

	mu      sync.Mutex
	output  bytes.Buffer
	printed chan struct{} // closed, and made anew, whenever it has printed more
}

// launch starts cmd and stops it when the test ends. What it prints is kept, but for an output that has a reader.
func launch(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: name, cmd: cmd, exited: make(chan struct{}), printed: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = p
	}
	cmd.Stderr = p
	cmd.SysProcAttr = diesWithTest()
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v (go tool task deps installs what the tests need)", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("%s:\n%s", name, p.output.Bytes())
		}
	})
	return p
}

// diesWithTest makes the kernel kill a process when the test binary ends without its cleanups, as after its time-out: the
// next run needs the addresses.
func diesWithTest() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// Write takes what the process prints.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.output.Write(b)
	close(p.printed)
	p.printed = make(chan struct{})
	return len(b), nil
}

// said is how often the process has printed text.
func (p *process) said(text string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Count(p.output.Bytes(), []byte(text))
}

// await waits until what the process has printed matches pattern.
func (p *process) await(t *testing.T, pattern *regexp.Regexp) {
	t.Helper()
	limit := time.After(startTime)
	for {
		p.mu.Lock()
		found, printed := pattern.Match(p.output.Bytes()), p.printed
		p.mu.Unlock()
		if found {
			return
		}
		select {
		case <-printed:
		case <-p.exited:
			t.Fatalf("%s ended before it printed %q: %v", p.name, pattern, p.err)
		case <-limit:
			t.Fatalf("%s did not print %q within %v", p.name, pattern, startTime)
		}
	}
}

// stop ends the process as an operator does: it has to finish what it has, and its exit code has to be 0. One that was
// killed, or stopped before, stays as it is.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(stopTime):
		p.cmd.Process.Signal(syscall.SIGQUIT) // a Go program then prints what its goroutines wait for
		<-p.exited
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return
	}
	if p.err != nil {
		t.Errorf("%s ended with %v, want exit code 0", p.name, p.err)
	}
}

// kill ends the process as a broken machine does.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.exited
}
