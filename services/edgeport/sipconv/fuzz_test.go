package sipconv

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// FuzzApply takes a message to a processor, and back whatever that answers: it stays one message, of the same
// transaction and dialog, and what the EdgePort owns stays as it was.
func FuzzApply(f *testing.F) {
	for _, data := range [][]byte{crlf(odd), read(f, "invite.sip"), read(f, "register.sip"), read(f, "invite.407.sip")} {
		m := parse(f, data)
		sent := request(m)
		same := &processorpb.MessageResponse{Message: asRoutrV2(sent.Message)}
		other := proto.CloneOf(sent.Message)
		if uri := other.GetRequestUri(); uri != nil {
			uri.Host, uri.Raw = "other.example.com", ""
		}
		other.From.Address.DisplayName = "Some\r\nX: \"one\""
		other.Extensions = append(other.Extensions[1:], &sipmessagepb.Extension{Name: "X-New", Value: "1\n2"})
		other.Route, other.Body, other.ContentLength = nil, "", &sipmessagepb.ContentLength{}
		targets := &processorpb.MessageResponse{
			Targets:       []*processorpb.Target{{Uri: "sip:x"}},
			RemoveHeaders: []string{"Allow", "Via", "x-custom"},
			AddHeaders:    []*sipmessagepb.Extension{{Name: "X-A", Value: "\x00"}, {Name: "no token", Value: "1"}},
		}
		for _, got := range []*processorpb.MessageResponse{same, {Message: other}, targets} {
			wire, err := got.MarshalVT()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data, wire)
		}
	}
	f.Fuzz(func(t *testing.T, data, wire []byte) {
		m, got := new(message.Message), new(processorpb.MessageResponse)
		if len(data) > 8<<10 || len(wire) > 8<<10 || m.Parse(data, message.DefaultLimits()) != nil || got.UnmarshalVT(wire) != nil {
			return
		}
		var e message.Edit
		e.Reset(m)
		err := Apply(&e, m, request(m), got)
		out := e.Append(nil)
		head, body, _ := bytes.Cut(out, []byte("\r\n\r\n"))
		if n := bytes.Count(head, []byte("\r\n")); bytes.Count(head, []byte{'\n'}) != n || bytes.Count(head, []byte{'\r'}) != n {
			t.Fatalf("Apply = %v, with a CR or LF alone:\n%q", err, out)
		}
		for i := range m.Len() {
			switch k, name, value := m.Header(i); k {
			case message.KindVia, message.KindCallID, message.KindCSeq:
				if !bytes.Contains(head, name) || !bytes.Contains(head, value) {
					t.Fatalf("Apply = %v, and %s: %q is not there any more:\n%q", err, name, value, out)
				}
			}
		}
		back := new(message.Message)
		if back.Parse(out, message.OwnLimits()) != nil {
			return // too much was added, or what may stand once was
		}
		if !bytes.Equal(back.CallID(), m.CallID()) || !bytes.Equal(back.FromTag(), m.FromTag()) || !bytes.Equal(back.ToTag(), m.ToTag()) ||
			!bytes.Equal(back.TopVia().Text, m.TopVia().Text) || back.Count(message.KindVia) != m.Count(message.KindVia) ||
			!bytes.Equal(back.MethodText(), m.MethodText()) || back.Status() != m.Status() || !bytes.Equal(back.Body(), body) {
			t.Fatalf("Apply = %v, and made another message of\n%q\n:\n%q", err, m.Bytes(), out)
		}
	})
}
