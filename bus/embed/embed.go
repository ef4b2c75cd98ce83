// Package embed runs a NATS server with JetStream inside this process, for `routr one` and for tests. It installs no
// signal handlers and never ends the process.
package embed

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const startTimeout = 10 * time.Second // for JetStream to recover what the store holds

// Config of a server.
type Config struct {
	Listen   string       // host:port; a port of 0 or -1 is a free one, see URL
	StoreDir string       // where JetStream keeps its streams
	Name     string       // of the server, in what it tells its clients
	Log      *slog.Logger // nil: discarded
}

// Server is a running NATS server.
type Server struct {
	cfg      Config
	ns       *server.Server
	interest interest
}

// Start starts a server and returns when it takes connections. The error of an address that is in use, or of a store
// that cannot be used, says which one and what to do.
func Start(cfg Config) (*Server, error) {
	host, port, err := splitListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	if cfg.StoreDir == "" {
		return nil, errors.New("nats server: no store directory: JetStream needs one")
	}
	// The server opens its store before its socket. A second process must not touch the store of a first one, so the
	// address, which only one can have, is tried first.
	if err := tryListen(host, port); err != nil {
		return nil, err
	}
	log := &logger{log: cfg.Log}
	if log.log == nil {
		log.log = slog.New(slog.DiscardHandler)
	}
	ns, err := server.NewServer(&server.Options{
		ServerName: cfg.Name,
		Host:       host,
		Port:       port,
		JetStream:  true,
		StoreDir:   cfg.StoreDir,
		NoSigs:     true,
	})
	if err != nil {
		return nil, fmt.Errorf("nats server: %w", err)
	}
	ns.SetLoggerV2(log, false, false, false)
	// Start leaves goroutines that serve; what keeps it from that it only tells its log.
	ns.Start()
	if err := log.fatal(); err != nil {
		ns.Shutdown()
		ns.WaitForShutdown()
		return nil, fmt.Errorf("nats server: listen %s, store %s: %w", cfg.Listen, cfg.StoreDir, err)
	}
	if !ns.ReadyForConnections(startTimeout) {
		ns.Shutdown()
		ns.WaitForShutdown()
		return nil, fmt.Errorf("nats server: listen %s: not ready after %s", cfg.Listen, startTimeout)
	}
	s := &Server{cfg: cfg, ns: ns, interest: interest{ns: ns, acc: ns.GlobalAccount()}}
	s.cfg.Listen = ns.Addr().String()
	return s, nil
}

// Config is what the server runs with; Listen is its real address. Start(s.Config()) after Shutdown starts it again.
func (s *Server) Config() Config { return s.cfg }

// URL is what clients connect to.
func (s *Server) URL() string { return "nats://" + s.cfg.Listen }

// Interest is how many subscriptions match subject, which has no wildcards; bus.Config.Interest wants it. One that was
// made or ended while another one did the opposite is noticed 100 ms late.
func (s *Server) Interest(subject string) int { return s.interest.count(subject) }

// Dial opens a connection to the server that is no socket, for bus.Config.Dial.
func (s *Server) Dial() (net.Conn, error) { return s.ns.InProcessConn() }

// Shutdown closes all connections and returns when the store is closed and the address is free. It is idempotent.
func (s *Server) Shutdown() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}

func splitListen(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("nats server: listen %q: want host:port", addr)
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < -1 || port > 65535 {
		return "", 0, fmt.Errorf("nats server: listen %q: port is %q, want 0 to 65535", addr, text)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// tryListen says what is wrong with an address, if anything is.
func tryListen(host string, port int) error {
	addr := net.JoinHostPort(host, strconv.Itoa(max(port, 0)))
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("nats server: listen %s: the address is in use: stop what listens there, or choose another one", addr)
	}
	if err != nil {
		return fmt.Errorf("nats server: listen %s: %w", addr, err)
	}
	return l.Close()
}

// logger passes the server's log on to slog. Its notices are of interest to those who debug it.
type logger struct {
	log *slog.Logger

	mu  sync.Mutex
	err error
}

func (l *logger) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Noticef logs at Debug.
func (l *logger) Noticef(format string, v ...any) {
	l.log.Debug("nats server", "text", fmt.Sprintf(format, v...))
}

// Warnf logs at Warn.
func (l *logger) Warnf(format string, v ...any) {
	l.log.Warn("nats server", "text", fmt.Sprintf(format, v...))
}

// Errorf logs at Error.
func (l *logger) Errorf(format string, v ...any) {
	l.log.Error("nats server", "text", fmt.Sprintf(format, v...))
}

// Fatalf keeps the error for Start; the server returns after it.
func (l *logger) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = fmt.Errorf(format, v...)
	}
}

// Debugf is off.
func (l *logger) Debugf(string, ...any) {}

// Tracef is off.
func (l *logger) Tracef(string, ...any) {}
