// Package message is a SIP message as a view over its received bytes: Parse makes an index of spans, values are read
// when asked for, and edits are patches that take effect when the message is written. What nobody understands or edits
// leaves byte for byte as it came (RFC 3261 16.3), and a message that is written unedited is the one that was read.
//
// The package never resolves, sends or decides; it keeps no state but the message.
package message

import (
	"slices"
	"strings"
)

// MaxSize is the longest message in bytes. A stream may carry it, a UDP datagram holds half as much.
const MaxSize = 128 << 10

// MaxHead is how much of a message may be its head, from the start line to the empty line: what the spans of the index
// can tell.
const MaxHead = 65535

// Message is the index of one SIP message. The zero value is ready for Parse, and a Message is meant to be parsed into
// again and again. Slices that it hands out share its bytes: they are valid as long as those are, and never to be
// written or appended to. A Message may be read by several goroutines.
type Message struct {
	data    []byte
	headers []header
	body    int // where the body begins

	seen  uint64          // a bit for each Kind in the message
	first [numKinds]uint8 // the index of its first header

	request    bool
	answerable bool
	method     Method // of the start line of a request
	cseqMethod Method
	status     uint16
	forwards   int16 // Max-Forwards, -1 if absent
	cseq       uint32

	uri      span // Request-URI, behind the method and a space; or the reason phrase of a response
	cseqText span // the method of CSeq
	fromTag  span
	toTag    span
	viaText  span
	via      Via
}

// span is a part of the head.
type span struct{ from, to uint16 }

// header is one header field with its line, which may be folded: data[start:next], the name up to nameEnd, the value
// without white space around it in data[value:valueEnd].
type header struct {
	start, nameEnd, value, valueEnd, next uint16
	kind                                  Kind
}

func (m *Message) text(s span) []byte { return m.data[s.from:s.to] }

func (m *Message) has(k Kind) bool { return m.seen&(1<<k) != 0 }

// IsRequest says whether the message is a request; else it is a response.
func (m *Message) IsRequest() bool { return m.request }

// Method is the method of a request; of a response it is MethodOther, see CSeqMethod.
func (m *Message) Method() Method { return m.method }

// MethodText is the method of a request as written, whatever Method knows of it; empty for a response.
func (m *Message) MethodText() []byte {
	if !m.request {
		return nil
	}
	return m.data[:m.uri.from-1]
}

// RequestURI is the Request-URI as written; empty for a response.
func (m *Message) RequestURI() []byte {
	if !m.request {
		return nil
	}
	return m.text(m.uri)
}

// Status is the status code of a response, 100 to 699; 0 for a request.
func (m *Message) Status() int { return int(m.status) }

// ReasonText is the reason phrase of a response.
func (m *Message) ReasonText() []byte {
	if m.request {
		return nil
	}
	return m.text(m.uri)
}

// CallID is the Call-ID, as written.
func (m *Message) CallID() []byte {
	v, _ := m.Get(KindCallID)
	return v
}

// CSeq is the sequence number and the method of CSeq.
func (m *Message) CSeq() (number uint32, method []byte) { return m.cseq, m.text(m.cseqText) }

// CSeqMethod is the method of CSeq, that of the request which a response answers.
func (m *Message) CSeqMethod() Method { return m.cseqMethod }

// FromTag is the tag of From; empty if there is none, which RFC 2543 allowed.
func (m *Message) FromTag() []byte { return m.text(m.fromTag) }

// ToTag is the tag of To; empty outside of a dialog.
func (m *Message) ToTag() []byte { return m.text(m.toTag) }

// MaxForwards is the value of Max-Forwards, 0 to 255; false if the header is absent.
func (m *Message) MaxForwards() (n int, ok bool) { return max(0, int(m.forwards)), m.forwards >= 0 }

// TopVia is the first value of the first Via.
func (m *Message) TopVia() *Via { return &m.via }

// Body is what follows the header section, as long as Content-Length says.
func (m *Message) Body() []byte { return m.data[m.body:] }

// Bytes is the message as it was received, without what preceded or followed it in its packet.
func (m *Message) Bytes() []byte { return m.data }

// Offset is where in Bytes() part begins, which m has handed out or which was parsed out of such a part.
func (m *Message) Offset(part []byte) int { return cap(m.data) - cap(part) }

// Answerable says, after Parse refused a request, whether enough of it was understood to build the response.
func (m *Message) Answerable() bool { return m.answerable }

// Len is the number of header fields.
func (m *Message) Len() int { return len(m.headers) }

// Header is the header field i, from 0 to Len()-1, in the order of the message. The value may hold the line break of a
// folded line, which means the same as a space.
func (m *Message) Header(i int) (k Kind, name, value []byte) {
	h := &m.headers[i]
	return h.kind, m.data[h.start:h.nameEnd], m.data[h.value:h.valueEnd]
}

// Find is the index of the first header of that kind. It knows no KindOther: see FindName.
func (m *Message) Find(k Kind) (i int, ok bool) {
	if k == KindOther || !m.has(k) {
		return 0, false
	}
	return int(m.first[k]), true
}

// Get is the value of the first header of that kind.
func (m *Message) Get(k Kind) (value []byte, ok bool) {
	i, ok := m.Find(k)
	if !ok {
		return nil, false
	}
	h := &m.headers[i]
	return m.data[h.value:h.valueEnd], true
}

// FindName is the index of the first header of that name, in its full or its compact form and in any case.
func (m *Message) FindName(name string) (i int, ok bool) {
	if k := KindOf(name); k != KindOther {
		return m.Find(k)
	}
	for i := range m.headers {
		h := &m.headers[i]
		if h.kind == KindOther && strings.EqualFold(string(m.data[h.start:h.nameEnd]), name) {
			return i, true
		}
	}
	return 0, false
}

// Reset lets go of the bytes that m was parsed from.
func (m *Message) Reset() {
	*m = Message{headers: m.headers[:0]}
}

// Clone is a copy with bytes of its own, as small as it can be.
func (m *Message) Clone() *Message {
	data := make([]byte, len(m.data))
	copy(data, m.data)
	c := new(Message)
	*c = *m
	c.data = data
	c.headers = slices.Clip(slices.Clone(m.headers))
	c.via, _ = ParseVia(c.text(m.viaText)) // it was parsed once: it cannot fail, or m was refused for it
	return c
}
