package transaction

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// T1: the timers of a server transaction, wherever in a tick of the wheel they are set. None ends early, and none later
// than a tenth of the shortest, which is T1.
func TestT1ServerTimers(t *testing.T) {
	const (
		just = time.Millisecond
		late = 50 * time.Millisecond
	)
	ends := func(b *bench, timer string, after time.Duration) {
		b.t.Helper()
		wait(after - just)
		b.live("just before Timer "+timer, 1, 0)
		wait(just + late)
		synctest.Wait() // for the tick of this moment
		b.live("after Timer "+timer, 0, 0)
	}
	for _, phase := range []time.Duration{0, just, 13 * time.Millisecond, 25 * time.Millisecond, late - just} {
		t.Run("G and H "+fmt.Sprint(phase), func(t *testing.T) {
			inBubble(t, transport.UDP, func(b *bench) {
				const busy = "SIP/2.0 486 Busy Here"
				wait(phase)
				b.send(request("INVITE", "z9hG4bK1"))
				b.answer(486)
				b.expect(b.caller, "at once", trying, busy)
				begin := time.Now()
				interval, due := 500*time.Millisecond, 500*time.Millisecond
				for due < 32*time.Second {
					wait(due - just - time.Since(begin))
					b.expect(b.caller, fmt.Sprintf("just before %v", due))
					wait(just + late)
					b.expect(b.caller, fmt.Sprintf("after %v", due), busy)
					interval = min(2*interval, 4*time.Second)
					due += interval
				}
				ends(b, "H", 32*time.Second-time.Since(begin))
			})
		})
		t.Run("I "+fmt.Sprint(phase), func(t *testing.T) {
			inBubble(t, transport.UDP, func(b *bench) {
				b.send(request("INVITE", "z9hG4bK1"))
				b.answer(486)
				wait(phase)
				b.send(request("ACK", "z9hG4bK1"))
				ends(b, "I", 5*time.Second)
			})
		})
		t.Run("J "+fmt.Sprint(phase), func(t *testing.T) {
			inBubble(t, transport.UDP, func(b *bench) {
				b.send(request("MESSAGE", "z9hG4bK1"))
				wait(phase)
				b.answer(200)
				ends(b, "J", 32*time.Second)
			})
		})
	}
}
