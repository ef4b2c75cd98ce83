package schemas

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// check validates plain, which is root as plain values, against the schema.
func (s *schema) check(root *node, plain any) []Problem {
	err := s.compiled.Validate(plain)
	if err == nil {
		return nil
	}
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return []Problem{{Line: root.line, Text: err.Error()}}
	}
	c := checker{schema: s, root: root}
	c.walk(invalid)
	return c.problems
}

// checker turns the errors of the validator into sentences with a path and a line.
type checker struct {
	*schema
	root     *node
	problems []Problem
}

// walk reports the errors at the leaves below e: what is above only says that something below is wrong.
func (c *checker) walk(e *jsonschema.ValidationError) {
	if len(e.Causes) == 0 {
		c.report(e)
	}
	for _, cause := range e.Causes {
		c.walk(cause)
	}
}

// at adds a problem with the field that tokens lead to.
func (c *checker) at(tokens []string, format string, args ...any) {
	path, line := c.root.locate(tokens)
	c.problems = append(c.problems, Problem{Line: line, Path: path, Text: fmt.Sprintf(format, args...)})
}

func (c *checker) report(e *jsonschema.ValidationError) {
	where := e.InstanceLocation
	below := func(token string) []string { return append(slices.Clone(where), token) }
	_, pointer, _ := strings.Cut(e.SchemaURL, "#")
	part := c.schema.at(pointer)
	properties, _ := part["properties"].(map[string]any)

	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			p, _ := properties[name].(map[string]any)
			c.at(below(name), "is missing, want %s", want(p))
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			c.at(below(name), "is no known key%s", oneOf(name, sortedKeys(properties)))
		}
	case *kind.Type:
		v := c.value(where)
		if _, scalar := v.(json.Number); scalar && isSecret(where) {
			c.at(where, "is a number, want a string: put it in quotes")
			return
		}
		c.at(where, "is %s, want %s", describe(v), want(part))
	case *kind.Enum:
		c.at(where, "%s is not known, want %s", describeValue(k.Got), list(k.Want))
	case *kind.Const:
		c.at(where, "is %s, want %s", describe(k.Got), quote(k.Want))
	case *kind.MinItems:
		c.at(where, "has %s, want at least %d", count(k.Got, "element"), k.Want)
	case *kind.MaxItems:
		c.at(where, "has %s, want at most %d", count(k.Got, "element"), k.Want)
	case *kind.UniqueItems:
		first, _ := c.root.locate(below(strconv.Itoa(k.Duplicates[0])))
		c.at(below(strconv.Itoa(k.Duplicates[1])), "is the same as %s", first)
	case *kind.MinLength:
		c.at(where, "has %s, want at least %d", count(k.Got, "character"), k.Want)
	case *kind.MaxLength:
		c.at(where, "has %s, want at most %d", count(k.Got, "character"), k.Want)
	case *kind.Minimum:
		c.at(where, "is %s, want at least %s", decimal(k.Got), decimal(k.Want))
	case *kind.Maximum:
		c.at(where, "is %s, want at most %s", decimal(k.Got), decimal(k.Want))
	case *kind.Pattern:
		c.at(where, "%s does not match %s", quote(k.Got), k.Want)
	default:
		c.at(where, "%s", k.LocalizedString(message.NewPrinter(language.English)))
	}
}

// value is the plain value that tokens lead to.
func (c *checker) value(tokens []string) any {
	n := c.root
	for _, token := range tokens {
		if n, _ = n.child(token); n == nil {
			return nil
		}
	}
	return n.plain()
}

// isSecret reports whether the value that tokens lead to must not be in an error, which ends up in logs. Such a value is
// a string of any form, so that the only mistake that could show it is a number without quotes.
func isSecret(tokens []string) bool {
	return len(tokens) > 0 && strings.EqualFold(tokens[len(tokens)-1], "password")
}

// describe names a value and its type: `the string "x"`, `a list`, `empty`.
func describe(v any) string {
	switch v.(type) {
	case nil:
		return "empty"
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case string:
		return "the string " + quote(v)
	case bool:
		return "the boolean " + quote(v)
	default:
		return "the number " + quote(v)
	}
}

// describeValue is a scalar as it is written, anything else by its type.
func describeValue(v any) string {
	switch v.(type) {
	case map[string]any, []any, nil:
		return describe(v)
	default:
		return quote(v)
	}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

func decimal(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	return strings.TrimRight(r.FloatString(6), "0")
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
