package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Bounds of the HTTP server. Nobody but a probe, a scraper and an operator talks to it.
const (
	maxConns      = 128
	maxHeader     = 16 << 10
	maxScrapes    = 4 // at a time
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 90 * time.Second // a CPU profile takes 30 s unless asked otherwise
	idleTimeout   = 60 * time.Second
)

// server is the HTTP server of a process.
type server struct {
	http     *http.Server
	listener net.Listener
	done     chan struct{} // closed when the server has returned
}

// listen opens addr and serves on it until shutdown.
func listen(ctx context.Context, addr string, alive, ready *checks, registry *prometheus.Registry, log *slog.Logger) (*server, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen http %s: %w by another process, choose another port", addr, syscall.EADDRINUSE)
	}
	if err != nil {
		return nil, fmt.Errorf("listen http %s: %w", addr, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", alive.handler("ok", "not ok"))
	mux.Handle("GET /readyz", ready.handler("ready", "not ready"))
	mux.Handle("GET /metrics", promhttp.InstrumentMetricHandler(registry, promhttp.HandlerFor(registry,
		promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes})))
	if ip := l.Addr().(*net.TCPAddr).IP; ip.IsLoopback() { // a profile shows memory and slows the process: local eyes only
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	s := &server{listener: l, done: make(chan struct{}), http: &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what strangers do wrong
	}}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(netutil.LimitListener(l, maxConns)); !errors.Is(err, http.ErrServerClosed) {
			log.Error("http server stopped", "addr", addr, "err", err)
		}
	}()
	return s, nil
}

// shutdown waits for requests that are being answered, at most until ctx ends.
func (s *server) shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	return err
}

// checks are conditions, by name.
type checks struct {
	needed bool // without any the answer is no
	mu     sync.Mutex
	byName map[string]func() error
}

func (c *checks) add(name string, check func() error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byName == nil {
		c.byName = make(map[string]func() error)
	}
	c.byName[name] = check
}

// status is the body of /healthz and /readyz.
type status struct {
	Status string            `json:"status"`
	Failed map[string]string `json:"failed,omitempty"` // the sentence of each failing check
}

// handler answers 200 when every check passes, else 503 with what the failing ones say.
func (c *checks) handler(good, bad string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c.mu.Lock()
		run := maps.Clone(c.byName)
		c.mu.Unlock()
		failed := make(map[string]string)
		if c.needed && len(run) == 0 {
			failed["process"] = "it is starting"
		}
		for name, check := range run {
			if err := check(); err != nil {
				failed[name] = err.Error()
			}
		}
		if len(failed) > 0 {
			answer(w, http.StatusServiceUnavailable, status{Status: bad, Failed: failed})
			return
		}
		answer(w, http.StatusOK, status{Status: good})
	}
}

func answer(w http.ResponseWriter, code int, s status) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(s) // a client that has gone does not matter
}
