package transaction

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

func contextCancelled() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx, cancel
}

func (b *bench) expect(who *peer, when string, want ...string) {
	b.t.Helper()
	got := who.received()
	// The kernel may still be carrying a message from one socket to the other, and no clock of the bubble waits for it.
	for i := 0; len(got) < len(want) && i < 1e5; i++ {
		runtime.Gosched()
		got = append(got, who.received()...)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("%s: messages differ (-want +got):\n%s", when, diff)
	}
}

func (b *bench) told(when string, want ...string) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.user.take()); diff != "" {
		b.t.Errorf("%s: user was told (-want +got):\n%s", when, diff)
	}
}

// live checks how many transactions there are.
func (b *bench) live(when string, servers, clients int64) {
	b.t.Helper()
	if s, c := b.layer.counts.Servers.Load(), b.layer.counts.Clients.Load(); s != servers || c != clients {
		b.t.Errorf("%s: %d server and %d client transactions, want %d and %d", when, s, c, servers, clients)
	}
}

const (
	invite = "INVITE sip:bob@example.com SIP/2.0"
	trying = "SIP/2.0 100 Trying"
)

// P28: the callee sees one request however often the client sends it, and the client gets the last response again.
func TestP28RetransmissionIsAbsorbed(t *testing.T) {
	inBubble(t, transport.UDP, func(b *bench) {
		b.forwarding()
		b.send(request("INVITE", "z9hG4bK1"))
		b.expect(b.caller, "first", trying)
		b.expect(b.callee, "first", invite)
		b.send(request("INVITE", "z9hG4bK1"))
		b.expect(b.caller, "again", trying)
		b.expect(b.callee, "again")
		b.told("in all", "request INVITE")

		b.answer(486)
		b.expect(b.caller, "486", "SIP/2.0 486 Busy Here")
		b.send(request("INVITE", "z9hG4bK1"))
		b.expect(b.caller, "after 486", "SIP/2.0 486 Busy Here")
	})
}

// T2: the same branch on another transport, from another address or for another method is another transaction.
func TestT2ServerKey(t *testing.T) {
	inBubble(t, transport.UDP, func(b *bench) {
		other := b.callee.flow
		key := func(text string, flow transport.Flow) serverKey {
			m := parse(t, text)
			return b.layer.serverKey(flow, m, m.Method())
		}
		first := key(request("INVITE", "z9hG4bK1"), b.caller.flow)
		tests := []struct {
			name string
			key  serverKey
			same bool
		}{
			{"retransmission", key(request("INVITE", "z9hG4bK1"), b.caller.flow), true},
			{"from another port of the same host, as behind a NAT", key(request("INVITE", "z9hG4bK1"), other), true},
			{"other branch", key(request("INVITE", "z9hG4bK2"), b.caller.flow), false},
			{"other method", key(request("OPTIONS", "z9hG4bK1"), b.caller.flow), false},
			{"extension method", key(request("FOO", "z9hG4bK1"), b.caller.flow), false},
			{"without a cookie, RFC 2543", key(request("INVITE", "1"), b.caller.flow), false},
		}
		for _, tt := range tests {
			if got := tt.key == first; got != tt.same {
				t.Errorf("%s: same transaction = %v, want %v", tt.name, got, tt.same)
			}
		}
		foo, bar := key(request("FOO", "z9hG4bK1"), b.caller.flow), key(request("BAR", "z9hG4bK1"), b.caller.flow)
		if foo == bar {
			t.Error("two extension methods with one branch share a transaction")
		}
	})
}

// T3: an INVITE of RFC 2543, without a branch, is matched by what it has; so is its ACK.
func TestT3RFC2543Matching(t *testing.T) {
	inBubble(t, transport.UDP, func(b *bench) {
		b.send(request("INVITE", "1"))
		b.answer(404)
		b.caller.received()
		b.send(request("INVITE", "1"))
		b.expect(b.caller, "retransmission", "SIP/2.0 404 Not Found")
		b.send(request("ACK", "1"))
		wait(10 * time.Second)
		b.expect(b.caller, "acknowledged")
		b.told("in all", "request INVITE")
		b.live("after Timer I", 0, 0)
	})
}

// P29: Timers A and B. Seven INVITEs, at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s, and at 32 s it is over.
func TestP29InviteClientTimers(t *testing.T) {
	inBubble(t, transport.UDP, func(b *bench) {
		b.forwarding()
		b.send(request("INVITE", "z9hG4bK1"))
		b.caller.received()
		b.expect(b.callee, "at 0", invite)
		at := 0 * time.Second
		for _, next := range []time.Duration{500, 1500, 3500, 7500, 15500, 31500} {
			next *= time.Millisecond
			wait(next - at - 100*time.Millisecond)
			b.expect(b.callee, fmt.Sprintf("before %v", next))
			wait(400 * time.Millisecond) // a tick of the wheel late each time
			b.expect(b.callee, fmt.Sprintf("after %v", next), invite)
			at = next + 300*time.Millisecond
		}
		b.told("before Timer B", "request INVITE")
		wait(time.Second)
		b.told("after Timer B", "timeout")
		b.expect(b.callee, "after Timer B")
		b.live("after Timer B", 1, 0)
	})
}

// P29, Timers E and F: the interval doubles up to T2, and in the end the client hears nothing.
func TestP29NonInviteClientTimers(t *testing.T) {
	inBubble(t, transport.UDP, func(b *bench) {
		b.forwarding()
		b.send(request("MESSAGE", "z9hG4bK1"))
		wait(31 * time.Second)
		// 0, 0.5, 1.5, 3.5, then every 4 s: 7.5 to 27.5
		if n := len(b.callee.received()); n != 10 {
			t.Errorf("callee got %d MESSAGEs in 31 s, want 10", n)
		}
		wait(2 * time.Second)
		b.told("after Timer F", "request MESSAGE", "timeout")
		b.expect(b.caller, "before the end", trying)
		b.answer(408)
		b.expect(b.caller, "RFC 4320: no 408")
		b.live("in the end", 0, 0)
	})
}

// RFC 4320 4.1: a client that has no answer yet hears a 100 when its Timer E has reached T2, not before.
func TestP2TryingToNonInvite(t *testing.T) {
	inBubble(t, transport.UDP, func(b *bench) {
		b.send(request("MESSAGE", "z9hG4bK1"))
		wait(3400 * time.Millisecond)
		b.send(request("MESSAGE", "z9hG4bK1"))
		b.expect(b.caller, "before 3.5 s")
		wait(300 * time.Millisecond)
		b.expect(b.caller, "after 3.5 s", trying)
		b.send(request("MESSAGE", "z9hG4bK1"))
		b.expect(b.caller, "MESSAGE again", trying)
		wait(10 * time.Second)
		b.expect(b.caller, "nothing more")
		b.answer(200)
		b.expect(b.caller, "200", "SIP/2.0 200 OK")
		wait(33 * time.Second)
		b.live("after Timer J", 0, 0)
	})
}

// Over a reliable transport nothing is sent twice, and the timeouts are the same.
func TestReliableTransportIsNotRetransmittedOn(t *testing.T) {
	inBubble(t, transport.TCP, func(b *bench) {
		b.forwarding()
		b.send(request("INVITE", "z9hG4bK1"))
		b.expect(b.callee, "at 0", invite)
		wait(33 * time.Second)
		b.expect(b.callee, "after 33 s")
		b.told("after 33 s", "request INVITE", "timeout")
		b.expect(b.caller, "provisional", trying)
		b.answer(408)
		b.expect(b.caller, "final", "SIP/2.0 408 Request Timeout")
		wait(10 * time.Second)
		b.expect(b.caller, "Timer G is not set")
		b.send(request("ACK", "z9hG4bK1"))
		b.live("Timer I is zero", 0, 0)
	})
}

// 17.1.1.2, P30: a non-2xx is acknowledged by us, as often as it comes, with the INVITE's branch; Timer D ends it.
func TestP30AckToNon2xx(t *testing.T) {
	inBubble(t, transport.UDP, func(b *bench) {
		b.forwarding()
		b.send(request("INVITE", "z9hG4bK1"))
		b.callee.received()
		b.respond(b.user.clients[0], 180, "INVITE")
		b.respond(b.user.clients[0], 486, "INVITE")
		const ack = "ACK sip:bob@example.com SIP/2.0"
		b.expect(b.callee, "486", ack)
		b.respond(b.user.clients[0], 486, "INVITE")
		b.expect(b.callee, "486 again", ack)
		b.told("in all", "request INVITE", "response 180", "response 486")
		wait(31 * time.Second)
		b.live("before Timer D", 1, 1)
		wait(2 * time.Second)
		b.live("after Timer D", 1, 0)
	})
}

// The copy of a request at the limits of what is parsed exceeds them, and yet is acknowledged and cancelled.
func TestCopyExceedsLimits(t *testing.T) {
	inBubble(t, transport.UDP, func(b *bench) {
		b.forwarding()
		b.send(request("INVITE", "z9hG4bK1", slices.Repeat([]string{"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK2"}, message.DefaultLimits().Vias-1)...))
		b.callee.received()
		tx := b.user.clients[0]
		b.respond(tx, 180, "INVITE")
		b.user.servers[0].Do(tx.Cancel)
		b.expect(b.callee, "180", "CANCEL sip:bob@example.com SIP/2.0")
		b.respond(tx, 487, "INVITE")
		b.expect(b.callee, "487", "ACK sip:bob@example.com SIP/2.0")
	})
}

// P31, Timers G, H, I: a non-2xx is sent again until it is acknowledged, and the ACK goes no further.
func TestP31AckEndsNon2xx(t *testing.T) {
	const busy = "SIP/2.0 486 Busy Here"
	inBubble(t, transport.UDP, func(b *bench) {
		b.send(request("INVITE", "z9hG4bK1"))
		b.answer(486)
		b.expect(b.caller, "at 0", trying, busy)
		wait(700 * time.Millisecond)
		b.expect(b.caller, "Timer G", busy)
		b.send(request("ACK", "z9hG4bK1"))
		wait(4 * time.Second)
		b.expect(b.caller, "acknowledged")
		b.live("Timer I runs", 1, 0)
		b.send(request("ACK", "z9hG4bK1"))
		wait(2 * time.Second)
		b.live("after Timer I", 0, 0)
		b.told("in all", "request INVITE")
	})
	inBubble(t, transport.UDP, func(b *bench) {
		b.send(request("INVITE", "z9hG4bK1"))
		b.answer(486)
		wait(31 * time.Second)
		// 0, 0.5, 1.5, 3.5, then every 4 s to 27.5; and the 100
		if n := len(b.caller.received()); n != 11 {
			t.Errorf("caller got %d responses in 31 s, want 11", n)
		}
		wait(2 * time.Second)
		b.live("after Timer H", 0, 0)
	})
}

// RFC 6026: a 2xx does not end the transactions. Further 2xx pass, the INVITE sent again does not, and the ACK is the
// user's. Timers L and M end it.
func TestP33Accepted(t *testing.T) {
	inBubble(t, transport.UDP, func(b *bench) {
		b.forwarding()
		b.send(request("INVITE", "z9hG4bK1"))
		b.callee.received()
		b.caller.received()
		server, client := b.user.servers[0], b.user.clients[0]
		ok := []byte("SIP/2.0 200 OK\r\n\r\n")
		b.respond(client, 200, "INVITE")
		server.Do(func() { server.Send(200, ok) })
		b.expect(b.caller, "200", "SIP/2.0 200 OK")
		b.respond(client, 200, "INVITE")
		server.Do(func() { server.Send(200, ok) })
		b.expect(b.caller, "200 again", "SIP/2.0 200 OK")
		server.Do(func() { server.Send(180, []byte("SIP/2.0 180 Ringing\r\n\r\n")) })
		b.send(request("INVITE", "z9hG4bK1"))
		b.expect(b.caller, "a late 180 and the INVITE again")
		b.expect(b.callee, "nothing new")
		b.send(request("ACK", "z9hG4bK1"))
		b.respond(client, 486, "INVITE")
		b.told("in all", "request INVITE", "response 200", "response 200", "ack")
		wait(31 * time.Second)
		b.live("before Timers L and M", 1, 1)
		wait(2 * time.Second)
		b.live("after Timers L and M", 0, 0)
	})
}

// Timers J and K of a request that is not an INVITE.
func TestNonInviteCompleted(t *testing.T) {
	inBubble(t, transport.UDP, func(b *bench) {
		b.forwarding()
		b.send(request("MESSAGE", "z9hG4bK1"))
		b.callee.received()
		server, client := b.user.servers[0], b.user.clients[0]
		b.respond(client, 202, "MESSAGE")
		server.Do(func() { server.Send(202, []byte("SIP/2.0 202 Accepted\r\n\r\n")) })
		b.expect(b.caller, "202", "SIP/2.0 202 Accepted")
		b.send(request("MESSAGE", "z9hG4bK1"))
		b.expect(b.caller, "202 again", "SIP/2.0 202 Accepted")
		b.respond(client, 202, "MESSAGE")
		b.told("in all", "request MESSAGE", "response 202")
		wait(6 * time.Second)
		b.live("after Timer K", 1, 0)
		wait(27 * time.Second)
		b.live("after Timer J", 0, 0)
	})
}

// P34: a CANCEL is answered at once, and so is each further one. P35: one that matches nothing gets 481.
func TestP34P35Cancel(t *testing.T) {
	inBubble(t, transport.UDP, func(b *bench) {
		b.send(request("INVITE", "z9hG4bK1"))
		b.caller.received()
		b.send(request("CANCEL", "z9hG4bK1"))
		b.send(request("CANCEL", "z9hG4bK1"))
		b.expect(b.caller, "CANCEL twice", "SIP/2.0 200 OK", "SIP/2.0 200 OK")
		b.told("CANCEL twice", "request INVITE", "cancel", "cancel")
		b.send(request("CANCEL", "z9hG4bKother"))
		b.expect(b.caller, "CANCEL of nothing", "SIP/2.0 481 Call/Transaction Does Not Exist")
		b.answer(200)
		b.caller.received()
		b.send(request("CANCEL", "z9hG4bK1"))
		b.expect(b.caller, "CANCEL after 200", "SIP/2.0 200 OK")
		b.told("CANCEL after 200")
	})
}

// P36: before a provisional response a CANCEL waits for one (RFC 3261 9.1).
func TestP36CancelWaitsForProvisional(t *testing.T) {
	const cancel = "CANCEL sip:bob@example.com SIP/2.0"
	inBubble(t, transport.UDP, func(b *bench) {
		b.forwarding()
		b.send(request("INVITE", "z9hG4bK1"))
		b.callee.received()
		tx := b.user.clients[0]
		b.user.servers[0].Do(tx.Cancel)
		b.expect(b.callee, "before a provisional response")
		b.respond(tx, 180, "INVITE")
		b.expect(b.callee, "after it", cancel)
		b.user.servers[0].Do(tx.Cancel)
		b.expect(b.callee, "asked twice")
		wait(600 * time.Millisecond)
		b.expect(b.callee, "Timer E of the CANCEL", cancel)
		b.respond(tx, 200, "CANCEL")
		b.respond(tx, 487, "INVITE")
		b.expect(b.callee, "487", "ACK sip:bob@example.com SIP/2.0")
		b.told("in all", "request INVITE", "response 180", "response 487")
	})
}

// P34, RFC 3261 9.1: the callee takes the CANCEL and never answers the INVITE. The user hears after 4*T1, so that the
// caller need not wait; the transaction ends after 64*T1, and until then takes what comes late.
func TestP34CancelWithoutFinalResponse(t *testing.T) {
	cancelled := func(b *bench) *Client {
		b.forwarding()
		b.send(request("INVITE", "z9hG4bK1"))
		tx := b.user.clients[0]
		b.respond(tx, 180, "INVITE")
		b.user.servers[0].Do(tx.Cancel)
		b.respond(tx, 200, "CANCEL")
		wait(1900 * time.Millisecond)
		b.told("before 4*T1", "request INVITE", "response 180")
		wait(200 * time.Millisecond)
		b.told("after 4*T1", "unanswered")
		b.answer(487)
		b.caller.received()
		b.callee.received()
		return tx
	}
	for name, protocol := range map[string]transport.Protocol{"UDP": transport.UDP, "TCP": transport.TCP} {
		t.Run(name+" nothing comes", func(t *testing.T) {
			inBubble(t, protocol, func(b *bench) {
				cancelled(b)
				b.send(request("ACK", "z9hG4bK1"))
				wait(29 * time.Second)
				b.live("before 64*T1", 0, 1)
				wait(2 * time.Second)
				b.told("in all")
				b.live("in the end", 0, 0)
			})
		})
		t.Run(name+" a late 487", func(t *testing.T) {
			inBubble(t, protocol, func(b *bench) {
				b.respond(cancelled(b), 487, "INVITE")
				b.expect(b.callee, "487", "ACK sip:bob@example.com SIP/2.0")
			})
		})
		t.Run(name+" a late 200", func(t *testing.T) {
			inBubble(t, protocol, func(b *bench) {
				tx, server := cancelled(b), b.user.servers[0]
				b.send(request("ACK", "z9hG4bK1"))
				for _, when := range []string{"while Timer I runs", "when the server transaction has gone"} {
					b.respond(tx, 200, "INVITE")
					b.told(when, "response 200")
					server.Do(func() { server.Send(200, []byte("SIP/2.0 200 OK\r\n\r\n")) })
					b.expect(b.caller, when, "SIP/2.0 200 OK")
					wait(6 * time.Second)
				}
				wait(33 * time.Second)
				b.told("in all")
				b.live("in the end", 0, 0)
			})
		})
	}
}

// P46: Timer C. Each 101 to 199 starts it anew; when it ends, the callee is cancelled.
func TestP46TimerC(t *testing.T) {
	inBubble(t, transport.UDP, func(b *bench) {
		b.forwarding()
		b.send(request("INVITE", "z9hG4bK1"))
		tx := b.user.clients[0]
		b.respond(tx, 180, "INVITE")
		wait(180 * time.Second)
		b.respond(tx, 180, "INVITE")
		wait(180 * time.Second)
		b.callee.received()
		wait(6 * time.Second)
		b.expect(b.callee, "after 186 s of ringing", "CANCEL sip:bob@example.com SIP/2.0", "CANCEL sip:bob@example.com SIP/2.0")
		wait(2 * time.Second)
		b.told("in all", "request INVITE", "response 180", "response 180", "unanswered")
	})
}

// P51, RFC 6026: a response that matches nothing is dropped and counted.
func TestP51StrayResponse(t *testing.T) {
	inBubble(t, transport.UDP, func(b *bench) {
		b.forwarding()
		b.send(request("INVITE", "z9hG4bK1"))
		b.user.take()
		tx := b.user.clients[0]
		real := tx.id
		for name, id := range map[string]uint64{"other number": real ^ 1<<20, "the CANCEL's": real + 1} {
			b.respond(&Client{id: id}, 200, "CANCEL")
			b.told(name)
		}
		b.respond(tx, 200, "BYE")
		b.told("other method")
		b.respond(tx, 200, "INVITE")
		b.user.servers[0].Do(func() { b.user.servers[0].Send(200, []byte("SIP/2.0 200 OK\r\n\r\n")) })
		b.told("200", "response 200")
		wait(33 * time.Second)
		b.live("after Timers L and M", 0, 0)
		b.respond(tx, 200, "INVITE")
		b.told("after Timers L and M")
		if n := b.layer.counts.StrayResponses.Load(); n != 4 {
			t.Errorf("counted %d stray responses, want 4", n)
		}
	})
}

// A stray ACK is the user's, as it may belong to a 2xx whose transaction is long gone.
func TestAckWithoutTransaction(t *testing.T) {
	inBubble(t, transport.UDP, func(b *bench) {
		b.send(request("ACK", "z9hG4bK9"))
		b.told("stray ACK", "ack")
		b.expect(b.caller, "nothing is answered")
	})
}

// P26, RFC 3581: without rport a response goes to the source address and the port of the Via.
func TestP26ResponseWithoutRport(t *testing.T) {
	inBubble(t, transport.UDP, func(b *bench) {
		text := request("OPTIONS", "z9hG4bK1")
		port := b.callee.flow.Remote().Port()
		text = replaceOnce(text, "127.0.0.1:5070;branch=z9hG4bK1;rport", fmt.Sprintf("192.0.2.1:%d;branch=z9hG4bK1;maddr=192.0.2.99", port))
		b.send(text)
		b.answer(200)
		b.expect(b.callee, "at the port of the Via", "SIP/2.0 200 OK")
		b.expect(b.caller, "at the source port")
	})
}

func replaceOnce(s, old, new string) string {
	for i := 0; i+len(old) <= len(s); i++ {
		if s[i:i+len(old)] == old {
			return s[:i] + new + s[i+len(old):]
		}
	}
	panic("no " + old)
}

func TestBranch(t *testing.T) {
	for _, id := range []uint64{0, 2, 1<<63 | 2, ^uint64(1)} {
		text := Branch(id).Append(nil)
		if got, ok := branchID(text); !ok || got != id {
			t.Errorf("branchID(%s) = %d, %v, want %d", text, got, ok, id)
		}
		if m, ok := MarkOf(text); ok {
			t.Errorf("MarkOf(%s) = %d, want none", text, m)
		}
		for _, mark := range []Mark{0, 1, NewMark(^uint64(0))} {
			marked := mark.Append(text)
			if got, ok := branchID(marked); !ok || got != id {
				t.Errorf("branchID(%s) = %d, %v, want %d", marked, got, ok, id)
			}
			if got, ok := MarkOf(marked); !ok || got != mark {
				t.Errorf("MarkOf(%s) = %d, %v, want %d", marked, got, ok, mark)
			}
		}
	}
	for text, want := range map[string]struct{ branch, mark bool }{
		"":                              {},
		"z9hG4bK":                       {},
		"z9hG4bK0000000000001":          {branch: true},
		"z9hG4bK000000000000z":          {},
		"z9hG4bK00000000000000":         {},
		"X9hG4bK0000000000000":          {},
		"z9hG4bK0000000000001.0000000v": {branch: true, mark: true},
		"z9hG4bK0000000000001.0000000":  {branch: true},
		"z9hG4bK0000000000001.0000000w": {branch: true},
		"z9hG4bK0000000000001-00000000": {},
	} {
		if id, ok := branchID([]byte(text)); ok != want.branch {
			t.Errorf("branchID(%q) = %d, %v, want ok %v", text, id, ok, want.branch)
		}
		if m, ok := MarkOf([]byte(text)); ok != want.mark {
			t.Errorf("MarkOf(%q) = %d, %v, want ok %v", text, m, ok, want.mark)
		}
	}
}

// An INVITE that has rung for a while is kept in part only; what is made of it is as if it were there.
func TestLongRinging(t *testing.T) {
	pad := "X-Pad: " + strings.Repeat("x", 1000)
	tests := []struct {
		name string
		end  func(b *bench, tx *Client)
	}{
		{"cancelled", func(b *bench, tx *Client) {
			b.user.servers[0].Do(tx.Cancel)
			b.answer(487)
		}},
		{"refused", func(b *bench, tx *Client) {
			b.respond(tx, 486, "INVITE")
			b.answer(486)
		}},
		{"refused twice", func(b *bench, tx *Client) {
			b.respond(tx, 486, "INVITE")
			b.respond(tx, 486, "INVITE")
			b.answer(486)
		}},
		{"cancelled and refused", func(b *bench, tx *Client) {
			b.user.servers[0].Do(tx.Cancel)
			b.respond(tx, 487, "INVITE")
			b.answer(487)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			said := func(rings time.Duration) (caller, callee string) {
				inBubble(t, transport.UDP, func(b *bench) {
					b.forwarding()
					b.send(request("INVITE", "z9hG4bK1", "Route: <sip:a.example.com;lr>", "Route: <sip:b.example.com;lr>", pad))
					server, client := b.user.servers[0], b.user.clients[0]
					server.Do(server.Release)
					b.respond(client, 180, "INVITE")
					b.caller.received()
					b.callee.received()
					wait(rings)
					if kept := len(client.request) + len(server.kept); rings > 0 && (server.request != nil || kept > len(pad)) {
						b.t.Errorf("after %v of ringing %d bytes are kept of two INVITEs with %d each and more", rings, kept, len(pad))
					}
					tt.end(b, client)
					caller, callee = b.caller.text(), b.callee.text()
					callee = strings.ReplaceAll(callee, string(Branch(client.id).Append(nil)), "z9hG4bK-ours")
				})
				return caller, callee
			}
			caller, callee := said(0)
			lateCaller, lateCallee := said(time.Minute)
			if caller == "" || callee == "" || caller != lateCaller || callee != lateCallee {
				t.Errorf("after a minute of ringing the caller is told\n%s\nand the callee\n%s\nwant\n%s\nand\n%s", lateCaller, lateCallee, caller, callee)
			}
		})
	}
}
