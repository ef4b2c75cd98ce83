package e2e_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// TestCalls plays every scenario, side by side, against the server as one process and as many.
func TestCalls(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			s := mode.start(t)
			for _, c := range calls {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.play(t, s)
				})
			}
		})
	}
}

// calls are what two phones can do.
var calls = []struct {
	name string
	play func(t *testing.T, s *system)
}{
	{"R6 register", register},
	{"D5 wrong password", wrongPassword},
	{"E6 udp to udp", func(t *testing.T, s *system) { call(t, s.phone(t, "udp"), s.phone(t, "udp")) }},
	{"E6 tcp to udp", func(t *testing.T, s *system) { call(t, s.phone(t, "tcp"), s.phone(t, "udp")) }},
	{"E6 udp to tcp", func(t *testing.T, s *system) { callConnection(t, s.phone(t, "udp"), s.phone(t, "tcp")) }},
	{"callee hangs up", calleeHangsUp},
	{"P34 cancel", cancel},
	{"busy", busy},
	{"P29 P44 silent callee", silent},
	{"P15 unknown user", func(t *testing.T, s *system) { refused(t, s.phone(t, "udp"), "nobody", 404) }},
	{"P15 not registered", func(t *testing.T, s *system) { refused(t, s.phone(t, "udp"), s.phone(t, "udp").user, 480) }},
	{"P28 retransmitted INVITE", retransmitted},
	{"message", message},
}

// register binds the contact of p, of which the 200 must tell.
func (p *phone) register(t *testing.T) {
	t.Helper()
	s := p.play(t, "register", "", "-key", "expires", "600")
	for _, ok := range s.find(t, received, "SIP/2.0 200 ") {
		if !strings.Contains(ok.text, "\nContact: <sip:"+p.user+"@"+p.addr()) {
			t.Errorf("200 to REGISTER of %s shows no binding of it:\n%s", p.addr(), ok.text)
		}
	}
}

func register(t *testing.T, s *system) {
	caller, callee := s.phone(t, "udp"), s.phone(t, "udp")
	callee.register(t)
	gone := callee.play(t, "register", "", "-key", "expires", "0")
	for _, ok := range gone.find(t, received, "SIP/2.0 200 ") {
		if strings.Contains(ok.text, "\nContact:") {
			t.Errorf("200 to a REGISTER that removed the binding shows one:\n%s", ok.text)
		}
	}
	refused(t, caller, callee.user, 480)
}

func wrongPassword(t *testing.T, s *system) {
	caller, callee := s.phone(t, "udp"), s.phone(t, "udp")
	stranger := *callee
	stranger.password = "not " + callee.password
	stranger.play(t, "register_refused", "", "-key", "expires", "600")
	refused(t, caller, callee.user, 480)
}

// call makes a call that the caller ends, to a phone that has left its contact and nothing else.
func call(t *testing.T, caller, callee *phone) {
	callee.register(t)
	answer := callee.listen(t, "answer")
	caller.play(t, "call", callee.user)
	answer.wait(t)
	answer.saw(t, 1, "INVITE ")
	answer.saw(t, 1, "ACK ")
	answer.saw(t, 1, "BYE ")
}

// callConnection makes a call to a phone that is reached over the connection that it registered on.
func callConnection(t *testing.T, caller, callee *phone) {
	answer := callee.hold(t, "answer")
	caller.play(t, "call", callee.user)
	answer.await(t, "answer BYE", func() bool { return answer.answered(t, "BYE") })
	answer.saw(t, 1, "INVITE ")
	answer.saw(t, 1, "ACK ")
	answer.saw(t, 1, "BYE ")
}

func calleeHangsUp(t *testing.T, s *system) {
	caller, callee := s.phone(t, "udp"), s.phone(t, "udp")
	callee.register(t)
	answer := callee.listen(t, "answer_and_hang_up")
	caller.play(t, "call_hung_up", callee.user).saw(t, 1, "BYE ")
	answer.wait(t)
}

func cancel(t *testing.T, s *system) {
	caller, callee := s.phone(t, "udp"), s.phone(t, "udp")
	callee.register(t)
	ring := callee.listen(t, "ring")
	caller.play(t, "call_cancelled", callee.user).saw(t, 1, "SIP/2.0 487 ")
	ring.wait(t)
	ring.saw(t, 1, "CANCEL ")
}

func busy(t *testing.T, s *system) {
	caller, callee := s.phone(t, "udp"), s.phone(t, "udp")
	callee.register(t)
	busy := callee.listen(t, "busy")
	refused(t, caller, callee.user, 486)
	busy.wait(t)
	busy.saw(t, 1, "INVITE ")
}

// silent calls a phone that is registered and never says a word. The proxy repeats the INVITE after 0.5, 1, 2, 4, 8 and
// 16 seconds and gives up when timer B fires, after 32 (RFC 3261 17.1.1.2).
func silent(t *testing.T, s *system) {
	caller, callee := s.phone(t, "udp"), s.phone(t, "udp")
	callee.register(t)
	socket, err := net.ListenPacket("udp4", callee.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	begin := time.Now()
	refused(t, caller, callee.user, 408)
	if took := time.Since(begin); took < 31*time.Second || took > 36*time.Second {
		t.Errorf("408 after %v, want 32 s", took.Round(time.Millisecond))
	}

	var invites []string
	packet := make([]byte, 65535)
	socket.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	for {
		n, _, err := socket.ReadFrom(packet)
		if err != nil {
			break
		}
		if m := string(packet[:n]); strings.HasPrefix(m, "INVITE ") {
			invites = append(invites, m)
		} else {
			t.Errorf("the silent phone received\n%s", m)
		}
	}
	if len(invites) != 7 {
		t.Errorf("the silent phone received %d INVITEs, want 7", len(invites))
	}
	for _, again := range invites {
		if again != invites[0] {
			t.Errorf("an INVITE was not repeated as it was:\n%s\n%s", invites[0], again)
		}
	}
}

// refused makes a call that ends with a final response of status.
func refused(t *testing.T, caller *phone, peer string, status int) {
	t.Helper()
	caller.play(t, "call_refused", peer).saw(t, 1, fmt.Sprintf("SIP/2.0 %d ", status))
}

func retransmitted(t *testing.T, s *system) {
	caller, callee := s.phone(t, "udp"), s.phone(t, "udp")
	callee.register(t)
	answer := callee.listen(t, "answer_late", "-d", "400")
	invites := caller.play(t, "call_retransmitted", callee.user).count(t, sent, "INVITE ")
	answer.wait(t)
	if invites < 4 {
		t.Errorf("the caller sent %d INVITEs, want the first, the one with the digest, and that again twice at least", invites)
	}
	answer.saw(t, 1, "INVITE ")
}

func message(t *testing.T, s *system) {
	caller, callee := s.phone(t, "udp"), s.phone(t, "udp")
	callee.register(t)
	read := callee.listen(t, "message_read")
	caller.play(t, "message", callee.user)
	read.wait(t)
	read.saw(t, 1, "MESSAGE ")
}
