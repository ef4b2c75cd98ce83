package connect

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Domain is a SIP domain whose users this system serves.
type Domain struct {
	// Version of the layout of this resource.
	APIVersion string `json:"apiVersion" jsonschema:"required,enum=v2beta1,enum=v2"`
	// Kind of the resource.
	Kind string `json:"kind" jsonschema:"required,enum=Domain,enum=domain"`
	// Name by which other resources refer to this one.
	Ref string `json:"ref" jsonschema:"required,minLength=1,pattern=^[^ ]+$"`
	// Data for people.
	Metadata ResourceMetadata `json:"metadata,omitzero"`
	// The domain.
	Spec DomainSpec `json:"spec" jsonschema:"required"`
}

// ResourceMetadata is what people call a resource.
type ResourceMetadata struct {
	// Friendly name.
	Name string `json:"name,omitempty" jsonschema:"maxLength=60"`
}

// DomainSpec is a domain.
type DomainSpec struct {
	// What the domain is and allows.
	Context DomainContext `json:"context" jsonschema:"required"`
}

// DomainContext is what a domain is and allows.
type DomainContext struct {
	// Host part of the addresses-of-record of the domain, which is the realm of its users too.
	DomainURI string `json:"domainUri" jsonschema:"required,minLength=1,maxLength=255,example=sip.example.com"`
}

// Agent is a user of a domain: a phone, a softphone, a browser.
type Agent struct {
	// Version of the layout of this resource.
	APIVersion string `json:"apiVersion" jsonschema:"required,enum=v2beta1,enum=v2"`
	// Kind of the resource.
	Kind string `json:"kind" jsonschema:"required,enum=Agent,enum=agent"`
	// Name by which other resources refer to this one.
	Ref string `json:"ref" jsonschema:"required,minLength=1,pattern=^[^ ]+$"`
	// Data for people.
	Metadata ResourceMetadata `json:"metadata,omitzero"`
	// The agent.
	Spec AgentSpec `json:"spec" jsonschema:"required"`
}

// AgentSpec is a user of a domain.
type AgentSpec struct {
	// User part of the agent's address-of-record.
	Username string `json:"username" jsonschema:"required,minLength=1,maxLength=60"`
	// The domain the agent belongs to.
	DomainRef string `json:"domainRef" jsonschema:"required,minLength=1"`
	// What the agent authenticates with. An agent without can only be registered and called by trusted peers.
	CredentialsRef string `json:"credentialsRef,omitempty"`
	// Whether calls to the public network hide the agent's identity. It has no meaning between agents.
	Privacy string `json:"privacy,omitempty" jsonschema:"enum=PRIVATE,enum=Private,enum=private,enum=NONE,enum=None,enum=none"`
	// Whether the agent can register, call and be called.
	Enabled *bool `json:"enabled,omitempty" jsonschema:"default=true"`
	// How many contacts the agent may have registered at a time; -1 and 0 mean no limit.
	MaxContacts int32 `json:"maxContacts,omitempty" jsonschema:"minimum=-1,default=-1"`
	// Longest registration that this agent is granted, in seconds, where it is less than the processor's
	// spec.maxExpires; 0 and -1 mean that limit alone.
	Expires int32 `json:"expires,omitempty" jsonschema:"minimum=-1"`
}

// Credentials are a user name and a password.
type Credentials struct {
	// Version of the layout of this resource.
	APIVersion string `json:"apiVersion" jsonschema:"required,enum=v2beta1,enum=v2"`
	// Kind of the resource.
	Kind string `json:"kind" jsonschema:"required,enum=Credentials,enum=credentials"`
	// Name by which other resources refer to this one.
	Ref string `json:"ref" jsonschema:"required,minLength=1,pattern=^[^ ]+$"`
	// Data for people.
	Metadata ResourceMetadata `json:"metadata,omitzero"`
	// The credentials.
	Spec CredentialsSpec `json:"spec" jsonschema:"required"`
}

// CredentialsSpec holds the credentials.
type CredentialsSpec struct {
	// User name and password.
	Credentials UserPassword `json:"credentials" jsonschema:"required"`
}

// UserPassword is a user name and a password for digest authentication (RFC 7616).
type UserPassword struct {
	// User name, which need not be that of the agent.
	Username string `json:"username" jsonschema:"required,minLength=1,maxLength=60"`
	// Password in clear.
	Password string `json:"password" jsonschema:"required,minLength=1,maxLength=255"`
}

// Placeholder is the password of sample files. It is refused, so that no system runs with a password that is known.
const Placeholder = "CHANGE-ME"

// Validate reports everything that is wrong with d, each error beginning with the path of the field.
func (d Domain) Validate() error {
	if uri := d.Spec.Context.DomainURI; !isHost(uri) {
		return fmt.Errorf("spec.context.domainUri: %q is no domain name, want one such as sip.example.com", uri)
	}
	return nil
}

// Validate reports everything that is wrong with a, each error beginning with the path of the field.
func (a Agent) Validate() error {
	var errs []error
	if u := a.Spec.Username; !isUser(u) {
		errs = append(errs, fmt.Errorf("spec.username: %q is no user name, want letters, digits and -_.!~*'()&=+$,;?/", u))
	}
	switch strings.ToLower(a.Spec.Privacy) {
	case "", "private", "none":
	default:
		errs = append(errs, fmt.Errorf("spec.privacy: %q is not known, want Private or None", a.Spec.Privacy))
	}
	if n := a.Spec.MaxContacts; n < -1 {
		errs = append(errs, fmt.Errorf("spec.maxContacts: %d is negative, want -1 for no limit", n))
	}
	if n := a.Spec.Expires; n < -1 {
		errs = append(errs, fmt.Errorf("spec.expires: %d is negative, want seconds, or -1 for the processor's limit", n))
	}
	return errors.Join(errs...)
}

// Validate reports everything that is wrong with c, each error beginning with the path of the field.
func (c Credentials) Validate() error {
	var errs []error
	if c.Spec.Credentials.Username == "" {
		errs = append(errs, errors.New("spec.credentials.username: it is empty, want the name that the phone is set up with"))
	}
	switch c.Spec.Credentials.Password {
	case "":
		errs = append(errs, errors.New("spec.credentials.password: it is empty, want a password of your own"))
	case Placeholder:
		errs = append(errs, fmt.Errorf("spec.credentials.password: %s is the placeholder of the samples, want a password of your own", Placeholder))
	}
	return errors.Join(errs...)
}

// Resources are the domains, agents and credentials that a Connect processor knows.
type Resources struct {
	Domains     []Domain
	Agents      []Agent
	Credentials []Credentials
}

// Validate reports everything that is wrong with the resources and between them: references to nothing, and two that
// cannot be told apart. Each error names the kinds and refs of the resources it is about.
func (r Resources) Validate() error {
	_, err := newDirectory(r)
	return err
}

// isHost reports whether s can be the host of an address-of-record: a host name or an IP address.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return true
	}
	if len(s) > 255 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := 0; i < len(label); i++ {
			if c := label[i]; !isAlphanumeric(c) && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// isUser reports whether s can stand in a SIP URI as the user without an escape (RFC 3261 25.1), so that a user has one
// spelling in this directory.
func isUser(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlphanumeric(s[i]) && strings.IndexByte("-_.!~*'()&=+$,;?/", s[i]) < 0 {
			return false
		}
	}
	return s != "" && len(s) <= 60
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
