package e2e_test

import "testing"

// TestE10Load has SIPp make calls by the hundred, and give them up while they ring. Each has to end as it should.
func TestE10Load(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			s := mode.start(t)
			for _, transport := range []string{"udp", "tcp"} {
				t.Run("calls over "+transport, func(t *testing.T) {
					many(t, "call", s.phone(t, transport), "answer", s.phone(t, "udp"))
				})
				t.Run("CANCEL over "+transport, func(t *testing.T) {
					many(t, "call_cancelled", s.phone(t, transport), "ring", s.phone(t, "udp"))
				})
			}
		})
	}
}

// many plays a scenario of a caller and one of a callee against each other 120 times, of which 30 begin in a second: the
// machine is shared, and the server has the race detector. Each has to come to its end on both sides.
func many(t *testing.T, calls string, caller *phone, answers string, callee *phone) {
	t.Helper()
	args := append([]string{"-r", "30", "-m", "120"}, lenient...)
	callee.register(t)
	answer := callee.listen(t, answers, args...)
	caller.play(t, calls, callee.user, args...)
	answer.wait(t)
}
