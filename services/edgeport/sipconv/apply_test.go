package sipconv

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// odd is a request with much that the contract cannot carry.
const odd = `INVITE sip:b%62@Example.com:5070;Transport=TCP;maddr=192.0.2.3;gr=urn:uuid:1;x SIP/2.0
v: SIP/2.0/UDP 192.0.2.9:5071;branch=z9hG4bK1;rport;received=192.0.2.66 , SIP/2.0/TCP [2001:db8::1];branch=z9hG4bK0
Via: SIP / 2.0 / UDP a.example.com
Max-Forwards: 0069
Route: <sip:p1.example.com;lr;foo=1>;hdr=2,
 <sip:p2.example.com;lr=on>
Record-Route: "Display" <sip:rr.example.com;lr;x=y>;r2=on
f: "Al \"the\" ice" <sip:alice@example.com;foo=bar>;tag=f1;epid="x y"
T: sip:bob@example.com;toparam
i: 1@example.com
CSeq: 0007
 INVITE
m: <sip:a@192.0.2.9:5071;ob;+x=1>;q=0.5;+sip.instance="<urn:uuid:2>", sip:b@192.0.2.9;expires=60
Contact: "C, D" <tel:+1201>
Expires: 120
Authorization: Digest username="a\"b", realm="r", nonce="n", uri="sip:x", response="1", nc=0000000a, cnonce=c, qop=auth, custom=1
Authorization: Digest username="second"
Allow: INVITE,ACK ,
 BYE
k: path, "outbound"
Date: Sat, 13 Nov 2010 23:29:00 GMT
Subject:
 folded
	text
x-Custom : a, b
Content-Type: application/octet-stream

` + "\x00\xff\xfe binary"

func crlf(s string) []byte {
	head, body, _ := strings.Cut(s, "\n\n")
	return []byte(strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n" + body)
}

// asRoutrV2 is what a Routr v2 processor sends back when it changes nothing: without the fields it does not know, and
// with -1 for absent integers.
func asRoutrV2(msg *sipmessagepb.SIPMessage) *sipmessagepb.SIPMessage {
	v2 := proto.CloneOf(msg)
	uri := func(u *sipmessagepb.SipURI) {
		if u != nil {
			u.Raw, u.Parameters = "", nil
			if u.Port == 0 {
				u.Port = -1
			}
			if u.TtlParam == 0 {
				u.TtlParam = -1
			}
		}
	}
	uri(v2.GetRequestUri())
	uri(v2.GetFrom().GetAddress().GetUri())
	uri(v2.GetTo().GetAddress().GetUri())
	uri(v2.GetContact().GetAddress().GetUri())
	for _, r := range v2.Route {
		uri(r.GetAddress().GetUri())
	}
	for _, r := range v2.RecordRoute {
		uri(r.GetAddress().GetUri())
	}
	for _, v := range v2.Via {
		if v.RPort == 0 {
			v.RPort = -1
		}
	}
	if v2.Contact != nil {
		v2.Contact.Parameters = nil
	}
	v2.StatusCode, v2.CSeq, v2.Contacts, v2.RawBody = 0, nil, nil, nil
	return v2
}

func request(m *message.Message) *processorpb.MessageRequest {
	return Request(m, &edge, source1, commonpb.Transport_UDP, "flow")
}

// checkUnchanged says whether a message that comes back unchanged stays as it is, byte for byte.
func checkUnchanged(t *testing.T, m *message.Message) {
	t.Helper()
	sent := request(m)
	wire, err := sent.MarshalVT()
	if err != nil {
		t.Fatalf("MarshalVT = %v", err)
	}
	decoded := new(processorpb.MessageRequest)
	if err := proto.Unmarshal(wire, decoded); err != nil { // unlike vtprotobuf it wants UTF-8
		t.Fatalf("Unmarshal = %v", err)
	}
	for name, got := range map[string]*sipmessagepb.SIPMessage{
		"the same": sent.Message, "a copy": decoded.Message, "a Routr v2 copy": asRoutrV2(sent.Message),
	} {
		var e message.Edit
		e.Reset(m)
		if err := Apply(&e, m, sent, &processorpb.MessageResponse{Message: got}); err != nil {
			t.Fatalf("Apply of %s = %v", name, err)
		}
		if out := e.Append(nil); string(out) != string(m.Bytes()) || e.Changed() {
			t.Fatalf("Apply of %s changed the message (-want +got):\n%s", name, cmp.Diff(string(m.Bytes()), string(out)))
		}
	}
}

func TestUnchangedStaysAsItIs(t *testing.T) {
	for name, data := range map[string][]byte{
		"odd": crlf(odd), "invite": read(t, "invite.sip"), "register": read(t, "register.sip"), "407": read(t, "invite.407.sip"),
		"wildcard":       crlf("REGISTER sip:a SIP/2.0\nVia: SIP/2.0/UDP a\nf: <sip:a>\nt: <sip:a>\ni: 1\nCSeq: 1 REGISTER\nContact: *\nExpires: 0\n\n"),
		"tel":            crlf("INVITE tel:+1201;x=y SIP/2.0\nVia: SIP/2.0/UDP a\nf: <tel:+1>\nt: <tel:+1>\ni: 1\nCSeq: 1 INVITE\n\n"),
		"emergency":      crlf("INVITE urn:service:sos SIP/2.0\nVia: SIP/2.0/UDP a\nf: <sip:a>\nt: <urn:service:sos>\ni: 1\nCSeq: 1 INVITE\n\n"),
		"not UTF-8":      crlf("INFO sip:\xff@b SIP/2.0\nVia: SIP/2.0/UDP a\nf: \"\xfe\" <sip:\xfea>\nt: <sip:a>;x=\xff\ni: \xff\nCSeq: 1 INFO\nX: \xc3\n\n"),
		"broken headers": crlf("INFO sip:a SIP/2.0\nVia: SIP/2.0/UDP a, nonsense\nf: <sip:a@b@c>\nt: <sip:a>\ni: 1\nCSeq: 1 INFO\nContact: <sip:x\nRoute: nowhere\nExpires: soon\nAuthorization: \nAllow: ,,\n\n"),
		"latin1":         crlf("INFO sip:a SIP/2.0\nVia: SIP/2.0/UDP a\nf: \"J\xfcrgen\" <sip:a>;x=\xfc\nt: <sip:a>\ni: \xfc\nCSeq: 1 INFO\nSubject: \xfc\nRoute: \"\xfc\" <sip:a;lr>\n\n"),
	} {
		t.Run(name, func(t *testing.T) { checkUnchanged(t, parse(t, data)) })
	}
}

// Each case changes one thing of the odd message, as a processor with and one without the extensions would; want has
// the lines that change: old line, new line, where "" is none.
func TestApply(t *testing.T) {
	m := parse(t, crlf(odd))
	type lines = [][2]string
	tests := []struct {
		name   string
		change func(msg *sipmessagepb.SIPMessage)
		want   lines
	}{
		{"user", func(msg *sipmessagepb.SIPMessage) { msg.GetRequestUri().User = "carol"; msg.GetRequestUri().Raw = "" },
			lines{{"INVITE sip:b%62@Example.com:5070;Transport=TCP;maddr=192.0.2.3;gr=urn:uuid:1;x SIP/2.0", "INVITE sip:carol@Example.com:5070;Transport=TCP;maddr=192.0.2.3;gr=urn:uuid:1;x SIP/2.0"}}},
		{"transport", func(msg *sipmessagepb.SIPMessage) { msg.GetRequestUri().TransportParam = "tls" },
			lines{{"INVITE sip:b%62@Example.com:5070;Transport=TCP;maddr=192.0.2.3;gr=urn:uuid:1;x SIP/2.0", "INVITE sip:b%62@Example.com:5070;maddr=192.0.2.3;gr=urn:uuid:1;x;transport=tls SIP/2.0"}}},
		{"host", func(msg *sipmessagepb.SIPMessage) {
			u := msg.GetRequestUri()
			u.Host, u.Port, u.MAddrParam, u.Raw, u.Parameters = "2001:db8::7", -1, "", "", nil
		}, lines{{"INVITE sip:b%62@Example.com:5070;Transport=TCP;maddr=192.0.2.3;gr=urn:uuid:1;x SIP/2.0", "INVITE sip:b%62@[2001:db8::7];transport=TCP SIP/2.0"}}},
		{"pop a Route", func(msg *sipmessagepb.SIPMessage) { msg.Route = msg.Route[1:] },
			lines{{"Route: <sip:p1.example.com;lr;foo=1>;hdr=2,", "Route: <sip:p2.example.com;lr=on>"}, {" <sip:p2.example.com;lr=on>", ""}}},
		{"push two Routes", func(msg *sipmessagepb.SIPMessage) {
			hop := func(host string) *sipmessagepb.Route {
				return &sipmessagepb.Route{Address: &sipmessagepb.Address{Uri: &sipmessagepb.SipURI{Host: host, Port: 5060, LrParam: true}}}
			}
			msg.Route = append([]*sipmessagepb.Route{hop("n1"), hop("n2")}, msg.Route...)
		}, lines{{"", "Route: <sip:n1:5060;lr>"}, {"", "Route: <sip:n2:5060;lr>"}}},
		{"Record-Route of ours and of another", func(msg *sipmessagepb.SIPMessage) {
			hop := func(host string) *sipmessagepb.RecordRoute {
				return &sipmessagepb.RecordRoute{Address: &sipmessagepb.Address{Uri: &sipmessagepb.SipURI{Host: host, Port: 5060, LrParam: true}}, Parameters: map[string]string{"r2": "on"}}
			}
			msg.RecordRoute = append([]*sipmessagepb.RecordRoute{hop("198.51.100.1"), hop("10.0.0.1"), hop("198.51.100.2")}, msg.RecordRoute...)
		}, lines{{"", "Record-Route: <sip:198.51.100.2:5060;lr>;r2=on"}}},
		{"Vias come and go", func(msg *sipmessagepb.SIPMessage) {
			msg.Via = append([]*sipmessagepb.Via{{Host: "198.51.100.1", Port: 5060, Transport: "UDP", RPortFlag: true}}, msg.Via[1:]...)
		}, nil},
		{"From user", func(msg *sipmessagepb.SIPMessage) { msg.From.Address.Uri.User = "+1201" },
			lines{{`f: "Al \"the\" ice" <sip:alice@example.com;foo=bar>;tag=f1;epid="x y"`, `f: "Al \"the\" ice" <sip:+1201@example.com;foo=bar>;tag=f1;epid="x y"`}}},
		{"From name and parameters", func(msg *sipmessagepb.SIPMessage) {
			msg.From.Address.DisplayName = `A "B"`
			msg.From.Parameters = map[string]string{"epid": "z z", "new": "1"}
			msg.From.Tag = "ours"
		}, lines{{`f: "Al \"the\" ice" <sip:alice@example.com;foo=bar>;tag=f1;epid="x y"`, `f: "A \"B\"" <sip:alice@example.com;foo=bar>;tag=f1;epid="z z";new=1`}}},
		{"To host", func(msg *sipmessagepb.SIPMessage) { msg.To.Address.Uri.Host = "example.org" },
			lines{{"T: sip:bob@example.com;toparam", "T: <sip:bob@example.org>;toparam"}}},
		{"first Contact", func(msg *sipmessagepb.SIPMessage) {
			msg.Contact = proto.CloneOf(msg.Contact)
			msg.Contact.Address.Uri.Port, msg.Contact.QValue = 5099, 0.25
		}, lines{{`m: <sip:a@192.0.2.9:5071;ob;+x=1>;q=0.5;+sip.instance="<urn:uuid:2>", sip:b@192.0.2.9;expires=60`, `m: <sip:a@192.0.2.9:5099;ob;+x=1>;+sip.instance="<urn:uuid:2>";q=0.25, sip:b@192.0.2.9;expires=60`}}},
		{"fewer Contacts", func(msg *sipmessagepb.SIPMessage) {
			if len(msg.Contacts) == 0 { // Routr v2 cannot: it knows the first one only
				msg.Contacts = request(m).Message.Contacts
			}
			msg.Contacts = msg.Contacts[:1]
		}, lines{{`m: <sip:a@192.0.2.9:5071;ob;+x=1>;q=0.5;+sip.instance="<urn:uuid:2>", sip:b@192.0.2.9;expires=60`, `m: <sip:a@192.0.2.9:5071;ob;+x=1>;q=0.5;+sip.instance="<urn:uuid:2>"`}, {`Contact: "C, D" <tel:+1201>`, ""}}},
		{"more Contacts", func(msg *sipmessagepb.SIPMessage) {
			msg.Contacts = append(request(m).Message.Contacts, &sipmessagepb.Contact{Address: &sipmessagepb.Address{Uri: &sipmessagepb.SipURI{User: "z", Host: "h"}}, QValue: 1})
		}, lines{{"", "Contact: <sip:z@h>;q=1"}}},
		{"no Contact", func(msg *sipmessagepb.SIPMessage) { msg.Contact, msg.Contacts = nil, nil },
			lines{{`m: <sip:a@192.0.2.9:5071;ob;+x=1>;q=0.5;+sip.instance="<urn:uuid:2>", sip:b@192.0.2.9;expires=60`, ""}, {`Contact: "C, D" <tel:+1201>`, ""}}},
		{"replace a Route and keep the second", func(msg *sipmessagepb.SIPMessage) {
			msg.Route = []*sipmessagepb.Route{msg.Route[1], {Address: &sipmessagepb.Address{Uri: &sipmessagepb.SipURI{Host: "n", Secure: true}}}}
		}, lines{{"Route: <sip:p1.example.com;lr;foo=1>;hdr=2,", "Route: <sip:p2.example.com;lr=on>"}, {" <sip:p2.example.com;lr=on>", "Route: <sips:n>"}}},
		{"Expires", func(msg *sipmessagepb.SIPMessage) { msg.Expires.Expires = 60 }, lines{{"Expires: 120", "Expires: 60"}}},
		{"no Expires", func(msg *sipmessagepb.SIPMessage) { msg.Expires = nil }, lines{{"Expires: 120", ""}}},
		{"Max-Forwards", func(msg *sipmessagepb.SIPMessage) { msg.MaxForwards.MaxForwards = 68 }, lines{{"Max-Forwards: 0069", "Max-Forwards: 68"}}},
		{"no Authorization", func(msg *sipmessagepb.SIPMessage) { msg.Authorization = nil },
			lines{{`Authorization: Digest username="a\"b", realm="r", nonce="n", uri="sip:x", response="1", nc=0000000a, cnonce=c, qop=auth, custom=1`, ""}}},
		{"Authorization", func(msg *sipmessagepb.SIPMessage) { msg.Authorization.Username = `\` },
			lines{{`Authorization: Digest username="a\"b", realm="r", nonce="n", uri="sip:x", response="1", nc=0000000a, cnonce=c, qop=auth, custom=1`,
				`Authorization: Digest username="\\", realm="r", nonce="n", uri="sip:x", response="1", cnonce="c", qop=auth, nc=0000000a`}}},
		{"remove one of a list", func(msg *sipmessagepb.SIPMessage) { msg.Extensions = without(msg.Extensions, "Allow", "ACK") },
			lines{{"Allow: INVITE,ACK ,", "Allow: INVITE ,"}}},
		{"remove a list", func(msg *sipmessagepb.SIPMessage) { msg.Extensions = without(msg.Extensions, "Allow", "") },
			lines{{"Allow: INVITE,ACK ,", ""}, {" BYE", ""}}},
		{"remove a header", func(msg *sipmessagepb.SIPMessage) { msg.Extensions = without(msg.Extensions, "Subject", "") },
			lines{{"Subject:", ""}, {" folded", ""}, {"\ttext", ""}}},
		{"change a header", func(msg *sipmessagepb.SIPMessage) {
			for i, x := range msg.Extensions {
				if x.Name == "x-Custom" {
					msg.Extensions[i] = &sipmessagepb.Extension{Name: "X-CUSTOM", Value: "c"}
				}
			}
		}, lines{{"x-Custom : a, b", "x-Custom: c"}}},
		{"add headers", func(msg *sipmessagepb.SIPMessage) {
			msg.Extensions = append([]*sipmessagepb.Extension{{Name: "X-Edgeport-Ref", Value: "e\r\nEvil: 1"}}, append(msg.Extensions, &sipmessagepb.Extension{Name: "Z", Value: ""})...)
		}, lines{{"", "X-Edgeport-Ref: e  Evil: 1"}, {"", "Z: "}}},
		{"body", func(msg *sipmessagepb.SIPMessage) { msg.Body, msg.RawBody = "hello", nil },
			lines{{"\x00\xff\xfe binary", "Content-Length: 5"}, {"", "hello"}}},
		{"no body", func(msg *sipmessagepb.SIPMessage) {
			msg.Body, msg.RawBody, msg.ContentLength = "", nil, &sipmessagepb.ContentLength{}
		}, lines{{"\x00\xff\xfe binary", "Content-Length: 0"}, {"", ""}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sent := request(m)
			for name, got := range map[string]*sipmessagepb.SIPMessage{
				"ours": proto.CloneOf(sent.Message), "Routr v2": asRoutrV2(sent.Message),
			} {
				tt.change(got)
				var e message.Edit
				e.Reset(m)
				if err := Apply(&e, m, sent, &processorpb.MessageResponse{Message: got}); err != nil {
					t.Fatalf("Apply(%s) = %v", name, err)
				}
				out := parse(t, e.Append(nil))
				if d := cmp.Diff(tt.want, changed(string(m.Bytes()), string(out.Bytes()))); d != "" {
					t.Errorf("Apply(%s) (-want +got):\n%s", name, d)
				}
			}
		})
	}
}

func without(list []*sipmessagepb.Extension, name, value string) []*sipmessagepb.Extension {
	var kept []*sipmessagepb.Extension
	for _, x := range list {
		if x.Name != name || value != "" && x.Value != value {
			kept = append(kept, x)
		}
	}
	return kept
}

// changed pairs the lines that are only in a with those that are only in b, in order; lines that are more stand alone.
func changed(a, b string) [][2]string {
	count := map[string]int{}
	la, lb := strings.Split(a, "\r\n"), strings.Split(b, "\r\n")
	for _, l := range lb {
		count[l]++
	}
	var gone, come []string
	for _, l := range la {
		if count[l]--; count[l] < 0 {
			gone = append(gone, l)
		}
	}
	clear(count)
	for _, l := range la {
		count[l]++
	}
	for _, l := range lb {
		if count[l]--; count[l] < 0 {
			come = append(come, l)
		}
	}
	var pairs [][2]string
	for i := range max(len(gone), len(come)) {
		var p [2]string
		if i < len(gone) {
			p[0] = gone[i]
		}
		if i < len(come) {
			p[1] = come[i]
		}
		pairs = append(pairs, p)
	}
	return pairs
}

func TestApplyTargets(t *testing.T) {
	m := parse(t, crlf(odd))
	var e message.Edit
	e.Reset(m)
	err := Apply(&e, m, request(m), &processorpb.MessageResponse{
		Message:       &sipmessagepb.SIPMessage{}, // no message: it does not say that all headers are gone
		Targets:       []*processorpb.Target{{Uri: "sip:x"}},
		RemoveHeaders: []string{"X-CUSTOM", "k", "Authorization", "Via", "X-Absent"},
		AddHeaders:    []*sipmessagepb.Extension{{Name: "X-A", Value: "1"}, {Name: "CSeq", Value: "9 INVITE"}, {Name: "X B", Value: "2"}, {Name: "max-breadth", Value: "9"}},
	})
	want := `change header Via: it is the EdgePort's
change header CSeq: it is the EdgePort's
change header "X B": the name is no token
add header max-breadth: it is the EdgePort's`
	if err == nil || err.Error() != want {
		t.Errorf("Apply = %v, want\n%s", err, want)
	}
	out := string(parse(t, e.Append(nil)).Bytes())
	wantLines := [][2]string{
		{`Authorization: Digest username="a\"b", realm="r", nonce="n", uri="sip:x", response="1", nc=0000000a, cnonce=c, qop=auth, custom=1`, "X-A: 1"},
		{`Authorization: Digest username="second"`, ""}, {`k: path, "outbound"`, ""}, {"x-Custom : a, b", ""},
	}
	if d := cmp.Diff(wantLines, changed(string(m.Bytes()), out)); d != "" {
		t.Errorf("Apply (-want +got):\n%s", d)
	}
}

// A middleware changed the request, and the processor named targets.
func TestApplyTargetsAndMessage(t *testing.T) {
	m := parse(t, crlf(odd))
	sent := request(m)
	got := proto.CloneOf(sent.Message)
	got.Extensions = append(without(got.Extensions, "Subject", ""), &sipmessagepb.Extension{Name: "X-M", Value: "1"})
	var e message.Edit
	e.Reset(m)
	if err := Apply(&e, m, sent, &processorpb.MessageResponse{
		Message: got, Targets: []*processorpb.Target{{Uri: "sip:x"}},
		RemoveHeaders: []string{"Expires"}, AddHeaders: []*sipmessagepb.Extension{{Name: "X-P", Value: "2"}},
	}); err != nil {
		t.Fatal(err)
	}
	want := [][2]string{{"Expires: 120", "X-M: 1"}, {"Subject:", "X-P: 2"}, {" folded", ""}, {"\ttext", ""}}
	if d := cmp.Diff(want, changed(string(m.Bytes()), string(parse(t, e.Append(nil)).Bytes()))); d != "" {
		t.Errorf("Apply (-want +got):\n%s", d)
	}
}

func TestApplyRefuses(t *testing.T) {
	m := parse(t, crlf(odd))
	sent := request(m)
	for _, tt := range []struct {
		name   string
		change func(msg *sipmessagepb.SIPMessage)
		want   string
	}{
		{"Request-URI", func(msg *sipmessagepb.SIPMessage) { msg.GetRequestUri().Host = "a b" }, `write URI "sip:b%62@a b:5070;transport=TCP;maddr=192.0.2.3;gr=urn:uuid:1;x": not a URI`},
		{"From", func(msg *sipmessagepb.SIPMessage) { msg.From.Address.Uri.User = "x>\r\nEvil: <" }, `write URI "sip:x>\r\nEvil: <@example.com;foo=bar": not a URI`},
		{"CSeq", func(msg *sipmessagepb.SIPMessage) {
			for _, x := range msg.Extensions {
				if x.Name == "CSeq" {
					x.Value = "8 INVITE"
				}
			}
		}, "change header CSeq: it is the EdgePort's"},
	} {
		got := proto.CloneOf(sent.Message)
		tt.change(got)
		var e message.Edit
		e.Reset(m)
		err := Apply(&e, m, sent, &processorpb.MessageResponse{Message: got})
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s: Apply = %v, want %s", tt.name, err, tt.want)
		}
		if e.Changed() {
			t.Errorf("%s: Apply changed the message to\n%s", tt.name, e.Append(nil))
		}
	}
}

func FuzzUnchanged(f *testing.F) {
	f.Add(crlf(odd))
	f.Add(read(f, "invite.sip"))
	f.Add(read(f, "register.sip"))
	f.Add(read(f, "invite.407.sip"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m message.Message
		if m.Parse(data, message.DefaultLimits()) == nil {
			checkUnchanged(t, &m)
		}
	})
}

func BenchmarkApplyTargets(b *testing.B) {
	m := parse(b, read(b, "invite.sip"))
	sent := request(m)
	got := &processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: "sip:x"}}, AddHeaders: []*sipmessagepb.Extension{{Name: "X-A", Value: "1"}}}
	var e message.Edit
	b.ReportAllocs()
	for b.Loop() {
		e.Reset(m)
		if err := Apply(&e, m, sent, got); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApplyUnchanged(b *testing.B) {
	m := parse(b, read(b, "invite.sip"))
	sent := request(m)
	got := &processorpb.MessageResponse{Message: asRoutrV2(sent.Message)}
	var e message.Edit
	b.ReportAllocs()
	for b.Loop() {
		e.Reset(m)
		if err := Apply(&e, m, sent, got); err != nil {
			b.Fatal(err)
		}
	}
}
