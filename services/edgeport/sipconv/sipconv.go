// Package sipconv turns SIP messages into the protobuf messages of the contract with processors, and what a processor
// answers into a response or into patches on the message that it was asked about.
//
// The contract is lossy (ARCHITECTURE.md, "Contracts"): one Contact, no CSeq, no unknown URI parameters. So nothing is
// ever written back from protobuf as it stands: Apply compares what came back with what was sent, and only the
// difference touches the message. The package knows no transactions and decides nothing.
package sipconv

import (
	"bytes"
	"net/netip"
	"strings"
	"unicode/utf8"

	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// Edge is what every MessageRequest of an EdgePort is stamped with. All requests share its slices, so it must not
// change once it is in use.
type Edge struct {
	Ref             string
	ListeningPoints []*processorpb.NetInterface
	ExternalAddrs   []string
	Localnets       []string
}

// block is what nearly every request needs, allocated at once.
type block struct {
	request processorpb.MessageRequest
	sender  processorpb.NetInterface
	message sipmessagepb.SIPMessage
	kind    sipmessagepb.SIPMessage_RequestUri
	uri     sipmessagepb.SipURI

	from        sipmessagepb.From
	fromAddress sipmessagepb.Address
	fromURI     sipmessagepb.SipURI
	to          sipmessagepb.To
	toAddress   sipmessagepb.Address
	toURI       sipmessagepb.SipURI

	callID   sipmessagepb.CallID
	cseq     sipmessagepb.CSeq
	length   sipmessagepb.ContentLength
	forwards sipmessagepb.MaxForwards

	via  sipmessagepb.Via
	vias [1]*sipmessagepb.Via

	contact contact
}

type contact struct {
	contact sipmessagepb.Contact
	address sipmessagepb.Address
	uri     sipmessagepb.SipURI
}

// Request is m, a request or a response, as a processor gets it. sender is where m really came from, and the top Via of
// a request says so too, whatever its sender wrote there. flow is MessageRequest.flow.
//
// Absent integers are 0, but for the expires and the q of a Contact: 0 means something there, absent is -1. What is
// malformed is as if it were absent, except that an address or a URI is then known by its raw text. Text that is not
// UTF-8 is made so; the bytes of m stay. The result shares no memory with m.
func Request(m *message.Message, e *Edge, sender netip.AddrPort, t commonpb.Transport, flow string) *processorpb.MessageRequest {
	r := reader{m: m, text: string(m.Bytes())}
	head := r.text[:len(r.text)-len(m.Body())]
	// A message has a line break for each header, the start line and the empty line; more are of folded lines.
	r.plain = utf8.ValidString(head) && strings.Count(head, "\n") == m.Len()+2

	b := new(block)
	host := sender.Addr().Unmap().WithZone("").String()
	b.sender.Host, b.sender.Port, b.sender.Transport = host, int32(sender.Port()), t
	req := &b.request
	req.Ref = r.string(m.CallID())
	req.EdgePortRef = e.Ref
	req.Sender = &b.sender
	req.ListeningPoints, req.ExternalAddrs, req.Localnets = e.ListeningPoints, e.ExternalAddrs, e.Localnets
	req.Message = &b.message
	req.Flow = flow
	number, method := m.CSeq()
	if req.Method = methodOf(m.CSeqMethod()); req.Method == processorpb.Method_UNKNOWN {
		req.MethodName = r.string(method)
	}

	msg := &b.message
	if m.IsRequest() {
		r.uri(&b.uri, m.RequestURI())
		b.kind.RequestUri = &b.uri
		msg.MessageType = &b.kind
	} else {
		msg.MessageType = &sipmessagepb.SIPMessage_ResponseType{ResponseType: sipmessagepb.TypeOf(m.Status())}
		msg.StatusCode = int32(m.Status())
		msg.ReasonPhrase = r.string(m.ReasonText())
	}
	r.fromTo(b)
	b.callID.CallId = req.Ref
	msg.CallId = &b.callID
	b.cseq.Number, b.cseq.Method = number, r.string(method)
	msg.CSeq = &b.cseq
	b.length.ContentLength = int32(len(m.Body()))
	msg.ContentLength = &b.length
	if n, ok := m.MaxForwards(); ok {
		b.forwards.MaxForwards = int32(n)
		msg.MaxForwards = &b.forwards
	}
	if v, ok := m.Get(message.KindExpires); ok {
		if n, ok := seconds(r.string(v)); ok {
			msg.Expires = &sipmessagepb.Expires{Expires: n}
		}
	}
	if v, ok := m.Get(message.KindAuthorization); ok {
		msg.Authorization = credentials(r.string(v))
	}
	if v, ok := m.Get(message.KindWWWAuthenticate); ok {
		msg.WwwAuthenticate = challenge(r.string(v))
	}
	r.vias(b, host, sender.Port())
	r.contacts(b)
	r.routes(msg)
	r.extensions(msg)
	if body := r.text[len(head):]; utf8.ValidString(body) {
		msg.Body = body
	} else {
		msg.RawBody = bytes.Clone(m.Body())
	}
	return req
}

// reader converts parts of one message.
type reader struct {
	m     *message.Message
	text  string // the whole message
	plain bool   // its head is UTF-8 and has no folded line, so parts of text can be handed out as they are
}

// string is a part of the message as a string, which costs nothing but for odd messages.
func (r *reader) string(part []byte) string {
	if len(part) == 0 {
		return ""
	}
	if i := r.m.Offset(part); r.plain && i >= 0 && i+len(part) <= len(r.text) && r.text[i:i+len(part)] == string(part) {
		return r.text[i : i+len(part)]
	}
	return strings.ToValidUTF8(unfold(string(part)), "\uFFFD")
}

// unfold replaces each line break with what follows it by one space (RFC 3261 7.3.1).
func unfold(s string) string {
	if strings.IndexByte(s, '\n') < 0 {
		return s
	}
	var b strings.Builder
	for line := range strings.SplitSeq(s, "\n") {
		if line = strings.Trim(line, " \t\r"); b.Len() > 0 && line != "" {
			b.WriteByte(' ')
		}
		b.WriteString(line)
	}
	return b.String()
}

func methodOf(m message.Method) processorpb.Method {
	switch m {
	case message.REGISTER:
		return processorpb.Method_REGISTER
	case message.INVITE:
		return processorpb.Method_INVITE
	case message.MESSAGE:
		return processorpb.Method_MESSAGE
	case message.PUBLISH:
		return processorpb.Method_PUBLISH
	case message.NOTIFY:
		return processorpb.Method_NOTIFY
	case message.SUBSCRIBE:
		return processorpb.Method_SUBSCRIBE
	case message.ACK:
		return processorpb.Method_ACK
	case message.BYE:
		return processorpb.Method_BYE
	case message.CANCEL:
		return processorpb.Method_CANCEL
	case message.OPTIONS:
		return processorpb.Method_OPTIONS
	case message.PRACK:
		return processorpb.Method_PRACK
	case message.INFO:
		return processorpb.Method_INFO
	case message.REFER:
		return processorpb.Method_REFER
	case message.UPDATE:
		return processorpb.Method_UPDATE
	default:
		return processorpb.Method_UNKNOWN
	}
}
