// Package schemas reads configuration and resource files: it finds the kind of each document, validates it against the
// JSON Schema (2020-12) of that kind and decodes it. The schemas are generated from the Go types of the services by
// `go run ./schemas/gen` and embedded; the package itself knows no service. It never changes a file and never reads the
// network.
package schemas

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

//go:embed *.schema.json
var files embed.FS

const suffix = ".schema.json"

// Kinds are the kinds that have a schema, sorted.
func Kinds() []string {
	names, _ := fs.Glob(files, "*"+suffix) // only a malformed pattern is an error
	for i, n := range names {
		names[i] = strings.TrimSuffix(n, suffix)
	}
	return names
}

// Schema is the JSON Schema of a kind, whose letters may be of any case. An error lists the kinds.
func Schema(kind string) ([]byte, error) {
	for _, k := range Kinds() {
		if strings.EqualFold(k, kind) {
			return files.ReadFile(k + suffix)
		}
	}
	return nil, fmt.Errorf("kind %q has no schema%s", kind, oneOf(kind, Kinds()))
}

// schema is a compiled schema, and its text as a tree for what the errors say.
type schema struct {
	compiled *jsonschema.Schema
	tree     any
}

// compile reads and compiles the schema of kind, one of Kinds.
func compile(kind string) (*schema, error) {
	text, err := Schema(kind)
	if err != nil {
		return nil, err
	}
	tree, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("schema of %s: %w", kind, err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(jsonschema.SchemeURLLoader{}) // none: a schema refers to nothing outside itself
	if err := c.AddResource(kind, tree); err != nil {
		return nil, fmt.Errorf("schema of %s: %w", kind, err)
	}
	compiled, err := c.Compile(kind)
	if err != nil {
		return nil, fmt.Errorf("schema of %s: %w", kind, err)
	}
	return &schema{compiled: compiled, tree: tree}, nil
}

// at is the part of the schema that a fragment such as "/properties/spec" points to; nil if there is none.
func (s *schema) at(pointer string) map[string]any {
	v := s.tree
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		m, ok := v.(map[string]any)
		if !ok || pointer == "" {
			break
		}
		v = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(token)]
	}
	m, _ := v.(map[string]any)
	return m
}

// want describes the value that the schema m asks for, as the end of a sentence.
func want(m map[string]any) string {
	if values, ok := m["enum"].([]any); ok {
		return list(values)
	}
	switch t, _ := m["type"].(string); t {
	case "":
		return "a value"
	default:
		return article(t)
	}
}

// article is the name of a JSON type with its article.
func article(t string) string {
	switch t {
	case "integer", "array", "object":
		if t == "array" {
			return "a list"
		}
		return "an " + t
	case "null":
		return "no value"
	default:
		return "a " + t
	}
}

// list writes the values of an enum: `"a"`, `"a" or "b"`, `one of "a", "b", "c"`. Of values that differ in case alone it
// names the first.
func list(values []any) string {
	var words []string
	for _, v := range values {
		q := quote(v)
		if !slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, q) }) {
			words = append(words, q)
		}
	}
	switch len(words) {
	case 1, 2:
		return strings.Join(words, " or ")
	default:
		return "one of " + strings.Join(words, ", ")
	}
}

// quote writes a scalar as JSON does, cut to a length that an error can bear.
func quote(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	const most = 60
	if runes := []rune(string(b)); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return string(b)
}
