package message

import (
	"bytes"
	"iter"
)

// Value is one value of a header that may hold several.
type Value struct {
	Text   []byte // without white space around it
	header uint16
	start  uint16
}

// Header is the index of the header that the value stands in.
func (v Value) Header() int { return int(v.header) }

// Values are the values of a header, however they are spread over fields and commas, in order. Empty ones are skipped.
// A header that is no list (see Kind.List) has one value per field.
func (m *Message) Values(k Kind) iter.Seq[Value] {
	return func(yield func(Value) bool) { m.eachValue(k, yield) }
}

func (m *Message) eachValue(k Kind, yield func(Value) bool) {
	first, ok := m.Find(k)
	if !ok {
		return
	}
	for i := first; i < len(m.headers); i++ {
		if m.headers[i].kind == k && !m.valuesOf(i, yield) {
			return
		}
	}
}

// ValuesOf are the values of the header field i.
func (m *Message) ValuesOf(i int) iter.Seq[Value] {
	return func(yield func(Value) bool) { m.valuesOf(i, yield) }
}

// valuesOf yields the values of one header; false if it was told to stop.
func (m *Message) valuesOf(i int, yield func(Value) bool) bool {
	h := &m.headers[i]
	if !h.kind.List() {
		return yield(Value{m.data[h.value:h.valueEnd], uint16(i), h.value})
	}
	for pos := int(h.value); ; {
		from, to, next, ok := nextValue(m.data[:h.valueEnd], pos)
		if !ok {
			return true
		}
		if !yield(Value{m.data[from:to], uint16(i), uint16(from)}) {
			return false
		}
		pos = next
	}
}

// Count is the number of values that Values yields.
func (m *Message) Count(k Kind) int {
	n := 0
	m.eachValue(k, func(Value) bool { n++; return true })
	return n
}

// nextValue finds the first value at or behind pos in a list that ends where b does, and the position behind its comma.
// Commas in quoted strings and in angle brackets separate nothing.
func nextValue(b []byte, pos int) (from, to, next int, ok bool) {
	for {
		pos = skip(b, pos)
		if pos >= len(b) {
			return 0, 0, len(b), false
		}
		if b[pos] != ',' {
			break
		}
		pos++
	}
	from, to, next = pos, len(b), len(b)
	if bytes.IndexByte(b[pos:], ',') >= 0 {
		if end := valueEnd(b, pos); end < len(b) {
			to, next = end, end+1
		}
	}
	for isLWS(b[to-1]) {
		to--
	}
	return from, to, next, true
}

// valueEnd is the position of the comma that ends the value at pos, or len(b).
func valueEnd(b []byte, pos int) int {
	for i := pos; i < len(b); i++ {
		switch b[i] {
		case ',':
			return i
		case '"':
			i, _ = quoted(b, i)
			i--
		case '<':
			end := bytes.IndexByte(b[i:], '>')
			if end < 0 {
				return len(b)
			}
			i += end
		}
	}
	return len(b)
}

// params walks over parameters: ";name=value;name", with white space around every part (RFC 3261 7.3.1, 25.1).
type params struct {
	b     []byte
	name  []byte
	value []byte // a quoted string without its quotes, an IPv6 reference with its brackets
	text  []byte // with the white space before it
	pos   int
	n     int
	bad   bool // the walk ended before the end, at something that is no parameter
}

// next moves to the next parameter.
func (p *params) next() bool {
	b := p.b
	i := skip(b, p.pos)
	if i >= len(b) {
		return false
	}
	if p.n++; b[i] != ';' || p.n > MaxParams {
		p.bad = true
		return false
	}
	i = skip(b, i+1)
	from := i
	for i < len(b) && classes[b[i]]&isToken != 0 {
		i++
	}
	p.name, p.value = b[from:i], b[i:i]
	end := i
	i = skip(b, i)
	if i < len(b) && b[i] == '=' && len(p.name) > 0 {
		i = skip(b, i+1)
		from = i
		if i < len(b) && b[i] == '"' {
			var ok bool
			if i, ok = quoted(b, i); !ok {
				p.bad = true
				return false
			}
			p.value = b[from+1 : i-1]
		} else {
			for i < len(b) && b[i] != ';' && b[i] != '"' && b[i] != ',' && !isLWS(b[i]) {
				i++
			}
			p.value = b[from:i]
		}
		end = i
		i = skip(b, i)
	}
	if i < len(b) && b[i] != ';' {
		p.bad = true
		return false
	}
	p.text, p.pos = b[p.pos:end], end
	return true
}
