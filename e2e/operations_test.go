package e2e_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What operators do to a fabric, and what they see of it, while phones call each other.

// edgeWithHealth starts the EdgePort of s once more, with an HTTP server, and returns the URL of that.
func (s *system) edgeWithHealth(t *testing.T) string {
	t.Helper()
	addr := net.JoinHostPort(s.host, "8080")
	old := s.processes["edgeport"]
	old.stop(t)
	s.run(t, "edgeport", append(old.cmd.Args[1:], "--http", addr)...)
	return "http://" + addr
}

// health waits until url answers with code and text.
func health(t *testing.T, url string, code int, text string) {
	t.Helper()
	limit := time.After(startTime)
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		got, body, err := get(url)
		if err == nil && got == code && strings.Contains(body, text) {
			return
		}
		select {
		case <-poll.C:
		case <-limit:
			t.Fatalf("GET %s = %d %s %v, want %d and %q", url, got, body, err, code, text)
		}
	}
}

func get(url string) (code int, body string, err error) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// routr runs a command of the binary to its end, and returns what it has printed.
func routr(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// TestE8Drain takes an EdgePort out of service and back, by the command of an operator.
func TestE8Drain(t *testing.T) {
	t.Parallel()
	s := startFabric(t)
	url := s.edgeWithHealth(t)
	caller, other, callee := s.phone(t, "udp"), s.phone(t, "udp"), s.phone(t, "udp")
	callee.register(t)
	answer := callee.listen(t, "answer_late", "-d", "3000", "-m", "2")
	health(t, url+"/readyz", 200, `"ready"`)

	call := caller.start(t, "call", callee.user)
	call.await(t, "reach the callee", func() bool { return answer.count(t, received, "INVITE ") > 0 })
	begin := time.Now()
	out, err := routr("drain", "--nats", s.nats, "edgeport-01")
	if err != nil || !strings.HasPrefix(out, "edgeport-01 takes no new requests") || !strings.HasSuffix(out, "nothing is pending\n") {
		t.Errorf("routr drain: %v, %q, want that edgeport-01 takes no new requests, and in the end that nothing is pending", err, out)
	}
	if answer.count(t, sent, "SIP/2.0 200 ") == 0 {
		t.Errorf("routr drain returned after %v, before the call that was being set up was answered", time.Since(begin))
	}
	call.wait(t)
	health(t, url+"/readyz", 503, "draining since")
	health(t, url+"/healthz", 200, `"ok"`)
	other.play(t, "call_unavailable", callee.user)

	if out, err := routr("drain", "--nats", s.nats, "--undo", "edgeport-01"); err != nil || out != "edgeport-01 takes new requests\n" {
		t.Errorf("routr drain --undo: %v, %q, want that edgeport-01 takes new requests", err, out)
	}
	health(t, url+"/readyz", 200, `"ready"`)
	caller.play(t, "call", callee.user)
	answer.wait(t)

	if out, err := routr("drain", "--nats", s.nats, "edgeport-02"); err == nil || !strings.Contains(out, `no EdgePort on this bus has the ref "edgeport-02"`) {
		t.Errorf("routr drain of an EdgePort that is not there: %v, %q, want an error that says so", err, out)
	}
}

// TestE8Restart stops an EdgePort, and starts it again, in the middle of one call and while another one rings.
func TestE8Restart(t *testing.T) {
	t.Parallel()
	s := startFabric(t)
	url := s.edgeWithHealth(t)
	talking, rung := s.phone(t, "udp"), s.phone(t, "udp")
	callee, late := s.phone(t, "udp"), s.phone(t, "udp")
	callee.register(t)
	late.register(t)
	answer := callee.listen(t, "answer")
	answerLate := late.listen(t, "answer_late", "-d", "2000")

	talk := talking.start(t, "call", callee.user, "-d", "8000")
	talk.await(t, "talk", func() bool { return answer.count(t, received, "ACK ") > 0 })
	ring := rung.start(t, "call", late.user)
	ring.await(t, "ring", func() bool { return answerLate.count(t, received, "INVITE ") > 0 })

	edge := s.processes["edgeport"]
	edge.cmd.Process.Signal(syscall.SIGTERM)
	health(t, url+"/readyz", 503, "it is stopping")
	s.phone(t, "udp").play(t, "call_unavailable", callee.user)
	ring.wait(t) // up to its BYE
	answerLate.wait(t)
	<-edge.exited
	if edge.err != nil {
		t.Errorf("the EdgePort ended with %v, want exit code 0", edge.err)
	}
	s.restart(t, "edgeport")
	talk.wait(t) // up to its BYE: the Route says all that it needs
	answer.wait(t)
}

// TestE8SecondSignal: who does not want to wait for a call that rings says so twice.
func TestE8SecondSignal(t *testing.T) {
	t.Parallel()
	s := startFabric(t)
	url := s.edgeWithHealth(t)
	caller, callee := s.phone(t, "udp"), s.phone(t, "udp")
	callee.register(t)
	ringing := callee.listen(t, "ring")
	caller.start(t, "call", callee.user)
	ringing.await(t, "ring", func() bool { return ringing.count(t, sent, "SIP/2.0 180 ") > 0 })

	edge := s.processes["edgeport"]
	edge.cmd.Process.Signal(syscall.SIGTERM)
	health(t, url+"/readyz", 503, "it is stopping")
	edge.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-edge.exited:
	case <-time.After(20 * time.Second): // it would wait for 25
		t.Fatal("the EdgePort waits on after a second signal")
	}
	var exit *exec.ExitError
	if !errors.As(edge.err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the EdgePort ended with %v, want exit code 1", edge.err)
	}
	edge.err = nil // as it should
}

// TestE9HealthOfFaults takes away what an EdgePort needs, and gives it back.
func TestE9HealthOfFaults(t *testing.T) {
	t.Parallel()
	s := startFabric(t)
	url := s.edgeWithHealth(t)
	caller, callee := s.phone(t, "udp"), s.phone(t, "udp")
	callee.register(t)
	callee.listen(t, "answer", "-m", "1000000", "-timeout", "5m")
	health(t, url+"/readyz", 200, `"ready"`)

	t.Run("location", func(t *testing.T) {
		s.processes["location-1"].kill()
		s.processes["location-2"].kill()
		refused(t, caller, callee.user, 503)
		health(t, url+"/readyz", 200, `"ready"`) // what is behind it does not make an EdgePort unready: another one has the same
		s.restart(t, "location-1")
		s.restart(t, "location-2")
		caller.play(t, "call", callee.user)
	})
	t.Run("bus", func(t *testing.T) {
		s.processes["nats"].kill()
		health(t, url+"/readyz", 503, "no nats server")
		health(t, url+"/healthz", 200, `"ok"`) // a restart would not help
		caller.play(t, "call_unavailable", callee.user)
		s.restart(t, "nats")
		health(t, url+"/readyz", 200, `"ready"`)
		if n := s.processes["edgeport"].said("nats connection lost"); n != 1 {
			t.Errorf("the EdgePort said %d times that it lost the bus, want once", n)
		}
	})
}
