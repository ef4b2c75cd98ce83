package processor

import (
	"iter"
	"strings"

	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// NewHeader makes a header for a response, or to add to a request. The value must hold no line break.
func NewHeader(name, value string) *sipmessagepb.Extension {
	return &sipmessagepb.Extension{Name: name, Value: value}
}

// Header is the first value of a header that SIPMessage has no field for; names are compared without case
// (RFC 3261 7.3.1).
func Header(m *sipmessagepb.SIPMessage, name string) (value string, ok bool) {
	for _, e := range m.GetExtensions() {
		if isNamed(e, name) {
			return e.Value, true
		}
	}
	return "", false
}

// Headers ranges over the values of a header that SIPMessage has no field for, in order.
func Headers(m *sipmessagepb.SIPMessage, name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, e := range m.GetExtensions() {
			if isNamed(e, name) && !yield(e.Value) {
				return
			}
		}
	}
}

func isNamed(e *sipmessagepb.Extension, name string) bool {
	return len(e.GetName()) == len(name) && strings.EqualFold(e.Name, name)
}
