package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"go.opentelemetry.io/otel/trace"
)

const (
	dialTimeout  = 2 * time.Second         // of one attempt to reach one server
	retryDelay   = 250 * time.Millisecond  // between two attempts
	pingInterval = 1500 * time.Millisecond // a server that misses two pings is given up, 4.5 s after its last word
	writeTimeout = 2 * time.Second         // a server that takes nothing for so long is given up; Call may block meanwhile
	flushTimeout = 2 * time.Second         // for the server to know of a subscription
)

// Conn is a connection to the bus. Its methods may be called from any goroutine.
type Conn struct {
	cfg    Config
	log    *slog.Logger
	tracer trace.Tracer
	nc     *nats.Conn // nil: NoServer
	inbox  string     // with the final dot: replies arrive at inbox<id>
	calls  waiting
	local  responders
	leases leases
	buf    sync.Pool // *[]byte, to encode into
	copyID atomic.Uint64
	stats  counters
	panics limiter // log lines about panics
	slow   limiter // log lines about slow subscriptions

	ctx    context.Context // ends with the connection; for what it runs in the background
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	services map[*Service]struct{}
	down     error     // why there is no server
	since    time.Time // when it was lost
	back     time.Time // when it, or another one, was found again
}

type counters struct {
	late, expired, refused, panics, lateReplies, overflows atomic.Uint64
}

// Connect connects, and keeps reconnecting until Close. It fails when no server answers within ctx, and at once when
// cfg.URL or its credentials are wrong.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	c := &Conn{cfg: cfg, log: cfg.Log, tracer: cfg.Tracer, services: make(map[*Service]struct{})}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.calls.init(c)
	c.local.init()
	if cfg.URL == NoServer {
		if !cfg.Local {
			return nil, fmt.Errorf("connect to %s: a bus without a server needs Config.Local", NoServer)
		}
		return c, nil
	}
	if err := c.dial(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("connect to nats at %s: %w", redact(cfg.URL), err)
	}
	name := cfg.Name
	if len(name) > 64 {
		name = name[:64]
	}
	c.inbox = SubjectReply(name, nuid.Next()) + "."
	if _, err := c.nc.Subscribe(c.inbox+"*", c.onReply); err != nil {
		c.Close()
		return nil, fmt.Errorf("subscribe %s*: %w", c.inbox, err)
	}
	if cfg.Interest == nil {
		if _, err := c.Subscribe(SubjectControl(verbTap), c.onLease); err != nil {
			c.Close()
			return nil, err
		}
	}
	if err := c.settle(); err != nil {
		c.Close()
		return nil, fmt.Errorf("connect to nats at %s: %w", redact(cfg.URL), err)
	}
	return c, nil
}

// dial tries until a server answers or ctx ends.
func (c *Conn) dial(ctx context.Context) error {
	opts := []nats.Option{
		nats.Name(c.cfg.Name),
		nats.Timeout(dialTimeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(retryDelay),
		nats.ReconnectBufSize(-1), // a call while there is no server fails at once, so that SIP can answer 503
		nats.FlusherTimeout(writeTimeout),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(c.onDisconnect),
		nats.ReconnectHandler(c.onReconnect),
		nats.ErrorHandler(c.onError),
	}
	if c.cfg.Dial != nil {
		opts = append(opts, nats.InProcessServer(inProcess(c.cfg.Dial)))
	}
	for first := true; ; first = false {
		nc, err := nats.Connect(c.cfg.URL, opts...)
		if err == nil {
			c.nc = nc
			return nil
		}
		if !mayPass(err) {
			return err
		}
		if first {
			c.log.Warn("waiting for nats", "url", redact(c.cfg.URL), "err", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-time.After(retryDelay):
		}
	}
}

// inProcess is Config.Dial in the form that nats.go takes.
type inProcess func() (net.Conn, error)

func (d inProcess) InProcessConn() (net.Conn, error) { return d() }

// mayPass says whether err is of the kind that ends when the server is up: not there, not found, not answering. The rest,
// wrong credentials say, is final.
func mayPass(err error) bool {
	var wrong *url.Error
	if errors.As(err, &wrong) {
		return false
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, io.EOF)
}

// settle waits until the server knows what was subscribed. While there is no server there is nothing to wait for:
// subscriptions are renewed on reconnection.
func (c *Conn) settle() error {
	if !c.nc.IsConnected() {
		return nil
	}
	if err := c.nc.FlushTimeout(flushTimeout); err != nil && c.nc.IsConnected() {
		return err
	}
	return nil
}

// Close drops the connection. Calls in flight fail with ErrUnavailable. Close waits for no handler, as Service.Drain
// does; once it has returned the server sends this connection no more requests. Close is idempotent.
func (c *Conn) Close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	services := make([]*Service, 0, len(c.services))
	for s := range c.services {
		services = append(services, s)
	}
	c.mu.Unlock()

	for _, s := range services {
		s.stop()
	}
	c.cancel()
	if c.nc != nil {
		if c.nc.IsConnected() {
			_ = c.nc.FlushTimeout(flushTimeout) // it is closed in any case
		}
		c.nc.Close()
	}
	c.calls.close()
	c.wg.Wait()
}

// Connected is nil while the server answers, else says since when and why not. It is what /readyz asks.
func (c *Conn) Connected() error {
	if c.nc == nil || c.nc.IsConnected() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return Errorf(Unavailable, "the connection to nats is closed")
	case c.down != nil:
		return Errorf(Unavailable, "no nats server at %s since %s: %v", redact(c.cfg.URL), c.since.Format(time.RFC3339), c.down)
	default:
		return Errorf(Unavailable, "no nats server at %s", redact(c.cfg.URL))
	}
}

// JetStream gives access to key-value buckets. Only stores use it.
func (c *Conn) JetStream() (jetstream.JetStream, error) {
	if c.nc == nil {
		return nil, Errorf(Unavailable, "there is no nats server: the bus is %s", NoServer)
	}
	return jetstream.New(c.nc)
}

// Stats returns the counters.
func (c *Conn) Stats() Stats {
	return Stats{
		Late:        c.stats.late.Load(),
		Expired:     c.stats.expired.Load(),
		Refused:     c.stats.refused.Load(),
		Panics:      c.stats.panics.Load(),
		LateReplies: c.stats.lateReplies.Load(),
		Overflows:   c.stats.overflows.Load(),
		Pending:     c.calls.len(),
	}
}

func (c *Conn) onDisconnect(_ *nats.Conn, err error) {
	if err == nil {
		err = errors.New("disconnected")
	}
	c.mu.Lock()
	closed := c.closed
	c.down, c.since = err, time.Now()
	c.mu.Unlock()
	if !closed {
		c.log.Warn("nats connection lost", "err", err)
	}
}

func (c *Conn) onReconnect(*nats.Conn) {
	c.mu.Lock()
	c.down, c.back = nil, time.Now()
	c.mu.Unlock()
	c.log.Info("nats connection restored")
}

func (c *Conn) onError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if !errors.Is(err, nats.ErrSlowConsumer) {
		c.log.Warn("nats reported an error", "err", err)
		return
	}
	c.stats.overflows.Add(1)
	if n, ok := c.slow.allow(); ok {
		c.log.Warn("subscription is too slow, messages were dropped", "subject", sub.Subject, "unlogged", n)
	}
}

// turned is when the server was lost or found again, whichever came last; zero: it was always there.
func (c *Conn) turned() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.back.After(c.since) {
		return c.back
	}
	return c.since
}

// limiter lets one log line a second through and counts the others.
type limiter struct {
	mu      sync.Mutex
	last    time.Time
	skipped int
}

func (l *limiter) allow() (skipped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !l.last.IsZero() && now.Sub(l.last) < time.Second {
		l.skipped++
		return 0, false
	}
	skipped, l.skipped, l.last = l.skipped, 0, now
	return skipped, true
}

// redact removes the passwords from a list of URLs.
func redact(urls string) string {
	list := strings.Split(urls, ",")
	for i, s := range list {
		if !strings.ContainsAny(s, "/@") {
			continue // host:port
		}
		u, err := url.Parse(strings.TrimSpace(s))
		if err != nil {
			list[i] = "(not a URL)"
			continue
		}
		list[i] = u.Redacted()
	}
	return strings.Join(list, ",")
}
