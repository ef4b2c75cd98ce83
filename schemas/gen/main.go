// Command gen writes the JSON Schemas of all kinds from the Go types of the services, with the comments of the fields
// as descriptions. From the root of the module:
//
//	go run ./schemas/gen
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/routr-fabric/routr/services"
)

const module = "github.com/routr-fabric/routr"

func main() {
	if err := run("schemas"); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// run writes the schema of each kind into the folder dir, and removes those of kinds that are no more.
func run(dir string) error {
	schemas, err := generate()
	if err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, "*.schema.json"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if _, stays := schemas[filepath.Base(path)]; !stays {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	for name, text := range schemas {
		//nolint:gosec // for everyone to read, as every file of the repository
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate is the text of each schema by file name. The working directory must be the root of the module.
func generate() (map[string][]byte, error) {
	r := &jsonschema.Reflector{
		Anonymous:                  true, // no $id: the files are read from where they lie
		DoNotReference:             true, // so that a pointer into a schema needs no resolving
		RequiredFromJSONSchemaTags: true,
	}
	if err := r.AddGoComments(module, "./services"); err != nil {
		return nil, fmt.Errorf("read comments: %w", err)
	}
	for name, text := range r.CommentMap {
		// What follows the first paragraph is for the reader of the code.
		first, _, _ := strings.Cut(text, "\n\n")
		r.CommentMap[name] = strings.Join(strings.Fields(first), " ")
	}
	schemas := map[string][]byte{}
	for _, kind := range services.Kinds() {
		s := r.Reflect(services.NewDocument(kind))
		s.Title = kind
		text, err := json.Marshal(s)
		if err != nil {
			return nil, fmt.Errorf("schema of %s: %w", kind, err)
		}
		var b bytes.Buffer
		if err := json.Indent(&b, text, "", "  "); err != nil {
			return nil, fmt.Errorf("schema of %s: %w", kind, err)
		}
		b.WriteByte('\n')
		schemas[kind+".schema.json"] = b.Bytes()
	}
	return schemas, nil
}
