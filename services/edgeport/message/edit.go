package message

import (
	"slices"
	"strconv"
)

// Edit is a set of patches on one message. The message stays as it is; Append writes it with the patches, and what no
// patch touches leaves byte for byte. An Edit is meant to be used again after Reset, and copies what it is given.
//
// Several patches may meet: of two on the same thing the later one counts; RemoveHeader and SetHeader outrank what is
// said about single values of their header; SetBody counts over SetContentLength.
//
// No patch can add a line to a message: a CR, LF or NUL in a new value is written as a space, but for the line folding
// (RFC 3261 7.3.1) of what ReplaceValue puts in, as that is most often the old value with something added.
type Edit struct {
	m    *Message
	ops  []op   // sorted by at and class
	text []byte // of all patches

	uri, body       textSpan
	hasURI, hasBody bool
	hasLength       bool // Content-Length is wanted
}

type textSpan struct{ from, to int }

// op is one patch, on the header at.
type op struct {
	at    uint16 // Message.Len() is the place behind the last header
	class class
	kind  Kind   // of an insertion by InsertTop
	start uint16 // where the value begins that a patch of class onValue is about
	gone  bool   // removed, not replaced
	text  textSpan
}

// class orders the patches that have the same place.
type class uint8

const (
	above    class = iota // a line above the header; the newest on top
	onHeader              // instead of the header
	onValue               // instead of one of its values
	behind                // a line at the end; the newest last
)

// Reset begins a set of patches on m, which has to outlive it.
func (e *Edit) Reset(m *Message) {
	*e = Edit{m: m, ops: e.ops[:0], text: e.text[:0]}
}

// Message is what the patches are on.
func (e *Edit) Message() *Message { return e.m }

// Changed says whether there is any patch.
func (e *Edit) Changed() bool { return len(e.ops) > 0 || e.hasURI || e.hasBody || e.hasLength }

// SetRequestURI replaces the Request-URI. Spaces and control characters in it are escaped. On a response it does nothing.
func (e *Edit) SetRequestURI(uri []byte) {
	if !e.m.request {
		return
	}
	const hex = "0123456789ABCDEF"
	from := len(e.text)
	for _, c := range uri {
		if c <= ' ' || c == 0x7f {
			e.text = append(e.text, '%', hex[c>>4], hex[c&15])
		} else {
			e.text = append(e.text, c)
		}
	}
	e.uri, e.hasURI = textSpan{from, len(e.text)}, true
}

// InsertTop adds a header line above the first one of its kind, so that value becomes the first value. If there is none
// of that kind, the line comes first if it is a Via, else behind the last Via.
func (e *Edit) InsertTop(k Kind, value []byte) {
	if k == KindOther || k >= numKinds {
		return
	}
	at, ok := e.m.Find(k)
	if !ok && k != KindVia {
		for i := range e.m.headers {
			if e.m.headers[i].kind == KindVia {
				at = i + 1
			}
		}
	}
	e.add(op{at: uint16(at), class: above, kind: k, text: e.line(k.String(), value)})
}

// AppendHeader adds a header line behind the last one. The name has to be a token (see IsToken), else nothing happens.
func (e *Edit) AppendHeader(name string, value []byte) {
	if IsToken(name) {
		e.add(op{at: uint16(len(e.m.headers)), class: behind, text: e.line(name, value)})
	}
}

// RemoveHeader removes the header field i with all its values.
func (e *Edit) RemoveHeader(i int) {
	e.add(op{at: uint16(i), class: onHeader, gone: true})
}

// SetHeader replaces the value, or all the values, of the header field i.
func (e *Edit) SetHeader(i int, value []byte) {
	e.add(op{at: uint16(i), class: onHeader, text: e.value(value)})
}

// RemoveValue removes one value of a list, with the comma that parted it from the one before it, or behind it if it is
// the first; with its last value a header field goes.
func (e *Edit) RemoveValue(v Value) {
	e.add(op{at: v.header, class: onValue, start: v.start, gone: true})
}

// ReplaceValue replaces one value of a list.
func (e *Edit) ReplaceValue(v Value, text []byte) {
	from := len(e.text)
	e.value(text)
	for i := range text { // what is folded stays so
		if i+2 < len(text) && text[i] == '\r' && text[i+1] == '\n' && isBlank(text[i+2]) {
			copy(e.text[from+i:], "\r\n")
		}
	}
	e.add(op{at: v.header, class: onValue, start: v.start, text: textSpan{from, len(e.text)}})
}

// SetMaxForwards sets Max-Forwards to n, and adds it if it is absent.
func (e *Edit) SetMaxForwards(n int) {
	var space [20]byte
	value := strconv.AppendInt(space[:0], int64(n), 10)
	if i, ok := e.m.Find(KindMaxForwards); ok {
		e.SetHeader(i, value)
		return
	}
	for i := range e.ops {
		if o := &e.ops[i]; o.class == above && o.kind == KindMaxForwards {
			o.text = e.line(KindMaxForwards.String(), value)
			return
		}
	}
	e.InsertTop(KindMaxForwards, value)
}

// SetContentLength adds a Content-Length if the message has none, as it must have on a stream.
func (e *Edit) SetContentLength() { e.hasLength = !e.m.has(KindContentLength) }

// SetBody replaces the body, and Content-Length with it.
func (e *Edit) SetBody(body []byte) {
	from := len(e.text)
	e.text = append(e.text, body...)
	e.body, e.hasBody = textSpan{from, len(e.text)}, true
	if i, ok := e.m.Find(KindContentLength); ok {
		var space [20]byte
		e.SetHeader(i, strconv.AppendInt(space[:0], int64(len(body)), 10))
	} else {
		e.hasLength = true
	}
}

// line makes a header line.
func (e *Edit) line(name string, value []byte) textSpan {
	from := len(e.text)
	e.text = append(append(e.text, name...), ": "...)
	e.value(value)
	e.text = append(e.text, "\r\n"...)
	return textSpan{from, len(e.text)}
}

// value copies a value that may not break its line.
func (e *Edit) value(value []byte) textSpan {
	from := len(e.text)
	e.text = appendValue(e.text, value)
	return textSpan{from, len(e.text)}
}

func appendValue[T ~string | ~[]byte](dst []byte, value T) []byte {
	from := len(dst)
	dst = append(dst, value...)
	for i, c := range dst[from:] {
		if c == '\r' || c == '\n' || c == 0 {
			dst[from+i] = ' '
		}
	}
	return dst
}

// add puts o where Append needs it, in place of an older patch on the same thing.
func (e *Edit) add(o op) {
	i := len(e.ops)
	for i > 0 && (e.ops[i-1].at > o.at || e.ops[i-1].at == o.at && e.ops[i-1].class > o.class) {
		i--
	}
	switch o.class {
	case above:
		for i > 0 && e.ops[i-1].at == o.at && e.ops[i-1].class == above {
			i--
		}
	case onHeader, onValue:
		for j := i - 1; j >= 0 && e.ops[j].at == o.at && e.ops[j].class == o.class; j-- {
			if e.ops[j].start == o.start {
				e.ops[j] = o
				return
			}
		}
	}
	e.ops = slices.Insert(e.ops, i, o)
}

// Append writes the message with the patches.
func (e *Edit) Append(dst []byte) []byte {
	m := e.m
	pos := 0
	if e.hasURI {
		dst = append(dst, m.data[:m.uri.from]...)
		dst = append(dst, e.text[e.uri.from:e.uri.to]...)
		pos = int(m.uri.to)
	}
	for i := 0; i < len(e.ops); {
		o := &e.ops[i]
		at := m.body - 2 // the empty line
		if int(o.at) < len(m.headers) {
			at = int(m.headers[o.at].start)
		}
		dst = append(dst, m.data[pos:at]...)
		pos = at
		if o.class == above || o.class == behind {
			dst = append(dst, e.text[o.text.from:o.text.to]...)
			i++
			continue
		}
		n := i + 1
		for n < len(e.ops) && e.ops[n].at == o.at {
			n++
		}
		dst = e.appendHeader(dst, e.ops[i:n])
		pos = int(m.headers[o.at].next)
		i = n
	}
	dst = append(dst, m.data[pos:m.body-2]...)
	body := m.Body()
	if e.hasBody {
		body = e.text[e.body.from:e.body.to]
	}
	if e.hasLength {
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, int64(len(body)), 10)
		dst = append(dst, "\r\n"...)
	}
	dst = append(dst, "\r\n"...)
	return append(dst, body...)
}

// appendHeader writes the header that all of ops are about.
func (e *Edit) appendHeader(dst []byte, ops []op) []byte {
	m := e.m
	i := int(ops[0].at)
	h := &m.headers[i]
	if ops[0].class == onHeader {
		if ops[0].gone {
			return dst
		}
		dst = append(dst, m.data[h.start:h.nameEnd]...)
		dst = append(dst, ": "...)
		dst = append(dst, e.text[ops[0].text.from:ops[0].text.to]...)
		return append(dst, "\r\n"...)
	}
	from := len(dst)
	dst = append(dst, m.data[h.start:h.value]...)
	empty, gone := true, false
	end := h.value // of the value before
	m.valuesOf(i, func(v Value) bool {
		text, apart := v.Text, m.data[end:v.start]
		if empty && end > h.value {
			apart = nil // the comma goes with what was before it
		}
		end, gone = v.start+uint16(len(text)), false
		if j := slices.IndexFunc(ops, func(o op) bool { return o.start == v.start }); j >= 0 {
			if gone = ops[j].gone; gone {
				return true
			}
			text = e.text[ops[j].text.from:ops[j].text.to]
		}
		dst = append(append(dst, apart...), text...)
		empty = false
		return true
	})
	switch {
	case empty:
		return dst[:from]
	case gone:
		end = h.valueEnd
	}
	return append(dst, m.data[end:h.next]...)
}
