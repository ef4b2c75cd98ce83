package bus_test

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
)

// F12: a server behind a network that swallows everything is found out, and used again when the network is back.
func TestE9F12Partition(t *testing.T) {
	t.Parallel() // it waits for timers
	srv := bustest.Server(t)
	net := newLink(t, srv.URL()[len("nats://"):])
	conn := bustest.Dial(t, srv, func(cfg *bus.Config) { cfg.URL = "nats://" + net.addr })
	if err := conn.Connected(); err != nil {
		t.Fatal(err)
	}
	net.cut(true)
	eventually(t, "the server is found to be gone", func() bool { return conn.Connected() != nil })
	net.cut(false)
	eventually(t, "the server is there again", func() bool { return conn.Connected() == nil })
}

// link carries connections to a server, until it is cut: then bytes are lost, new connections too, and nobody is told.
type link struct {
	addr string
	mu   sync.Mutex
	gone bool
}

func newLink(t *testing.T, to string) *link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &link{addr: l.Addr().String()}
	var wait sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	keep := func(c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		open = append(open, c)
	}
	wait.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			keep(near)
			if k.isCut() {
				continue // nobody says a word
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			keep(far)
			wait.Go(func() { k.carry(far, near) })
			wait.Go(func() { k.carry(near, far) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wait.Wait()
	})
	return k
}

func (k *link) cut(gone bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone = gone
}

func (k *link) isCut() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.gone
}

// carry copies from one end to the other; a connection that has lost bytes carries no more.
func (k *link) carry(to io.Writer, from io.Reader) {
	buf := make([]byte, 64<<10)
	lost := false
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if lost = lost || k.isCut(); lost {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
