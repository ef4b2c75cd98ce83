package connect

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"
)

func TestConfigValidate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string // "" for nil
	}{
		{"default", func(*Config) {}, ""},
		{"everything", func(c *Config) {
			c.Spec.FlowTimer, c.Spec.ServiceRoute = 10, []string{"sip:edge.example.com;lr", "sips:[2001:db8::1]:5061;transport=tcp;LR"}
			c.Spec.BindAddr, c.Spec.Trusted = "0.0.0.0:51904", []string{"192.0.2.1", "10.1.2.3/8", "2001:db8::/32", "::1"}
		}, ""},
		{"ref", func(c *Config) { c.Ref = "a b" }, `ref: "a b" is no name, want one without spaces such as connect`},
		{"bindAddr", func(c *Config) { c.Spec.BindAddr = "here:1" }, `spec.bindAddr: "here:1" is no IP address, want one such as 0.0.0.0`},
		{"type", func(c *Config) { c.Spec.Type = "echo" }, `spec.type: "echo" is not known, want connect`},
		{"trusted", func(c *Config) { c.Spec.Trusted = []string{"10.0.0.0/8", "10.0.0.300/8"} },
			`spec.trusted[1]: "10.0.0.300/8" is no network, want one such as 192.0.2.0/24`},
		{"no algorithm", func(c *Config) { c.Spec.Algorithms = nil }, "spec.algorithms: it is empty, want SHA-256, MD5 or both"},
		{"algorithm", func(c *Config) { c.Spec.Algorithms = []string{"MD5", "SHA-512"} }, `spec.algorithms[1]: "SHA-512" is not known, want SHA-256 or MD5`},
		{"algorithm twice", func(c *Config) { c.Spec.Algorithms = []string{"MD5", "MD5"} }, "spec.algorithms[1]: MD5 is there already"},
		{"minExpires", func(c *Config) { c.Spec.MinExpires = 3601 },
			"spec.minExpires: 3601 is out of range, want 1 to 3600 seconds (RFC 3261 10.3 step 7)\n" +
				"spec.defaultExpires: 3600 is out of range, want 3601 (spec.minExpires) to 7200 (spec.maxExpires) seconds"},
		{"maxExpires", func(c *Config) { c.Spec.MaxExpires = maxExpires + 1 },
			"spec.maxExpires: 31536001 is out of range, want 60 (spec.minExpires) to 31536000 seconds"},
		{"flowTimer", func(c *Config) { c.Spec.FlowTimer = 9 }, "spec.flowTimer: 9 is out of range, want 10 to 1800 seconds"},
		{"long serviceRoute", func(c *Config) { c.Spec.ServiceRoute = slices.Repeat([]string{"sip:e;lr"}, 17) },
			"spec.serviceRoute: it has 17 URIs, want at most 16"},
		{"serviceRoute", func(c *Config) { c.Spec.ServiceRoute = []string{"sip:e;lr", "<sip:e;lr>", "sip:e", "sip:e;lr?Route=x"} },
			`spec.serviceRoute[1]: "<sip:e;lr>" is no SIP URI, want one such as sip:edge.example.com;lr` + "\n" +
				`spec.serviceRoute[2]: "sip:e" has no parameter lr, want sip:e;lr` + "\n" +
				`spec.serviceRoute[3]: "sip:e;lr?Route=x" has headers, want a URI without a question mark`},
		{"defaultExpires", func(c *Config) { c.Spec.DefaultExpires = 59 },
			"spec.defaultExpires: 59 is out of range, want 60 (spec.minExpires) to 7200 (spec.maxExpires) seconds"},
	} {
		cfg := Default()
		tt.change(&cfg)
		got := ""
		if err := cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("Validate(%s) = %q, want %q", tt.name, got, tt.want)
		}
		if _, err := New(cfg, Resources{}, nil, slog.New(slog.DiscardHandler), noop.Meter{}); (err != nil) != (tt.want != "") {
			t.Errorf("New(%s) = %v, want an error as from Validate", tt.name, err)
		}
	}
}

func TestResourcesValidate(t *testing.T) {
	domain := func(ref, uri string) Domain {
		return Domain{Ref: ref, Spec: DomainSpec{Context: DomainContext{DomainURI: uri}}}
	}
	agent := func(ref, user, domain, credentials string) Agent {
		return Agent{Ref: ref, Spec: AgentSpec{Username: user, DomainRef: domain, CredentialsRef: credentials}}
	}
	credentials := func(ref, user, password string) Credentials {
		return Credentials{Ref: ref, Spec: CredentialsSpec{Credentials: UserPassword{Username: user, Password: password}}}
	}
	for _, tt := range []struct {
		name string
		in   Resources
		want []string // lines, in order
	}{
		{name: "none"},
		{name: "of the tests", in: testResources()},
		{name: "addresses", in: Resources{Domains: []Domain{domain("a", "192.0.2.1"), domain("b", "2001:db8::1"), domain("c", "[::1]")}}},
		{name: "the same user in two domains", in: Resources{
			Domains: []Domain{domain("a", "a.local"), domain("b", "b.local")},
			Agents:  []Agent{agent("x", "1001", "a", "p"), agent("y", "1001", "b", "q")}, Credentials: []Credentials{credentials("p", "1001", "1"), credentials("q", "1001", "2")},
		}},
		{name: "dangling references", in: Resources{Domains: []Domain{domain("a", "a.local")}, Agents: []Agent{agent("x", "1001", "b", ""), agent("y", "1002", "a", "p")}},
			want: []string{"Agent x: spec.domainRef: there is no Domain b", "Agent y: spec.credentialsRef: there are no Credentials p"}},
		{name: "ref twice", in: Resources{Domains: []Domain{domain("a", "a.local")}, Credentials: []Credentials{credentials("a", "u", "p")}},
			want: []string{"Credentials a: ref: Domain a has it already, want one of its own for each resource"}},
		{name: "no ref", in: Resources{Domains: []Domain{domain("", "a.local")}}, want: []string{`Domain : ref: "" is no name, want one without spaces`}},
		{name: "domain twice", in: Resources{Domains: []Domain{domain("a", "a.local"), domain("b", "A.Local")}},
			want: []string{"Domain b: spec.context.domainUri: a.local is Domain a already"}},
		{name: "agent twice", in: Resources{Domains: []Domain{domain("a", "a.local")}, Agents: []Agent{agent("x", "1001", "a", ""), agent("y", "1001", "a", "")}},
			want: []string{"Agent y: spec.username: 1001 is Agent x of Domain a already"}},
		{name: "two passwords for one name", in: Resources{
			Domains:     []Domain{domain("a", "a.local")},
			Agents:      []Agent{agent("x", "1001", "a", "p"), agent("y", "1002", "a", "q")},
			Credentials: []Credentials{credentials("p", "u", "1"), credentials("q", "u", "2")},
		}, want: []string{"Agent y: spec.credentialsRef: Credentials q and p are both for the user name u in Domain a"}},
		{name: "bad values", in: Resources{
			Domains: []Domain{domain("a", "a b")},
			Agents: []Agent{{Ref: "x", Spec: AgentSpec{Username: "10%30", DomainRef: "a", Privacy: "some", MaxContacts: -2, Expires: -2}},
				agent("y", strings.Repeat("u", 61), "a", "")},
			Credentials: []Credentials{credentials("p", "", ""), credentials("q", "u", Placeholder)},
		}, want: []string{
			`Domain a: spec.context.domainUri: "a b" is no domain name, want one such as sip.example.com`,
			"Credentials p: spec.credentials.username: it is empty, want the name that the phone is set up with",
			"spec.credentials.password: it is empty, want a password of your own",
			"Credentials q: spec.credentials.password: CHANGE-ME is the placeholder of the samples, want a password of your own",
			`Agent x: spec.username: "10%30" is no user name, want letters, digits and -_.!~*'()&=+$,;?/`,
			`spec.privacy: "some" is not known, want Private or None`,
			"spec.maxContacts: -2 is negative, want -1 for no limit",
			"spec.expires: -2 is negative, want seconds, or -1 for the processor's limit",
			`Agent y: spec.username: "` + strings.Repeat("u", 61) + `" is no user name, want letters, digits and -_.!~*'()&=+$,;?/`,
		}},
	} {
		got := ""
		if err := tt.in.Validate(); err != nil {
			got = err.Error()
		}
		if want := strings.Join(tt.want, "\n"); got != want {
			t.Errorf("Validate(%s) =\n%s\nwant\n%s", tt.name, got, want)
		}
	}
}
