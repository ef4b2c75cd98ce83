package sipconv

import (
	"strconv"

	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// Response is the response that a processor answered with; false if the answer is none, but a request or targets. The
// status is what the processor wrote, even one that does not exist. Headers that the response copies from its request
// are left out, as is what is malformed.
func Response(got *processorpb.MessageResponse) (message.Response, bool) {
	msg := got.GetMessage()
	status := int(msg.GetStatusCode())
	if status == 0 {
		status = sipmessagepb.Status(msg.GetResponseType())
	}
	if msg == nil || msg.GetRequestUri() != nil || len(got.GetTargets()) > 0 {
		return message.Response{}, false
	}
	if _, is := msg.GetMessageType().(*sipmessagepb.SIPMessage_ResponseType); !is && status == 0 {
		return message.Response{}, false
	}
	r := message.Response{Status: status, Reason: msg.GetReasonPhrase(), Body: msg.GetRawBody()}
	if len(r.Body) == 0 && msg.GetBody() != "" {
		r.Body = []byte(msg.GetBody())
	}
	n := len(msg.GetExtensions()) + len(msg.GetContacts())
	if n > 0 {
		r.Headers = make([]message.Field, 0, n+2)
	}
	add := func(k message.Kind, value string) {
		r.Headers = append(r.Headers, message.Field{Name: k.String(), Value: value})
	}
	if w := msg.GetWwwAuthenticate(); w != nil {
		k := message.KindWWWAuthenticate
		if status == 407 {
			k = message.KindProxyAuthenticate
		}
		add(k, string(challengeText(w)))
	}
	contacts := msg.GetContacts()
	if c := msg.GetContact(); len(contacts) == 0 && c != nil {
		contacts = []*sipmessagepb.Contact{c}
	}
	for _, c := range contacts {
		if text, err := addressText(nil, nil, c.GetAddress(), contactEdit(nil, c)); err == nil {
			add(message.KindContact, string(text))
		}
	}
	if x := msg.GetExpires(); x != nil && x.Expires >= 0 {
		add(message.KindExpires, strconv.Itoa(int(x.Expires)))
	}
	for _, x := range msg.GetExtensions() {
		if !owned(x.GetName()) {
			r.Headers = append(r.Headers, message.Field{Name: x.GetName(), Value: x.GetValue()})
		}
	}
	return r, true
}
