package schemas

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a document.
const (
	maxDepth   = 64
	maxAliased = 1 << 16 // as an alias repeats what it stands for, few lines could stand for any number of values
)

// node is a value of a JSON or YAML document, with the line where it begins.
type node struct {
	line  int
	value any // []member, []*node, string, bool, json.Number, or nil for null
}

// member is a key of an object with its value.
type member struct {
	key   string
	line  int // of the key
	value *node
}

// plain is n as encoding/json decodes it with UseNumber.
func (n *node) plain() any {
	switch v := n.value.(type) {
	case []member:
		m := make(map[string]any, len(v))
		for _, f := range v {
			m[f.key] = f.value.plain()
		}
		return m
	case []*node:
		a := make([]any, len(v))
		for i, e := range v {
			a[i] = e.plain()
		}
		return a
	default:
		return v
	}
}

func (n *node) isList() bool {
	_, ok := n.value.([]*node)
	return ok
}

// get is the member of that key; nil if n is no object or has none.
func (n *node) get(key string) *member {
	members, _ := n.value.([]member)
	if i := slices.IndexFunc(members, func(m member) bool { return m.key == key }); i >= 0 {
		return &members[i]
	}
	return nil
}

// child is the node one step below n, by the key or the index in token, and its line: that of the key in an object.
// It is nil if there is none.
func (n *node) child(token string) (*node, int) {
	if list, ok := n.value.([]*node); ok {
		if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(list) {
			return list[i], list[i].line
		}
		return nil, 0
	}
	if m := n.get(token); m != nil {
		return m.value, m.line
	}
	return nil, 0
}

// locate follows tokens down from n. It returns the path as errors write it and the line of the last part that is
// there: the line of the field, or, if it is missing, of what should hold it.
func (n *node) locate(tokens []string) (path string, line int) {
	var b strings.Builder
	line = n.line
	for _, token := range tokens {
		switch {
		case n != nil && n.isList():
			fmt.Fprintf(&b, "[%s]", token)
		case !isName(token):
			fmt.Fprintf(&b, "[%s]", quote(token))
		case b.Len() > 0:
			b.WriteString("." + token)
		default:
			b.WriteString(token)
		}
		if n == nil {
			continue
		}
		next, l := n.child(token)
		if n = next; n != nil {
			line = l
		}
	}
	return b.String(), line
}

// isName reports whether a key can stand in a path as it is.
func isName(key string) bool {
	for _, r := range key {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' && r != '$' {
			return false
		}
	}
	return key != ""
}

// splitPath takes the path off the head of an error of a Validate method, such as
// "spec.transport[1].port: 5060 is already used". Without one, path and tokens are empty and text is all of s.
func splitPath(s string) (path string, tokens []string, text string) {
	path, text, found := strings.Cut(s, ": ")
	if !found {
		return "", nil, s
	}
	tokens = strings.Split(strings.NewReplacer("[", ".", "]", "").Replace(path), ".")
	for _, t := range tokens {
		if !isName(t) {
			return "", nil, s
		}
	}
	return path, tokens, text
}
