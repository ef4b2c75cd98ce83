// Package dispatcher is the Message Dispatcher: it finds the processor that takes a request, leads the request through
// the middlewares and the processor, and answers the EdgePort. It never edits a message and keeps nothing between two
// of them, so that any number of dispatchers can share the work.
package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// drainTime is how long Run waits for answers when it stops; EdgePorts give up on a request sooner.
const drainTime = 10 * time.Second

// Service is a Message Dispatcher.
type Service struct {
	conn       *bus.Conn
	log        *slog.Logger
	routes     map[string][]*route // by the method as it stands in a subject; in the order of the configuration
	notAllowed bus.Body            // the 405
	counts     counts
}

// processor is a configured processor.
type processor struct {
	ref      string
	script   *script // nil: every request of its methods
	failures failures
	mismatch seldom // limits the log
	unserved seldom
}

// route is a processor, as one of its methods uses it.
type route struct {
	processor *processor
	interest  string // bus.Reply.Interest of the answer to a request
	requests  []step // what a request goes through: before, the processor, after
	responses []step // what a response goes through; may be empty
}

// step is a processor or a middleware, as one method uses it.
type step struct {
	name      string // for people: "processor connect"
	subject   string
	processor bool
}

// New checks cfg and makes a dispatcher. An error says what in cfg cannot be served.
func New(cfg Config, conn *bus.Conn, log *slog.Logger, meter metric.Meter) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{conn: conn, log: log, routes: make(map[string][]*route)}
	for i, m := range cfg.Spec.Middlewares {
		if err := onThisBus(m.Addr); err != nil {
			return nil, fmt.Errorf("spec.middlewares[%d].addr: %w", i, err)
		}
	}
	var allow []string
	var processors []*processor
	for i, p := range cfg.Spec.Processors {
		if err := onThisBus(p.Addr); err != nil {
			return nil, fmt.Errorf("spec.processors[%d].addr: %w", i, err)
		}
		m, err := newMatcher(p.MatchFunc)
		if err != nil {
			return nil, fmt.Errorf("spec.processors[%d].matchFunc: %w", i, err)
		}
		proc := &processor{ref: p.Ref, script: m.script}
		processors = append(processors, proc)
		for _, method := range p.Methods {
			token := bus.Token(method)
			if _, known := s.routes[token]; !known {
				s.routes[token] = nil
				allow = append(allow, method)
			}
			if m.static == nil || m.static(method) {
				s.routes[token] = append(s.routes[token], newRoute(cfg.Spec.Middlewares, p, proc, method))
			}
		}
	}
	s.notAllowed = bus.Value(&processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{
		MessageType: &sipmessagepb.SIPMessage_ResponseType{ResponseType: sipmessagepb.ResponseType_METHOD_NOT_ALLOWED},
		StatusCode:  405,
		Extensions:  []*sipmessagepb.Extension{{Name: "Allow", Value: strings.Join(allow, ", ")}}, // RFC 3261 21.4.6
	}})
	if err := s.observe(meter, processors); err != nil {
		return nil, fmt.Errorf("metrics of the dispatcher: %w", err)
	}
	return s, nil
}

// onThisBus refuses what cannot be reached from here.
func onThisBus(addr string) error {
	a, err := bus.ParseAddr(addr)
	switch {
	case err != nil:
		return err
	case !a.Bus():
		return fmt.Errorf("%s is a gRPC service, which needs the gateway, and there is none yet; want nats:// for a service on the bus", a)
	}
	return nil
}

// newRoute lays out the way of a method through the middlewares and the processor p.
func newRoute(middlewares []Middleware, p Processor, proc *processor, method string) *route {
	r := &route{processor: proc}
	var wanted [2]bool // ScopeMidDialog, ScopeResponses
	add := func(scope []Scope, st step) {
		if sees(scope, ScopeInitial) || sees(scope, ScopeMidDialog) {
			r.requests = append(r.requests, st)
		}
		if sees(scope, ScopeResponses) {
			r.responses = append(r.responses, st)
		}
		wanted[0] = wanted[0] || sees(scope, ScopeMidDialog)
		wanted[1] = wanted[1] || sees(scope, ScopeResponses)
	}
	for _, after := range []bool{false, true} {
		for _, m := range middlewares {
			if m.PostProcessor == after {
				add(m.Scope, step{name: "middleware " + m.Ref, subject: bus.SubjectMiddleware(m.Ref, method)})
			}
		}
		if !after {
			add(p.Scope, step{name: "processor " + p.Ref, subject: bus.SubjectProcess(p.Ref, method), processor: true})
		}
	}
	r.interest = interest(p.Ref, wanted[0], wanted[1])
	return r
}

// interest is what a chain wants to see of the rest of an exchange, for the EdgePort to keep: its scopes beyond
// initial, a semicolon, and the ref of the processor, as "midDialog,responses;connect"; empty if there is no scope.
func interest(ref string, midDialog, responses bool) string {
	switch {
	case midDialog && responses:
		return string(ScopeMidDialog) + "," + string(ScopeResponses) + ";" + ref
	case midDialog:
		return string(ScopeMidDialog) + ";" + ref
	case responses:
		return string(ScopeResponses) + ";" + ref
	}
	return ""
}

// Run serves until ctx ends, then answers what it has taken and returns.
func (s *Service) Run(ctx context.Context, ready func()) error {
	var services []*bus.Service
	var err error
	for subject, h := range map[string]bus.Handler{
		bus.SubjectDispatch(bus.Every): s.request,
		bus.SubjectResponse(bus.Every): s.response,
	} {
		var served *bus.Service
		if served, err = s.conn.Serve(subject, bus.QueueDispatcher, h, bus.Options{}); err != nil {
			break
		}
		services = append(services, served)
	}
	if err == nil {
		ready()
		<-ctx.Done()
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	for _, served := range services {
		err = errors.Join(err, served.Drain(drain))
	}
	return err
}

// request answers a request of an EdgePort: 405 if no processor takes it.
func (s *Service) request(ctx context.Context, r *bus.Request) {
	rt, req, err := s.find(r)
	s.logMatch(ctx, r, rt)
	switch {
	case err != nil:
		s.counts.add(resultError)
		r.Fail(err)
	case rt == nil:
		s.counts.add(resultNotAllowed)
		r.Reply(bus.Reply{Body: s.notAllowed})
	default:
		s.send(ctx, r, rt, rt.requests, rt.interest, req)
	}
}

// response answers a response that an EdgePort relays. What nobody wants to see goes on as it came: the answer is an
// empty MessageResponse.
func (s *Service) response(ctx context.Context, r *bus.Request) {
	rt, req, err := s.find(r)
	s.logMatch(ctx, r, rt)
	switch {
	case err != nil:
		s.counts.add(resultError)
		r.Fail(err)
	case rt == nil || len(rt.responses) == 0:
		s.counts.add(resultUnseen)
		r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{})})
	default:
		s.send(ctx, r, rt, rt.responses, "", req)
	}
}

// logMatch logs the choice of a route, at the level that logs each message.
func (s *Service) logMatch(ctx context.Context, r *bus.Request, rt *route) {
	if !s.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	ref := "none"
	if rt != nil {
		ref = rt.processor.ref
	}
	s.log.Debug("message matched", "subject", r.Subject, "processor", ref)
}

// find returns the first route that takes r: by the method in the subject, then by the matchFunc. req is the message
// if it had to be decoded for that.
func (s *Service) find(r *bus.Request) (rt *route, req *processorpb.MessageRequest, err error) {
	for _, rt := range s.routes[r.Subject[strings.LastIndexByte(r.Subject, '.')+1:]] {
		if rt.processor.script == nil {
			return rt, req, nil
		}
		if req == nil {
			if req, err = bus.Decode[processorpb.MessageRequest](r.Body); err != nil {
				return nil, nil, err
			}
		}
		if s.matches(rt.processor, req) {
			return rt, req, nil
		}
	}
	return nil, req, nil
}

// matches asks the script of p. A script that fails does not match.
func (s *Service) matches(p *processor, req *processorpb.MessageRequest) bool {
	match, err := p.script.run(req)
	if err != nil {
		p.failures.add(err)
		if p.mismatch.now() {
			s.log.Warn("matchFunc failed, so its processor does not match", "processor", p.ref, "err", err)
		}
	}
	return match
}

// send leads r through the steps and answers it.
func (s *Service) send(ctx context.Context, r *bus.Request, rt *route, steps []step, interest string, req *processorpb.MessageRequest) {
	if len(steps) == 1 && steps[0].processor { // nobody but the processor looks at the message: forward its bytes
		r.Forward(steps[0].subject, func(reply bus.Reply, err error) {
			if err != nil {
				s.fail(r, rt, &steps[0], err)
				return
			}
			s.answer(r, reply.Body, interest)
		})
		return
	}
	if req == nil {
		var err error
		if req, err = bus.Decode[processorpb.MessageRequest](r.Body); err != nil {
			s.counts.add(resultError)
			r.Fail(err)
			return
		}
	}
	x := &exchange{service: s, request: r, route: rt, steps: steps, interest: interest, message: req}
	x.next(ctx)
}

func (s *Service) answer(r *bus.Request, body bus.Body, interest string) {
	s.counts.add(resultOK)
	r.Reply(bus.Reply{Body: body, Interest: interest})
}

// fail answers r with the error of a step, which keeps its code: the EdgePort makes a status of it.
func (s *Service) fail(r *bus.Request, rt *route, at *step, err error) {
	code := bus.CodeOf(err)
	switch code {
	case bus.Unavailable:
		s.counts.add(resultUnavailable)
		if rt.processor.unserved.now() {
			s.log.Warn("a service cannot be reached", "name", at.name, "subject", at.subject, "err", err)
		}
	case bus.DeadlineExceeded:
		s.counts.add(resultDeadline)
	default:
		s.counts.add(resultError)
	}
	text := err.Error()
	if e, ok := errors.AsType[*bus.Error](err); ok {
		text = e.Text
	}
	r.Fail(bus.Errorf(code, "%s: %s", at.name, text))
}
