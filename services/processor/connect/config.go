package connect

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/routr-fabric/routr/services/processor"
)

// Config is the configuration of a Connect processor, as its file has it.
type Config struct {
	// Version of the layout of this file.
	APIVersion string `json:"apiVersion" jsonschema:"required,enum=v2beta1,enum=v2"`
	// Kind of the file.
	Kind string `json:"kind" jsonschema:"required,enum=Processor,enum=processor"`
	// Name by which the Message Dispatcher's spec.processors refers to this processor. Instances with the same name
	// share its work.
	Ref string `json:"ref" jsonschema:"required,minLength=1"`
	// Data about the processor that routing does not use.
	Metadata Metadata `json:"metadata,omitzero"`
	// What the processor does.
	Spec Spec `json:"spec,omitzero"`
}

// Metadata is data about a processor.
type Metadata struct {
	// Region where the processor operates.
	Region string `json:"region,omitempty"`
}

// Spec is what a Connect processor does.
type Spec struct {
	// Address where the gateway takes gRPC requests for this processor. The bus needs none.
	BindAddr string `json:"bindAddr,omitempty" jsonschema:"default=0.0.0.0"`
	// Type of the processor.
	Type string `json:"type,omitempty" jsonschema:"enum=connect,default=connect"`
	// Networks, as address/bits or a single address, whose requests are taken without a challenge, for any user of a
	// domain of ours: peers such as a session border controller. It is the real source address that counts.
	Trusted []string `json:"trusted,omitempty" jsonschema:"uniqueItems=true,example=192.0.2.10/32"`
	// Digest algorithms that a challenge offers, the preferred one first (RFC 8760). [SHA-256, MD5] is the better choice
	// where all clients know it; most phones do not, and give up when they are offered anything but MD5.
	Algorithms []string `json:"algorithms,omitempty" jsonschema:"uniqueItems=true,minItems=1,enum=SHA-256,enum=MD5"`
	// Shortest registration that is granted, in seconds. A shorter one is refused with 423 (RFC 3261 10.3 step 7),
	// which is only allowed below one hour.
	MinExpires int `json:"minExpires,omitempty" jsonschema:"minimum=1,maximum=3600,default=60"`
	// Longest registration that is granted, in seconds. A longer one is shortened to it.
	MaxExpires int `json:"maxExpires,omitempty" jsonschema:"minimum=1,maximum=31536000,default=7200"`
	// Length of a registration that does not ask for one, in seconds.
	DefaultExpires int `json:"defaultExpires,omitempty" jsonschema:"minimum=1,maximum=31536000,default=3600"`
	// How often, in seconds, a client that registers a flow (RFC 5626) is to send keep-alives on it: the Flow-Timer of its
	// 200. An EdgePort takes a connection for dead that is silent for half an hour.
	FlowTimer int `json:"flowTimer,omitempty" jsonschema:"minimum=10,maximum=1800,default=120"`
	// The way that the requests of a registered client are to take, as sip: or sips: URIs with the parameter lr, the one
	// that it sends to first: the Service-Route of its 200 (RFC 3608). None if absent: it sends to its outbound proxy.
	ServiceRoute []string `json:"serviceRoute,omitempty" jsonschema:"maxItems=16,example=sip:edge.example.com;lr"`
}

// maxExpires is the longest registration that can be configured: a year.
const maxExpires = 365 * 24 * 3600

// Default is the configuration of a Connect processor that trusts nobody.
func Default() Config {
	return Config{
		APIVersion: "v2beta1",
		Kind:       "Processor",
		Ref:        "connect",
		Spec: Spec{
			BindAddr:       "0.0.0.0",
			Type:           "connect",
			Algorithms:     []string{processor.MD5},
			MinExpires:     60,
			MaxExpires:     7200,
			DefaultExpires: 3600,
			FlowTimer:      120,
		},
	}
}

// Validate reports everything that is wrong with c, each error beginning with the path of the field.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	s := c.Spec

	if c.Ref == "" || strings.ContainsAny(c.Ref, " \t") {
		wrong("ref: %q is no name, want one without spaces such as connect", c.Ref)
	}
	if b := s.BindAddr; b != "" {
		host := b
		if h, _, err := net.SplitHostPort(b); err == nil {
			host = h
		}
		if _, err := netip.ParseAddr(host); err != nil {
			wrong("spec.bindAddr: %q is no IP address, want one such as 0.0.0.0", b)
		}
	}
	if s.Type != "connect" {
		wrong("spec.type: %q is not known, want connect", s.Type)
	}
	for i, t := range s.Trusted {
		if _, err := parseNet(t); err != nil {
			wrong("spec.trusted[%d]: %q is no network, want one such as 192.0.2.0/24", i, t)
		}
	}
	if len(s.Algorithms) == 0 {
		wrong("spec.algorithms: it is empty, want %s, %s or both", processor.SHA256, processor.MD5)
	}
	for i, a := range s.Algorithms {
		switch {
		case a != processor.SHA256 && a != processor.MD5:
			wrong("spec.algorithms[%d]: %q is not known, want %s or %s", i, a, processor.SHA256, processor.MD5)
		case slices.Contains(s.Algorithms[:i], a):
			wrong("spec.algorithms[%d]: %s is there already", i, a)
		}
	}
	if s.MinExpires < 1 || s.MinExpires > 3600 {
		wrong("spec.minExpires: %d is out of range, want 1 to 3600 seconds (RFC 3261 10.3 step 7)", s.MinExpires)
	}
	if s.MaxExpires < s.MinExpires || s.MaxExpires > maxExpires {
		wrong("spec.maxExpires: %d is out of range, want %d (spec.minExpires) to %d seconds", s.MaxExpires, s.MinExpires, maxExpires)
	}
	if s.DefaultExpires < s.MinExpires || s.DefaultExpires > s.MaxExpires {
		wrong("spec.defaultExpires: %d is out of range, want %d (spec.minExpires) to %d (spec.maxExpires) seconds",
			s.DefaultExpires, s.MinExpires, s.MaxExpires)
	}
	if s.FlowTimer < 10 || s.FlowTimer > 1800 {
		wrong("spec.flowTimer: %d is out of range, want 10 to 1800 seconds", s.FlowTimer)
	}
	if n := len(s.ServiceRoute); n > maxPath {
		wrong("spec.serviceRoute: it has %d URIs, want at most %d", n, maxPath)
	}
	for i, r := range s.ServiceRoute {
		switch u, ok := processor.ParseURI(r); {
		case !ok:
			wrong("spec.serviceRoute[%d]: %q is no SIP URI, want one such as sip:edge.example.com;lr", i, r)
		case !hasParam(u, "lr"):
			wrong("spec.serviceRoute[%d]: %q has no parameter lr, want %s;lr", i, r, r)
		case u.Query != "":
			wrong("spec.serviceRoute[%d]: %q has headers, want a URI without a question mark", i, r)
		}
	}
	return errors.Join(errs...)
}

// parseNet reads address/bits or a single address.
func parseNet(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}
