package transport

import (
	"io"
	"log/slog"
	"net"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"
)

// answering is a layer that sends everything back.
func answering(b *testing.B, p Protocol) *Layer {
	l := New(on(p, "127.0.0.1"), echo, func(Flow) {}, slog.New(slog.DiscardHandler), noop.Meter{})
	if err := l.Listen(); err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := l.Serve(b.Context()); err != nil {
			b.Error(err)
		}
	}()
	b.Cleanup(func() { <-ended })
	return l
}

// One datagram in, through the handler, and one out, with the client's part.
func BenchmarkUDP(b *testing.B) {
	l := answering(b, UDP)
	c := udpClient(b, "127.0.0.1")
	to, data, buf := l.Points()[0].Addr, []byte(text("a", 400)), make([]byte, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.WriteToUDPAddrPort(data, to); err != nil {
			b.Fatal(err)
		}
		if _, _, err := c.ReadFromUDPAddrPort(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTCP(b *testing.B) {
	l := answering(b, TCP)
	c, err := net.Dial("tcp", l.Points()[0].Addr.String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	data, buf := []byte(text("a", 400)), make([]byte, len(text("a", 400)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(data); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}

// What a datagram costs that the kernel takes at once, and what the write of the net package costs.
func BenchmarkSendUDP(b *testing.B) {
	l := answering(b, UDP)
	c := udpClient(b, "127.0.0.1") // reads nothing: what does not fit is dropped
	to, data := addrPort(c.LocalAddr()), []byte(text("a", 400))
	f, err := l.Flow(UDP, to, "")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Send", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f.Send(data, nil)
		}
	})
	b.Run("net", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := l.sockets[0].WriteToUDPAddrPort(data, to); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// What a message costs that is written at once, and one that goes through the queue, with the client's part.
func BenchmarkSendTCP(b *testing.B) {
	for _, bb := range []struct {
		name string
		wrap func(net.Conn) net.Conn
	}{
		{"direct", func(c net.Conn) net.Conn { return c }},
		{"queued", func(c net.Conn) net.Conn { return struct{ net.Conn }{c} }}, // more than a socket, as TLS is
	} {
		b.Run(bb.name, func(b *testing.B) {
			flows := make(chan Flow, 1)
			l := answering(b, UDP)
			l.handler = func(f Flow, _ []byte) { flows <- f }
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer ln.Close()
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			accepted, err := ln.Accept()
			if err != nil {
				b.Fatal(err)
			}
			l.admit(&listener{Listen: Listen{Protocol: TCP}}, bb.wrap(accepted))
			data := []byte(text("a", 400))
			if _, err := c.Write(data); err != nil {
				b.Fatal(err)
			}
			f, buf := <-flows, make([]byte, len(data))
			b.ReportAllocs()
			for b.Loop() {
				f.Send(data, nil)
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
