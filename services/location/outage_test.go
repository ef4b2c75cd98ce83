package location

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
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

func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.buf.String(), text)
}

// An outage of the bus is one warning, however often the bucket was tried meanwhile, and one line when it is over.
func TestOutageIsLoggedOnce(t *testing.T) {
	t.Parallel() // it waits for timers
	server := bustest.Server(t)
	conn := bustest.Dial(t, server, func(c *bus.Config) { c.Local = true })
	cfg := Default()
	cfg.Spec.Cache.Provider = ProviderNATS
	var log journal
	s, err := New(cfg, conn, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), noMeter())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.Run(ctx, func() { close(ready) }) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("Run() = %v before it was ready", err)
	}
	comes := func(text string, n int) {
		t.Helper()
		end := time.Now().Add(patience)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for log.count(text) < n {
			if time.Now().After(end) {
				t.Fatalf("%q was logged %d times, want %d", text, log.count(text), n)
			}
			<-tick.C
		}
	}
	for outage := 1; outage <= 2; outage++ {
		server.Shutdown()
		comes("cannot be followed yet", log.count("cannot be followed yet")+2)
		server = bustest.Restart(t, server)
		comes("the bucket of bindings is followed again", outage)
		if warned := log.count("level=WARN"); warned != outage {
			t.Errorf("%d warnings after %d outages, want one for each", warned, outage)
		}
	}
	if err := until(t, "", func() error {
		_, err := add(t, conn, &locationpb.AddRouteRequest{Aor: "sip:1001@sip.local", Route: route("x")})
		return err
	}); err != nil {
		t.Errorf("add after two outages: %v", err)
	}
}
