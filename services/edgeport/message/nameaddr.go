package message

import (
	"bytes"
	"iter"
)

// NameAddr is a name-addr or an addr-spec with the parameters of its header (RFC 3261 20.10): the value of a From, To,
// Contact, Route and the like. Its slices are parts of the text it was parsed from.
type NameAddr struct {
	Display []byte // the display name, without its quotes, quoted pairs as written
	URI     []byte // what is between the brackets
	Params  []byte // the parameters of the header, from the first ';' on
	Tag     []byte // the parameter tag (RFC 3261 19.3)
}

// ParseNameAddr reads one value. It checks that the URI has a scheme and nothing in it that a URI cannot have, not that
// it is well-formed: see ParseURI. "*", which a Contact may be, is a value as well. The error is an *Error.
func ParseNameAddr(text []byte) (NameAddr, error) {
	b := trim(text)
	if len(b) == 0 {
		return NameAddr{}, errAddress
	}
	if b[0] == '*' && len(b) == 1 {
		return NameAddr{URI: b}, nil
	}
	var a NameAddr
	open := 0
	if b[0] == '"' {
		end, ok := quoted(b, 0)
		if !ok {
			return NameAddr{}, errAddress
		}
		a.Display = b[1 : end-1]
		if open = skip(b, end); open >= len(b) || b[open] != '<' {
			return NameAddr{}, errAddress
		}
	} else {
		open = bytes.IndexByte(b, '<')
		if open > 0 && bytes.ContainsAny(b[:open], `;"`) {
			open = -1 // the bracket is of a parameter
		}
	}
	i := 0
	if open < 0 {
		// Without brackets a parameter belongs to the header, and a '?' or ',' makes it ambiguous.
		for i < len(b) && b[i] != ';' && b[i] != '?' && classes[b[i]]&isURI != 0 {
			i++
		}
		a.URI = b[:i]
		if bytes.IndexByte(a.URI, ',') >= 0 {
			return NameAddr{}, errAddress
		}
	} else {
		if a.Display == nil && open > 0 {
			a.Display = trim(b[:open])
			if bytes.ContainsAny(a.Display, ",>") {
				return NameAddr{}, errAddress
			}
		}
		for i = open + 1; i < len(b) && classes[b[i]]&isURI != 0; i++ {
		}
		if i >= len(b) || b[i] != '>' {
			return NameAddr{}, errAddress
		}
		a.URI = b[open+1 : i]
		i++
	}
	if i = skip(b, i); i < len(b) && b[i] != ';' {
		return NameAddr{}, errAddress
	}
	if schemeLen(a.URI) == 0 {
		return NameAddr{}, errAddress
	}
	a.Params = b[i:]
	p := params{b: a.Params}
	for p.next() {
		if len(p.name) == 3 && equalFold(p.name, "tag") {
			if a.Tag != nil || len(p.value) == 0 { // which one would identify the dialog?
				return NameAddr{}, errAddress
			}
			a.Tag = p.value
		}
	}
	if p.bad {
		return NameAddr{}, errAddress
	}
	return a, nil
}

// Wildcard says whether this is "Contact: *" (RFC 3261 10.2.2).
func (a *NameAddr) Wildcard() bool { return len(a.URI) == 1 && a.URI[0] == '*' }

// Param is the value of the first header parameter of that lower-case name, quotes taken off; empty if it has none.
func (a *NameAddr) Param(name string) (value []byte, ok bool) {
	for p := (params{b: a.Params}); p.next(); {
		if equalFold(p.name, name) {
			return p.value, true
		}
	}
	return nil, false
}

// All are the header parameters, in order.
func (a *NameAddr) All() iter.Seq[Param] {
	return func(yield func(Param) bool) {
		for p := (params{b: a.Params}); p.next(); {
			if len(p.name) > 0 && !yield(Param{p.name, p.value, p.text}) {
				return
			}
		}
	}
}

// Param is one parameter of a header or a URI.
type Param struct {
	Name  []byte
	Value []byte // a quoted string without its quotes; empty if there is none
	Text  []byte // the whole, from the ';' or the white space before it on
}
