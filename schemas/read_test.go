package schemas_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/routr-fabric/routr/schemas"
)

// config is a configuration with defaults, in a part of the layout of an EdgePort.
type config struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Ref        string     `json:"ref"`
	Spec       configSpec `json:"spec"`
}

type configSpec struct {
	BindAddr  string      `json:"bindAddr"`
	Localnets []string    `json:"localnets"`
	Transport []transport `json:"transport"`
}

type transport struct {
	Protocol string `json:"protocol"`
	BindAddr string `json:"bindAddr"`
	Port     int    `json:"port"`
}

func (c config) Validate() error {
	if c.Ref == "taken" {
		return errors.Join(errors.New("ref: is taken"), errors.New("spec.bindAddr: is taken too"))
	}
	return nil
}

func defaults() config {
	return config{
		Kind: "EdgePort",
		Spec: configSpec{
			BindAddr:  "0.0.0.0",
			Localnets: []string{"10.0.0.1/8"},
			Transport: []transport{{Protocol: "udp", BindAddr: "192.0.2.1", Port: 5060}, {Protocol: "tcp", Port: 5060}},
		},
	}
}

func TestReadFillsInDefaults(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "e.yaml", `
apiVersion: v2
kind: EdgePort
ref: e
spec:
  transport:
    - {protocol: tcp, port: 5070}
`)
	got := defaults()
	if err := schemas.Read("e.yaml", &got); err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.APIVersion, want.Ref = "v2", "e"
	want.Spec.Transport = []transport{{Protocol: "tcp", Port: 5070}} // with nothing of the default's first element
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Read(e.yaml) differs (-want +got):\n%s", diff)
	}
}

func TestReadDecodesAndValidates(t *testing.T) {
	const text = "apiVersion: v2\nkind: EdgePort\nref: e\nspec:\n  transport:\n  - protocol: udp\n    port: 5060\n"
	tests := []struct{ name, old, new, want string }{
		{"valid", "", "", ""},
		{"refused by Validate", "ref: e", "ref: taken", "e.yaml:3: ref: is taken\ne.yaml:4: spec.bindAddr: is taken too"},
		{"unknown to the type", "ref: e", "ref: e\nmetadata: {}", `e.yaml:1: json: unknown field "metadata"`},
	}
	t.Chdir(t.TempDir())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			write(t, "e.yaml", strings.Replace(text, tt.old, tt.new, 1))
			cfg := defaults()
			got := ""
			if err := schemas.Read("e.yaml", &cfg); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Read(e.yaml) differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadWantsOneDocumentOfItsKind(t *testing.T) {
	const one = "apiVersion: v2\nkind: EdgePort\nref: e\nspec: {transport: [{protocol: udp, port: 5060}]}\n"
	tests := []struct{ name, text, want string }{
		{"other kind", agent, `e.yaml:2: kind: "Agent" does not belong here, want "EdgePort"`},
		{"no kind", "ref: e\n", `e.yaml:1: kind: is missing, want "EdgePort"`},
		{"two", one + "---\n" + one, `e.yaml:6: 2 documents, want one, of kind EdgePort`},
		{"none", "[]", `e.yaml:1: the file is empty, want "EdgePort"`},
	}
	t.Chdir(t.TempDir())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			write(t, "e.yaml", tt.text)
			cfg := defaults()
			if err := schemas.Read("e.yaml", &cfg); err == nil || err.Error() != tt.want {
				t.Errorf("Read(e.yaml) = %v, want %s", err, tt.want)
			}
		})
	}
}

func TestReadOfNoFile(t *testing.T) {
	cfg := defaults()
	err := schemas.Read(filepath.Join(t.TempDir(), "none.yaml"), &cfg)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read(none.yaml) = %v, want %v", err, fs.ErrNotExist)
	}
}

func TestProblems(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "e.yaml", edgePort)
	documents, err := schemas.ReadAll("e.yaml", newDocument)
	if err != nil || len(documents) != 1 {
		t.Fatalf("ReadAll(e.yaml) = %d documents, %v, want 1", len(documents), err)
	}
	tests := []struct {
		name string
		in   error
		want schemas.Problem
	}{
		{"a path", errors.New("spec.transport[1].port: is taken"), schemas.Problem{Line: 12, Path: "spec.transport[1].port", Text: "is taken"}},
		{"a field that is not in the file", errors.New("spec.processor.addr: is bad"), schemas.Problem{Line: 4, Path: "spec.processor.addr", Text: "is bad"}},
		{"an element that is not in the file", errors.New("spec.transport[7]: is bad"), schemas.Problem{Line: 8, Path: "spec.transport[7]", Text: "is bad"}},
		{"nothing in the file", errors.New("other: is bad"), schemas.Problem{Line: 1, Path: "other", Text: "is bad"}},
		{"no path", errors.New("listen 0.0.0.0: is taken"), schemas.Problem{Line: 1, Text: "listen 0.0.0.0: is taken"}},
		{"a list that is not in the file", errors.New("spec.localnets[0]: is bad"), schemas.Problem{Line: 4, Path: "spec.localnets[0]", Text: "is bad"}},
		{"no name", errors.New("spec.[1: is bad"), schemas.Problem{Line: 1, Text: "spec.[1: is bad"}},
		{"no colon", errors.New("bad"), schemas.Problem{Line: 1, Text: "bad"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.File = "e.yaml"
			var got schemas.Problems
			if !errors.As(documents[0].Locate(tt.in), &got) {
				t.Fatalf("Locate(%v) = %v, want Problems", tt.in, documents[0].Locate(tt.in))
			}
			if diff := cmp.Diff(schemas.Problems{tt.want}, got); diff != "" {
				t.Errorf("Locate(%v) differs (-want +got):\n%s", tt.in, diff)
			}
		})
	}
	if err := documents[0].Locate(nil); err != nil {
		t.Errorf("Locate(nil) = %v, want nil", err)
	}
}

func TestSchemaOfEveryKind(t *testing.T) {
	want := []string{"Agent", "Bus", "Credentials", "Domain", "EdgePort", "Location", "MessageDispatcher", "Processor"}
	if diff := cmp.Diff(want, schemas.Kinds()); diff != "" {
		t.Errorf("Kinds() differs (-want +got):\n%s", diff)
	}
	for _, kind := range schemas.Kinds() {
		text, err := schemas.Schema(kind)
		if err != nil {
			t.Errorf("Schema(%s): %v", kind, err)
			continue
		}
		var head struct{ Schema, Title, Type string }
		var raw map[string]any
		if err := json.Unmarshal(text, &raw); err != nil {
			t.Errorf("Schema(%s): %v", kind, err)
			continue
		}
		head.Schema, _ = raw["$schema"].(string)
		head.Title, _ = raw["title"].(string)
		if head.Schema != "https://json-schema.org/draft/2020-12/schema" || head.Title != kind {
			t.Errorf("Schema(%s) is %q by %q, want %q by draft 2020-12", kind, head.Title, head.Schema, kind)
		}
		// The library checks a schema against its metaschema when it compiles it.
		c := jsonschema.NewCompiler()
		if err := c.AddResource(kind, raw); err != nil {
			t.Errorf("Schema(%s): %v", kind, err)
		} else if _, err := c.Compile(kind); err != nil {
			t.Errorf("Schema(%s): %v", kind, err)
		}
		undescribed(t, kind, raw)
	}
	if _, err := schemas.Schema("edgeport"); err != nil {
		t.Errorf("Schema(edgeport): %v", err)
	}
	_, err := schemas.Schema("Edge")
	if want := `kind "Edge" has no schema, want one of "Agent", "Bus", "Credentials", "Domain", "EdgePort", "Location", "MessageDispatcher", "Processor"`; err == nil || err.Error() != want {
		t.Errorf("Schema(Edge) = %v, want %s", err, want)
	}
}

// undescribed reports every property below a schema that has no description.
func undescribed(t *testing.T, path string, schema map[string]any) {
	t.Helper()
	properties, _ := schema["properties"].(map[string]any)
	for name, p := range properties {
		part, _ := p.(map[string]any)
		if text, _ := part["description"].(string); text == "" {
			t.Errorf("%s.%s has no description, want the comment of its field", path, name)
		}
		undescribed(t, path+"."+name, part)
	}
	if items, ok := schema["items"].(map[string]any); ok {
		undescribed(t, path+"[]", items)
	}
}

func FuzzReadAll(f *testing.F) {
	for _, text := range []string{edgePort, agent, edgePort + "---\n" + agent, "- 1\n- &a {<<: *a}\n", "{\"a\": [1.5e3, null]}", laughs()} {
		f.Add("x.yaml", []byte(text))
		f.Add("x.json", []byte(text))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if name != "x.yaml" && name != "x.json" {
			t.Skip()
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		documents, err := schemas.ReadAll(path, newDocument)
		var problems schemas.Problems
		if err == nil {
			if len(documents) == 0 {
				t.Errorf("ReadAll(%q) = no document and no error", data)
			}
			return
		}
		if !errors.As(err, &problems) {
			t.Fatalf("ReadAll(%q) = %T %v, want Problems", data, err, err)
		}
		for _, p := range problems {
			if p.Line < 1 || p.File != path || p.Text == "" {
				t.Errorf("ReadAll(%q) = %+v, want a file, a line from 1 and a text", data, p)
			}
		}
	})
}
