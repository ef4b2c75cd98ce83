package message

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

// base is a request that a case of a table changes: the first line is replaced if start is given, a header line is
// replaced by one of the same name, more lines are appended.
func base(start string, lines ...string) []byte {
	headers := []string{
		"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1",
		"Max-Forwards: 70",
		"From: <sip:a@example.com>;tag=1",
		"To: <sip:b@example.com>",
		"Call-ID: 1@example.com",
		"CSeq: 1 MESSAGE",
	}
	own := len(headers)
	for _, l := range lines {
		name, _, _ := strings.Cut(l, ":")
		found := false
		for i, h := range headers[:own] {
			if strings.HasPrefix(h, name+":") {
				headers[i], found = l, true
			}
		}
		if !found {
			headers = append(headers, l)
		}
	}
	if start == "" {
		start = "MESSAGE sip:b@example.com SIP/2.0"
	}
	return []byte(start + "\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n")
}

func TestParse(t *testing.T) {
	tests := []struct {
		name   string
		in     []byte
		want   int // the status of the error, 0 for none
		answer bool
	}{
		{"plain", base(""), 0, true},
		{"line breaks before", append([]byte("\r\n\r\n"), base("")...), 0, true},
		{"nothing", nil, 400, false},
		{"line breaks only", []byte("\r\n\r\n"), 400, false},
		{"zeros", make([]byte, 500), 400, false},

		{"version in lower case", base("MESSAGE sip:b@example.com sip/2.0"), 0, true},
		{"version 3", base("MESSAGE sip:b@example.com SIP/3.0"), 505, true},
		{"version without a number", base("MESSAGE sip:b@example.com SIP/2.x"), 400, false},
		{"version of another protocol", base("GET / HTTP/1.1"), 400, false},
		{"prefix of a version", base("MESSAGE sip:b@example.com SIPX/2.0"), 400, false},
		{"method in lower case is another method", base("message sip:b@example.com SIP/2.0"), 400, true},
		{"extension method", base("foo.* sip:b@example.com SIP/2.0", "CSeq: 1 foo.*"), 0, true},
		{"method is no token", base("MESS@GE sip:b@example.com SIP/2.0"), 400, false},
		{"method too long", base(strings.Repeat("M", 65) + " sip:b@example.com SIP/2.0"), 400, false},
		{"status line without a space", base("SIP/2.0 200"), 0, false},
		{"status line with an empty reason", base("SIP/2.0 200 "), 0, false},
		{"status 99", base("SIP/2.0 099 Low"), 400, false},
		{"status 700", base("SIP/2.0 700 High"), 400, false},
		{"status 20", base("SIP/2.0 20 Short"), 400, false},
		{"status 2000", base("SIP/2.0 2000 Long"), 400, false},
		{"response of another version", base("SIP/3.0 200 OK"), 400, false},

		{"emergency", base("MESSAGE urn:service:sos SIP/2.0"), 0, true},
		{"tel", base("MESSAGE tel:+1-201-555-0123;phone-context=x SIP/2.0"), 0, true},
		{"sips", base("MESSAGE sips:b@example.com SIP/2.0"), 0, true},
		{"no scheme", base("MESSAGE b@example.com SIP/2.0"), 400, true},
		{"IPv6 without brackets", base("MESSAGE sip:2001:db8::10 SIP/2.0"), 400, true},
		{"IPv6", base("MESSAGE sip:[2001:db8::10]:5070 SIP/2.0"), 0, true},
		{"tab in the start line", base("MESSAGE\tsip:b@example.com SIP/2.0"), 400, false},

		{"LF in a value", base("", "X-A: a\nP-Asserted-Identity: <sip:ceo@example.com>"), 400, false},
		{"CR in a value", base("", "X-A: a\rP-Asserted-Identity: <sip:ceo@example.com>"), 400, false},
		{"CR before the line break", base("", "X-A: a\r"), 400, false},
		{"LF for a line break", bytes.ReplaceAll(base(""), []byte("\r\n"), []byte("\n")), 400, false},
		{"NUL in a value", base("", "X-A: a\x00b"), 400, false},
		{"NUL in a display name", base("", "From: \"a\x00\" <sip:a@example.com>;tag=1"), 400, false},
		{"NUL in a quoted pair", base("", "From: \"a\\\x00\" <sip:a@example.com>;tag=1"), 0, true},
		{"NUL behind a quoted pair", base("", "From: \"a\\\\\x00\" <sip:a@example.com>;tag=1"), 400, false},
		{"NUL behind a backslash out of quotes", base("", "X-A: \\\x00"), 400, false},
		{"NUL in the Request-URI", base("MESSAGE sip:b\x00@example.com SIP/2.0"), 400, false},
		{"name with a space", base("", "X A: a"), 400, false},
		{"space before the colon", base("", "X-A \t: a"), 0, true},
		{"no colon", base("", "X-A"), 400, false},
		{"no name", base("", ": a"), 400, false},
		{"first header folded", []byte("MESSAGE sip:b@example.com SIP/2.0\r\n To: x\r\n\r\n"), 400, false},
		{"folded to nothing", base("", "Subject:\r\n \r\n \r\n\t"), 0, true},
		{"no end of headers", base("")[:200], 400, false},
		{"endless line", append(base("")[:100], bytes.Repeat([]byte("x"), 60000)...), 400, false},

		{"no From", bytes.Replace(base(""), []byte("From"), []byte("Fram"), 1), 400, false},
		{"no Via", bytes.Replace(base(""), []byte("Via"), []byte("Vib"), 1), 400, false},
		{"two From", base("", "f: <sip:c@example.com>;tag=2"), 400, false},
		{"two To", base("", "t: <sip:c@example.com>"), 400, false},
		{"two Call-ID", base("", "i: 2"), 400, false},
		{"two CSeq", base("", "cseq: 1 MESSAGE"), 400, false},
		{"two Content-Length", base("", "Content-Length: 0", "l: 0"), 400, false},
		{"two Max-Forwards", base("", "max-forwards: 5"), 400, true},
		{"two Content-Type", base("", "c: text/plain", "Content-Type: text/plain"), 400, true},
		{"two Supported", base("", "k: path", "Supported: outbound"), 0, true},
		{"empty Call-ID", base("", "Call-ID:"), 400, false},
		{"two tags", base("", "From: <sip:a@example.com>;tag=1;TAG=2"), 400, false},
		{"empty tag", base("", "From: <sip:a@example.com>;tag="), 400, false},
		{"no From tag", base("", "From: <sip:a@example.com>"), 0, true},
		{"To is a wildcard", base("", "To: *"), 400, false},
		{"From without a URI", base("", "From: a;tag=1"), 400, false},
		{"From with an unquoted UTF-8 name", base("", "From: J\u00fcrgen M\u00fcller <sip:a@example.com>;tag=1"), 0, true},
		{"From ends in a semicolon", base("", "From: <sip:a@example.com>;tag=1;"), 0, true},

		{"CSeq of another method", base("", "CSeq: 1 INVITE"), 400, true},
		{"CSeq without a method", base("", "CSeq: 1"), 400, true},
		{"CSeq without a space", base("", "CSeq: 1MESSAGE"), 400, true},
		{"CSeq of 32 bits", base("", "CSeq: 4294967295 MESSAGE"), 0, true},
		{"CSeq of 33 bits", base("", "CSeq: 4294967296 MESSAGE"), 400, true},
		{"CSeq negative", base("", "CSeq: -1 MESSAGE"), 400, true},
		{"CSeq folded", base("", "CSeq: 0001\r\n MESSAGE"), 0, true},

		{"Max-Forwards 255", base("", "Max-Forwards: 255"), 0, true},
		{"Max-Forwards 256", base("", "Max-Forwards: 256"), 400, true},
		{"Max-Forwards is a word", base("", "Max-Forwards: many"), 400, true},
		{"Max-Forwards empty", base("", "Max-Forwards:"), 400, true},

		{"Content-Length beyond the end", base("", "Content-Length: 1"), 400, true},
		{"Content-Length huge", base("", "Content-Length: 4294967295"), 400, true},
		{"Content-Length wraps", base("", "Content-Length: 18446744073709551616"), 400, true},
		{"Content-Length negative", base("", "Content-Length: -1"), 400, true},
		{"Content-Length with a word", base("", "Content-Length: 0x0"), 400, true},

		{"Via port is a word", base("", "Via: SIP/2.0/UDP 192.0.2.1:abc;branch=z9hG4bK1"), 400, false},
		{"Via without a host", base("", "Via: SIP/2.0/UDP ;branch=z9hG4bK1"), 400, false},
		{"256 headers", base("", many(250, "X-#: a")...), 0, true},
		{"257 headers", base("", many(251, "X-#: a")...), 400, false},
		{"64 Vias", base("", "v: "+strings.Repeat("SIP/2.0/UDP a,", 62)+"SIP/2.0/UDP a"), 0, true},
		{"10,000 Vias", base("", "v: "+strings.Repeat("S,", 10000)+"S"), 400, false},
		{"17 Routes", base("", "Route: "+strings.Repeat("<sip:a;lr>,", 16)+"<sip:a;lr>"), 400, false},
		{"1,000 Contacts", base("", "m: "+strings.Repeat("<sip:a>,", 1000)+"<sip:a>"), 400, false},
		{"5,000 parameters of Via", base("", "Via: SIP/2.0/UDP a;branch=z9hG4bK1"+strings.Repeat(";a=b", 5000)), 400, false},
		{"5,000 parameters of From", base("", "From: <sip:a@example.com>;tag=1"+strings.Repeat(";a=b", 5000)), 400, false},
		{"5,000 parameters of the Request-URI", base("MESSAGE sip:a@b" + strings.Repeat(";a", 5000) + " SIP/2.0"), 400, true},
		{"brackets and quotes", base("", "X: "+strings.Repeat("(<\"", 20000)), 0, true},
		{"folded 10,000 times", base("", "X:"+strings.Repeat("\r\n ", 10000)), 0, true},
		{"W10 128 KiB", append(base(""), make([]byte, MaxSize-len(base("")))...), 0, true},
		{"W10 128 KiB and a byte", append(base(""), make([]byte, MaxSize+1-len(base("")))...), 513, false},
		{"a head of 64 KiB", append(base("", filler(MaxHead)), make([]byte, 60000)...), 0, true},
		{"a head of 64 KiB and a byte", append(base("", filler(MaxHead+1)), make([]byte, 60000)...), 513, false},
		{"a head of 64 KiB and a byte, alone", base("", filler(MaxHead+1)), 513, false},
		{"a start line of 64 KiB", base("MESSAGE sip:" + strings.Repeat("a", MaxHead) + " SIP/2.0"), 513, false},
		{"a line of a large message without its CR", append([]byte("MESSAGE sip:a SIP/2.0\n"), make([]byte, 70000)...), 400, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m Message
			err := m.Parse(tt.in, DefaultLimits())
			if got := statusOf(err); got != tt.want || (got == 0) != (err == nil) {
				t.Errorf("Parse = %v, want %d", err, tt.want)
			}
			if got := m.Answerable(); got != tt.answer {
				t.Errorf("Answerable = %v, want %v", got, tt.answer)
			}
			if err == nil && m.IsRequest() == strings.HasPrefix(string(m.Bytes()), "SIP/2.0 ") {
				t.Errorf("IsRequest = %v of %.20q", m.IsRequest(), m.Bytes())
			}
			if tt.answer {
				checkResponse(t, &m)
			}
		})
	}
}

// filler is a header line that makes a message of base that long.
func filler(size int) string {
	const name = "X: "
	return name + strings.Repeat("x", size-len(base("", name)))
}

// A request that exceeds what its receiver takes, but not what can be read, is answered.
func TestParseLimits(t *testing.T) {
	lim := DefaultLimits()
	lim.Size, lim.Head = 2000, 1000
	for _, tt := range []struct {
		name   string
		in     []byte
		want   int
		answer bool
	}{
		{"both full", append(base("", filler(1000)), make([]byte, 1000)...), 0, true},
		{"a byte more", append(base("", filler(1000)), make([]byte, 1001)...), 513, true},
		{"a head of a byte more", base("", filler(1001)), 513, false},
		{"another error as well", append(base("", "Max-Forwards: x"), make([]byte, 2000)...), 513, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m Message
			err := m.Parse(tt.in, lim)
			if got := statusOf(err); got != tt.want || m.Answerable() != tt.answer {
				t.Errorf("Parse = %v, Answerable = %v, want %d, %v", err, m.Answerable(), tt.want, tt.answer)
			}
		})
	}
}

// W10: what stands behind 64 KiB of a body, and a head as long as it may be, are read and edited like any other.
func TestLargeMessage(t *testing.T) {
	body := strings.Repeat("a=candidate:1 1 UDP 2130706431 192.0.2.1 3478 typ host\r\n", 1800)
	in := append(base("", "To: <sip:b@example.com>;tag=2", filler(60000), "Contact: <sip:last@example.com>"), body...)[:100000]
	var m Message
	if err := m.Parse(in, DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	last, _ := m.Get(KindContact)
	if string(last) != "<sip:last@example.com>" || !strings.HasPrefix(body, string(m.Body())) || !bytes.HasSuffix(in, m.Body()) {
		t.Errorf("Contact = %q, Body = %.20q, want last and the candidates", last, m.Body())
	}
	var e Edit
	e.Reset(&m)
	e.SetMaxForwards(8)
	e.InsertTop(KindContact, []byte("<sip:first@example.com>"))
	want := strings.Replace(string(in), "Max-Forwards: 70", "Max-Forwards: 8", 1)
	want = strings.Replace(want, "Contact:", "Contact: <sip:first@example.com>\r\nContact:", 1)
	if got := string(e.Append(nil)); got != want {
		t.Errorf("written with edits it has %d bytes, want %d, and the same but for them", len(got), len(want))
	}
	if got := m.Clone(); !bytes.Equal(got.Bytes(), in) || string(got.ToTag()) != "2" {
		t.Error("Clone differs")
	}
}

// The limits of a datagram's length are those of the message, not of what lies behind it.
func TestParseEndsAtContentLength(t *testing.T) {
	data := append(base("", "Content-Length: 5"), "hello, world"...)
	var m Message
	if err := m.Parse(data, DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	if got := string(m.Body()); got != "hello" {
		t.Errorf("Body = %q, want %q", got, "hello")
	}
	if got, want := len(m.Bytes()), len(data)-len(", world"); got != want {
		t.Errorf("len(Bytes) = %d, want %d", got, want)
	}
}

func TestParseAgainForgets(t *testing.T) {
	m := parse(t, "invite.sip")
	if err := m.Parse(base("SIP/2.0 180 Ringing"), DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	if m.IsRequest() || m.Method() != MethodOther || m.RequestURI() != nil || m.Status() != 180 || string(m.ReasonText()) != "Ringing" {
		t.Errorf("Parse kept the request: %v %v %q %d %q", m.IsRequest(), m.Method(), m.RequestURI(), m.Status(), m.ReasonText())
	}
	if _, ok := m.Find(KindContact); ok || m.Count(KindAllow) != 0 || len(m.Body()) != 0 {
		t.Error("Parse kept the headers or the body")
	}
	if err := m.Parse([]byte("x"), DefaultLimits()); err == nil || m.Len() != 0 || len(m.Bytes()) != 0 || m.CallID() != nil {
		t.Errorf("Parse(x) = %v, with %d headers, want an error and none", err, m.Len())
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	data := read(t, "invite.sip")
	m := parse(t, "invite.sip")
	var e Edit
	out := make([]byte, 0, 4096)
	edit := func() {
		if err := m.Parse(data, DefaultLimits()); err != nil {
			t.Fatal(err)
		}
		for v := range m.Values(KindAllow) {
			_ = v
		}
		e.Reset(m)
		e.InsertTop(KindVia, m.TopVia().Text)
		e.SetMaxForwards(69)
		e.AppendHeader("X-A", []byte("b"))
		out = e.Append(out[:0])
		out = AppendResponse(out[:0], m, &Response{Status: 200, ToTag: "1", Headers: []Field{{"X-A", "b"}}})
		out = AppendVia(out[:0], m.TopVia(), netip.MustParseAddr("192.0.2.99"), 5062)
	}
	edit()
	if n := testing.AllocsPerRun(100, edit); n != 0 {
		t.Errorf("parse, edit and answer allocate %v times, want 0", n)
	}
}
