// Package proto_test holds the contracts to bytes and numbers that were not made by the code under test.
package proto_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// message is what the generated code of both implementations gives a message.
type message interface {
	proto.Message
	MarshalVT() ([]byte, error)
	UnmarshalVT([]byte) error
	UnmarshalVTUnsafe([]byte) error
}

// golden is what each line of testdata/golden.hex stands for. Together the messages have every field of the contracts
// (TestGoldenHasEveryField).
func golden() map[string]message {
	uri := func(user, host string) *sipmessagepb.Address {
		return &sipmessagepb.Address{Uri: &sipmessagepb.SipURI{User: user, Host: host}}
	}
	loose := func(host string) *sipmessagepb.Address {
		return &sipmessagepb.Address{Uri: &sipmessagepb.SipURI{Host: host, LrParam: true}}
	}
	return map[string]message{
		"sipmessage.SIPMessage.request": &sipmessagepb.SIPMessage{
			MessageType: &sipmessagepb.SIPMessage_RequestUri{RequestUri: &sipmessagepb.SipURI{
				User:           "bob",
				UserPassword:   "secret",
				Host:           "example.com",
				TransportParam: "tcp",
				MAddrParam:     "192.0.2.9",
				MethodParam:    "INVITE",
				UserParam:      "phone",
				TtlParam:       15,
				Port:           5070,
				LrParam:        true,
				BncParam:       true,
				Secure:         true,
				Parameters:     map[string]string{"x": "1"},
				Raw:            "sips:bob@example.com;x=1",
			}},
			From: &sipmessagepb.From{
				Address: &sipmessagepb.Address{
					Uri:         &sipmessagepb.SipURI{User: "alice", Host: "example.org"},
					DisplayName: "Alice é",
					Wildcard:    true,
				},
				Tag:        "a1",
				Parameters: map[string]string{"epid": "7"},
			},
			To: &sipmessagepb.To{
				Address: &sipmessagepb.Address{
					Uri:         &sipmessagepb.SipURI{User: "bob", Host: "example.com"},
					DisplayName: "Bob",
				},
				Tag:        "b1",
				Parameters: map[string]string{"p": ""},
			},
			Contact: &sipmessagepb.Contact{
				Address:    &sipmessagepb.Address{Uri: &sipmessagepb.SipURI{User: "alice", Host: "192.0.2.1", Port: 5060}},
				Expires:    -1,
				QValue:     0.5,
				Parameters: map[string]string{"+sip.instance": `"<urn:uuid:1>"`},
			},
			CallId:        &sipmessagepb.CallID{CallId: "c1@192.0.2.1"},
			ContentLength: &sipmessagepb.ContentLength{ContentLength: 4},
			Expires:       &sipmessagepb.Expires{Expires: 180},
			WwwAuthenticate: &sipmessagepb.WWWAuthenticate{
				Realm:     "r",
				Domain:    "d",
				Scheme:    "Digest",
				Nonce:     "n",
				Algorithm: "MD5",
				Qop:       "auth",
				Opaque:    "o",
				Stale:     true,
			},
			MaxForwards: &sipmessagepb.MaxForwards{MaxForwards: 70},
			Authorization: &sipmessagepb.Authorization{
				Realm:      "r",
				Scheme:     "Digest",
				CNonce:     "c",
				Nonce:      "n",
				Algorithm:  "MD5",
				Qop:        "auth",
				Opaque:     "o",
				Response:   "0123",
				Username:   "alice",
				Uri:        "sip:example.com",
				Method:     "INVITE",
				NonceCount: 1,
			},
			Extensions: []*sipmessagepb.Extension{{Name: "User-Agent", Value: "one"}, {Name: "Supported", Value: "path"}},
			Via: []*sipmessagepb.Via{
				{
					Host:      "192.0.2.1",
					Port:      5060,
					Branch:    "z9hG4bK1",
					Transport: "UDP",
					RPortFlag: true,
					RPort:     40000,
					Received:  "198.51.100.7",
					MAddr:     "224.0.1.75",
					Ttl:       1,
				},
				{Host: "192.0.2.2", Port: -1},
			},
			Route: []*sipmessagepb.Route{{
				Address:    loose("p1.example.com"),
				Parameters: map[string]string{"a": "1"},
			}},
			RecordRoute: []*sipmessagepb.RecordRoute{{
				Address:    loose("p2.example.com"),
				Parameters: map[string]string{"r2": "on"},
			}},
			Body: "v=0\n",
			CSeq: &sipmessagepb.CSeq{Number: 4294967295, Method: "INVITE"},
			Contacts: []*sipmessagepb.Contact{
				{Address: uri("one", "192.0.2.1"), Expires: 60},
				{Address: uri("two", "192.0.2.1"), QValue: 1},
			},
			RawBody: []byte{0xff, 0x00, 0x01},
		},
		"sipmessage.SIPMessage.response": &sipmessagepb.SIPMessage{
			MessageType:  &sipmessagepb.SIPMessage_ResponseType{ResponseType: sipmessagepb.ResponseType_CLIENT_ERROR},
			ReasonPhrase: "Session Interval Too Small",
			StatusCode:   422,
		},
		"processor.MessageRequest": &processorpb.MessageRequest{
			Ref:         "c1@192.0.2.1",
			EdgePortRef: "edgeport-01",
			Method:      processorpb.Method_UPDATE,
			Sender:      &processorpb.NetInterface{Host: "198.51.100.7", Port: 40000, Transport: commonpb.Transport_WSS},
			ListeningPoints: []*processorpb.NetInterface{
				{Host: "0.0.0.0", Port: 5060, Transport: commonpb.Transport_UDP},
				{Host: "0.0.0.0", Port: 5061, Transport: commonpb.Transport_TLS},
			},
			ExternalAddrs: []string{"203.0.113.1", "203.0.113.2"},
			Localnets:     []string{"192.168.1.2/24", "10.0.0.1/8"},
			Message:       &sipmessagepb.SIPMessage{MaxForwards: &sipmessagepb.MaxForwards{MaxForwards: 70}},
			Metadata:      map[string]string{"tenant": "one"},
			MethodName:    "PING",
			Flow:          "f1",
		},
		"processor.MessageResponse": &processorpb.MessageResponse{
			Sender: &processorpb.NetInterface{Host: "198.51.100.7", Port: 5060, Transport: commonpb.Transport_TCP},
			Message: &sipmessagepb.SIPMessage{
				MessageType: &sipmessagepb.SIPMessage_ResponseType{ResponseType: sipmessagepb.ResponseType_OK},
			},
			Metadata: map[string]string{"tenant": "one"},
			Targets: []*processorpb.Target{
				{
					Uri:         "sip:bob@192.0.2.4",
					Q:           1000,
					Priority:    1,
					EdgePortRef: "edgeport-02",
					NextHop:     &processorpb.NetInterface{Host: "198.51.100.8", Port: 5062, Transport: commonpb.Transport_WS},
					Flow:        "f2",
					Path:        []string{"<sip:p1.example.com;lr>", "<sip:p2.example.com;lr>"},
					EdgePortAddrs: []*processorpb.NetInterface{
						{Host: "198.51.100.9", Port: 5060, Transport: commonpb.Transport_TCP},
						{Host: "198.51.100.9", Port: 5061, Transport: commonpb.Transport_TLS},
					},
					Instance: "<urn:uuid:1>",
				},
				{Uri: "sip:bob@192.0.2.5", Q: 500},
			},
			AddHeaders:    []*sipmessagepb.Extension{{Name: "P-Asserted-Identity", Value: "<sip:alice@example.org>"}},
			RemoveHeaders: []string{"Privacy", "Proxy-Authorization"},
		},
		"location.AddRouteRequest": &locationpb.AddRouteRequest{
			Aor: "sip:bob@example.com",
			Route: &locationpb.Route{
				User:         "bob",
				Host:         "192.0.2.4",
				Port:         "5060",
				Transport:    commonpb.Transport_SCTP,
				RegisteredOn: 1767225600123,
				Expires:      3600,
				SessionCount: -1,
				EdgePortRef:  "edgeport-02",
				ListeningPoints: []*processorpb.NetInterface{
					{Host: "0.0.0.0", Port: 5062, Transport: commonpb.Transport_WS},
				},
				Localnets:      []string{"192.168.1.2/24"},
				ExternalAddrs:  []string{"203.0.113.1"},
				Labels:         map[string]string{"priority": "1"},
				AdvertisedHost: "192.168.1.9",
				AdvertisedPort: "5062",
				ContactUri:     "sip:bob@192.168.1.9:5062;transport=ws",
				CallId:         "r1",
				CSeq:           4294967295,
				Q:              proto.Int32(0),
				Path:           []string{"<sip:p1.example.com;lr>"},
				Instance:       "<urn:uuid:1>",
				RegId:          1,
				Flow:           "f2",
				Dialable:       true,
			},
			MaxContacts: -1,
			Routes: []*locationpb.Route{
				{User: "bob", Host: "192.0.2.5", Q: proto.Int32(700)},
				{User: "bob", Host: "192.0.2.6"},
			},
			RemoveAll: true,
			CallId:    "r1",
			CSeq:      2,
		},
		"location.AddRouteResponse": &locationpb.AddRouteResponse{
			Routes: []*locationpb.Route{{User: "bob", Host: "192.0.2.5", Expires: 60}},
		},
		"location.FindRoutesRequest": &locationpb.FindRoutesRequest{
			CallId:             "c1",
			Aor:                "backend:conference",
			SessionAffinityRef: "room1",
			Backend: &locationpb.FindRoutesRequest_Backend{
				Ref:                 "peer-1",
				WithSessionAffinity: true,
				Algorithm:           locationpb.FindRoutesRequest_Backend_LEAST_SESSIONS,
			},
			Labels: map[string]string{"priority": "1"},
		},
		"location.FindRoutesResponse": &locationpb.FindRoutesResponse{
			Routes: []*locationpb.Route{{User: "bob", Host: "192.0.2.4"}, {User: "bob", Host: "192.0.2.5"}},
		},
		"location.FlowClosed": &locationpb.FlowClosed{
			EdgePortRef: "edgeport-01",
			Flow:        "f2",
			Aors:        []string{"sip:alice@example.org", "sip:bob@example.com"},
		},
		"location.RemoveRoutesRequest": &locationpb.RemoveRoutesRequest{Aor: "sip:bob@example.com"},
	}
}

func TestGolden(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.hex")
	if err != nil {
		t.Fatal(err)
	}
	want := golden()
	for line := range strings.Lines(string(data)) {
		name, digits, _ := strings.Cut(strings.TrimSpace(line), " ")
		wire, err := hex.DecodeString(digits)
		if err != nil || len(wire) == 0 {
			t.Fatalf("golden.hex: %s has %q, %v, want bytes in hex", name, digits, err)
		}
		value := want[name]
		if value == nil {
			t.Errorf("golden.hex: %s stands for nothing in golden()", name)
			continue
		}
		delete(want, name)
		t.Run(name, func(t *testing.T) { testGolden(t, wire, value) })
	}
	for name := range want {
		t.Errorf("golden.hex: no line for %s", name)
	}
}

func testGolden(t *testing.T, wire []byte, want message) {
	decoders := []struct {
		name   string
		decode func(message) error
	}{
		{"proto.Unmarshal", func(m message) error { return proto.Unmarshal(wire, m) }},
		{"UnmarshalVT", func(m message) error { return m.UnmarshalVT(wire) }},
		{"UnmarshalVTUnsafe", func(m message) error { return m.UnmarshalVTUnsafe(bytes.Clone(wire)) }},
	}
	for _, d := range decoders {
		got := want.ProtoReflect().New().Interface().(message)
		if err := d.decode(got); err != nil {
			t.Errorf("%s: %v", d.name, err)
			continue
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s differs (-want +got):\n%s", d.name, diff)
		}
		if len(got.ProtoReflect().GetUnknown()) != 0 {
			t.Errorf("%s left unknown fields: %x", d.name, got.ProtoReflect().GetUnknown())
		}
	}

	encoders := []struct {
		name   string
		encode func() ([]byte, error)
	}{
		{"proto.Marshal", func() ([]byte, error) { return proto.MarshalOptions{Deterministic: true}.Marshal(want) }},
		{"MarshalVT", want.MarshalVT},
	}
	for _, e := range encoders {
		got, err := e.encode()
		if err != nil {
			t.Errorf("%s: %v", e.name, err)
			continue
		}
		// A oneof may stand anywhere among the fields: Go writes it last, C++ by number.
		if got, wire := byNumber(t, got), byNumber(t, wire); !bytes.Equal(got, wire) {
			t.Errorf("%s = %x, want %x", e.name, got, wire)
		}
	}
}

// byNumber is the encoded message b with its fields in the order of their numbers; fields of one number keep theirs.
func byNumber(t *testing.T, b []byte) []byte {
	t.Helper()
	type field struct {
		number protowire.Number
		bytes  []byte
	}
	var fields []field
	for len(b) > 0 {
		number, _, n := protowire.ConsumeField(b)
		if n < 0 {
			t.Fatalf("consume %x: %v", b, protowire.ParseError(n))
		}
		fields = append(fields, field{number, b[:n]})
		b = b[n:]
	}
	slices.SortStableFunc(fields, func(x, y field) int { return int(x.number - y.number) })
	var sorted []byte
	for _, f := range fields {
		sorted = append(sorted, f.bytes...)
	}
	return sorted
}

func TestGoldenHasEveryField(t *testing.T) {
	missing := map[protoreflect.FullName]bool{}
	for _, file := range contracts() {
		eachMessage(file.Messages(), func(m protoreflect.MessageDescriptor) {
			for i := range m.Fields().Len() {
				missing[m.Fields().Get(i).FullName()] = true
			}
		})
	}
	if len(missing) < 100 {
		t.Fatalf("the contracts have %d fields, want at least 100", len(missing))
	}
	for _, m := range golden() {
		markFields(m.ProtoReflect(), missing)
	}
	for name := range missing {
		t.Errorf("no golden message has %s", name)
	}
}

// markFields deletes from missing each field that m, or a message in m, has.
func markFields(m protoreflect.Message, missing map[protoreflect.FullName]bool) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		delete(missing, f.FullName())
		switch {
		case f.IsMap() || f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				markFields(v.List().Get(i).Message(), missing)
			}
		default:
			markFields(v.Message(), missing)
		}
		return true
	})
}
