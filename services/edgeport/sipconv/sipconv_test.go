package sipconv

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

var edge = Edge{
	Ref:             "edge-1",
	ListeningPoints: []*processorpb.NetInterface{{Host: "0.0.0.0", Port: 5060}},
	ExternalAddrs:   []string{"198.51.100.1"},
	Localnets:       []string{"10.0.0.1/8"},
}

var source1 = netip.MustParseAddrPort("203.0.113.7:40000")

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("../message/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parse(t testing.TB, data []byte) *message.Message {
	t.Helper()
	m := new(message.Message)
	if err := m.Parse(data, message.DefaultLimits()); err != nil {
		t.Fatalf("Parse = %v:\n%s", err, data)
	}
	return m
}

// What a processor sees of an odd request.
func TestRequest(t *testing.T) {
	m := parse(t, crlf(odd))
	got := Request(m, &edge, source1, commonpb.Transport_TCP, "flow-1")
	want := &processorpb.MessageRequest{
		Ref: "1@example.com", EdgePortRef: "edge-1", Method: processorpb.Method_INVITE, Flow: "flow-1",
		Sender:          &processorpb.NetInterface{Host: "203.0.113.7", Port: 40000, Transport: commonpb.Transport_TCP},
		ListeningPoints: edge.ListeningPoints, ExternalAddrs: edge.ExternalAddrs, Localnets: edge.Localnets,
		Message: &sipmessagepb.SIPMessage{
			MessageType: &sipmessagepb.SIPMessage_RequestUri{RequestUri: &sipmessagepb.SipURI{
				User: "b%62", Host: "Example.com", Port: 5070, TransportParam: "TCP", MAddrParam: "192.0.2.3",
				Parameters: map[string]string{"gr": "urn:uuid:1", "x": ""},
				Raw:        "sip:b%62@Example.com:5070;Transport=TCP;maddr=192.0.2.3;gr=urn:uuid:1;x",
			}},
			From: &sipmessagepb.From{Address: &sipmessagepb.Address{DisplayName: `Al "the" ice`, Uri: &sipmessagepb.SipURI{
				User: "alice", Host: "example.com", Parameters: map[string]string{"foo": "bar"}, Raw: "sip:alice@example.com;foo=bar"}},
				Tag: "f1", Parameters: map[string]string{"epid": "x y"}},
			To: &sipmessagepb.To{Address: &sipmessagepb.Address{Uri: &sipmessagepb.SipURI{
				User: "bob", Host: "example.com", Raw: "sip:bob@example.com"}}, Parameters: map[string]string{"toparam": ""}},
			CallId:        &sipmessagepb.CallID{CallId: "1@example.com"},
			CSeq:          &sipmessagepb.CSeq{Number: 7, Method: "INVITE"},
			ContentLength: &sipmessagepb.ContentLength{ContentLength: 10},
			MaxForwards:   &sipmessagepb.MaxForwards{MaxForwards: 69},
			Expires:       &sipmessagepb.Expires{Expires: 120},
			Authorization: &sipmessagepb.Authorization{Scheme: "Digest", Username: `a"b`, Realm: "r", Nonce: "n", Uri: "sip:x",
				Response: "1", NonceCount: 10, CNonce: "c", Qop: "auth"},
			Via: []*sipmessagepb.Via{
				// Its sender does not get to say where it was received from.
				{Host: "192.0.2.9", Port: 5071, Branch: "z9hG4bK1", Transport: "UDP", RPortFlag: true, RPort: 40000, Received: "203.0.113.7"},
				{Host: "[2001:db8::1]", Branch: "z9hG4bK0", Transport: "TCP"},
				{Host: "a.example.com", Transport: "UDP"},
			},
			Route: []*sipmessagepb.Route{
				{Address: &sipmessagepb.Address{Uri: &sipmessagepb.SipURI{Host: "p1.example.com", LrParam: true,
					Parameters: map[string]string{"foo": "1"}, Raw: "sip:p1.example.com;lr;foo=1"}}, Parameters: map[string]string{"hdr": "2"}},
				{Address: &sipmessagepb.Address{Uri: &sipmessagepb.SipURI{Host: "p2.example.com", LrParam: true, Raw: "sip:p2.example.com;lr=on"}}},
			},
			RecordRoute: []*sipmessagepb.RecordRoute{
				{Address: &sipmessagepb.Address{DisplayName: "Display", Uri: &sipmessagepb.SipURI{Host: "rr.example.com", LrParam: true,
					Parameters: map[string]string{"x": "y"}, Raw: "sip:rr.example.com;lr;x=y"}}, Parameters: map[string]string{"r2": "on"}},
			},
			Contacts: []*sipmessagepb.Contact{
				{Address: &sipmessagepb.Address{Uri: &sipmessagepb.SipURI{User: "a", Host: "192.0.2.9", Port: 5071,
					Parameters: map[string]string{"ob": "", "+x": "1"}, Raw: "sip:a@192.0.2.9:5071;ob;+x=1"}},
					Expires: -1, QValue: 0.5, Parameters: map[string]string{"+sip.instance": "<urn:uuid:2>"}},
				{Address: &sipmessagepb.Address{Uri: &sipmessagepb.SipURI{User: "b", Host: "192.0.2.9", Raw: "sip:b@192.0.2.9"}}, Expires: 60, QValue: -1},
				{Address: &sipmessagepb.Address{DisplayName: "C, D", Uri: &sipmessagepb.SipURI{Raw: "tel:+1201"}}, Expires: -1, QValue: -1},
			},
			Extensions: []*sipmessagepb.Extension{
				{Name: "CSeq", Value: "0007 INVITE"},
				{Name: "Authorization", Value: `Digest username="second"`},
				{Name: "Allow", Value: "INVITE"}, {Name: "Allow", Value: "ACK"}, {Name: "Allow", Value: "BYE"},
				{Name: "Supported", Value: "path"}, {Name: "Supported", Value: `"outbound"`},
				{Name: "Date", Value: "Sat, 13 Nov 2010 23:29:00 GMT"},
				{Name: "Subject", Value: "folded text"},
				{Name: "x-Custom", Value: "a, b"},
				{Name: "Content-Type", Value: "application/octet-stream"},
			},
			RawBody: []byte("\x00\xff\xfe binary"),
		},
	}
	want.Message.Contact = want.Message.Contacts[0]
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Errorf("Request (-want +got):\n%s", d)
	}
}

func TestRequestOfResponse(t *testing.T) {
	m := parse(t, read(t, "invite.407.sip"))
	got := Request(m, &edge, source1, commonpb.Transport_UDP, "")
	msg := got.Message
	if got.Method != processorpb.Method_INVITE || msg.GetResponseType() != sipmessagepb.ResponseType_PROXY_AUTHENTICATION_REQUIRED ||
		msg.StatusCode != 407 || msg.ReasonPhrase != "Proxy Authentication Required" || msg.GetRequestUri() != nil {
		t.Errorf("Request = %v %v %d %q", got.Method, msg.GetResponseType(), msg.StatusCode, msg.ReasonPhrase)
	}
	// The top Via of a response is our own: it says what we wrote there.
	want := &sipmessagepb.Via{Host: "192.0.2.10", Port: 5060, Branch: "z9hG4bK776asdhds", Transport: "UDP", RPortFlag: true, RPort: 4000, Received: "198.51.100.7"}
	if d := cmp.Diff(want, msg.Via[0], protocmp.Transform()); d != "" {
		t.Errorf("Via (-want +got):\n%s", d)
	}
}

func TestRequestOfExtensionMethod(t *testing.T) {
	m := parse(t, crlf("foo.* sip:a SIP/2.0\nVia: SIP/2.0/UDP a\nf: <sip:a>\nt: <sip:a>\ni: 1\nCSeq: 1 foo.*\nContact: *\n\n"))
	got := request(m)
	if got.Method != processorpb.Method_UNKNOWN || got.MethodName != "foo.*" || !got.Message.Contact.Address.Wildcard {
		t.Errorf("Request = %v %q %v", got.Method, got.MethodName, got.Message.Contact)
	}
}

// A stranger who sends 64 KiB of commas does not get 30,000 extensions.
func TestRequestIsBounded(t *testing.T) {
	head := "INFO sip:a SIP/2.0\nVia: SIP/2.0/UDP a\nf: <sip:a>\nt: <sip:a>\ni: 1\nCSeq: 1 INFO\n"
	var lists strings.Builder
	for range 100 {
		lists.WriteString("Allow: " + strings.Repeat("a,", 300) + "a\n")
	}
	m := parse(t, crlf(head+lists.String()+"\n"))
	if n := len(request(m).Message.Extensions); n != 1+301+99 {
		t.Errorf("Request has %d extensions, want %d", n, 1+301+99)
	}
	checkUnchanged(t, m)
}

func TestResponse(t *testing.T) {
	status := func(t sipmessagepb.ResponseType) *sipmessagepb.SIPMessage {
		return &sipmessagepb.SIPMessage{MessageType: &sipmessagepb.SIPMessage_ResponseType{ResponseType: t}}
	}
	with := func(msg *sipmessagepb.SIPMessage, f func(*sipmessagepb.SIPMessage)) *sipmessagepb.SIPMessage {
		f(msg)
		return msg
	}
	tests := []struct {
		name string
		in   *processorpb.MessageResponse
		want *message.Response // nil: it is no response
	}{
		{"empty", &processorpb.MessageResponse{}, nil},
		{"no message", nil, nil},
		{"empty message", &processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{}}, nil},
		{"request", &processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{MessageType: &sipmessagepb.SIPMessage_RequestUri{RequestUri: &sipmessagepb.SipURI{Host: "a"}}}}, nil},
		{"targets", &processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: "sip:a"}}}, nil},
		{"type", &processorpb.MessageResponse{Message: status(sipmessagepb.ResponseType_BUSY_HERE)}, &message.Response{Status: 486}},
		{"code", &processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{StatusCode: 580, ReasonPhrase: "Precondition Failure"}}, &message.Response{Status: 580, Reason: "Precondition Failure"}},
		{"code goes before type", &processorpb.MessageResponse{Message: with(status(sipmessagepb.ResponseType_CLIENT_ERROR), func(m *sipmessagepb.SIPMessage) { m.StatusCode = 422 })}, &message.Response{Status: 422}},
		{"unknown type", &processorpb.MessageResponse{Message: status(sipmessagepb.ResponseType_UNKNOWN)}, &message.Response{Status: 0}},
		{"headers and body", &processorpb.MessageResponse{Message: with(status(sipmessagepb.ResponseType_OK), func(m *sipmessagepb.SIPMessage) {
			m.Contact = &sipmessagepb.Contact{Address: &sipmessagepb.Address{DisplayName: "A", Uri: &sipmessagepb.SipURI{User: "a", Host: "b", Port: -1}}, Expires: 60, QValue: 0.125}
			m.Expires = &sipmessagepb.Expires{Expires: 60}
			m.Extensions = []*sipmessagepb.Extension{{Name: "X-A", Value: "1"}, {Name: "CSeq", Value: "1 BYE"}, {Name: "Content-Length", Value: "99"}, {Name: "Content-Type", Value: "text/plain"}}
			m.Body = "hello"
		})}, &message.Response{Status: 200, Body: []byte("hello"), Headers: []message.Field{
			{Name: "Contact", Value: `"A" <sip:a@b>;expires=60;q=0.125`}, {Name: "Expires", Value: "60"},
			{Name: "X-A", Value: "1"}, {Name: "Content-Type", Value: "text/plain"},
		}}},
		{"contacts", &processorpb.MessageResponse{Message: with(status(sipmessagepb.ResponseType_OK), func(m *sipmessagepb.SIPMessage) {
			m.Contact = &sipmessagepb.Contact{Address: &sipmessagepb.Address{Uri: &sipmessagepb.SipURI{Raw: "sip:a@b;ob"}}, Expires: -1, QValue: -1}
			m.Contacts = []*sipmessagepb.Contact{m.Contact, {Address: &sipmessagepb.Address{Uri: &sipmessagepb.SipURI{Raw: "tel:+1"}}, Parameters: map[string]string{"x": "y z"}}}
		})}, &message.Response{Status: 200, Headers: []message.Field{{Name: "Contact", Value: "<sip:a@b;ob>"}, {Name: "Contact", Value: `<tel:+1>;x="y z"`}}}},
		{"challenge", &processorpb.MessageResponse{Message: with(status(sipmessagepb.ResponseType_UNAUTHORIZED), func(m *sipmessagepb.SIPMessage) {
			m.WwwAuthenticate = &sipmessagepb.WWWAuthenticate{Scheme: "Digest", Realm: `a"b`, Nonce: "n", Algorithm: "MD5", Qop: "auth", Stale: true}
		})}, &message.Response{Status: 401, Headers: []message.Field{{Name: "WWW-Authenticate", Value: `Digest realm="a\"b", nonce="n", stale=TRUE, algorithm=MD5, qop="auth"`}}}},
		{"challenge of a proxy", &processorpb.MessageResponse{Message: with(status(sipmessagepb.ResponseType_PROXY_AUTHENTICATION_REQUIRED), func(m *sipmessagepb.SIPMessage) {
			m.WwwAuthenticate = &sipmessagepb.WWWAuthenticate{Realm: "r", Nonce: "n"}
		})}, &message.Response{Status: 407, Headers: []message.Field{{Name: "Proxy-Authenticate", Value: `Digest realm="r", nonce="n"`}}}},
		{"raw body", &processorpb.MessageResponse{Message: with(status(sipmessagepb.ResponseType_OK), func(m *sipmessagepb.SIPMessage) { m.RawBody = []byte{0xff} })}, &message.Response{Status: 200, Body: []byte{0xff}}},
	}
	for _, tt := range tests {
		got, ok := Response(tt.in)
		if ok != (tt.want != nil) {
			t.Errorf("%s: Response = %v, want %v", tt.name, ok, tt.want != nil)
			continue
		}
		if tt.want == nil {
			continue
		}
		if d := cmp.Diff(*tt.want, got); d != "" {
			t.Errorf("%s: Response (-want +got):\n%s", tt.name, d)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, name := range []string{"invite", "register"} {
		b.Run(name, func(b *testing.B) {
			m := parse(b, read(b, name+".sip"))
			b.ReportAllocs()
			for b.Loop() {
				Request(m, &edge, source1, commonpb.Transport_UDP, "")
			}
		})
	}
}
