package proxy

import (
	"log/slog"
	"net/netip"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

const invite = "INVITE sip:bob@example.com SIP/2.0\r\n" +
	"Via: SIP/2.0/UDP 127.0.0.1:5080;branch=z9hG4bK776asdhds;rport\r\n" +
	"Max-Forwards: 70\r\n" +
	"From: \"Alice\" <sip:alice@example.com>;tag=1928301774\r\n" +
	"To: <sip:bob@example.com>\r\n" +
	"Call-ID: a84b4c76e66710@pc33.example.com\r\n" +
	"CSeq: 314159 INVITE\r\n" +
	"Contact: <sip:alice@127.0.0.1:5080>\r\n" +
	"Content-Length: 0\r\n\r\n"

// newProxy is a proxy that listens on a UDP and a TCP port of 127.0.0.1, and serves nobody.
func newProxy(tb testing.TB) *Proxy {
	tb.Helper()
	conn := bustest.Connect(tb)
	keys, err := conn.SharedKeys(tb.Context(), "route")
	if err != nil {
		tb.Fatal(err)
	}
	at := netip.MustParseAddrPort("127.0.0.1:0")
	tr := transport.New(transport.Config{Listen: []transport.Listen{{Protocol: transport.UDP, Addr: at}, {Protocol: transport.TCP, Addr: at}}},
		nil, func(transport.Flow) {}, slog.New(slog.DiscardHandler), noop.Meter{})
	if err := tr.Listen(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := tr.Serve(tb.Context()); err != nil { // which has ended: it closes the sockets
			tb.Error(err)
		}
	})
	p := New(Config{Methods: []string{"INVITE"}, Timers: transaction.DefaultTimers()}, conn, keys, tr, nil, slog.New(slog.DiscardHandler))
	p.Listening(tr.Points())
	return p
}

func udpFlow(tb testing.TB, p *Proxy, remote string) transport.Flow {
	tb.Helper()
	flow, err := p.transport.Flow(transport.UDP, netip.MustParseAddrPort(remote), "")
	if err != nil {
		tb.Fatal(err)
	}
	return flow
}

func parse(tb testing.TB, text string) *message.Message {
	tb.Helper()
	m := new(message.Message)
	if err := m.Parse([]byte(text), message.DefaultLimits()); err != nil {
		tb.Fatalf("Parse = %v of\n%s", err, text)
	}
	return m
}

// BenchmarkWrite is RFC 3261 16.6 for an INVITE to a binding.
func BenchmarkWrite(b *testing.B) {
	p := newProxy(b)
	m := parse(b, invite)
	s := p.scratch.New().(*scratch)
	c := copyOf{
		request: m, from: udpFlow(b, p, "127.0.0.1:5080"), to: udpFlow(b, p, "127.0.0.1:5090"), branch: 1 << 40, mark: 12345, breadth: 60,
		uri: "sip:bob@127.0.0.1:5090", sent: &processorpb.MessageRequest{}, answer: &processorpb.MessageResponse{}, record: true,
	}
	b.ReportAllocs()
	for b.Loop() {
		p.write(s, c)
	}
}

// BenchmarkMark is what loop detection costs each request: the mark for our Via, and the look at the Vias that it has.
func BenchmarkMark(b *testing.B) {
	p := newProxy(b)
	m := parse(b, invite)
	b.ReportAllocs()
	for b.Loop() {
		if mark := p.mark(m, route{}); looped(m, mark) {
			b.Fatal("looped = true, want false: it has one Via, of its sender")
		}
	}
}
