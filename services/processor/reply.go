package processor

import (
	"strings"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// maxReason bounds a reason phrase in bytes, as it may quote the error of another service.
const maxReason = 128

// Respond answers with a response (see NewResponse). Only the first answer to a request counts.
func (r Request) Respond(status int, reason string, headers ...*sipmessagepb.Extension) {
	r.Reply(NewResponse(status, reason, headers...))
}

// Forward lets the request go on as it came to the target set (RFC 3261 16.5), with headers removed and then added.
// The EdgePort does the rest of RFC 3261 16.6.
func (r Request) Forward(targets []*processorpb.Target, add []*sipmessagepb.Extension, remove []string) {
	r.Reply(&processorpb.MessageResponse{Targets: targets, AddHeaders: add, RemoveHeaders: remove})
}

// Reply answers with m, which belongs to the bus from then on.
func (r Request) Reply(m *processorpb.MessageResponse) {
	r.call.Reply(bus.Reply{Body: bus.Value(m)})
}

// Fail answers with an error, which the EdgePort turns into a 503 or 504 where bus.CodeOf says so, else into a 500.
// What the sender did wrong is no error but a response.
func (r Request) Fail(err error) { r.call.Fail(err) }

// NewResponse makes the response that Respond sends: status is 100 to 699; an empty reason stands for the phrase of
// RFC 3261 21; headers are added in order to those that the EdgePort copies from the request (RFC 3261 8.2.6.2).
// Control characters in the reason become spaces, and it is cut at 128 bytes.
func NewResponse(status int, reason string, headers ...*sipmessagepb.Extension) *processorpb.MessageResponse {
	if reason == "" {
		reason = sipmessagepb.Reason(status)
	}
	b := new(struct { // one allocation for the three
		out  processorpb.MessageResponse
		msg  sipmessagepb.SIPMessage
		kind sipmessagepb.SIPMessage_ResponseType
	})
	b.kind.ResponseType = sipmessagepb.TypeOf(status)
	b.msg.MessageType = &b.kind
	b.msg.StatusCode = int32(status)
	b.msg.ReasonPhrase = printable(reason)
	b.msg.Extensions = headers
	b.out.Message = &b.msg
	return &b.out
}

// printable is s as a reason phrase may be: one line, not too long, so that no error text can end the start line.
func printable(s string) string {
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "")
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] == 0x7f {
			return strings.Map(func(r rune) rune {
				if r < ' ' || r == 0x7f {
					return ' '
				}
				return r
			}, s)
		}
	}
	return s
}
