package edgeport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws/wsutil"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// journal keeps what is logged.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(b)
}

func (j *journal) handler() slog.Handler { return slog.NewTextHandler(j, nil) }

// lines are those that have text in them.
func (j *journal) lines(text string) (found []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.buf.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// talk is a call between two clients over UDP.
type talk struct {
	s              *system
	caller, callee *client
	id             string
	invite         *message.Message // as the callee has it
	route          string           // of requests within the dialog
}

// ring begins a call; the callee answers 180. The EdgePort has to forward to callee.
func ring(s *system, caller, callee *client, id string) *talk {
	s.t.Helper()
	c := &talk{s: s, caller: caller, callee: callee, id: id}
	caller.send(s, caller.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK"+id, "Call-ID: "+id))
	caller.want("SIP/2.0 100")
	c.invite = callee.want("INVITE")
	callee.send(s, response(c.invite, 180, "b"))
	caller.want("SIP/2.0 180")
	return c
}

// answer lets the callee answer, and the caller acknowledge.
func (c *talk) answer() *talk {
	c.s.t.Helper()
	return c.pickUp().acknowledge()
}

func (c *talk) pickUp() *talk {
	c.s.t.Helper()
	c.callee.send(c.s, response(c.invite, 200, "b", "Contact: <sip:bob@"+c.callee.addr()+">"))
	c.route = "Route: " + values(c.caller.want("SIP/2.0 200"), message.KindRecordRoute)[0]
	return c
}

func (c *talk) acknowledge() *talk {
	c.s.t.Helper()
	c.caller.send(c.s, c.inDialog("ACK"))
	c.callee.want("ACK")
	return c
}

func (c *talk) inDialog(method string) string {
	return c.caller.request(c.s, method, "sip:bob@"+c.callee.addr(), "z9hG4bK"+c.id+method, "Call-ID: "+c.id, c.route, "To: <sip:bob@example.com>;tag=b")
}

// passes sends a request within the dialog, which the callee answers.
func (c *talk) passes(method string) {
	c.s.t.Helper()
	c.caller.send(c.s, c.inDialog(method))
	c.callee.send(c.s, response(c.callee.want(method), 200, ""))
	if method == "INVITE" {
		c.caller.want("SIP/2.0 100")
	}
	c.caller.want("SIP/2.0 200")
}

// refusedFor expects the answer of who is not ready.
func refusedFor(t *testing.T, c *client, why string) {
	t.Helper()
	m := c.next()
	for m.Status() == 100 {
		m = c.next()
	}
	if seconds, err := strconv.Atoi(header(m, "Retry-After")); m.Status() != 503 || err != nil || seconds < 5 || seconds > 15 {
		t.Errorf("%s: answer %d with Retry-After %q, want 503 with 5 to 15 s", why, m.Status(), header(m, "Retry-After"))
	}
}

// order is an operator's word on SubjectDrain.
func order(t *testing.T, conn *bus.Conn, body string) (DrainStatus, error) {
	t.Helper()
	type result struct {
		reply bus.Reply
		err   error
	}
	done := make(chan result, 1)
	conn.Call(t.Context(), bus.SubjectDrain("edge-under-test"), bus.Raw([]byte(body)), time.Now().Add(patience),
		func(reply bus.Reply, err error) { done <- result{reply, err} })
	r := <-done
	if r.err != nil {
		return DrainStatus{}, r.err
	}
	var status DrainStatus
	data, err := r.reply.Body.Bytes()
	if err == nil {
		err = json.Unmarshal(data, &status)
	}
	if err != nil {
		t.Errorf("reply %q: %v", data, err)
	}
	return status, nil
}

// An operator drains an EdgePort: new requests are refused, what has begun goes on, and it can be taken back.
func TestE8DrainByOperator(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		bob := udpClient(t)
		s := start(t, conn, to(bob), nil)
		alice, carol, dave := udpClient(t), udpClient(t), udpClient(t)
		call := ring(s, alice, bob, "stands").answer()
		answered := ring(s, carol, bob, "answered")
		cancelled := ring(s, dave, bob, "cancelled")

		for _, again := range []bool{false, true} {
			status, err := order(t, conn, `{"drain": true}`)
			if want := (DrainStatus{"edge-under-test", Draining, status.Pending}); err != nil || status != want || status.Pending < 4 {
				t.Errorf("drain (again: %v) = %+v, %v, want %+v with 4 pending", again, status, err, want)
			}
		}
		if err := s.edge.Ready(); err == nil || !strings.Contains(err.Error(), "draining since") {
			t.Errorf("Ready() = %v while it drains, want since when it does", err)
		}
		if err := s.edge.Alive(); err != nil {
			t.Errorf("Alive() = %v while it drains, want nil", err)
		}
		for i, method := range []string{"INVITE", "REGISTER", "MESSAGE", "OPTIONS", "SUBSCRIBE"} {
			stranger := udpClient(t) // whom the 503 to an INVITE may reach again
			uri := "sip:bob@example.com"
			if method == "OPTIONS" {
				uri = "sip:" + s.udp
			}
			stranger.send(s, stranger.request(s, method, uri, fmt.Sprint("z9hG4bKnew", i), fmt.Sprint("Call-ID: new", i)))
			refusedFor(t, stranger, "new "+method)
		}

		call.passes("INFO")
		call.passes("INVITE")
		answered.answer().passes("BYE")
		dave.send(s, dave.request(s, "CANCEL", "sip:bob@example.com", "z9hG4bKcancelled", "Call-ID: cancelled"))
		dave.want("SIP/2.0 200")
		cancel := bob.want("CANCEL")
		bob.send(s, response(cancel, 200, "b"))
		bob.send(s, response(cancelled.invite, 487, "b"))
		bob.want("ACK")
		dave.want("SIP/2.0 487")
		// A phone that loses the Routes of its dialog: to be decided as ever.
		alice.send(s, alice.request(s, "UPDATE", "sip:bob@example.com", "z9hG4bKroute", "Call-ID: stands", "To: <sip:bob@example.com>;tag=b"))
		bob.send(s, response(bob.want("UPDATE"), 200, ""))
		alice.want("SIP/2.0 200")
		call.passes("BYE")

		if status, err := order(t, conn, `{"drain": false}`); err != nil || status.State != Serving {
			t.Errorf("undo = %+v, %v, want it to serve", status, err)
		}
		if err := s.edge.Ready(); err != nil {
			t.Errorf("Ready() = %v after the drain was taken back, want nil", err)
		}
		ring(s, udpClient(t), bob, "after").answer().passes("BYE")
		if n := s.edge.proxy.Counts().Drained.Load(); n != 4 {
			t.Errorf("%d requests counted as drained, want 4", n)
		}
	})
}

// A word on SubjectDrain that cannot be followed changes nothing, and its answer says what can.
func TestDrainOrders(t *testing.T) {
	conn := bustest.Local(t)
	s := start(t, conn, nil, nil)
	for _, tt := range []struct {
		name, in string
		want     bus.Code
		state    State
	}{
		{"question", `{}`, "", Serving},
		{"nothing at all", ``, "", Serving},
		{"no JSON", `drain`, bus.InvalidArgument, Serving},
		{"wrong type", `{"drain": "yes"}`, bus.InvalidArgument, Serving},
		{"undo of nothing", `{"drain": false}`, "", Serving},
		{"drain", `{"drain": true}`, "", Draining},
		{"question while it drains", `{}`, "", Draining},
	} {
		_, err := order(t, conn, tt.in)
		if got := bus.CodeOf(err); got != tt.want {
			t.Errorf("%s: %v, want code %q", tt.name, err, tt.want)
		}
		if state, _ := s.edge.life.get(); state != tt.state {
			t.Errorf("%s: state %s, want %s", tt.name, state, tt.state)
		}
	}
}

// The end of an EdgePort: calls that are being set up are, their ACK passes, and then browsers are told that the server
// goes away (RFC 6455 7.4.1), and other connections are closed.
func TestE8StopFinishesCalls(t *testing.T) {
	t.Parallel() // it waits for timers
	conn := bustest.Local(t)
	bob := udpClient(t)
	var log journal
	s := startLogging(t, conn, to(bob), func(cfg *Config) {
		cfg.Spec.Transport = append(cfg.Spec.Transport, Transport{Protocol: "ws"})
		cfg.Spec.DrainTime = 60
	}, log.handler())
	alice, carol := udpClient(t), udpClient(t)
	stands := ring(s, alice, bob, "stands").answer()
	rings := ring(s, carol, bob, "rings")
	page, phone := s.page(), s.tcpClient()
	page.send(s, page.request(s, "OPTIONS", "sip:"+s.udp, "z9hG4bKpage"))
	page.want("SIP/2.0 200")
	phone.send(s, phone.request(s, "OPTIONS", "sip:"+s.udp, "z9hG4bKphone"))
	phone.want("SIP/2.0 200")

	s.stop()
	until(t, "stopping", func() bool { return s.edge.Ready() != nil })
	if status, err := order(t, conn, `{}`); err != nil || status.State != Stopping || status.Pending < 2 {
		t.Errorf("status = %+v, %v, want it to stop with 2 pending", status, err)
	}
	if _, err := order(t, conn, `{"drain": false}`); bus.CodeOf(err) != bus.FailedPrecondition {
		t.Errorf("undo of a stop: %v, want %s", err, bus.FailedPrecondition)
	}
	phone.send(s, phone.request(s, "INVITE", "sip:bob@example.com", "z9hG4bKnew", "Call-ID: new"))
	refusedFor(t, phone, "new INVITE on a connection")
	late := s.tcpClient() // whose dialog may be in need of it
	late.send(s, late.request(s, "INVITE", "sip:bob@example.com", "z9hG4bKlate", "Call-ID: late"))
	refusedFor(t, late, "new INVITE on a new connection")
	rings.pickUp()
	asked := 0
	until(t, "asked again and again", func() bool { // the EdgePort looks at what is pending meanwhile: the ACK
		if _, err := order(t, conn, `{}`); err != nil {
			t.Fatalf("status before the ACK has passed: %v", err)
		}
		asked++
		return asked == 40
	})
	rings.acknowledge()
	stands.passes("BYE")
	rings.passes("BYE")

	var closed wsutil.ClosedError
	if _, err := page.read(patience); !errors.As(err, &closed) || closed.Code != 1001 {
		t.Errorf("a WebSocket ended with %v, want a close frame with 1001", err)
	}
	for _, c := range []*client{phone, late} {
		if m, err := c.read(patience); !errors.Is(err, io.EOF) {
			t.Errorf("a connection ended with %v, %v, want its end", m, err)
		}
	}
	<-s.ended
	if lines := log.lines("level=WARN"); len(lines) > 0 {
		t.Errorf("logged %q, want no warning when all was finished", lines)
	}
}

// What does not end is cut off after spec.drainTime, and an EdgePort without anything to do ends at once.
func TestE8StopIsBounded(t *testing.T) {
	t.Parallel() // it waits for timers
	for _, tt := range []struct {
		name  string
		rings bool
		want  int // warnings
	}{{"a call that rings on", true, 1}, {"nothing to do", false, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			bob := udpClient(t)
			var log journal
			s := startLogging(t, bustest.Local(t), to(bob), func(cfg *Config) {
				if cfg.Spec.DrainTime = maxDrainTime; tt.rings {
					cfg.Spec.DrainTime = 1
				}
			}, log.handler())
			if tt.rings {
				ring(s, udpClient(t), bob, "rings")
			}
			s.stop()
			select {
			case <-s.ended:
			case <-time.After(patience):
				t.Fatal("the EdgePort does not end")
			}
			if lines := log.lines("edgeport ends with transactions pending"); len(lines) != tt.want {
				t.Errorf("logged %q, want %d lines", lines, tt.want)
			}
		})
	}
}

// until waits for what comes about by itself.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("not %s within %v", what, patience)
		}
	}
}
