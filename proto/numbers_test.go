package proto_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// The published contracts of Routr v2: each message with its fields, by number from 1 upwards unless a number stands
// with the name. What is here can never change.
const published = `
sipmessage.WWWAuthenticate: string realm, string domain, string scheme, string nonce, string algorithm, string qop, string opaque, bool stale
sipmessage.Authorization: string realm, string scheme, string c_nonce, string nonce, string algorithm, string qop, string opaque, string response, string username, string uri, string method, int32 nonce_count
sipmessage.CallID: string call_id
sipmessage.ContentLength: int32 content_length
sipmessage.Extension: string name, string value
sipmessage.MaxForwards: int32 max_forwards
sipmessage.Expires: int32 expires
sipmessage.Via: string host, int32 port, string branch, string transport, bool r_port_flag, int32 r_port, string received, string m_addr, int32 ttl
sipmessage.SipURI: string user, string user_password, string host, string transport_param, string m_addr_param, string method_param, string user_param, int32 ttl_param, int32 port, bool lr_param, bool bnc_param, bool secure
sipmessage.Address: sipmessage.SipURI uri, string display_name, bool wildcard
sipmessage.Route: sipmessage.Address address, map<string,string> parameters
sipmessage.RecordRoute: sipmessage.Address address, map<string,string> parameters
sipmessage.From: sipmessage.Address address, string tag, map<string,string> parameters
sipmessage.To: sipmessage.Address address, string tag, map<string,string> parameters
sipmessage.Contact: sipmessage.Address address, int32 expires, float q_value
sipmessage.SIPMessage: oneof message_type sipmessage.ResponseType response_type, oneof message_type sipmessage.SipURI request_uri, sipmessage.From from, sipmessage.To to, sipmessage.Contact contact, sipmessage.CallID call_id, sipmessage.ContentLength content_length, sipmessage.Expires expires, sipmessage.WWWAuthenticate www_authenticate, sipmessage.MaxForwards max_forwards, sipmessage.Authorization authorization, repeated sipmessage.Extension extensions, repeated sipmessage.Via via, repeated sipmessage.Route route, repeated sipmessage.RecordRoute record_route, string reason_phrase, string body
processor.NetInterface: string host, int32 port, common.Transport transport
processor.MessageRequest: string ref, string edge_port_ref, processor.Method method, processor.NetInterface sender, repeated processor.NetInterface listening_points, repeated string external_addrs, repeated string localnets, sipmessage.SIPMessage message, map<string,string> metadata
processor.MessageResponse: processor.NetInterface sender, sipmessage.SIPMessage message, map<string,string> metadata
location.Route: string user, string host, string port, common.Transport transport, int64 registered_on, int32 expires, int32 session_count, string edge_port_ref, repeated processor.NetInterface listening_points, repeated string localnets, repeated string external_addrs, map<string,string> labels, string advertised_host, string advertised_port
location.AddRouteRequest: string aor, location.Route route, int32 max_contacts
location.FindRoutesRequest: string call_id, string aor, string session_affinity_ref, location.FindRoutesRequest.Backend backend, map<string,string> labels
location.FindRoutesRequest.Backend: string ref, bool with_session_affinity, location.FindRoutesRequest.Backend.Algorithm algorithm
location.FindRoutesResponse: repeated location.Route routes
location.RemoveRoutesRequest: string aor
`

// The published enums: the names of 0, 1, 2 …
const publishedEnums = `
common.Transport: UDP TCP TLS SCTP WS WSS
processor.Method: UNKNOWN REGISTER INVITE MESSAGE PUBLISH NOTIFY SUBSCRIBE ACK BYE CANCEL OPTIONS PRACK INFO REFER UPDATE
location.FindRoutesRequest.Backend.Algorithm: ROUND_ROBIN LEAST_SESSIONS
sipmessage.ResponseType: UNKNOWN TRYING RINGING CALL_IS_BEING_FORWARDED QUEUED SESSION_PROGRESS SUCCESS OK ACCEPTED REDIRECTION MULTIPLE_CHOICES MOVED_PERMANENTLY MOVED_TEMPORARILY USE_PROXY ALTERNATIVE_SERVICE CLIENT_ERROR BAD_REQUEST UNAUTHORIZED PAYMENT_REQUIRED FORBIDDEN NOT_FOUND METHOD_NOT_ALLOWED NOT_ACCEPTABLE PROXY_AUTHENTICATION_REQUIRED REQUEST_TIMEOUT GONE REQUEST_ENTITY_TOO_LARGE REQUEST_URI_TOO_LONG UNSUPPORTED_MEDIA_TYPE UNSUPPORTED_URI_SCHEME BAD_EXTENSION EXTENSION_REQUIRED INTERVAL_TOO_BRIEF TEMPORARILY_UNAVAILABLE CALL_OR_TRANSACTION_DOES_NOT_EXIST LOOP_DETECTED TOO_MANY_HOPS ADDRESS_INCOMPLETE AMBIGUOUS BUSY_HERE REQUEST_TERMINATED NOT_ACCEPTABLE_HERE BAD_EVENT REQUEST_PENDING UNDECIPHERABLE SERVER_ERROR SERVER_INTERNAL_ERROR NOT_IMPLEMENTED BAD_GATEWAY SERVICE_UNAVAILABLE SERVER_TIMEOUT VERSION_NOT_SUPPORTED MESSAGE_TOO_LARGE GLOBAL_ERROR BUSY_EVERYWHERE DECLINE DOES_NOT_EXIST_ANYWHERE SESSION_NOT_ACCEPTABLE
`

const (
	namespace      = "fonoster.routr."
	version        = ".v2beta1"
	firstExtension = 100 // numbers from here up are ours
)

func contracts() []protoreflect.FileDescriptor {
	return []protoreflect.FileDescriptor{
		commonpb.File_common_v2beta1_common_proto,
		sipmessagepb.File_sipmessage_v2beta1_sipmessage_proto,
		processorpb.File_processor_v2beta1_processor_proto,
		locationpb.File_location_v2beta1_location_proto,
	}
}

// lines is a table above, by the name at the head of each line.
func lines(table string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(table) {
		if name, rest, found := strings.Cut(strings.TrimSpace(line), ": "); found {
			m[name] = rest
		}
	}
	return m
}

// short is a full name without what all of the contracts have in common.
func short(name protoreflect.FullName) string {
	return strings.Replace(strings.TrimPrefix(string(name), namespace), version, "", 1)
}

func TestFieldNumbers(t *testing.T) {
	want := lines(published)
	// Messages that the published contracts do not have; AddRouteResponse stands for google.protobuf.Empty.
	ours := []string{"processor.Target", "sipmessage.CSeq", "location.AddRouteResponse", "location.FlowClosed"}
	for _, file := range contracts() {
		eachMessage(file.Messages(), func(m protoreflect.MessageDescriptor) {
			name := short(m.FullName())
			if _, known := want[name]; !known && slices.Contains(ours, name) {
				return
			}
			if got := publishedFields(m); got != want[name] {
				t.Errorf("%s has fields below %d:\n%s\nwant\n%s", name, firstExtension, got, want[name])
			}
			delete(want, name)
		})
	}
	for name := range want {
		t.Errorf("the message %s is missing", name)
	}
	empty := (&locationpb.AddRouteResponse{}).ProtoReflect().Descriptor()
	if got := publishedFields(empty); got != "" {
		t.Errorf("location.AddRouteResponse has %s, want only extensions, as it is an Empty to others", got)
	}
}

// publishedFields is m in the words of the table: its fields below firstExtension by number, which must have no gap.
func publishedFields(m protoreflect.MessageDescriptor) string {
	var fields []protoreflect.FieldDescriptor
	for i := range m.Fields().Len() {
		if f := m.Fields().Get(i); f.Number() < firstExtension {
			fields = append(fields, f)
		}
	}
	slices.SortFunc(fields, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number() - b.Number()) })
	var text []string
	for i, f := range fields {
		s := typeName(f) + " " + string(f.Name())
		if f.Number() != protoreflect.FieldNumber(i+1) {
			s += fmt.Sprintf(" %d", f.Number())
		}
		text = append(text, s)
	}
	return strings.Join(text, ", ")
}

// typeName is the type of f as a .proto file has it.
func typeName(f protoreflect.FieldDescriptor) string {
	if f.IsMap() {
		return fmt.Sprintf("map<%s,%s>", typeName(f.MapKey()), typeName(f.MapValue()))
	}
	name := f.Kind().String()
	switch {
	case f.Message() != nil:
		name = short(f.Message().FullName())
	case f.Enum() != nil:
		name = short(f.Enum().FullName())
	}
	switch oneof := f.ContainingOneof(); {
	case f.IsList():
		name = "repeated " + name
	case f.HasOptionalKeyword():
		name = "optional " + name
	case oneof != nil:
		name = "oneof " + string(oneof.Name()) + " " + name
	}
	return name
}

// eachMessage calls f for each of ms and for the messages inside them, map entries aside.
func eachMessage(ms protoreflect.MessageDescriptors, f func(protoreflect.MessageDescriptor)) {
	for i := range ms.Len() {
		if m := ms.Get(i); !m.IsMapEntry() {
			f(m)
			eachMessage(m.Messages(), f)
		}
	}
}

func TestEnumNumbers(t *testing.T) {
	want := lines(publishedEnums)
	check := func(enums protoreflect.EnumDescriptors) {
		for i := range enums.Len() {
			e := enums.Get(i)
			var names []string
			for j := range e.Values().Len() {
				v := e.Values().Get(j)
				if int(v.Number()) != j {
					t.Errorf("%s.%s = %d, want %d", short(e.FullName()), v.Name(), v.Number(), j)
				}
				names = append(names, string(v.Name()))
			}
			name := short(e.FullName())
			if got := strings.Join(names, " "); got != want[name] {
				t.Errorf("%s has\n%s\nwant\n%s", name, got, want[name])
			}
			delete(want, name)
		}
	}
	for _, file := range contracts() {
		check(file.Enums())
		eachMessage(file.Messages(), func(m protoreflect.MessageDescriptor) { check(m.Enums()) })
	}
	for name := range want {
		t.Errorf("the enum %s is missing", name)
	}
}

func TestServices(t *testing.T) {
	want := []string{
		"/fonoster.routr.processor.v2beta1.Processor/ProcessMessage fonoster.routr.processor.v2beta1.MessageRequest fonoster.routr.processor.v2beta1.MessageResponse",
		"/fonoster.routr.location.v2beta1.Location/AddRoute fonoster.routr.location.v2beta1.AddRouteRequest google.protobuf.Empty",
		"/fonoster.routr.location.v2beta1.Location/FindRoutes fonoster.routr.location.v2beta1.FindRoutesRequest fonoster.routr.location.v2beta1.FindRoutesResponse",
		"/fonoster.routr.location.v2beta1.Location/RemoveRoutes fonoster.routr.location.v2beta1.RemoveRoutesRequest google.protobuf.Empty",
	}
	var got []string
	for _, file := range contracts() {
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				if m.IsStreamingClient() || m.IsStreamingServer() {
					t.Errorf("%s streams, want a unary call", m.FullName())
				}
				got = append(got, fmt.Sprintf("/%s/%s %s %s", s.FullName(), m.Name(), m.Input().FullName(), m.Output().FullName()))
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("services have\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
