package schemas_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/schemas"
)

const edgePort = `apiVersion: v2beta1
kind: EdgePort
ref: edgeport-01
spec:
  bindAddr: 127.0.0.1
  unknownMethodAction: Discard
  methods: [INVITE, MESSAGE]
  transport:
    - protocol: udp
      port: 5060
    - protocol: tcp
      port: 5060
`

const agent = `apiVersion: v2
kind: Agent
ref: agent-01
spec:
  username: alice
  domainRef: domain-01
`

// TestCheckSaysWhatIsWrong breaks a file by replacing old with new, and wants these lines.
func TestCheckSaysWhatIsWrong(t *testing.T) {
	nobody := strings.Replace(agent, "alice", "[]", 1)
	tests := []struct {
		name, file, text string
		old, new         string
		want             string
	}{
		// The file.
		{"empty", "e.yaml", "", "", "",
			`e.yaml:1: the file is empty, want one of "Agent", "Bus", "Credentials", "Domain", "EdgePort", "Location", "MessageDispatcher", "Processor"`},
		{"comments only", "e.yaml", "# nothing\n---\n# here\n", "", "",
			`e.yaml:1: the file is empty, want one of "Agent", "Bus", "Credentials", "Domain", "EdgePort", "Location", "MessageDispatcher", "Processor"`},
		{"YAML syntax", "e.yaml", edgePort, "ref: edgeport-01", "ref: \"edgeport-01",
			`e.yaml:3: found unexpected end of stream`},
		{"tab", "e.yaml", edgePort, "  bindAddr", "\tbindAddr",
			`e.yaml:5: found character that cannot start any token`},
		{"JSON syntax", "e.json", "{\n  \"kind\": \"EdgePort\"\n  \"ref\": \"e\"\n}", "", "",
			`e.json:3: invalid character '"' after object key:value pair`},
		{"JSON word", "e.json", "{\n  \"kind\": \"EdgePort\",\n  \"spec\": nul\n}", "", "",
			`e.json:3: invalid character '\n' in literal null (expecting 'l')`},
		{"JSON comma at the end", "e.json", "{\n  \"kind\": \"EdgePort\",\n}", "", "",
			`e.json:3: invalid character '}' looking for beginning of object key string`},
		{"JSON bracket", "e.json", "{\n  \"methods\": [\n  }\n}", "", "",
			`e.json:3: invalid character '}' looking for beginning of value`},
		{"JSON cut off", "e.json", "{\n  \"kind\": \"EdgePort\",\n", "", "",
			`e.json:3: the JSON text ends too early`},
		{"two JSON texts", "e.json", "{\"kind\": \"EdgePort\"}\n{}", "", "",
			`e.json:2: there is more after the end of the JSON text`},
		{"key twice", "e.yaml", edgePort, "ref: edgeport-01", "ref: a\nref: b",
			`e.yaml:4: the key "ref" stands on line 3 already`},
		{"key twice, JSON", "e.json", "{\n\"kind\": \"EdgePort\",\n\"kind\": \"EdgePort\"}", "", "",
			`e.json:3: the key "kind" stands on line 2 already`},
		{"a word", "e.yaml", "edgeport", "", "",
			`e.yaml:1: the document is the string "edgeport", want an object with a kind`},
		{"infinity", "e.yaml", edgePort, "port: 5060", "port: .inf",
			`e.yaml:10: .inf is no number that can stand here`},
		{"deep", "e.yaml", "kind: EdgePort\nspec: " + strings.Repeat("[", 80) + strings.Repeat("]", 80), "", "",
			`e.yaml:2: nested deeper than 64 levels`},
		{"deep, JSON", "e.json", strings.Repeat("[", 80) + strings.Repeat("]", 80), "", "",
			`e.json:1: nested deeper than 64 levels`},
		{"alias that holds itself", "e.yaml", "kind: EdgePort\nspec: &a\n  x: *a\n", "", "",
			`e.yaml:2: nested deeper than 64 levels`},
		{"aliases of aliases", "e.yaml", laughs(), "", "",
			`e.yaml:2: aliases stand for more than 65536 values`},

		// The kind.
		{"no kind", "e.yaml", edgePort, "kind: EdgePort\n", "",
			`e.yaml:1: kind: is missing, want one of "Agent", "Bus", "Credentials", "Domain", "EdgePort", "Location", "MessageDispatcher", "Processor"`},
		{"wrong letter in the kind", "e.yaml", edgePort, "kind: EdgePort", "kind: EdgePrt",
			`e.yaml:2: kind: "EdgePrt" is not known; did you mean "EdgePort"?`},
		{"kind in other case", "e.yaml", edgePort, "kind: EdgePort", "kind: edgeport",
			`e.yaml:2: kind: "edgeport" is not known, want "EdgePort"`},
		{"kind of another system", "e.yaml", edgePort, "kind: EdgePort", "kind: Deployment",
			`e.yaml:2: kind: "Deployment" is not known, want one of "Agent", "Bus", "Credentials", "Domain", "EdgePort", "Location", "MessageDispatcher", "Processor"`},
		{"kind is a number", "e.yaml", edgePort, "kind: EdgePort", "kind: 1",
			`e.yaml:2: kind: is the number 1, want a string`},
		{"unknown version", "e.yaml", edgePort, "v2beta1", "v1",
			`e.yaml:1: apiVersion: "v1" is not known, want "v2beta1" or "v2"`},

		// Keys and types.
		{"one letter too many", "e.yaml", edgePort, "transport:", "transports:",
			"e.yaml:4: spec.transport: is missing, want a list\n" +
				`e.yaml:8: spec.transports: is no known key; did you mean "transport"?`},
		{"key in other case", "e.yaml", edgePort, "bindAddr:", "bindaddr:",
			`e.yaml:5: spec.bindaddr: is no known key; did you mean "bindAddr"?`},
		{"key of nothing", "e.yaml", edgePort, "      port: 5060\n    - protocol: tcp", "      port: 5060\n      shade: red\n    - protocol: tcp",
			`e.yaml:11: spec.transport[0].shade: is no known key, want one of "bindAddr", "origins", "port", "protocol", "proxyProtocol", "tls"`},
		{"key with a dot", "e.yaml", edgePort, "ref: edgeport-01", "ref: edgeport-01\nspec.bindAddr: 127.0.0.1",
			`e.yaml:4: ["spec.bindAddr"]: is no known key, want one of "apiVersion", "kind", "metadata", "ref", "spec"`},
		{"missing key", "e.yaml", edgePort, "ref: edgeport-01\n", "",
			`e.yaml:1: ref: is missing, want a string`},
		{"missing key in a list", "e.yaml", edgePort, "    - protocol: tcp\n      port: 5060\n", "    - protocol: tcp\n",
			`e.yaml:11: spec.transport[1].port: is missing, want an integer`},
		{"empty section", "e.yaml", edgePort, "ref: edgeport-01", "ref: edgeport-01\nmetadata:",
			`e.yaml:4: metadata: is empty, want an object`},
		{"empty name", "e.yaml", edgePort, "ref: edgeport-01", `ref: ""`,
			`e.yaml:3: ref: has 0 characters, want at least 1`},
		{"string for an integer", "e.yaml", edgePort, "port: 5060", `port: "5060"`,
			`e.yaml:10: spec.transport[0].port: is the string "5060", want an integer`},
		{"fraction for an integer", "e.yaml", edgePort, "port: 5060", `port: 5060.5`,
			`e.yaml:10: spec.transport[0].port: is the number 5060.5, want an integer`},
		{"number for a string", "e.yaml", edgePort, "ref: edgeport-01", "ref: 1",
			`e.yaml:3: ref: is the number 1, want a string`},
		{"string for a list", "e.yaml", edgePort, "methods: [INVITE, MESSAGE]", "methods: INVITE",
			`e.yaml:7: spec.methods: is the string "INVITE", want a list`},
		{"object for a list", "e.yaml", edgePort, "methods: [INVITE, MESSAGE]", "methods: {}",
			`e.yaml:7: spec.methods: is an object, want a list`},
		{"list for an object", "e.yaml", edgePort, "ref: edgeport-01", "ref: edgeport-01\nmetadata: [us-east1]",
			`e.yaml:4: metadata: is a list, want an object`},
		{"password without quotes", "c.yaml", "apiVersion: v2\nkind: Credentials\nref: c\nspec:\n  credentials:\n    username: alice\n    password: 4711\n", "", "",
			`c.yaml:7: spec.credentials.password: is a number, want a string: put it in quotes`},
		{"string for a boolean", "a.yaml", agent, "username: alice", "username: alice\n  enabled: yes",
			`a.yaml:6: spec.enabled: is the string "yes", want a boolean`},

		// Values.
		{"enum", "e.yaml", edgePort, "Discard", "Drop",
			`e.yaml:6: spec.unknownMethodAction: "Drop" is not known, want "Discard" or "Respond"`},
		{"enum with both cases", "a.yaml", agent, "username: alice", "username: alice\n  privacy: public",
			`a.yaml:6: spec.privacy: "public" is not known, want "PRIVATE" or "NONE"`},
		{"too big", "e.yaml", edgePort, "port: 5060", "port: 70000",
			`e.yaml:10: spec.transport[0].port: is 70000, want at most 65535`},
		{"too small", "e.yaml", edgePort, "port: 5060", "port: -1",
			`e.yaml:10: spec.transport[0].port: is -1, want at least 0`},
		{"too long", "a.yaml", agent, "username: alice", "username: " + strings.Repeat("a", 61),
			`a.yaml:5: spec.username: has 61 characters, want at most 60`},
		{"pattern", "a.yaml", agent, "ref: agent-01", "ref: agent 01",
			`a.yaml:3: ref: "agent 01" does not match ^[^ ]+$`},
		{"twice in a list", "e.yaml", edgePort, "[INVITE, MESSAGE]", "\n    - INVITE\n    - MESSAGE\n    - INVITE",
			`e.yaml:10: spec.methods[2]: is the same as spec.methods[0]`},
		{"empty list", "e.yaml", edgePort, "[INVITE, MESSAGE]", "[]",
			`e.yaml:7: spec.methods: has 0 elements, want at least 1`},

		// Several.
		{"in the order of the lines", "e.yaml", edgePort, "  bindAddr: 127.0.0.1\n  unknownMethodAction: Discard", "  unknownMethodAction: Drop\n  bindAddr: 1",
			"e.yaml:5: spec.unknownMethodAction: \"Drop\" is not known, want \"Discard\" or \"Respond\"\n" +
				`e.yaml:6: spec.bindAddr: is the number 1, want a string`},
		{"in several documents", "a.yaml", nobody + "---\n" + nobody + "---\n" + nobody, "", "",
			"a.yaml:5: spec.username: is a list, want a string\n" +
				"a.yaml:12: spec.username: is a list, want a string\n" +
				"a.yaml:19: spec.username: is a list, want a string"},
		{"in a list of documents", "a.json", "[\n  {\"kind\": \"Agent\"},\n  {\"kind\": \"Agents\"},\n  5\n]", "", "",
			"a.json:2: apiVersion: is missing, want \"v2beta1\" or \"v2\"\n" +
				"a.json:2: ref: is missing, want a string\n" +
				"a.json:2: spec: is missing, want an object\n" +
				"a.json:3: kind: \"Agents\" is not known; did you mean \"Agent\"?\n" +
				"a.json:4: the document is the number 5, want an object with a kind"},
	}
	t.Chdir(t.TempDir())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.old != "" && !strings.Contains(tt.text, tt.old) {
				t.Fatalf("the text has no %q to break", tt.old)
			}
			write(t, tt.file, strings.Replace(tt.text, tt.old, tt.new, 1))
			err := schemas.Check(tt.file, newDocument)
			if err == nil {
				t.Fatalf("Check(%s) = nil, want\n%s", tt.file, tt.want)
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("Check(%s) differs (-want +got):\n%s", tt.file, diff)
			}
		})
	}
}

func TestCheckAccepts(t *testing.T) {
	tests := []struct{ name, file, text string }{
		{"YAML", "e.yaml", edgePort},
		{"several documents", "e.yaml", "---\n" + edgePort + "---\n---\n" + agent},
		{"a list of documents", "a.yaml", "- {apiVersion: v2, kind: Domain, ref: d, spec: {context: {domainUri: sip.test}}}\n"},
		{"JSON in a YAML file", "e.yaml", `{"apiVersion": "v2", "kind": "Bus"}`},
		{"JSON", "b.json", `{"apiVersion": "v2", "kind": "Bus", "ref": "caf\u00e9 \ud83d\ude00"}`},
		{"integers with a fraction of zero", "a.json", `{"apiVersion": "v2", "kind": "Agent", "ref": "a",
			"spec": {"username": "alice", "domainRef": "d", "maxContacts": 2.0, "expires": 6e1}}`},
		{"integers with a fraction of zero, YAML", "a.yaml", agent + "  maxContacts: 2.0\n  expires: 0x3C\n"},
		{"anchors and merges", "a.yaml", "- &a\n  apiVersion: v2\n  kind: Agent\n  ref: a\n  spec: &s {username: alice, domainRef: d}\n" +
			"- <<: *a\n  ref: b\n  spec: {<<: [*s], username: bob}\n"},
	}
	t.Chdir(t.TempDir())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			write(t, tt.file, tt.text)
			if err := schemas.Check(tt.file, newDocument); err != nil {
				t.Errorf("Check(%s) = %v, want nil", tt.file, err)
			}
		})
	}
}

// document takes a document of any kind.
type document struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Ref        string         `json:"ref"`
	Metadata   map[string]any `json:"metadata"`
	Spec       map[string]any `json:"spec"`
}

func newDocument(string) any { return new(document) }

// laughs is a document of few lines whose aliases stand for 10^8 values.
func laughs() string {
	var b strings.Builder
	b.WriteString("kind: EdgePort\na: &a [x, x, x, x, x, x, x, x, x, x]\n")
	for c := 'b'; c <= 'h'; c++ {
		b.WriteString(string(c) + ": &" + string(c) + " [")
		b.WriteString(strings.Repeat("*"+string(c-1)+", ", 10) + "]\n")
	}
	return b.String()
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Clean(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
