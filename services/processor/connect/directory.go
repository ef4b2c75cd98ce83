package connect

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/routr-fabric/routr/services/processor"
)

// directory is the index of the resources: who exists, and what they authenticate with. It never changes.
type directory struct {
	domains map[string]*domain // by host in lower case
}

// domain is a Domain and its users.
type domain struct {
	ref      string
	host     string              // in lower case; the realm as well
	agents   map[string]*agent   // by user, unescaped
	accounts map[string]*account // by the user name of the credentials; those of which an agent is enabled
}

// agent is an Agent.
type agent struct {
	ref         string
	aor         string
	enabled     bool
	account     *account // nil: it cannot authenticate
	maxContacts int32    // -1: no limit
	maxExpires  int32    // seconds; 0: the limit of the processor alone
}

// account is what Credentials are in one domain. Agents may share it.
type account struct {
	ref    string
	secret *processor.Secret
}

// newDirectory indexes resources. The error has everything that is wrong with them (see Resources.Validate).
func newDirectory(r Resources) (*directory, error) {
	b := builder{
		refs:        make(map[string]string),
		domains:     make(map[string]*domain),
		credentials: make(map[string]Credentials),
		dir:         &directory{domains: make(map[string]*domain, len(r.Domains))},
	}
	for _, d := range r.Domains {
		b.addDomain(d)
	}
	for _, c := range r.Credentials {
		b.check("Credentials", c.Ref, c.Validate())
		b.credentials[c.Ref] = c
	}
	for _, a := range r.Agents {
		b.addAgent(a)
	}
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	return b.dir, nil
}

// builder collects resources and what is wrong with them.
type builder struct {
	refs        map[string]string // ref -> kind
	domains     map[string]*domain
	credentials map[string]Credentials
	dir         *directory
	errs        []error
}

func (b *builder) wrong(kind, ref, format string, args ...any) {
	b.errs = append(b.errs, fmt.Errorf("%s %s: "+format, append([]any{kind, ref}, args...)...))
}

// check notes a resource by its ref, and what Validate found.
func (b *builder) check(kind, ref string, err error) {
	switch other, taken := b.refs[ref]; {
	case ref == "" || strings.ContainsAny(ref, " \t"):
		b.wrong(kind, ref, "ref: %q is no name, want one without spaces", ref)
	case taken:
		b.wrong(kind, ref, "ref: %s %s has it already, want one of its own for each resource", other, ref)
	}
	b.refs[ref] = kind
	if err != nil {
		b.wrong(kind, ref, "%w", err)
	}
}

func (b *builder) addDomain(d Domain) {
	b.check("Domain", d.Ref, d.Validate())
	host := canonicalHost(d.Spec.Context.DomainURI)
	if other, taken := b.dir.domains[host]; taken {
		b.wrong("Domain", d.Ref, "spec.context.domainUri: %s is Domain %s already", host, other.ref)
		return
	}
	at := &domain{ref: d.Ref, host: host, agents: make(map[string]*agent), accounts: make(map[string]*account)}
	b.dir.domains[host], b.domains[d.Ref] = at, at
}

func (b *builder) addAgent(a Agent) {
	b.check("Agent", a.Ref, a.Validate())
	s := a.Spec
	d := b.domains[s.DomainRef]
	if d == nil {
		b.wrong("Agent", a.Ref, "spec.domainRef: there is no Domain %s", s.DomainRef)
		return
	}
	if other, taken := d.agents[s.Username]; taken {
		b.wrong("Agent", a.Ref, "spec.username: %s is Agent %s of Domain %s already", s.Username, other.ref, d.ref)
		return
	}
	at := &agent{
		ref:         a.Ref,
		aor:         "sip:" + s.Username + "@" + d.host,
		enabled:     s.Enabled == nil || *s.Enabled,
		maxContacts: -1,
		maxExpires:  max(s.Expires, 0),
	}
	if s.MaxContacts > 0 {
		at.maxContacts = s.MaxContacts
	}
	d.agents[s.Username] = at
	if s.CredentialsRef == "" {
		return
	}
	c, ok := b.credentials[s.CredentialsRef]
	if !ok {
		b.wrong("Agent", a.Ref, "spec.credentialsRef: there are no Credentials %s", s.CredentialsRef)
		return
	}
	if !at.enabled {
		return
	}
	name := c.Spec.Credentials.Username
	switch other := d.accounts[name]; {
	case other == nil:
		at.account = &account{ref: c.Ref, secret: processor.NewSecret(name, d.host, c.Spec.Credentials.Password)}
		d.accounts[name] = at.account
	case other.ref == c.Ref:
		at.account = other
	default:
		b.wrong("Agent", a.Ref, "spec.credentialsRef: Credentials %s and %s are both for the user name %s in Domain %s",
			c.Ref, other.ref, name, d.ref)
	}
}

// domain is the domain of that host, however it is spelled; nil if it is none of ours.
func (dir *directory) domain(host string) *domain {
	if d := dir.domains[host]; d != nil || host == "" {
		return d
	}
	return dir.domains[canonicalHost(host)]
}

// canonicalHost is the one spelling of a host in which it is looked up: a name in lower case and without the dot that
// stands for the root of the DNS, an IPv6 address in brackets and as RFC 5952 writes it. It allocates nothing for a host
// that is spelled so.
func canonicalHost(host string) string {
	if strings.IndexByte(host, ':') >= 0 {
		if a, err := netip.ParseAddr(trimBrackets(host)); err == nil && a.Zone() == "" {
			return "[" + a.String() + "]"
		}
		return host
	}
	if n := len(host); n > 1 && host[n-1] == '.' {
		host = host[:n-1]
	}
	return strings.ToLower(host)
}

// agent is the agent of that user part, whatever is escaped in it; nil if there is none.
func (d *domain) agent(user string) *agent { return d.agents[processor.Unescape(user)] }

// aor is the address-of-record of a user part. The Location Service compares it without regard to escapes.
func (d *domain) aor(user string) string {
	if a := d.agent(user); a != nil {
		return a.aor
	}
	return "sip:" + user + "@" + d.host
}

// secret is what the user of an account authenticates with; nil if there is none.
func (d *domain) secret(username string) *processor.Secret {
	if a := d.accounts[username]; a != nil {
		return a.secret
	}
	return nil
}

// owns reports whether the user who authenticated by that name may use the address-of-record of that user part.
func (d *domain) owns(username, user string) bool {
	a := d.agent(user)
	return a != nil && a.enabled && a.account != nil && a.account == d.accounts[username]
}
