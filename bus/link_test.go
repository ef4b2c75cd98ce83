package bus_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	"github.com/routr-fabric/routr/bus/embed"
)

// member is a Link and what it is told.
type member struct {
	t        *testing.T
	link     *bus.Link
	conn     *bus.Conn
	received chan string
	gone     chan string
	renewed  chan string
}

func join(t *testing.T, s *embed.Server, name string, change func(*bus.Config)) *member {
	t.Helper()
	m := &member{t: t, conn: bustest.Dial(t, s, change), received: make(chan string, 10000), gone: make(chan string, 100), renewed: make(chan string, 100)}
	m.link = m.conn.Link(name, bus.LinkConfig{
		Receive: func(peer string, data []byte) { m.received <- peer + ": " + string(data) },
		Gone:    func(peer string) { m.gone <- peer },
		Renewed: func(peer string) {
			if len(m.received) > 0 {
				t.Errorf("%s was told that %s is started anew after it had received a message of it", name, peer)
			}
			m.renewed <- peer
		},
	})
	t.Cleanup(m.link.Close)
	if err := m.link.Join(); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *member) send(to, data string) {
	m.link.Send(to, []byte(data), func(err error) { m.t.Logf("send: %v", err) })
}

func want(t *testing.T, ch <-chan string, text string) {
	t.Helper()
	select {
	case got := <-ch:
		if got != text {
			t.Fatalf("got %q, want %q", got, text)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("got nothing, want %q", text)
	}
}

func TestLinkKeepsOrder(t *testing.T) {
	s := bustest.Server(t)
	a, b := join(t, s, "a", nil), join(t, s, "b.*", nil) // a name is no pattern
	for i := range 1000 {
		a.send("b.*", fmt.Sprint(i))
		b.send("a", fmt.Sprint(-i))
	}
	for i := range 1000 {
		want(t, b.received, fmt.Sprint("a: ", i))
		want(t, a.received, fmt.Sprint("b.*: ", -i))
	}
}

// A peer that is not there is noticed, also while a tap listens, which NATS takes for a responder.
func TestLinkPeerIsNotThere(t *testing.T) {
	s := bustest.Server(t)
	tap := bustest.Dial(t, s, nil)
	stop, err := tap.Subscribe(bus.SubjectAll, func(string, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	a := join(t, s, "a", nil)
	a.send("b", "anybody?")
	want(t, a.gone, "b")
}

func TestLinkPeerGoes(t *testing.T) {
	s := bustest.Server(t)
	a, b := join(t, s, "a", nil), join(t, s, "b", nil)
	a.send("b", "hello")
	want(t, b.received, "a: hello")
	b.conn.Close()
	want(t, a.gone, "b")
}

// A peer that is started anew knows nothing of what was sent to the one before.
func TestLinkPeerIsStartedAnew(t *testing.T) {
	s := bustest.Server(t)
	a, b := join(t, s, "a", nil), join(t, s, "b", nil)
	b.send("a", "first life")
	want(t, a.received, "b: first life")
	b.conn.Close()
	again := join(t, s, "b", nil)
	again.send("a", "second life")
	want(t, a.renewed, "b")
	want(t, a.received, "b: second life")
}

// Without a server nobody is there, and when it is back everybody is.
func TestLinkServerGoesAndComes(t *testing.T) {
	s := bustest.Server(t)
	a, b := join(t, s, "a", nil), join(t, s, "b", nil)
	a.send("b", "hello")
	want(t, b.received, "a: hello")
	s.Shutdown()
	want(t, a.gone, "b")
	failed := make(chan string, 1)
	a.link.Send("b", []byte("lost"), func(error) { failed <- "failed" })
	want(t, failed, "failed")
	bustest.Restart(t, s)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatal("b received nothing after the server came back")
		}
		a.send("b", "again")
		select {
		case got := <-b.received:
			if got != "a: again" {
				t.Errorf("b received %q, want %q", got, "a: again")
			}
			return
		default:
		}
	}
}

// Two of one name would each take what is meant for the other: it is said, once.
func TestLinkTwins(t *testing.T) {
	s := bustest.Server(t)
	lines := make(chan string, 10)
	join(t, s, "a", func(c *bus.Config) {
		c.Log = slog.New(slog.NewTextHandler(writer(func(b []byte) { lines <- string(bytes.Clone(b)) }), nil))
	})
	join(t, s, "a", nil)
	join(t, s, "a", nil)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	select {
	case line := <-lines:
		if !bytes.Contains([]byte(line), []byte("ref=a")) {
			t.Errorf("logged %q, want the name", line)
		}
	case <-ctx.Done():
		t.Fatal("nothing was logged")
	}
	if len(lines) > 0 {
		t.Errorf("logged %q too, want one line", <-lines)
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }
