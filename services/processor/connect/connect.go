// Package connect is the Connect processor: the registrar of our domains (RFC 3261 10.3), and the one who decides for
// requests outside a dialog who may call and where the callee's bindings are (RFC 3261 16.5).
//
// It never reads a file, writes a Via or keeps a binding: bindings are the Location Service's.
package connect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/processor"
)

// Service is a Connect processor.
type Service struct {
	cfg     Spec
	ref     string
	conn    *bus.Conn
	log     *slog.Logger
	dir     *directory
	trusted []netip.Prefix
	digest  atomic.Pointer[processor.Digest] // nil until Run
	counts  counts
	date    atomic.Pointer[date]

	find, add     string   // subjects
	serviceRoute  []string // values of Service-Route
	flowTimer     string   // the value of Flow-Timer
	nonceLifetime time.Duration
}

// noncesTime is how long the last answers to other instances may take when this one ends.
const noncesTime = time.Second

// New makes a Connect processor that serves the resources res; it starts nothing. An error has everything that is wrong
// with cfg and res. What it counts, it counts with meter.
func New(cfg Config, res Resources, conn *bus.Conn, log *slog.Logger, meter metric.Meter) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration of the processor %s: %w", cfg.Ref, err)
	}
	dir, err := newDirectory(res)
	if err != nil {
		return nil, fmt.Errorf("resources of the processor %s: %w", cfg.Ref, err)
	}
	s := &Service{
		cfg: cfg.Spec, ref: cfg.Ref, conn: conn, log: log, dir: dir,
		find: bus.SubjectLocation(bus.LocationFind), add: bus.SubjectLocation(bus.LocationAdd),
		nonceLifetime: processor.NonceLifetime,
		flowTimer:     strconv.Itoa(cfg.Spec.FlowTimer),
	}
	for _, r := range cfg.Spec.ServiceRoute {
		s.serviceRoute = append(s.serviceRoute, "<"+r+">")
	}
	for _, t := range cfg.Spec.Trusted {
		n, err := parseNet(t)
		if err != nil {
			return nil, fmt.Errorf("spec.trusted: %w", err)
		}
		s.trusted = append(s.trusted, n)
	}
	if err := s.observe(meter); err != nil {
		return nil, fmt.Errorf("metrics of the processor %s: %w", cfg.Ref, err)
	}
	return s, nil
}

// Run serves until ctx ends; it calls ready once it is subscribed. It needs JetStream, where the key that nonces are
// signed with is kept for all instances.
func (s *Service) Run(ctx context.Context, ready func()) (err error) {
	keys, err := s.conn.SharedKeys(ctx, "digest")
	if err != nil {
		return fmt.Errorf("read the keys of digest nonces: %w", err)
	}
	digest, err := processor.NewDigest(keys, s.nonceLifetime, s.cfg.Algorithms...)
	if err != nil {
		return err
	}
	s.digest.Store(digest)
	nonces, err := digest.ServeNonces(s.conn)
	if err != nil {
		return err
	}
	defer func() { // once all requests are answered: while there are some, other instances may ask about nonces of ours
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), noncesTime)
		defer cancel()
		err = errors.Join(err, nonces.Drain(drain))
	}()
	return processor.Run(ctx, s.conn, s.ref, s.handle, processor.Options{Log: s.log}, func() {
		s.log.LogAttrs(ctx, slog.LevelInfo, "connect processor serves",
			slog.Int("domains", len(s.dir.domains)), slog.Int("trusted_networks", len(s.trusted)))
		ready()
	})
}

// handle answers one request.
func (s *Service) handle(ctx context.Context, r processor.Request) {
	m := r.GetMessage()
	switch {
	case r.IsResponse():
		// Our interest ends with the request; should a response come all the same, it goes on as it is.
		r.Reply(&processorpb.MessageResponse{Message: m})
	case m.GetRequestUri() == nil || m.GetFrom() == nil || m.GetTo() == nil:
		s.refuse(r, 400, "Request-URI, From Or To Missing")
	case r.Method == processorpb.Method_REGISTER:
		s.register(ctx, r)
	default:
		s.route(ctx, r)
	}
}

// trusts reports whether the request came from a trusted network.
func (s *Service) trusts(r processor.Request) bool {
	if len(s.trusted) == 0 {
		return false
	}
	from, err := netip.ParseAddr(r.GetSender().GetHost())
	if err != nil {
		return false
	}
	from = from.Unmap()
	for _, n := range s.trusted {
		if n.Contains(from) {
			return true
		}
	}
	return false
}

// refuse answers with a response that is the sender's business.
func (s *Service) refuse(r processor.Request, status int, reason string, headers ...*sipmessagepb.Extension) {
	s.counts.add(refused)
	r.Respond(status, reason, headers...)
}

// challenge answers with what Authenticate made.
func (s *Service) challenge(r processor.Request, response *processorpb.MessageResponse) {
	s.counts.add(challenged)
	r.Reply(response)
}

// unavailable answers when the Location Service cannot. The time to wait is spread, so that not all come back at once.
func (s *Service) unavailable(r processor.Request) {
	s.counts.add(unavailable)
	//nolint:gosec // nobody gains by guessing it
	r.Respond(503, "", processor.NewHeader("Retry-After", strconv.Itoa(5+rand.IntN(26))))
}

// fail answers when something is wrong here.
func (s *Service) fail(r processor.Request, err error) {
	s.counts.add(failed)
	r.Fail(err)
}

// date is a point in time as a Date header has it.
type date struct {
	second int64
	text   string
}

// dateText is the value of a Date header (RFC 3261 20.17), made once a second.
func (s *Service) dateText(now time.Time) string {
	if d := s.date.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &date{second: now.Unix(), text: now.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}
	s.date.Store(d)
	return d.text
}
