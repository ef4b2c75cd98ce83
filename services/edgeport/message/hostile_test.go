package message

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// hostile are messages that are made to cost their receiver more than they cost their sender. A status of 0 is taken.
var hostile = []struct {
	name   string
	in     []byte
	status int
}{
	{"A12 Content-Length of 4 GiB", huge199(), 400},
	{"A14 endless line", base("", "X: "+strings.Repeat("x", MaxHead)), 513},
	{"A14 endless headers", base("", strings.Repeat("X: y\r\n", 12000)+"X: y"), 400},
	{"A14 headers without end", append(base("")[:100], bytes.Repeat([]byte("\r\nX: y"), 10000)...), 400},
	{"A15 10,000 Vias in a header", base("", "v: "+strings.Repeat("SIP/2.0/UDP a,", 4500)+strings.Repeat("S,", 5500)+"S"), 513},
	{"A15 10,000 Vias", base("", "v: "+strings.Repeat("S,", 10000)+"S"), 400},
	{"A15 300 headers of Via", base("", strings.Repeat("v: SIP/2.0/UDP a\r\n", 300)+"X: y"), 400},
	{"A15 1,000 Routes", base("", "Route: "+strings.Repeat("<sip:a;lr>,", 1000)+"<sip:a;lr>"), 400},
	{"A15 1,000 Record-Routes", base("", "Record-Route: "+strings.Repeat("<sip:a;lr>,", 1000)+"<sip:a;lr>"), 400},
	{"A15 1,000 Contacts", base("", "m: "+strings.Repeat("<sip:a>,", 1000)+"<sip:a>"), 400},
	{"A15 5,000 parameters of Via", base("", "Via: SIP/2.0/UDP a;branch=z9hG4bK1"+strings.Repeat(";a=b", 5000)), 400},
	{"A15 5,000 parameters of From", base("", "From: <sip:a@example.com>;tag=1"+strings.Repeat(";a=b", 5000)), 400},
	{"A15 5,000 parameters of a URI", base("MESSAGE sip:a@b" + strings.Repeat(";a=b", 5000) + " SIP/2.0"), 400},
	{"A15 20,000 headers of a URI", base("MESSAGE sip:a@b?" + strings.Repeat("a=b&", 10000) + "a SIP/2.0"), 400},
	{"A22 zeros", make([]byte, 60000), 400},
	{"A22 zeros in a header", base("", "X: "+strings.Repeat("\x00", 50000)), 400},
	{"A27 parentheses", base("", "Subject: "+strings.Repeat("(", 60000)), 0},
	{"A27 quotes", base("", "Subject: "+strings.Repeat(`"`, 60000), "Allow: "+strings.Repeat(`",`, 2000)), 0},
	{"A27 backslashes", base("", `From: "`+strings.Repeat(`\`, 60000)+`" <sip:a@b>;tag=1`), 0},
	{"A27 brackets", base("", "Supported: "+strings.Repeat("<", 60000)), 0},
	{"A27 commas", base("", "Supported: "+strings.Repeat(",", 60000)), 0},
	{"A27 semicolons", base("", "From: <sip:a@b>;tag=1"+strings.Repeat(";", 60000)), 400},
	{"A27 line folding", base("", "Subject: a"+strings.Repeat("\r\n ", 20000)), 0},
	{"A27 white space", base("", "To: <sip:b@example.com>"+strings.Repeat(" ", 60000)), 0},
	{"A27 quoted NULs", base("", `Subject: "`+strings.Repeat("\\\x00", 30000)+`"`), 0},
}

// huge199 is a datagram of 199 bytes that says to be of 4 GiB.
func huge199() []byte {
	const head = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:b@b>\r\n" +
		"Call-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 4294967295\r\nX: "
	return []byte(head + strings.Repeat("x", 199-len(head)-4) + "\r\n\r\n")
}

// A12, A14, A15, A22, A27: no message, taken or refused, costs memory to be looked at. What it costs in time is for
// BenchmarkHostile to show: all of them are read in one pass.
func TestHostileAllocatesNothing(t *testing.T) {
	if n := len(huge199()); n != 199 {
		t.Errorf("the message of A12 has %d bytes, want 199", n)
	}
	var m Message
	if err := m.Parse(base("", many(240, "X-#: a")...), DefaultLimits()); err != nil { // makes room for the index
		t.Fatal(err)
	}
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			var err error
			var size int
			n := testing.AllocsPerRun(10, func() {
				err = m.Parse(tt.in, DefaultLimits())
				size = 0
				for k := range numKinds {
					size += m.Count(k)
				}
			})
			if got := statusOf(err); got != tt.status {
				t.Errorf("Parse = %v, want %d", err, tt.status)
			}
			if n != 0 {
				t.Errorf("Parse allocates %v times, want 0", n)
			}
			if size > len(tt.in) {
				t.Errorf("%d values in %d bytes", size, len(tt.in))
			}
			if n := testing.AllocsPerRun(10, func() { _, err = Frame(tt.in) }); n != 0 {
				t.Errorf("Frame allocates %v times, want 0", n)
			}
		})
	}
}

// many are n lines; # is the number of each.
func many(n int, line string) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = strings.ReplaceAll(line, "#", fmt.Sprint(i))
	}
	return lines
}

// What a URI may have of parameters and headers is bounded, as comparing two takes each of one with each of the other.
func TestA15URIIsBounded(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		ok       bool
	}{
		{"64 parameters", "sip:a@b" + strings.Repeat(";a=b", 64), true},
		{"65 parameters", "sip:a@b" + strings.Repeat(";a=b", 65), false},
		{"64 headers", "sip:a@b?" + strings.Repeat("a=b&", 63) + "a=b", true},
		{"65 headers", "sip:a@b?" + strings.Repeat("a=b&", 64) + "a=b", false},
	} {
		if _, err := ParseURI([]byte(tt.in)); (err == nil) != tt.ok {
			t.Errorf("ParseURI(%s) = %v, want ok = %v", tt.name, err, tt.ok)
		}
	}
}

// A16: the compact and the full name of a header are one header.
func TestA16CompactAndFull(t *testing.T) {
	for k := range numKinds {
		if !kinds[k].once {
			continue
		}
		for _, name := range append(compactOf(k), strings.ToUpper(k.String())) {
			t.Run(k.String()+" and "+name, func(t *testing.T) {
				value := map[Kind]string{
					KindFrom: "<sip:a@example.com>;tag=1", KindTo: "<sip:b@example.com>", KindCallID: "1@example.com",
					KindCSeq: "1 MESSAGE", KindMaxForwards: "70", KindContentLength: "0",
				}[k]
				full, other := k.String()+": "+value, name+": "+value
				for _, in := range [][]byte{
					bytes.Replace(base("", full), []byte(full+"\r\n"), []byte(full+"\r\nX: y\r\n"+other+"\r\n"), 1),
					bytes.Replace(base("", full), []byte(full+"\r\n"), []byte(other+"\r\n"+full+"\r\n"), 1),
				} {
					var m Message
					if err := m.Parse(in, DefaultLimits()); err != error(errRepeated) {
						t.Errorf("Parse = %v, want %v\n%s", err, errRepeated, in)
					}
				}
			})
		}
	}
}

// compactOf are the names of one letter that k has.
func compactOf(k Kind) (names []string) {
	for c := 'a'; c <= 'z'; c++ {
		if KindOf(string(c)) == k {
			names = append(names, string(c))
		}
	}
	return names
}

// A17, A22: whichever byte stands in a header, it is refused or it stays where it is: none begins a line.
func TestA17EveryByte(t *testing.T) {
	for c := range 256 {
		for _, in := range [][]byte{
			base("", "X-A: a"+string([]byte{byte(c)})+"Max-Forwards: 9"),
			base("", "Subject: "+string([]byte{byte(c)})),
			base("", `From: "a`+string([]byte{byte(c)})+`b" <sip:a@example.com>;tag=1`),
			base("", "Call-ID: a"+string([]byte{byte(c)})+"X-B: c"),
		} {
			var m Message
			err := m.Parse(in, DefaultLimits())
			breaks := c == '\r' || c == '\n' || c == 0
			if err == nil && breaks {
				t.Errorf("Parse of a header with %#x = nil, want it refused\n%q", c, in)
			}
			if err != nil && !breaks && !bytes.Contains(in, []byte{'"'}) {
				t.Errorf("Parse of a header with %#x = %v, want nil", c, err)
			}
			if n, ok := m.MaxForwards(); err == nil && (n != 70 || !ok || m.Len() > 7) {
				t.Errorf("%#x made Max-Forwards %d and %d headers", in, n, m.Len())
			}
		}
	}
}

func BenchmarkHostile(b *testing.B) {
	for _, tt := range hostile {
		b.Run(tt.name, func(b *testing.B) {
			var m Message
			b.ReportAllocs()
			b.SetBytes(int64(len(tt.in)))
			for b.Loop() {
				_ = m.Parse(tt.in, DefaultLimits())
			}
		})
	}
}
