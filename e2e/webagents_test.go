package e2e_test

import (
	"strconv"
	"testing"
)

// TestWebAgents has 200 JsSIPs without a browser lose their sockets all at once. Each is back and registered, and gets
// the messages for its user, once.
func TestWebAgents(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"ws", "wss"} {
		t.Run("W19 "+transport, func(t *testing.T) {
			t.Parallel()
			const agents = 200
			s := startWeb(t, newIdentity(t), transport, agents)
			d := startDriver(t, "node.mjs", []string{"NODE_EXTRA_CA_CERTS=" + s.cert})
			r := startRelay(t, s.addr())
			var phones []*webPhone
			for user := range s.passwords {
				a := s.account(user)
				a.URL = transport + "://" + r.addr()
				phones = append(phones, d.device(a))
			}
			if len(phones) != agents {
				t.Fatalf("the system has %d agents, want %d", len(phones), agents)
			}
			var current *webPhone
			each := func(do func(i int, p *webPhone)) {
				t.Helper()
				for i, p := range phones {
					current = p
					do(i, p)
				}
			}
			t.Cleanup(func() {
				if t.Failed() {
					t.Log(current.story())
				}
			})

			each(func(_ int, p *webPhone) { p.start(t) })
			each(func(_ int, p *webPhone) { p.await(t, "registered") })
			r.cut()
			each(func(_ int, p *webPhone) { p.await(t, "disconnected") })
			each(func(_ int, p *webPhone) { p.await(t, "registered") })

			// Each writes to the next.
			each(func(i int, p *webPhone) {
				to := phones[(i+1)%agents]
				if got := string(p.do(t, "message", command{"to": to.User, "text": strconv.Itoa(i)})); got != "200" {
					t.Fatalf("MESSAGE of %s to %s = %s, want 200", p.User, to.User, got)
				}
			})
			each(func(i int, p *webPhone) {
				from := (i + agents - 1) % agents
				if l := p.await(t, "message"); l.Text != strconv.Itoa(from) || l.From != "sip:"+phones[from].User+"@"+domain {
					t.Errorf("%s received %q from %s, want %d from %s", p.User, l.Text, l.From, from, phones[from].User)
				}
				p.saw(t, 1, "MESSAGE ")
			})
		})
	}
}
