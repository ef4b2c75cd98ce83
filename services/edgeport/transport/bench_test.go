package transport

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"
)

// answering is a layer that sends everything back.
func answering(b testing.TB, p Protocol) *Layer {
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

func BenchmarkTCP(b *testing.B) { benchmarkStream(b, TCP) }
func BenchmarkTLS(b *testing.B) { benchmarkStream(b, TLS) }

func benchmarkStream(b *testing.B, protocol Protocol) {
	l := answering(b, protocol)
	c, err := net.Dial("tcp", l.Points()[0].Addr.String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if protocol == TLS {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
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

// What it takes to name a UDP flow, and to find it again.
func BenchmarkUDPFlowID(b *testing.B) {
	l := answering(b, UDP)
	f, err := l.Flow(UDP, netip.MustParseAddrPort("127.0.0.1:5060"), "")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("ID", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f.ID()
		}
	})
	b.Run("Lookup", func(b *testing.B) {
		id := f.ID()
		b.ReportAllocs()
		for b.Loop() {
			l.Lookup(id)
		}
	})
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
			if err := l.sockets[0].datagrams.writeTo(data, to); err != nil {
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

// What a connection takes that has talked and is silent now, in memory of the layer alone: what is in use, and what the
// process has of the system for it. IDLE_CONNECTIONS is how many there are, 300 if it is not set. With 20000,
//
//	IDLE_CONNECTIONS=20000 go test ./services/edgeport/transport -run '^$' -bench 'Idle/(TCP|TLS)/1000' -benchtime 1x
//
// takes a minute. The limit of open files is raised for it where the system lets us.
func BenchmarkIdle(b *testing.B) {
	n := 300
	if s := os.Getenv("IDLE_CONNECTIONS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1 {
			b.Fatalf("IDLE_CONNECTIONS=%q, want how many", s)
		}
		n = allowFiles(b, n)
	}
	for _, protocol := range streams() {
		for _, size := range []int{1000, 40000} { // of its last message
			b.Run(fmt.Sprint(protocol, "/", size), func(b *testing.B) {
				var used, held int
				for b.Loop() {
					used, held = idleMemory(b, protocol, n, size)
				}
				b.ReportMetric(float64(n), "connections")
				b.ReportMetric(float64(used)/1024, "KiB-used/connection")
				b.ReportMetric(float64(held)/1024, "KiB-held/connection")
			})
		}
	}
}

// idleMemory is what each of n idle connections takes. The part of the client is in another process.
func idleMemory(b *testing.B, protocol Protocol, n, size int) (used, held int) {
	l := answering(b, protocol)
	measure := func() (used, held int) {
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc + m.StackInuse), int(m.Sys - m.HeapReleased)
	}
	used, held = measure()
	clients := exec.Command(os.Args[0], "-test.run=^TestClientsOfIdle$")
	clients.Env = append(os.Environ(), "IDLE_CLIENTS="+protocol.String()+" "+strconv.Itoa(n)+" "+strconv.Itoa(size)+" "+l.Points()[0].Addr.String())
	in, err := clients.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := clients.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := clients.Start(); err != nil {
		b.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		b.Fatalf("the clients said %q, %v", line, err)
	}
	if open := l.counters[protocol].open(); open != int64(n) {
		b.Fatalf("%d connections are open, want %d", open, n)
	}
	u, h := measure()
	in.Close()
	if err := clients.Wait(); err != nil {
		b.Fatal(err)
	}
	return (u - used) / n, (h - held) / n
}

// TestClientsOfIdle is the clients of BenchmarkIdle, in the process that it starts; else it tries them out, a few of each
// protocol.
func TestClientsOfIdle(t *testing.T) {
	of := os.Getenv("IDLE_CLIENTS")
	if of == "" {
		for _, protocol := range []Protocol{TCP, TLS, WS, WSS} {
			idleClients(t, protocol, 2, 1000, answering(t, protocol).Points()[0].Addr.String())
		}
		return
	}
	var name, addr string
	var n, size int
	if _, err := fmt.Sscan(of, &name, &n, &size, &addr); err != nil {
		t.Fatalf("IDLE_CLIENTS=%q: %v", of, err)
	}
	protocol, _ := ParseProtocol(name)
	idleClients(t, protocol, n, size, addr)
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// idleClients connects n clients, each of which has had an answer. They stay connected until the test ends.
func idleClients(t *testing.T, protocol Protocol, n, size int, addr string) {
	t.Helper()
	allowFiles(t, n)
	msg := text("a", size)
	for i := range n {
		// From several addresses, as there is a limit for each.
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i/1000))}}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if protocol.Secure() {
			c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		}
		if protocol == WS || protocol == WSS {
			p, _ := ask(t, c, handshake+offer+"\r\n")
			write(t, p, frame(fin|text1, msg))
			p.want(t, fin|text1, msg)
		} else {
			write(t, c, msg)
			read(t, c, msg)
		}
	}
}
