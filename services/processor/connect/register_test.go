package connect

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// values are the values of a header of an answer.
func values(m *processorpb.MessageResponse, name string) (out []string) {
	for _, e := range m.GetMessage().GetExtensions() {
		if e.Name == name {
			out = append(out, e.Value)
		}
	}
	return out
}

const phoneContact = "sip:1001@192.0.2.1:5060"

// RFC 3261 10.3, from a trusted peer, so that no challenge is in the way. Each row has its own address-of-record.
func TestRegistrar(t *testing.T) {
	one := func(c contact) []contact { return []contact{c} }
	table := []struct {
		name    string
		before  []request // from the same user
		in      request
		want    string
		wantOld string // what a query says afterwards, where the request is refused
	}{
		{name: "R1 new binding", in: request{contacts: one(contact{uri: phoneContact, expires: "600"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=600"},
		{name: "R1 every binding, with its own expires",
			before: []request{{callID: "a", contacts: one(contact{uri: phoneContact, expires: "600", q: "0.5"})}},
			in:     request{callID: "b", contacts: one(contact{uri: "sip:1001@192.0.2.2", expires: "300", params: map[string]string{"+sip.instance": `"<urn:uuid:1>"`, "reg-id": "1"}})},
			want:   `200 OK | Contact: <sip:1001@192.0.2.2>;expires=300;+sip.instance="<urn:uuid:1>" | Contact: <sip:1001@192.0.2.1:5060>;expires=600;q=0.500`},
		{name: "R2 query of nothing", in: request{}, want: "200 OK"},
		{name: "R2 query", before: []request{{contacts: one(contact{uri: phoneContact, expires: "600"})}}, in: request{cSeq: 2},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=600"},
		{name: "R3 refresh", before: []request{{contacts: one(contact{uri: phoneContact, expires: "60"})}},
			in:   request{cSeq: 2, contacts: one(contact{uri: phoneContact, expires: "600"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=600"},
		{name: "R3 lower CSeq", before: []request{{cSeq: 5, contacts: one(contact{uri: phoneContact, expires: "60"})}},
			in:   request{cSeq: 4, contacts: one(contact{uri: phoneContact, expires: "600"})},
			want: "500 CSeq Out Of Order", wantOld: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=60"},
		{name: "R4 lower CSeq of another Call-ID", before: []request{{cSeq: 5, contacts: one(contact{uri: phoneContact, expires: "60"})}},
			in:   request{callID: "other", cSeq: 4, contacts: one(contact{uri: phoneContact, expires: "600"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=600"},
		{name: "R5 wildcard", before: []request{{contacts: one(contact{uri: phoneContact, expires: "60"})}},
			in: request{cSeq: 2, contacts: one(contact{uri: "*"}), expires: "0"}, want: "200 OK"},
		{name: "R5 wildcard without Expires", before: []request{{contacts: one(contact{uri: phoneContact, expires: "60"})}},
			in:      request{cSeq: 2, contacts: one(contact{uri: "*"})},
			want:    "400 Contact: * Without Expires: 0 Or With Another Contact",
			wantOld: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=60"},
		{name: "R5 wildcard with another Expires", in: request{contacts: one(contact{uri: "*"}), expires: "60"},
			want: "400 Contact: * Without Expires: 0 Or With Another Contact"},
		{name: "R5 wildcard first of two", in: request{contacts: []contact{{uri: "*"}, {uri: phoneContact}}, expires: "0"},
			want: "400 Contact: * Without Expires: 0 Or With Another Contact"},
		{name: "R5 wildcard second of two", in: request{contacts: []contact{{uri: phoneContact}, {uri: "*"}}, expires: "0"},
			want: "400 Contact Is No SIP URI Or Too Long"},
		{name: "R6 one of two goes",
			before: []request{{contacts: []contact{{uri: phoneContact, expires: "600"}, {uri: "sip:1001@192.0.2.2", expires: "600"}}}},
			in:     request{cSeq: 2, contacts: one(contact{uri: phoneContact, expires: "0"})},
			want:   "200 OK | Contact: <sip:1001@192.0.2.2>;expires=600"},
		{name: "R7 parameter before header", in: request{contacts: one(contact{uri: phoneContact, expires: "600"}), expires: "900"},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=600"},
		{name: "R7 header before default", in: request{contacts: one(contact{uri: phoneContact}), expires: "900"},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=900"},
		{name: "R7 default", in: request{contacts: one(contact{uri: phoneContact})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=3600"},
		{name: "R7 header that is no number", in: request{contacts: one(contact{uri: phoneContact}), expires: "-5"},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=3600"},
		{name: "R8 too brief", in: request{contacts: one(contact{uri: phoneContact, expires: "59"})},
			want: "423 Interval Too Brief | Min-Expires: 60", wantOld: "200 OK"},
		{name: "R9 too long", in: request{contacts: one(contact{uri: phoneContact, expires: "999999"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=7200"},
		{name: "R9 too long for the agent", in: request{from: "sip:1004@sip.local", contacts: one(contact{uri: phoneContact, expires: "999999"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=600"},
		{name: "R7 garbage in the parameter", in: request{contacts: one(contact{uri: phoneContact, expires: "-1"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=3600"},
		{name: "R7 more than 31 bits", in: request{contacts: one(contact{uri: phoneContact, expires: "2147483647"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=7200"},
		{name: "R8 at the minimum", in: request{contacts: one(contact{uri: phoneContact, expires: "60"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=60"},
		{name: "R8 the header is too brief", in: request{contacts: one(contact{uri: phoneContact}), expires: "59"},
			want: "423 Interval Too Brief | Min-Expires: 60", wantOld: "200 OK"},
		{name: "R10 three decimals", in: request{contacts: one(contact{uri: phoneContact, expires: "600", q: "0.125"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=600;q=0.125"},
		{name: "R10 q of one", in: request{contacts: one(contact{uri: phoneContact, expires: "600", q: "1"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=600"},
		{name: "R10 the highest q first", in: request{contacts: []contact{
			{uri: "sip:a@192.0.2.1", expires: "60", q: "0.1"}, {uri: "sip:b@192.0.2.1", expires: "60", q: "0.101"}}},
			want: "200 OK | Contact: <sip:b@192.0.2.1>;expires=60;q=0.101 | Contact: <sip:a@192.0.2.1>;expires=60;q=0.100"},
		{name: "R10 q of zero", in: request{contacts: one(contact{uri: phoneContact, expires: "600", q: "0"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=600;q=0.000"},
		{name: "R11 the second is bad", in: request{contacts: []contact{{uri: phoneContact, expires: "60"}, {uri: "mailto:x@sip.local"}}},
			want: "400 Contact Is No SIP URI Or Too Long", wantOld: "200 OK"},
		{name: "R11 the second is too brief", in: request{contacts: []contact{{uri: phoneContact, expires: "60"}, {uri: "sip:x@192.0.2.3", expires: "1"}}},
			want: "423 Interval Too Brief | Min-Expires: 60", wantOld: "200 OK"},
		{name: "R13 spelling of a contact", before: []request{{contacts: one(contact{uri: "sip:%31001@Phone.example.com;transport=TCP;x=1", expires: "60"})}},
			in:   request{cSeq: 2, contacts: one(contact{uri: "SIP:1001@phone.EXAMPLE.com;y=2;Transport=tcp", expires: "600"})},
			want: "200 OK | Contact: <SIP:1001@phone.EXAMPLE.com;y=2;Transport=tcp>;expires=600"},
		{name: "R13 the case of a user", before: []request{{contacts: one(contact{uri: "sip:Bob@192.0.2.1", expires: "60"})}},
			in:   request{cSeq: 2, contacts: one(contact{uri: "sip:bob@192.0.2.1", expires: "60"})},
			want: "200 OK | Contact: <sip:bob@192.0.2.1>;expires=60 | Contact: <sip:Bob@192.0.2.1>;expires=60"},
		{name: "R14 spelling of the AOR", before: []request{{contacts: one(contact{uri: phoneContact, expires: "60"})}},
			in:   request{uri: "sip:SIP.LOCAL", from: "sip:%31001@SIP.local;x=y"},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=60"},
		{name: "R15 domain of the Request-URI is not ours", in: request{uri: "sip:elsewhere.local"}, want: "404 Not Found"},
		{name: "R15 user in the Request-URI", in: request{uri: "sip:1001@sip.local", contacts: one(contact{uri: phoneContact, expires: "60"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=60"},
		{name: "R15 To of another domain", in: request{uri: "sip:other.local"}, want: "404 Not Found"},
		{name: "To without a user", in: request{from: "sip:sip.local"}, want: "404 Not Found"},
		{name: "R16 third party, of a trusted peer", in: request{from: "sip:1002@sip.local", to: "sip:1001@sip.local", contacts: one(contact{uri: phoneContact, expires: "60"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=60"},
		{name: "R18 Record-Route", in: request{headers: []string{"Record-Route: <sip:p;lr>"}, contacts: one(contact{uri: phoneContact, expires: "60"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=60"},
		{name: "P62 gruu is not done, and not offered", in: request{headers: []string{"Supported: gruu"},
			contacts: one(contact{uri: phoneContact, expires: "60", params: map[string]string{"+sip.instance": "<urn:uuid:1>", "pub-gruu": "x", "temp-gruu": "y"}})},
			want: `200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=60;+sip.instance="<urn:uuid:1>"`},
		{name: "P62 gruu required", in: request{headers: []string{"Require: gruu"}, contacts: one(contact{uri: phoneContact})},
			want: "420 Bad Extension | Unsupported: gruu", wantOld: "200 OK"},
		{name: "R17 Require", in: request{headers: []string{"Require: path, gin", "Require: 100rel"}, contacts: one(contact{uri: phoneContact})},
			want: "420 Bad Extension | Unsupported: gin, 100rel", wantOld: "200 OK"},
		{name: "R19 a refresh is no further contact",
			before: []request{{from: "sip:1004@sip.local", callID: "a", contacts: one(contact{uri: phoneContact, expires: "60"})}},
			in:     request{from: "sip:1004@sip.local", callID: "b", contacts: one(contact{uri: phoneContact, expires: "600"})},
			want:   "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=600"},
		{name: "R19 too many contacts",
			before:  []request{{from: "sip:1004@sip.local", callID: "a", contacts: one(contact{uri: phoneContact, expires: "600"})}},
			in:      request{from: "sip:1004@sip.local", callID: "b", contacts: one(contact{uri: "sip:1004@192.0.2.9"})},
			want:    "403 exceeds maximum of 1 allowed contacts",
			wantOld: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=600"},
		{name: "R21 Path", in: request{headers: []string{"Path: <sip:p1;lr>", "Path: <sip:p2;lr>", "Supported: timer, path"}, contacts: one(contact{uri: phoneContact, expires: "60"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=60 | Path: <sip:p1;lr> | Path: <sip:p2;lr>"},
		{name: "R21 Path of a UA that does not know it", in: request{headers: []string{"Path: <sip:p1;lr>", "Require: path"}, contacts: one(contact{uri: phoneContact})},
			want: "420 Bad Extension | Unsupported: path", wantOld: "200 OK"},
		{name: "R21 Path without angle brackets", in: request{headers: []string{"Path: sip:p1;lr", "Supported: path"}, contacts: one(contact{uri: phoneContact})},
			want: "400 Path Is No SIP URI", wantOld: "200 OK"},
		{name: "R21 Path of another scheme", in: request{headers: []string{"Path: <tel:+1>", "Supported: path"}, contacts: one(contact{uri: phoneContact})},
			want: "400 Path Is No SIP URI", wantOld: "200 OK"},
		{name: "R21 long Path", in: request{headers: append(slices.Repeat([]string{"Path: <sip:p;lr>"}, maxPath+1), "Supported: path"), contacts: one(contact{uri: phoneContact})},
			want: "400 Path Is Too Long", wantOld: "200 OK"},
		{name: "instance that cannot be quoted", in: request{
			contacts: one(contact{uri: phoneContact, expires: "60", params: map[string]string{"+sip.instance": `a";x="`}})},
			want: `200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=60`},
		{name: "a user without an Agent", in: request{from: "sip:u000001@sip.local", contacts: one(contact{uri: phoneContact, expires: "60"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=60"},
		{name: "From of someone else", in: request{from: "sip:whoever@anywhere", to: "sip:1001@sip.local", contacts: one(contact{uri: phoneContact, expires: "60"})},
			want: "200 OK | Contact: <sip:1001@192.0.2.1:5060>;expires=60"},
		{name: "disabled agent", in: request{from: "sip:1003@sip.local", contacts: one(contact{uri: phoneContact})}, want: "403 Forbidden"},
		{name: "long contact", in: request{contacts: one(contact{uri: "sip:" + strings.Repeat("a", maxBindingText) + "@h"})},
			want: "400 Contact Is No SIP URI Or Too Long"},
		{name: "many contacts", in: request{contacts: make([]contact, maxContacts+1)}, want: "403 Too Many Contacts In One Request"},
		{name: "no From", in: request{noFrom: true}, want: "400 Request-URI, From Or To Missing"},
		{name: "no To", in: request{noTo: true}, want: "400 Request-URI, From Or To Missing"},
		{name: "tel: in the Request-URI", in: request{uri: "tel:+1"}, want: "404 Not Found"},
	}
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, tt := range table {
			t.Run(tt.name, func(t *testing.T) {
				f := newFabric(t, conn, nil)
				for _, r := range tt.before {
					r.source = peer
					if got := f.send(r); got.GetMessage().GetStatusCode() != 200 {
						t.Fatalf("REGISTER before = %s, want 200", describe(got))
					}
				}
				tt.in.source = peer
				got := f.send(tt.in)
				if diff := cmp.Diff(tt.want, describe(got)); diff != "" {
					t.Errorf("REGISTER (-want +got):\n%s", diff)
				}
				if got.Message.StatusCode == 200 {
					if d := values(got, "Date"); len(d) != 1 || !strings.HasSuffix(d[0], " GMT") {
						t.Errorf("Date = %q, want one in GMT", d)
					}
				}
				if tt.wantOld != "" {
					query := request{from: tt.in.from, source: peer, callID: "query"}
					if diff := cmp.Diff(tt.wantOld, describe(f.send(query))); diff != "" {
						t.Errorf("query afterwards (-want +got):\n%s", diff)
					}
				}
			})
		}
	})
}

// What the Location Service gets is what a call needs later.
func TestRegisterRoute(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		f := newFabric(t, conn, nil)
		f.send(request{source: peer, sourcePort: 40000, flow: "flow-1", callID: "call-9", cSeq: 9,
			headers:  []string{"X-Session-Count: 12", "Supported: path", "Path: <sip:edge;lr>"},
			contacts: []contact{{uri: "sip:1001@10.0.0.5:5062;transport=tcp", expires: "120", q: "0.25", params: map[string]string{"+sip.instance": `"<urn:uuid:1>"`}}}})
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		found, err := bus.Ask[locationpb.FindRoutesResponse](ctx, conn, bus.SubjectLocation(bus.LocationFind),
			&locationpb.FindRoutesRequest{Aor: "sip:1001@sip.local"})
		if err != nil || len(found.Routes) != 1 {
			t.Fatalf("find = %v, %v, want one route", found, err)
		}
		r := found.Routes[0]
		if !r.Dialable {
			t.Error("dialable = false, want true for a Path of a trusted peer")
		}
		got := []string{r.User, r.Host, r.Port, r.Transport.String(), r.ContactUri, r.CallId, itoa(int32(r.CSeq)), itoa(r.Expires),
			itoa(r.GetQ()), strings.Join(r.Path, " "), r.Instance, itoa(r.RegId), r.Flow, r.EdgePortRef, itoa(r.SessionCount),
			r.ListeningPoints[0].Host}
		want := []string{"1001", peer, "40000", "TCP", "sip:1001@10.0.0.5:5062;transport=tcp", "call-9", "9", "120",
			"250", "<sip:edge;lr>", "<urn:uuid:1>", "0", "", "edgeport-01", "12", "203.0.113.1"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("route (-want +got):\n%s", diff)
		}
		if age := time.Since(time.UnixMilli(r.RegisteredOn)); age < 0 || age > time.Minute {
			t.Errorf("registered_on is %s ago, want now", age)
		}
	})
}

// R12: a store that is dead is a 503 with Retry-After, for those who register and those who call.
func TestR12LocationIsGone(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		f := newFabric(t, conn, nil)
		f.location()
		for name, r := range map[string]request{
			"REGISTER": {contacts: []contact{{uri: phoneContact}}},
			"query":    {},
			"INVITE":   {method: "INVITE", uri: "sip:1002@sip.local"},
		} {
			r.source = peer
			got := f.send(r)
			after, err := strconv.Atoi(strings.Join(values(got, "Retry-After"), ""))
			if got.Message.StatusCode != 503 || err != nil || after < 5 || after > 30 {
				t.Errorf("%s = %s, want 503 with Retry-After of 5 to 30", name, describe(got))
			}
		}
	})
}

// Each error of the Location Service has one answer.
func TestLocationErrors(t *testing.T) {
	for _, tt := range []struct {
		code                    bus.Code
		register, query, invite int32
		registerErr, inviteErr  bus.Code
	}{
		{bus.Unavailable, 503, 503, 503, "", ""},
		{bus.DeadlineExceeded, 503, 503, 503, "", ""},
		{bus.InvalidArgument, 403, 0, 404, "", ""},
		{bus.FailedPrecondition, 500, 0, 0, "", bus.Internal},
		{bus.Internal, 0, 0, 0, bus.Internal, bus.Internal},
	} {
		conn := bustest.Connect(t)
		for _, op := range []string{bus.LocationAdd, bus.LocationFind} {
			if _, err := conn.Serve(bus.SubjectLocation(op), bus.QueueLocation, func(_ context.Context, r *bus.Request) {
				r.Fail(bus.Errorf(tt.code, "broken\r\non purpose"))
			}, bus.Options{}); err != nil {
				t.Fatal(err)
			}
		}
		f := newProcessor(t, conn, "connect")
		for name, want := range map[string]struct {
			in     request
			status int32
			code   bus.Code
		}{
			"REGISTER": {request{contacts: []contact{{uri: phoneContact}}}, tt.register, tt.registerErr},
			"INVITE":   {request{method: "INVITE", uri: "sip:1002@sip.local"}, tt.invite, tt.inviteErr},
		} {
			want.in.source = peer
			got, err := f.post(want.in.build())
			if got.GetMessage().GetStatusCode() != want.status || err != nil != (want.code != "") {
				t.Errorf("%s with %s = %s, %v, want %d", name, tt.code, describe(got), err, want.status)
			}
			if strings.ContainsAny(got.GetMessage().GetReasonPhrase(), "\r\n") {
				t.Errorf("%s with %s: the reason %q has a line break", name, tt.code, got.Message.ReasonPhrase)
			}
		}
	}
}

func TestRemaining(t *testing.T) {
	now := time.UnixMilli(100_000)
	for _, tt := range []struct {
		registeredOn int64
		expires      int32
		want         int64
	}{{100_000, 60, 60}, {99_999, 60, 60}, {99_000, 60, 59}, {40_000, 60, 0}, {40_001, 60, 1}, {100_500, 60, 61}} {
		if got := remaining(&locationpb.Route{RegisteredOn: tt.registeredOn, Expires: tt.expires}, now); got != tt.want {
			t.Errorf("remaining(%d s since %d) = %d, want %d", tt.expires, tt.registeredOn, got, tt.want)
		}
	}
}

func TestDateText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Service
		for range 3 {
			now := time.Now()
			if got, want := s.dateText(now), now.UTC().Format(time.RFC1123); strings.Replace(got, "GMT", "UTC", 1) != want {
				t.Errorf("dateText = %q, want %q", got, want)
			}
			time.Sleep(1500 * time.Millisecond) // in the bubble's own time
		}
	})
}

// A Contact that an EdgePort could not read, or a message with holes, is refused and nothing more.
func TestRegisterHoles(t *testing.T) {
	f := newFabric(t, bustest.Connect(t), nil)
	for name, change := range map[string]func(*processorpb.MessageRequest){
		"empty contact":        func(r *processorpb.MessageRequest) { r.Message.Contact = &sipmessagepb.Contact{} },
		"contact without uri":  func(r *processorpb.MessageRequest) { r.Message.Contact.Address.Uri = nil },
		"no address in From":   func(r *processorpb.MessageRequest) { r.Message.From.Address = nil },
		"no address in To":     func(r *processorpb.MessageRequest) { r.Message.To.Address = nil },
		"no sender":            func(r *processorpb.MessageRequest) { r.Sender = nil },
		"no message":           func(r *processorpb.MessageRequest) { r.Message = nil },
		"empty Request-URI":    func(r *processorpb.MessageRequest) { r.Message.GetRequestUri().Reset() },
		"no CSeq, no Call-ID":  func(r *processorpb.MessageRequest) { r.Message.CSeq, r.Message.CallId, r.Ref = nil, nil, "" },
		"two contacts, no uri": func(r *processorpb.MessageRequest) { r.Message.Contacts = make([]*sipmessagepb.Contact, 2) },
	} {
		for _, source := range []string{peer, stranger} {
			for _, method := range []string{"REGISTER", "INVITE"} {
				r := request{method: method, source: source, contacts: []contact{{uri: phoneContact}}}.build()
				change(r)
				if got, err := f.post(r); err != nil || got.GetMessage().GetStatusCode() == 0 && len(got.GetTargets()) == 0 {
					t.Errorf("%s of %s with %s = %v, %v, want an answer", method, source, name, got, err)
				}
			}
		}
	}
}
