package dispatcher

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric/noop"
)

func TestDefault(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil {
		t.Errorf("Default().Validate() = %v, want nil", err)
	}
	want := []Processor{{
		Ref: "connect",
		Methods: []string{
			"REGISTER", "INVITE", "MESSAGE", "PUBLISH", "NOTIFY", "SUBSCRIBE", "ACK", "BYE", "CANCEL", "OPTIONS", "PRACK", "INFO",
			"REFER", "UPDATE",
		},
		MatchFunc: "req => true",
	}}
	if diff := cmp.Diff(want, c.Spec.Processors); diff != "" {
		t.Errorf("Default().Spec.Processors differs (-want +got):\n%s", diff)
	}
}

// The example of the specification, as it is printed there.
func TestSpecification(t *testing.T) {
	const file = `{
		"kind": "MessageDispatcher",
		"apiVersion": "v2beta1",
		"ref": "message-dispatcher",
		"spec": {
			"bindAddr": "0.0.0.0",
			"middlewares": [{"ref": "mid01", "addr": "middleware01:51903"}, {"ref": "mid02", "addr": "middleware02:51903"}],
			"processors": [
				{"ref": "im-processor", "addr": "instant-messaging:51904", "methods": ["MESSAGE"], "matchFunc": "req => req.method === 'MESSAGE'"},
				{"ref": "connect-processor", "addr": "connect:51904", "methods": ["REGISTER", "MESSAGE", "INVITE", "CANCEL"], "matchFunc": "req => true"}
			]
		}
	}`
	c := Default()
	if err := json.Unmarshal([]byte(file), &c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Errorf("Validate = %v, want nil", err)
	}
	_, err := New(c, nil, slog.New(slog.DiscardHandler), noop.Meter{})
	want := "spec.middlewares[0].addr: grpc://middleware01:51903 is a gRPC service, which needs the gateway, and there is none yet; " +
		"want nats:// for a service on the bus"
	if err == nil || err.Error() != want {
		t.Errorf("New = %v, want %s", err, want)
	}
	c.Spec.Middlewares = nil
	if _, err := New(c, nil, slog.New(slog.DiscardHandler), noop.Meter{}); err == nil || !strings.HasPrefix(err.Error(), "spec.processors[0].addr: grpc://") {
		t.Errorf("New = %v, want spec.processors[0].addr refused", err)
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		want   string // all lines; empty: valid
	}{
		{"no ref", func(c *Config) { c.Ref = "" }, "ref: is empty, want a name such as dispatcher"},
		{"address with port", func(c *Config) { c.Spec.BindAddr = "[::]:51901" }, ""},
		{"no address", func(c *Config) { c.Spec.BindAddr = "eth0" }, `spec.bindAddr: "eth0" is no IP address, want one such as 0.0.0.0 or 0.0.0.0:51901`},
		{"no processors", func(c *Config) { c.Spec.Processors = nil }, "spec.processors: is empty, want at least one processor, as nothing else answers a request"},
		{"no name", func(c *Config) { c.Spec.Processors[0].Ref = "" }, `spec.processors[0].ref: "" is no name, want letters, digits, '.', '_' and '-'`},
		{"name with a semicolon", func(c *Config) { c.Spec.Processors[0].Ref = "a;b" }, `spec.processors[0].ref: "a;b" is no name, want letters, digits, '.', '_' and '-'`},
		{
			"name twice",
			func(c *Config) { c.Spec.Middlewares = []Middleware{{Ref: "connect"}} },
			"spec.processors[0].ref: connect is already used by spec.middlewares[0]",
		},
		{"bus address", func(c *Config) { c.Spec.Processors[0].Addr = "nats://nats:4222" }, ""},
		{"grpc address", func(c *Config) { c.Spec.Processors[0].Addr = "connect:51904" }, ""},
		{
			"address of another kind",
			func(c *Config) { c.Spec.Middlewares = []Middleware{{Ref: "m", Addr: "http://x:1"}} },
			`spec.middlewares[0].addr: "http://x:1" has the scheme http://, want nats://, nats://host:port, host:port or grpc://host:port`,
		},
		{"no methods", func(c *Config) { c.Spec.Processors[0].Methods = nil }, "spec.processors[0].methods: is empty, want at least one such as INVITE"},
		{"extension methods", func(c *Config) { c.Spec.Processors[0].Methods = []string{"FOO", "foo", "x.y", "a*b"} }, ""},
		{"no token", func(c *Config) { c.Spec.Processors[0].Methods = []string{"IN VITE"} }, `spec.processors[0].methods[0]: "IN VITE" is no SIP method, want a token such as INVITE`},
		{
			"lower case",
			func(c *Config) { c.Spec.Processors[0].Methods = []string{"BYE", "invite"} },
			`spec.processors[0].methods[1]: "invite" is not INVITE, as methods are case-sensitive (RFC 3261 7.1); write INVITE`,
		},
		{"method twice", func(c *Config) { c.Spec.Processors[0].Methods = []string{"BYE", "BYE"} }, "spec.processors[0].methods[1]: BYE is already there"},
		{
			"no function",
			func(c *Config) { c.Spec.Processors[0].MatchFunc = "req =>" },
			"spec.processors[0].matchFunc: is no JavaScript: matchFunc: Line 2:1 Unexpected token )",
		},
		{
			"unknown scope",
			func(c *Config) { c.Spec.Processors[0].Scope = []Scope{ScopeInitial, "all"} },
			`spec.processors[0].scope[1]: "all" is unknown, want initial, midDialog or responses`,
		},
		{
			"too many",
			func(c *Config) {
				for i := range 17 {
					c.Spec.Middlewares = append(c.Spec.Middlewares, Middleware{Ref: fmt.Sprint("m", i)})
				}
			},
			"spec.middlewares: has 17 entries, want at most 16",
		},
		{
			"all at once",
			func(c *Config) { c.Ref, c.Spec.Processors[0].Methods = "", nil },
			"ref: is empty, want a name such as dispatcher\nspec.processors[0].methods: is empty, want at least one such as INVITE",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Default()
			tt.change(&c)
			got := ""
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("Validate = %s\nwant %s", got, tt.want)
			}
		})
	}
}
