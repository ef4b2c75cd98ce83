package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A badLine is a syntax error, or something that no document may hold.
type badLine struct {
	line int
	text string
}

func (e *badLine) Error() string { return fmt.Sprintf("%d: %s", e.line, e.text) }

// parse reads the documents in data: those of a YAML stream, or the elements of a list where a document is one. A file
// name that ends in .json is JSON, everything else YAML, whose flow style JSON is. An error is a *badLine.
func parse(name string, data []byte) ([]*node, error) {
	read := parseYAML
	if strings.EqualFold(filepath.Ext(name), ".json") {
		read = parseJSON
	}
	documents, err := read(data)
	if err != nil {
		return nil, err
	}
	var flat []*node
	for _, d := range documents {
		if elements, ok := d.value.([]*node); ok {
			flat = append(flat, elements...)
		} else {
			flat = append(flat, d)
		}
	}
	return flat, nil
}

// number is f written as JSON writes an integer where f is one.
func number(f float64) json.Number {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return json.Number(strconv.FormatInt(int64(f), 10))
	}
	return json.Number(strconv.FormatFloat(f, 'g', -1, 64))
}

// jsonParser reads one JSON text token by token, as encoding/json keeps no positions.
type jsonParser struct {
	*json.Decoder
	data []byte
	line int // of the byte at
	at   int64
}

func parseJSON(data []byte) ([]*node, error) {
	p := &jsonParser{Decoder: json.NewDecoder(bytes.NewReader(data)), data: data, line: 1}
	p.UseNumber()
	n, err := p.value(0)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err == nil {
		if _, after := p.Token(); !errors.Is(after, io.EOF) {
			p.move()
			return nil, &badLine{p.line, "there is more after the end of the JSON text"}
		}
		return []*node{n}, nil
	}
	var syntax *json.SyntaxError
	var bad *badLine
	switch {
	case errors.As(err, &bad):
		return nil, bad
	case errors.As(err, &syntax):
		return nil, &badLine{1 + bytes.Count(data[:min(syntax.Offset, int64(len(data)))], []byte("\n")), syntax.Error()}
	default:
		return nil, &badLine{1 + bytes.Count(data, []byte("\n")), "the JSON text ends too early"}
	}
}

// move brings p.line to the end of the token that was read last.
func (p *jsonParser) move() {
	end := p.InputOffset()
	p.line += bytes.Count(p.data[p.at:end], []byte("\n"))
	p.at = end
}

func (p *jsonParser) value(depth int) (*node, error) {
	token, err := p.Token()
	if err != nil {
		return nil, err
	}
	p.move()
	n := &node{line: p.line, value: token}
	switch token {
	case json.Delim('['):
		n.value, err = p.list(depth + 1)
	case json.Delim('{'):
		n.value, err = p.object(depth + 1)
	default:
		if text, ok := token.(json.Number); ok {
			n.value = integral(text)
		}
	}
	return n, err
}

// integral writes 5060.0 and 5.06e3 as 5060, which they are to JSON Schema but not to encoding/json.
func integral(text json.Number) json.Number {
	if !strings.ContainsAny(string(text), ".eE") {
		return text
	}
	f, err := text.Float64()
	if err != nil {
		return text
	}
	return number(f)
}

func (p *jsonParser) list(depth int) (any, error) {
	if depth > maxDepth {
		return nil, &badLine{p.line, fmt.Sprintf("nested deeper than %d levels", maxDepth)}
	}
	list := []*node{}
	for p.More() {
		n, err := p.value(depth)
		if err != nil {
			return nil, unexpectedEOF(err)
		}
		list = append(list, n)
	}
	_, err := p.Token()
	p.move()
	return list, unexpectedEOF(err)
}

func (p *jsonParser) object(depth int) (any, error) {
	if depth > maxDepth {
		return nil, &badLine{p.line, fmt.Sprintf("nested deeper than %d levels", maxDepth)}
	}
	members, lines := []member{}, map[string]int{}
	for p.More() {
		key, err := p.Token()
		if err != nil {
			return nil, unexpectedEOF(err)
		}
		p.move()
		name, line := key.(string), p.line
		value, err := p.value(depth)
		if err != nil {
			return nil, unexpectedEOF(err)
		}
		if err := once(lines, name, line); err != nil {
			return nil, err
		}
		members = append(members, member{name, line, value})
	}
	_, err := p.Token()
	p.move()
	return members, unexpectedEOF(err)
}

// unexpectedEOF makes an end inside a value an error of its own: io.EOF itself means that there was no value.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// once enters a key into the lines of those that an object has so far, which must not have it yet.
func once(lines map[string]int, key string, line int) error {
	if first, twice := lines[key]; twice {
		return &badLine{line, fmt.Sprintf("the key %s stands on line %d already", quote(key), first)}
	}
	lines[key] = line
	return nil
}

// yamlParser turns the nodes of the YAML library into ours.
type yamlParser struct {
	aliases int // that the node is reached through
	aliased int // values reached through aliases so far
}

func parseYAML(data []byte) ([]*node, error) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	p := &yamlParser{}
	var documents []*node
	for {
		var y yaml.Node
		switch err := d.Decode(&y); {
		case errors.Is(err, io.EOF):
			return documents, nil
		case err != nil:
			return nil, yamlError(err)
		}
		if len(y.Content) == 0 { // nothing but comments
			continue
		}
		n, err := p.node(y.Content[0], 0)
		if err != nil {
			return nil, err
		}
		if n.value != nil { // a document of nothing but "---"
			documents = append(documents, n)
		}
	}
}

// yamlError takes the line out of an error such as "yaml: line 5: did not find expected key".
func yamlError(err error) *badLine {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, found := strings.CutPrefix(text, "line "); found {
		digits, after, _ := strings.Cut(rest, ": ")
		if line, err := strconv.Atoi(digits); err == nil {
			return &badLine{line, after}
		}
	}
	return &badLine{1, text}
}

func (p *yamlParser) node(y *yaml.Node, depth int) (*node, error) {
	if p.aliases > 0 {
		if p.aliased++; p.aliased > maxAliased {
			return nil, &badLine{y.Line, fmt.Sprintf("aliases stand for more than %d values", maxAliased)}
		}
	}
	if depth > maxDepth {
		return nil, &badLine{y.Line, fmt.Sprintf("nested deeper than %d levels", maxDepth)}
	}
	n := &node{line: y.Line}
	var err error
	switch y.Kind {
	case yaml.AliasNode:
		p.aliases++
		n, err = p.node(y.Alias, depth+1)
		p.aliases--
		if err == nil {
			n.line = y.Line
		}
	case yaml.SequenceNode:
		list := make([]*node, len(y.Content))
		for i, e := range y.Content {
			if list[i], err = p.node(e, depth+1); err != nil {
				return nil, err
			}
		}
		n.value = list
	case yaml.MappingNode:
		n.value, err = p.mapping(y, depth)
	default:
		n.value, err = scalar(y)
	}
	return n, err
}

// mapping reads the keys of y, then those of the mappings that it merges (<<), which do not override them.
func (p *yamlParser) mapping(y *yaml.Node, depth int) ([]member, error) {
	members, lines := make([]member, 0, len(y.Content)/2), map[string]int{}
	var merges []*node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key := y.Content[i]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			return nil, &badLine{key.Line, "a key is a list or an object, want a word"}
		}
		value, err := p.node(y.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		if key.ShortTag() == "!!merge" {
			merges = append(merges, value)
			continue
		}
		line := y.Content[i].Line
		if err := once(lines, key.Value, line); err != nil {
			return nil, err
		}
		members = append(members, member{key.Value, line, value})
	}
	for len(merges) > 0 {
		from := merges[0]
		merges = merges[1:]
		switch v := from.value.(type) {
		case []*node:
			merges = append(slices.Clone(v), merges...)
		case []member:
			for _, m := range v {
				if once(lines, m.key, m.line) == nil {
					members = append(members, m)
				}
			}
		default:
			return nil, &badLine{from.line, "<< merges something that is no object"}
		}
	}
	return members, nil
}

// scalar is the value of y in the core schema of YAML 1.2. What it has no JSON type for, such as a date, is a string.
func scalar(y *yaml.Node) (any, error) {
	switch y.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		var b bool
		if err := y.Decode(&b); err != nil {
			return nil, &badLine{y.Line, fmt.Sprintf("%q is no boolean, want true or false", y.Value)}
		}
		return b, nil
	case "!!int", "!!float":
		var i int64 // into which a float would be decoded too, cut
		if y.ShortTag() == "!!int" && y.Decode(&i) == nil {
			return json.Number(strconv.FormatInt(i, 10)), nil
		}
		var f float64
		if err := y.Decode(&f); err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return nil, &badLine{y.Line, fmt.Sprintf("%s is no number that can stand here", y.Value)}
		}
		return number(f), nil
	default:
		return y.Value, nil
	}
}
