package dispatcher

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
)

// Config is the configuration of a Message Dispatcher, as its file has it.
type Config struct {
	// Version of the layout of this file.
	APIVersion string `json:"apiVersion" jsonschema:"required,enum=v2beta1,enum=v2"`
	// Kind of the file.
	Kind string `json:"kind" jsonschema:"required,enum=MessageDispatcher"`
	// Name of this Message Dispatcher.
	Ref string `json:"ref" jsonschema:"required,minLength=1"`
	// What the Message Dispatcher does.
	Spec Spec `json:"spec" jsonschema:"required"`
}

// Spec is what a Message Dispatcher does.
type Spec struct {
	// Address to accept gRPC requests on, with or without a port (51901). On the bus it has no meaning.
	BindAddr string `json:"bindAddr,omitempty" jsonschema:"default=0.0.0.0"`
	// Middlewares, which see the messages of all processors, in this order.
	Middlewares []Middleware `json:"middlewares,omitempty" jsonschema:"maxItems=16"`
	// Message Processors. A request goes to the first one whose methods and matchFunc take it; if there is none, the
	// answer is 405 (Method Not Allowed).
	Processors []Processor `json:"processors,omitempty" jsonschema:"minItems=1,maxItems=256"`
}

// Middleware changes or reads messages before or after the processor.
type Middleware struct {
	// Name of the middleware.
	Ref string `json:"ref" jsonschema:"required,pattern=^[A-Za-z0-9._-]+$"`
	// Where it is: nats:// or none for the bus this process is connected to, nats://host:port for the bus there,
	// host:port or grpc://host:port for gRPC.
	Addr string `json:"addr,omitempty"`
	// Whether it runs after the processor; without it, before.
	PostProcessor bool `json:"postProcessor,omitempty"`
	// Which messages of a call it sees: initial (requests outside a dialog), midDialog (requests inside one),
	// responses. If absent: initial.
	Scope []Scope `json:"scope,omitempty" jsonschema:"uniqueItems=true,minItems=1,enum=initial,enum=midDialog,enum=responses"`
}

// Processor decides what becomes of a request.
type Processor struct {
	// Name of the processor.
	Ref string `json:"ref" jsonschema:"required,pattern=^[A-Za-z0-9._-]+$"`
	// Where it is: nats:// or none for the bus this process is connected to, nats://host:port for the bus there,
	// host:port or grpc://host:port for gRPC.
	Addr string `json:"addr,omitempty"`
	// SIP methods that it takes, case-sensitive (RFC 3261 7.1).
	Methods []string `json:"methods" jsonschema:"required,uniqueItems=true,minItems=1,maxItems=64"`
	// JavaScript function that gets the request as an object and says whether the processor takes it, such as
	// req => req.message.requestUri.host === "example.com". If absent: req => true.
	MatchFunc string `json:"matchFunc,omitempty" jsonschema:"default=req => true"`
	// Which messages of a call it sees: initial (requests outside a dialog), midDialog (requests inside one),
	// responses. If absent: initial.
	Scope []Scope `json:"scope,omitempty" jsonschema:"uniqueItems=true,minItems=1,enum=initial,enum=midDialog,enum=responses"`
}

// Scope is a class of messages.
type Scope string

// The scopes.
const (
	ScopeInitial   Scope = "initial"   // requests outside a dialog
	ScopeMidDialog Scope = "midDialog" // requests inside a dialog
	ScopeResponses Scope = "responses"
)

const (
	maxMiddlewares = 16 // as each one is a trip for every message
	maxProcessors  = 256
	maxMethods     = 64
)

// Default is the configuration of a dispatcher that sends everything to the processor connect.
func Default() Config {
	return Config{
		APIVersion: "v2beta1",
		Kind:       "MessageDispatcher",
		Ref:        "dispatcher",
		Spec: Spec{
			BindAddr:   "0.0.0.0",
			Processors: []Processor{{Ref: "connect", Methods: knownMethods(), MatchFunc: "req => true"}},
		},
	}
}

// knownMethods is the methods that the contract has a name for, in its order.
func knownMethods() []string {
	values := processorpb.Method(0).Descriptor().Values()
	names := make([]string, 0, values.Len()-1)
	for i := range values.Len() {
		if v := values.Get(i); v.Number() != 0 {
			names = append(names, string(v.Name()))
		}
	}
	return names
}

// Validate reports everything that is wrong with c, each error beginning with the path of the field.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if c.Ref == "" {
		wrong("ref: is empty, want a name such as dispatcher")
	}
	if a := c.Spec.BindAddr; a != "" && !isBindAddr(a) {
		wrong("spec.bindAddr: %q is no IP address, want one such as 0.0.0.0 or 0.0.0.0:51901", a)
	}
	tooMany := func(path string, n, most int) {
		if n > most {
			wrong("%s: has %d entries, want at most %d", path, n, most)
		}
	}
	tooMany("spec.middlewares", len(c.Spec.Middlewares), maxMiddlewares)
	tooMany("spec.processors", len(c.Spec.Processors), maxProcessors)
	if len(c.Spec.Processors) == 0 {
		wrong("spec.processors: is empty, want at least one processor, as nothing else answers a request")
	}

	known := knownMethods()
	refs := make(map[string]string) // ref to path; a member has one, on the bus and in errors
	member := func(path, ref, addr string, scope []Scope) {
		if !isRef(ref) {
			wrong("%s.ref: %q is no name, want letters, digits, '.', '_' and '-'", path, ref)
		} else if first, found := refs[ref]; found {
			wrong("%s.ref: %s is already used by %s", path, ref, first)
		} else {
			refs[ref] = path
		}
		if _, err := bus.ParseAddr(addr); err != nil {
			wrong("%s.addr: %w", path, err)
		}
		for i, s := range scope {
			if s != ScopeInitial && s != ScopeMidDialog && s != ScopeResponses {
				wrong("%s.scope[%d]: %q is unknown, want initial, midDialog or responses", path, i, s)
			}
		}
	}
	for i, m := range c.Spec.Middlewares {
		member(fmt.Sprintf("spec.middlewares[%d]", i), m.Ref, m.Addr, m.Scope)
	}
	for i, p := range c.Spec.Processors {
		path := fmt.Sprintf("spec.processors[%d]", i)
		member(path, p.Ref, p.Addr, p.Scope)
		if len(p.Methods) == 0 {
			wrong("%s.methods: is empty, want at least one such as INVITE", path)
		}
		tooMany(path+".methods", len(p.Methods), maxMethods)
		for j, m := range p.Methods {
			switch upper := strings.ToUpper(m); {
			case !isMethod(m):
				wrong("%s.methods[%d]: %q is no SIP method, want a token such as INVITE", path, j, m)
			case m != upper && slices.Contains(known, upper):
				wrong("%s.methods[%d]: %q is not %s, as methods are case-sensitive (RFC 3261 7.1); write %s", path, j, m, upper, upper)
			case slices.Index(p.Methods, m) < j:
				wrong("%s.methods[%d]: %s is already there", path, j, m)
			}
		}
		if _, err := newMatcher(p.MatchFunc); err != nil {
			wrong("%s.matchFunc: %w", path, err)
		}
	}
	return errors.Join(errs...)
}

func isBindAddr(s string) bool {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	_, err := netip.ParseAddr(s)
	return err == nil
}

// isRef reports whether s can stand in a header of the bus and in a log as it is.
func isRef(s string) bool { return consistsOf(s, "._-") }

// isMethod reports whether s is a token of RFC 3261 25.1, and not the one that would be a wildcard on the bus.
func isMethod(s string) bool { return consistsOf(s, "-.!%*_+`'~") }

// consistsOf reports whether s is letters, digits and bytes of others, and not empty.
func consistsOf(s, others string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(others, c) >= 0) {
			return false
		}
	}
	return s != ""
}

// sees reports whether a member with the scope list has sees messages of the scope s; no list is ScopeInitial.
func sees(list []Scope, s Scope) bool {
	return slices.Contains(list, s) || len(list) == 0 && s == ScopeInitial
}
