package services

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const edgePortFile = `apiVersion: v2beta1
kind: EdgePort
ref: edgeport-01
spec:
  bindAddr: 127.0.0.1
  methods: [INVITE, MESSAGE]
  transport:
    - protocol: udp
      port: 5060
    - protocol: tcp
      port: 5060
`

const agentFile = `apiVersion: v2
kind: Agent
ref: agent-01
spec:
  username: alice
  domainRef: domain-01
`

const dispatcherFile = `apiVersion: v2
kind: MessageDispatcher
ref: dispatcher
spec:
  processors:
    - ref: connect
      methods: [INVITE]
`

// TestCheckSaysWhatIsWrong breaks a file by replacing old with new, and wants these lines. What the schemas alone find
// is in the tests of schemas; here is what the types and their Validate methods add.
func TestCheckSaysWhatIsWrong(t *testing.T) {
	tests := []struct {
		name, file, text string
		old, new         string
		want             string
	}{
		{"too big for the type", "a.yaml", agentFile, "username: alice", "username: alice\n  maxContacts: 4294967296",
			`a.yaml:6: spec.maxContacts: number 4294967296 does not fit into int32`},
		{"port twice", "e.yaml", edgePortFile, "protocol: tcp", "protocol: UDP",
			`e.yaml:11: spec.transport[1].port: 5060 is already used by spec.transport[0]`},
		{"unknown protocol", "e.yaml", edgePortFile, "protocol: tcp", "protocol: sctp",
			`e.yaml:10: spec.transport[1].protocol: "sctp" is not known, want udp, tcp, tls, ws or wss`},
		{"certificate without a key", "e.yaml", edgePortFile, "protocol: tcp", "protocol: WSS\n      tls: {certFile: a.pem}",
			`e.yaml:11: spec.transport[1].tls.keyFile: is missing, want the key of tls.certFile`},
		{"host name to listen on", "e.yaml", edgePortFile, "127.0.0.1", "localhost",
			`e.yaml:5: spec.bindAddr: "localhost" is no IP address, want one such as 0.0.0.0`},
		{"method in lower case", "e.yaml", edgePortFile, "MESSAGE", "message",
			`e.yaml:6: spec.methods[1]: "message" is not MESSAGE, as methods are case-sensitive (RFC 3261 7.1); write MESSAGE`},
		{"missing value", "e.yaml", edgePortFile, "  bindAddr: 127.0.0.1", "  bindAddr: \"\"\n  localnets: [10.0.0.0/33]",
			"e.yaml:5: spec.bindAddr: \"\" is no IP address, want one such as 0.0.0.0\n" +
				`e.yaml:6: spec.localnets[0]: "10.0.0.0/33" is no network, want one such as 192.168.1.2/24`},
		{"address of the dispatcher", "e.yaml", edgePortFile, "spec:", "spec:\n  processor:\n    addr: http://dispatcher",
			`e.yaml:6: spec.processor.addr: "http://dispatcher" has the scheme http://, want nats://, nats://host:port, host:port or grpc://host:port`},

		{"processor twice", "d.yaml", dispatcherFile, "      methods: [INVITE]", "      methods: [INVITE]\n    - ref: connect\n      methods: [BYE]",
			`d.yaml:8: spec.processors[1].ref: connect is already used by spec.processors[0]`},
		{"unlimited and more", "l.yaml", "apiVersion: v2\nkind: Location\nspec:\n  cache:\n    provider: memory\n", "memory", "nats\n    parameters: replicas=9",
			`l.yaml:6: spec.cache.parameters: replicas is "9", want 1 to 5`},
		{"expires in the wrong order", "p.yaml", "apiVersion: v2\nkind: Processor\nref: connect\nspec:\n  minExpires: 60\n", "60", "60\n  maxExpires: 50\n  defaultExpires: 50",
			"p.yaml:6: spec.maxExpires: 50 is out of range, want 60 (spec.minExpires) to 31536000 seconds\n" +
				"p.yaml:7: spec.defaultExpires: 50 is out of range, want 60 (spec.minExpires) to 50 (spec.maxExpires) seconds"},
		{"bus", "b.yaml", "apiVersion: v2\nkind: Bus\nspec:\n  url: nats://a\n", "nats://a", "http://a\n  listen: here",
			"b.yaml:4: spec.url: server 1 is no NATS server, want one such as nats://127.0.0.1:4222\n" +
				`b.yaml:5: spec.listen: "here" is no address and port, want one such as 127.0.0.1:4222`},
	}
	t.Chdir(t.TempDir())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(tt.text, tt.old) {
				t.Fatalf("the text has no %q to break", tt.old)
			}
			write(t, tt.file, tt.text)
			if err := Check(tt.file); err != nil {
				t.Fatalf("Check(%s) of the unbroken file = %v, want nil", tt.file, err)
			}
			write(t, tt.file, strings.Replace(tt.text, tt.old, tt.new, 1))
			if diff := cmp.Diff(tt.want, errorText(Check(tt.file))); diff != "" {
				t.Errorf("Check(%s) differs (-want +got):\n%s", tt.file, diff)
			}
		})
	}
}
