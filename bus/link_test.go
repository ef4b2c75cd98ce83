package bus_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
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
	t.Parallel() // it waits for timers
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
func TestE9LinkServerGoesAndComes(t *testing.T) {
	t.Parallel() // it waits for timers
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

// A name may have any characters. Who gets a message knows who sent it, and can answer.
func TestLinkNames(t *testing.T) {
	s := bustest.Server(t)
	b := join(t, s, "b", nil)
	for _, name := range []string{"edge 1", " a ", "ä+%20", "a\r\nb: c", "*", ">", "a.b", "<every>x"} {
		a := join(t, s, name, nil)
		a.send("b", "hello")
		want(t, b.received, name+": hello")
		b.send(name, "and you")
		want(t, a.received, "b: and you")
	}
}

// What is sent after the end fails, and a second Close does nothing.
func TestLinkClosed(t *testing.T) {
	s := bustest.Server(t)
	a, b := join(t, s, "a", nil), join(t, s, "b", nil)
	a.send("b", "last words")
	a.link.Close()
	want(t, b.received, "a: last words")
	a.link.Close()
	failed := make(chan string, 1)
	a.link.Send("b", []byte("from beyond"), func(err error) { failed <- err.Error() })
	want(t, failed, "UNAVAILABLE: the link is closed")
}

// When the server goes and comes, everybody loses it, and not all find it again at the same moment: who is back earlier
// must not take the others for gone.
func TestLinkPeerIsBackLater(t *testing.T) {
	s := bustest.Server(t)
	addr := strings.TrimPrefix(s.URL(), "nats://")
	gate := make(chan struct{}, 1)
	gate <- struct{}{}
	a := join(t, s, "a", nil)
	b := join(t, s, "b", func(c *bus.Config) {
		c.Dial = func() (net.Conn, error) {
			<-gate
			return net.Dial("tcp", addr)
		}
	})
	a.send("b", "hello")
	want(t, b.received, "a: hello")
	b.send("a", "hello")
	want(t, a.received, "b: hello")
	begin := time.Now()
	bustest.Restart(t, s)
	defer close(gate)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	// A second after its last question a asks b again. What it is told of c, who never was, shows that it has a server.
	for told := 0; time.Since(begin) < 2*time.Second || told == 0; <-ticker.C {
		a.send("b", "lost")
		a.send("c", "anybody?")
		select {
		case got := <-a.gone:
			if told++; got == "b" && time.Since(begin) < 3*time.Second {
				t.Fatal("b is taken for gone, want c alone")
			}
		default:
		}
	}
}
