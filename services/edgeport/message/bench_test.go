package message

import (
	"net/netip"
	"testing"
)

func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"invite", "register"} {
		b.Run(name, func(b *testing.B) {
			data := read(b, name+".sip")
			var m Message
			lim := DefaultLimits()
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if err := m.Parse(data, lim); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFrame(b *testing.B) {
	data := read(b, "invite.sip")
	b.ReportAllocs()
	for b.Loop() {
		if n, err := Frame(data); n != len(data) {
			b.Fatal(n, err)
		}
	}
}

// What a proxy does to a request that it forwards: Request-URI, Via, Record-Route, Max-Forwards.
func BenchmarkEditAppend(b *testing.B) {
	m := parse(b, "invite.sip")
	var e Edit
	var out []byte
	via := []byte("SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK0123456789abcdef")
	route := []byte("<sip:0123456789abcdef0123456789abcdef@198.51.100.1;lr>")
	uri := []byte("sip:1002@203.0.113.7:5060;ob")
	b.ReportAllocs()
	for b.Loop() {
		e.Reset(m)
		e.SetRequestURI(uri)
		e.InsertTop(KindVia, via)
		e.InsertTop(KindRecordRoute, route)
		e.SetMaxForwards(69)
		out = e.Append(out[:0])
	}
}

func BenchmarkAppendResponse(b *testing.B) {
	m := parse(b, "invite.sip")
	source := netip.MustParseAddrPort("203.0.113.5:40000")
	var via, out []byte
	b.ReportAllocs()
	for b.Loop() {
		via = AppendVia(via[:0], m.TopVia(), source.Addr(), source.Port())
		out = AppendResponse(out[:0], m, &Response{Status: 407, ToTag: "314159", TopVia: via})
	}
}

func BenchmarkClone(b *testing.B) {
	m := parse(b, "invite.sip")
	b.ReportAllocs()
	for b.Loop() {
		m.Clone()
	}
}
