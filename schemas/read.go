package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
)

// Document is one document of a file, read.
type Document struct {
	Kind  string // as Kinds spells it
	File  string
	Value any // what newValue returned, filled in

	root *node
}

// Locate turns an error about d into Problems with lines of its file: each error in err (errors.Join) may begin with the
// path of a field, such as `spec.domainRef: ...`. It is nil if err is.
func (d Document) Locate(err error) error {
	return problems(d.File, d.root, err).err()
}

// Read reads the one document in the file path into the struct that into points to, whose field Kind says which kind
// the file must have. Fields that the file does not have keep their values; a list in the file replaces a list in into.
// Then Validate() error is called, if into has it. The error is Problems, or says why the file could not be read; then
// into may be half filled.
func Read(path string, into any) error {
	want := reflect.ValueOf(into).Elem().FieldByName("Kind").String()
	documents, err := ReadAll(path, func(kind string) any {
		if strings.EqualFold(kind, want) {
			return into
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n := len(documents); n > 1 {
		return Problems{{File: path, Line: documents[1].root.line, Text: fmt.Sprintf("%d documents, want one, of kind %s", n, want)}}
	}
	return nil
}

// ReadAll reads every document in the file path: those of a YAML stream, or the elements of a list. newValue gives the
// value to decode a document into, a pointer to a struct that holds the defaults, by its kind as Kinds spells it; nil
// for a kind that does not belong into the file. The error is Problems, or says why the file could not be read.
func ReadAll(path string, newValue func(kind string) any) ([]Document, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	roots, err := parse(path, data)
	if err != nil {
		bad := &badLine{line: 1, text: err.Error()}
		errors.As(err, &bad)
		return nil, Problems{{File: path, Line: bad.line, Text: bad.text}}
	}
	r := reader{
		file:     path,
		newValue: newValue,
		kinds:    slices.DeleteFunc(Kinds(), func(k string) bool { return newValue(k) == nil }),
		schemas:  map[string]*schema{},
	}
	for _, root := range roots {
		if err := r.document(root); err != nil {
			return nil, err
		}
	}
	if len(roots) == 0 {
		r.wrong(Problem{Line: 1, Text: "the file is empty" + oneOf("", r.kinds)})
	}
	return r.documents, r.problems.err()
}

// Check reports what is wrong with the file path, as ReadAll does.
func Check(path string, newValue func(kind string) any) error {
	_, err := ReadAll(path, newValue)
	return err
}

// reader reads the documents of one file.
type reader struct {
	file      string
	newValue  func(kind string) any
	kinds     []string           // that belong into the file
	schemas   map[string]*schema // compiled so far, by kind
	documents []Document
	problems  Problems
}

func (r *reader) wrong(ps ...Problem) {
	for _, p := range ps {
		p.File = r.file
		r.problems = append(r.problems, p)
	}
}

// document reads the document at root. Its error is not about the file.
func (r *reader) document(root *node) error {
	kind, ok := r.kind(root)
	if !ok {
		return nil
	}
	s := r.schemas[kind]
	if s == nil {
		var err error
		if s, err = compile(kind); err != nil {
			return err
		}
		r.schemas[kind] = s
	}
	plain := root.plain()
	if ps := s.check(root, plain); len(ps) > 0 {
		r.wrong(ps...)
		return nil
	}
	d := Document{Kind: kind, File: r.file, Value: r.newValue(kind), root: root}
	err := decode(plain, d.Value)
	if v, ok := d.Value.(interface{ Validate() error }); err == nil && ok {
		err = v.Validate()
	}
	if err != nil {
		r.wrong(problems(r.file, root, err)...)
		return nil
	}
	r.documents = append(r.documents, d)
	return nil
}

// kind is the kind of the document at root, one of r.kinds, or a problem and false.
func (r *reader) kind(root *node) (string, bool) {
	if _, ok := root.value.([]member); !ok {
		r.wrong(Problem{Line: root.line, Text: fmt.Sprintf("the document is %s, want an object with a kind", describe(root.plain()))})
		return "", false
	}
	m := root.get("kind")
	if m == nil {
		r.wrong(Problem{Line: root.line, Path: "kind", Text: "is missing" + oneOf("", r.kinds)})
		return "", false
	}
	name, ok := m.value.value.(string)
	if !ok {
		r.wrong(Problem{Line: m.line, Path: "kind", Text: "is " + describe(m.value.plain()) + ", want a string"})
		return "", false
	}
	same := func(k string) bool { return strings.EqualFold(k, name) }
	if i := slices.IndexFunc(r.kinds, same); i >= 0 {
		return r.kinds[i], true
	}
	text := quote(name) + " is not known"
	if slices.ContainsFunc(Kinds(), same) {
		text = quote(name) + " does not belong here"
	}
	r.wrong(Problem{Line: m.line, Path: "kind", Text: text + oneOf(name, r.kinds)})
	return "", false
}

// decode fills in value, which holds the defaults, from plain, which its schema has found valid.
func decode(plain, value any) error {
	clearLists(reflect.ValueOf(value), plain)
	text, err := json.Marshal(plain)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err = d.Decode(value)
	if bad := (*json.UnmarshalTypeError)(nil); errors.As(err, &bad) {
		return fmt.Errorf("%s: %s does not fit into %s", bad.Field, bad.Value, bad.Type)
	}
	return err
}

// clearLists empties the lists and maps of v that plain has too: encoding/json would decode into the elements that are
// there, so that an element of a file could inherit fields from a default.
func clearLists(v reflect.Value, plain any) {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	object, ok := plain.(map[string]any)
	if !ok || v.Kind() != reflect.Struct {
		return
	}
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		value, found := object[name]
		switch f := v.Field(i); {
		case !found || !f.CanSet():
		case f.Kind() == reflect.Slice || f.Kind() == reflect.Map:
			f.SetZero()
		default:
			clearLists(f, value)
		}
	}
}

// problems are the errors in err as problems of the document at root.
func problems(file string, root *node, err error) Problems {
	if err == nil {
		return nil
	}
	// err itself, not its chain (errors.As): an error that wraps several has a path before theirs.
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all Problems
		for _, e := range joined.Unwrap() {
			all = append(all, problems(file, root, e)...)
		}
		return all
	}
	path, tokens, text := splitPath(err.Error())
	_, line := root.locate(tokens)
	return Problems{{File: file, Line: line, Path: path, Text: text}}
}
