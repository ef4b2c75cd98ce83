package e2e_test

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestE9Faults kills processes of a fabric while phones call each other. It has the machine for itself: beside fifteen
// others its calls are late for reasons that are no faults.
func TestE9Faults(t *testing.T) {
	s := startFabric(t)
	caller, callee := s.phone(t, "udp"), s.phone(t, "udp")
	callee.register(t)
	callee.listen(t, "answer", "-m", "1000000", "-timeout", "5m")

	t.Run("one of two is lost", func(t *testing.T) { oneOfTwo(t, s, caller, callee) })
	t.Run("no processor is left", func(t *testing.T) {
		s.processes["connect-2"].kill()
		caller.play(t, "call_unavailable", callee.user)
	})
	t.Run("no dispatcher is left", func(t *testing.T) {
		s.processes["dispatcher-2"].kill()
		caller.play(t, "call_unavailable", callee.user)
	})
	s.restart(t, "dispatcher-2")
	s.restart(t, "connect-2")
	t.Run("both come back", func(t *testing.T) {
		caller.play(t, "call", callee.user)
	})
	t.Run("the bus is lost", func(t *testing.T) {
		s.processes["nats"].kill()
		caller.play(t, "call_unavailable", callee.user)
	})
	s.restart(t, "nats")
	t.Run("the bus comes back", func(t *testing.T) {
		// Each service connects again when it next tries.
		limit := time.Now().Add(20 * time.Second)
		for caller.start(t, "call", callee.user).end() != nil {
			if time.Now().After(limit) {
				t.Fatal("no call succeeds 20 s after the NATS server is back")
			}
		}
	})
}

// oneOfTwo kills one dispatcher and one processor under 50 calls a second. A call that was in their hands is lost; one
// that begins a second later, or more, is not.
func oneOfTwo(t *testing.T, s *system, caller, callee *phone) {
	const calls = 300
	load := caller.start(t, "call", callee.user, "-r", "50", "-m", "300", "-timeout", "90s")
	load.await(t, "make 50 calls", func() bool { return load.count(t, received, "SIP/2.0 180 ") >= 50 })
	s.processes["dispatcher-1"].kill()
	s.processes["connect-1"].kill()
	later := time.Now().Add(time.Second)
	// The exit code is 1 if calls failed, 255 if they did not end.
	if err := load.end(); err != nil && load.cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("sipp call: %v, want every call to end", err)
	}

	over := make(map[string]bool)
	for _, ok := range load.find(t, received, "SIP/2.0 200 ") {
		if strings.Contains(ok.text, "\nCSeq: 3 BYE") {
			over[callID(ok)] = true
		}
	}
	begun, checked := make(map[string]bool), 0
	for _, invite := range load.find(t, sent, "INVITE ") {
		if !strings.Contains(invite.text, "\nCSeq: 1 INVITE") || begun[callID(invite)] { // on a slow machine it is sent again
			continue
		}
		begun[callID(invite)] = true
		if invite.at.After(later) {
			checked++
			if !over[callID(invite)] {
				t.Errorf("call %s began %v after the loss and failed", callID(invite), invite.at.Sub(later)+time.Second)
			}
		}
	}
	if len(begun) != calls || checked < calls/3 {
		t.Errorf("%d calls began, %d of them a second after the loss or later; want %d and a third of them", len(begun), checked, calls)
	}
}

var callIDHeader = regexp.MustCompile(`(?m)^Call-ID: (\S+)`)

// callID is the Call-ID of m, or "".
func callID(m exchanged) string {
	id := callIDHeader.FindStringSubmatch(m.text)
	if id == nil {
		return ""
	}
	return id[1]
}
