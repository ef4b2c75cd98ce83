// Package bustest gives tests a real bus: a NATS server with JetStream in this process, on a free port, with its store
// in the test's own directory. All of it ends with the test.
package bustest

import (
	"context"
	"testing"
	"time"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/embed"
)

const timeout = 10 * time.Second // for a server or a connection to be there

// Server starts a server.
func Server(t testing.TB) *embed.Server {
	t.Helper()
	return start(t, embed.Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), Name: "bustest"})
}

// Restart shuts s down, if it runs, and starts it again with the same address and store.
func Restart(t testing.TB, s *embed.Server) *embed.Server {
	t.Helper()
	s.Shutdown()
	return start(t, s.Config())
}

func start(t testing.TB, cfg embed.Config) *embed.Server {
	t.Helper()
	s, err := embed.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

// Dial connects to s; mutate, unless nil, changes the config first. Calls go through NATS unless mutate sets Local.
func Dial(t testing.TB, s *embed.Server, mutate func(*bus.Config)) *bus.Conn {
	t.Helper()
	cfg := bus.Config{URL: s.URL(), Name: "bustest"}
	if mutate != nil {
		mutate(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := bus.Connect(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Connect starts a server and connects to it. All calls go through NATS.
func Connect(t testing.TB) *bus.Conn {
	t.Helper()
	return Dial(t, Server(t), nil)
}

// Local starts a server and connects to it as `routr one` does: calls to responders of the same connection are handed
// over, and the server says who else listens.
func Local(t testing.TB) *bus.Conn {
	t.Helper()
	s := Server(t)
	return Dial(t, s, func(cfg *bus.Config) { cfg.Local, cfg.Interest, cfg.Dial = true, s.Interest, s.Dial })
}

// Alone is a connection without a server, for tests under testing/synctest, which cannot wait for a socket.
func Alone(t testing.TB) *bus.Conn {
	t.Helper()
	c, err := bus.Connect(context.Background(), bus.Config{URL: bus.NoServer, Local: true, Name: "bustest"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Modes runs f twice, with a connection that goes through NATS and with one that hands calls over: what f expects must
// hold in both.
func Modes(t *testing.T, f func(t *testing.T, c *bus.Conn)) {
	t.Helper()
	t.Run("nats", func(t *testing.T) { f(t, Connect(t)) })
	t.Run("local", func(t *testing.T) { f(t, Local(t)) })
}
