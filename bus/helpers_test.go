package bus_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/routr-fabric/routr/bus/embed"
)

// plain is a client of NATS that knows nothing of this package.
func plain(t *testing.T, s *embed.Server) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func natsMsg(subject string, data []byte, header map[string]string) *nats.Msg {
	m := nats.NewMsg(subject)
	m.Data = data
	for k, v := range header {
		m.Header.Set(k, v)
	}
	return m
}

// eventually waits until ok, which only the work of other goroutines makes true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(wait)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: not after %s", what, wait)
		case <-tick.C:
		}
	}
}
