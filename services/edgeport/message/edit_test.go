package message

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if d := cmp.Diff(string(read(t, name)), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
	var m Message
	if err := m.Parse(got, DefaultLimits()); err != nil {
		t.Errorf("Parse(%s) = %v", name, err)
	}
}

// What a proxy does to an INVITE (RFC 3261 16.6).
func TestEditForward(t *testing.T) {
	m := parse(t, "invite.sip")
	var e Edit
	e.Reset(m)
	e.SetRequestURI([]byte("sip:1002@203.0.113.7:5070;ob"))
	for v := range m.Values(KindVia) {
		e.ReplaceValue(v, AppendVia(nil, m.TopVia(), netip.MustParseAddr("198.51.100.7"), 4000))
		break
	}
	e.InsertTop(KindVia, []byte("SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKabc"))
	e.InsertTop(KindRecordRoute, []byte("<sip:token@198.51.100.1;lr>"))
	e.SetMaxForwards(69)
	golden(t, "invite.forward.sip", e.Append(nil))
}

func TestAppendResponse(t *testing.T) {
	m := parse(t, "invite.sip")
	via := AppendVia(nil, m.TopVia(), netip.MustParseAddr("198.51.100.7"), 4000)
	golden(t, "invite.407.sip", AppendResponse(nil, m, &Response{
		Status: 407, ToTag: "9f2", TopVia: via,
		Headers: []Field{{"Proxy-Authenticate", `Digest realm="sip.local", nonce="1"`}, {"no token", "x"}, {"X-Split", "a\r\nb: c"}},
	}))
	golden(t, "invite.100.sip", AppendResponse(nil, m, &Response{Status: 100, ToTag: "9f2", Reason: "Just a moment"}))
	golden(t, "invite.200.sip", AppendResponse(nil, m, &Response{Status: 200, ToTag: "9f2", Headers: []Field{{"Content-Type", "text/plain"}}, Body: []byte("hello")}))
}

// Several Vias in one field, a To tag, a Timestamp.
func TestAppendResponseCopies(t *testing.T) {
	var m Message
	if err := m.Parse(base("", "v: SIP/2.0/UDP z, SIP/2.0/UDP y", "To: <sip:b@example.com>;tag=2", "Timestamp: 54", "Via: SIP/2.0/UDP a , SIP/2.0/UDP b"), DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	got := string(AppendResponse(nil, &m, &Response{Status: 100, ToTag: "1", TopVia: []byte("SIP/2.0/UDP a;received=::1")}))
	want := strings.ReplaceAll(`SIP/2.0 100 Trying
Via: SIP/2.0/UDP a;received=::1 , SIP/2.0/UDP b
Via: SIP/2.0/UDP z, SIP/2.0/UDP y
From: <sip:a@example.com>;tag=1
To: <sip:b@example.com>;tag=2
Call-ID: 1@example.com
CSeq: 1 MESSAGE
Timestamp: 54
Content-Length: 0

`, "\n", "\r\n")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("AppendResponse (-want +got):\n%s", d)
	}
}

func TestAppendAckAndCancel(t *testing.T) {
	m := parse(t, "invite.forward.sip")
	var e Edit
	e.Reset(m)
	e.InsertTop(KindRoute, []byte("<sip:203.0.113.9;lr>, <sip:203.0.113.10;lr>"))
	var invite, resp Message
	if err := invite.Parse(e.Append(nil), DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	if err := resp.Parse(AppendResponse(nil, &invite, &Response{Status: 486, ToTag: "77"}), DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	golden(t, "invite.ack.sip", AppendAck(nil, &invite, &resp))
	golden(t, "invite.cancel.sip", AppendCancel(nil, &invite))
}

func TestEdit(t *testing.T) {
	const before = "MESSAGE sip:b@example.com SIP/2.0\r\nv:SIP/2.0/UDP a\r\n"
	// in holds the header lines that stand between the Via above and those below.
	const after = "f: <sip:a@example.com>;tag=1\r\nt: <sip:b@example.com>\r\ni: 1\r\nCSeq: 1 MESSAGE\r\n"
	value := func(m *Message, k Kind, n int) Value {
		for v := range m.Values(k) {
			if n--; n < 0 {
				return v
			}
		}
		panic("no such value")
	}
	header := func(m *Message, k Kind) int { i, _ := m.Find(k); return i }
	tests := []struct {
		name string
		in   string
		edit func(m *Message, e *Edit)
		want string // the lines that in became
	}{
		{"nothing", "Route : <a>,\r\n <b>\r\nX :  y \r\n", func(m *Message, e *Edit) {}, "Route : <a>,\r\n <b>\r\nX :  y \r\n"},
		{"insert above the first", "X: y\r\nRoute: <a>\r\nRoute: <b>\r\n", func(m *Message, e *Edit) {
			e.InsertTop(KindRoute, []byte("<c>"))
			e.InsertTop(KindRoute, []byte("<d>"))
		}, "X: y\r\nRoute: <d>\r\nRoute: <c>\r\nRoute: <a>\r\nRoute: <b>\r\n"},
		{"insert behind the last Via", "Via: SIP/2.0/UDP b\r\nX: y\r\n", func(m *Message, e *Edit) {
			e.InsertTop(KindRecordRoute, []byte("<c>"))
			e.InsertTop(KindRoute, []byte("<d>"))
		}, "Via: SIP/2.0/UDP b\r\nRoute: <d>\r\nRecord-Route: <c>\r\nX: y\r\n"},
		{"remove the first value", "Route: <a> ,<b>;x,\r\n <c>\r\n", func(m *Message, e *Edit) { e.RemoveValue(value(m, KindRoute, 0)) }, "Route: <b>;x,\r\n <c>\r\n"},
		{"remove the last value", "Route: <a> ,<b>;x,\r\n <c>\r\n", func(m *Message, e *Edit) { e.RemoveValue(value(m, KindRoute, 2)) }, "Route: <a> ,<b>;x\r\n"},
		{"remove one in the middle", "Route:\r\n <a>,\t<b>;x ,\r\n <c> \r\n", func(m *Message, e *Edit) { e.RemoveValue(value(m, KindRoute, 1)) }, "Route:\r\n <a> ,\r\n <c> \r\n"},
		{"remove beside empty values", "Route: ,, <a>,,<b>,\t,<c> , \r\n", func(m *Message, e *Edit) {
			e.RemoveValue(value(m, KindRoute, 0))
			e.RemoveValue(value(m, KindRoute, 2))
		}, "Route: <b> \r\n"},
		{"replace beside white space", "Route : ,<a>\t,\r\n <b> ,,\r\n\t\r\n", func(m *Message, e *Edit) { e.ReplaceValue(value(m, KindRoute, 0), []byte("<c>")) },
			"Route : ,<c>\t,\r\n <b> ,,\r\n\t\r\n"},
		{"replace with a folded value", "Route: <a>,\r\n\t<b>\r\n", func(m *Message, e *Edit) { e.ReplaceValue(value(m, KindRoute, 1), []byte("<c>\r\n ;\r\n\tx")) },
			"Route: <a>,\r\n\t<c>\r\n ;\r\n\tx\r\n"},
		{"remove the only value", "X: y\r\nRoute: <a>\r\nRoute: <b>\r\n", func(m *Message, e *Edit) { e.RemoveValue(value(m, KindRoute, 0)) }, "X: y\r\nRoute: <b>\r\n"},
		{"remove all values", "Route: <a>, <b>\r\nX: y\r\nRoute: <c>\r\n", func(m *Message, e *Edit) {
			for v := range m.Values(KindRoute) {
				e.RemoveValue(v)
			}
		}, "X: y\r\n"},
		{"remove, replace and insert", "Route: <a>, <b>, <c>\r\n", func(m *Message, e *Edit) {
			e.ReplaceValue(value(m, KindRoute, 2), []byte("<d>"))
			e.RemoveValue(value(m, KindRoute, 0))
			e.InsertTop(KindRoute, []byte("<e>"))
		}, "Route: <e>\r\nRoute: <b>, <d>\r\n"},
		{"replace what was removed", "Route: <a>, <b>\r\n", func(m *Message, e *Edit) {
			e.RemoveValue(value(m, KindRoute, 0))
			e.ReplaceValue(value(m, KindRoute, 0), []byte("<c>"))
		}, "Route: <c>, <b>\r\n"},
		{"remove what was replaced", "Route: <a>, <b>\r\n", func(m *Message, e *Edit) {
			e.ReplaceValue(value(m, KindRoute, 0), []byte("<c>"))
			e.RemoveValue(value(m, KindRoute, 0))
		}, "Route: <b>\r\n"},
		{"the header outranks its values", "Route: <a>, <b>\r\n", func(m *Message, e *Edit) {
			e.RemoveValue(value(m, KindRoute, 0))
			e.SetHeader(header(m, KindRoute), []byte("<c>"))
			e.RemoveValue(value(m, KindRoute, 1))
		}, "Route: <c>\r\n"},
		{"the later of two", "Subject: a\r\ns : b\r\n", func(m *Message, e *Edit) {
			e.RemoveHeader(1)
			e.SetHeader(1, []byte("c"))
			e.SetHeader(2, []byte("d"))
			e.RemoveHeader(2)
		}, "Subject: c\r\n"},
		{"set keeps the name", "s :\r\n b\r\n", func(m *Message, e *Edit) { e.SetHeader(1, []byte("c")) }, "s: c\r\n"},
		{"Max-Forwards", "max-forwards: 0070\r\n", func(m *Message, e *Edit) { e.SetMaxForwards(69) }, "max-forwards: 69\r\n"},
		{"Max-Forwards absent", "X: y\r\n", func(m *Message, e *Edit) {
			e.SetMaxForwards(70)
			e.SetMaxForwards(69)
		}, "Max-Forwards: 69\r\nX: y\r\n"},
		{"a value cannot add a line", "X: y\r\n", func(m *Message, e *Edit) {
			e.SetHeader(1, []byte("a\r\nb: c\x00"))
			e.InsertTop(KindRoute, []byte("<a>\nf: x"))
		}, "Route: <a> f: x\r\nX: a  b: c \r\n"},
		{"nor can one that is replaced", "Route: <a>\r\n", func(m *Message, e *Edit) {
			e.ReplaceValue(value(m, KindRoute, 0), []byte("\n b\r\n\r\n \r\nX: y\r \x00\r\n"))
		}, "Route:   b  \r\n   X: y     \r\n"},
		{"unknown kind", "X: y\r\n", func(m *Message, e *Edit) { e.InsertTop(KindOther, []byte("a")) }, "X: y\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m Message
			if err := m.Parse([]byte(before+tt.in+after+"\r\nbody"), DefaultLimits()); err != nil {
				t.Fatal(err)
			}
			var e Edit
			e.Reset(&m)
			tt.edit(&m, &e)
			want := before + tt.want + after + "\r\nbody"
			if d := cmp.Diff(want, string(e.Append(nil))); d != "" {
				t.Errorf("Append (-want +got):\n%s", d)
			}
			e.Reset(&m)
			if got := e.Append(nil); !bytes.Equal(got, m.Bytes()) || e.Changed() {
				t.Errorf("after Reset Append = %q, want %q", got, m.Bytes())
			}
		})
	}
}

func TestEditEnds(t *testing.T) {
	tests := []struct {
		name, start, headers, body string
		edit                       func(e *Edit)
		wantStart, wantHeaders     string // the last headers, from the one behind CSeq on
		wantBody                   string
	}{
		{"Request-URI", "MESSAGE sip:b@example.com SIP/2.0", "", "", func(e *Edit) {
			e.SetRequestURI([]byte("sip:x"))
			e.SetRequestURI([]byte("sip:c d@example.com\r\nX: y"))
		}, "MESSAGE sip:c%20d@example.com%0D%0AX:%20y SIP/2.0", "", ""},
		{"Request-URI of a response", "SIP/2.0 200 OK", "", "", func(e *Edit) { e.SetRequestURI([]byte("sip:x")) }, "SIP/2.0 200 OK", "", ""},
		{"append", "", "X: y", "", func(e *Edit) {
			e.AppendHeader("A", []byte("1"))
			e.AppendHeader("not a token", []byte("1"))
			e.AppendHeader("B", []byte("2"))
		}, "", "X: y\r\nA: 1\r\nB: 2\r\n", ""},
		{"Content-Length absent", "", "", "hello", func(e *Edit) {
			e.SetContentLength()
			e.AppendHeader("A", []byte("1"))
		}, "", "A: 1\r\nContent-Length: 5\r\n", "hello"},
		{"Content-Length present", "", "l: 5", "hello", func(e *Edit) { e.SetContentLength() }, "", "l: 5\r\n", "hello"},
		{"body with its length", "", "l: 5", "hello", func(e *Edit) { e.SetBody([]byte("good morning")) }, "", "l: 12\r\n", "good morning"},
		{"body without a length", "", "", "hello", func(e *Edit) {
			e.SetBody([]byte("x"))
			e.SetBody(nil)
		}, "", "Content-Length: 0\r\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var lines []string
			if tt.headers != "" {
				lines = append(lines, tt.headers)
			}
			var m Message
			if err := m.Parse(append(base(tt.start, lines...), tt.body...), DefaultLimits()); err != nil {
				t.Fatal(err)
			}
			var e Edit
			e.Reset(&m)
			tt.edit(&e)
			want := string(base(tt.wantStart))
			want = strings.TrimSuffix(want, "\r\n") + tt.wantHeaders + "\r\n" + tt.wantBody
			if d := cmp.Diff(want, string(e.Append(nil))); d != "" {
				t.Errorf("Append (-want +got):\n%s", d)
			}
		})
	}
}

// The Via above all, where there is none to stand above.
func TestEditPutsViaFirst(t *testing.T) {
	m := parse(t, "invite.sip")
	var e Edit
	e.Reset(m)
	for v := range m.Values(KindVia) {
		e.RemoveValue(v)
	}
	e.InsertTop(KindVia, []byte("SIP/2.0/TCP a"))
	out := string(e.Append(nil))
	if got := strings.Split(out, "\r\n")[1]; got != "Via: SIP/2.0/TCP a" || strings.Count(out, "Via:") != 1 {
		t.Errorf("second line = %q of\n%s", got, out)
	}
}

func TestClone(t *testing.T) {
	data := read(t, "invite.sip")
	var m Message
	if err := m.Parse(data, DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	want := string(data)
	c := m.Clone()
	clear(data)
	if string(c.Bytes()) != want || cap(c.Bytes()) != len(want) {
		t.Errorf("Clone has %d bytes of room %d, want %d", len(c.Bytes()), cap(c.Bytes()), len(want))
	}
	if got := string(c.TopVia().Branch); got != "z9hG4bK776asdhds" {
		t.Errorf("branch of the clone = %q", got)
	}
	if got := string(c.CallID()) + " " + string(c.FromTag()); got != "a84b4c76e66710@192.0.2.10 1928301774" {
		t.Errorf("Call-ID and tag of the clone = %q", got)
	}
}
