package e2e_test

import "testing"

// webReload reloads the page of a callee in a call: the other side can end its half, and the next call comes to the new
// page and nowhere else. The new page is the same device, as its script remembers, or another.
func webReload(t *testing.T, w *web) {
	for name, instance := range map[string]string{
		"the same device": "8f6a2d1e-3c4b-4a59-9d70-5b1c2e3f4a60",
		"another device":  "",
	} {
		t.Run(name, func(t *testing.T) {
			alice, bob := w.tab(t), w.tab(t)
			bob.Instance = instance
			alice.register(t)
			bob.register(t)
			alice.ring(t, bob)
			bob.answer(t, alice)

			bob.do(t, "reload", nil)
			bob.register(t)
			alice.do(t, "hangUp", nil)
			alice.await(t, "ended")
			alice.receive(t, "SIP/2.0 430 ") // the flow of the old page is gone (RFC 5626 5.3)

			alice.ring(t, bob)
			bob.answer(t, alice)
			bob.hangUp(t, alice)
			bob.saw(t, 2, "INVITE ")
		})
	}
}

// webLoss takes the connection of a phone away, with and without the server knowing. The phone connects and registers
// again, and the next call comes by the new connection alone.
func webLoss(t *testing.T, w *web) {
	for _, loss := range []struct {
		name string
		lose func(*relay)
	}{{"the server knows", (*relay).cut}, {"the server does not know", (*relay).lose}} {
		t.Run(loss.name, func(t *testing.T) {
			r := startRelay(t, w.addr())
			alice, bob := w.tab(t), w.tab(t)
			bob.URL = w.transport + "://" + r.addr()
			alice.register(t)
			bob.register(t)

			loss.lose(r)
			if l := bob.await(t, "disconnected"); l.Code != 1006 {
				t.Errorf("the socket that was lost closed with %d, want 1006", l.Code)
			}
			bob.await(t, "registered")
			alice.ring(t, bob)
			bob.answer(t, alice)
			alice.hangUp(t, bob)
			if n := r.strayed(); n > 512 {
				t.Errorf("the server sent %d bytes on the connection that was lost, as much as an INVITE", n)
			}
		})
	}
}

// webRestart stops the server, which says goodbye to the browsers (RFC 6455 7.4.1: 1001), and starts it again. They
// come back by themselves.
func webRestart(t *testing.T, w *web) {
	alice, bob := w.pair(t)
	w.processes["one"].stop(t)
	for _, p := range []*webPhone{alice, bob} {
		if l := p.await(t, "disconnected"); l.Code != 1001 {
			t.Errorf("%s: the server that stops closed the socket with %d, want 1001", p.name, l.Code)
		}
	}
	w.restart(t, "one")
	alice.await(t, "registered")
	bob.await(t, "registered")
	alice.ring(t, bob)
	bob.answer(t, alice)
	bob.hangUp(t, alice)
}
