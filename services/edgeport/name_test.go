package edgeport

import (
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
)

// nameServer is a DNS server for the zone that the tests use: NAME.PORT1.PORT2.test has SRV records for TCP at these
// ports of the address 127.0.0.1, in this order; every other name of test is 127.0.0.1. It counts what it is asked.
func nameServer(t *testing.T) (addr string, queries *atomic.Int64) {
	t.Helper()
	queries = new(atomic.Int64)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			queries.Add(1)
			var q dnsmessage.Message
			if q.Unpack(buf[:n]) != nil || len(q.Questions) != 1 {
				continue
			}
			if answer, err := answerFor(q); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return conn.LocalAddr().String(), queries
}

func answerFor(q dnsmessage.Message) ([]byte, error) {
	name := q.Questions[0].Name
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, Authoritative: true}, Questions: q.Questions}
	head := dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 60}
	var label string
	var ports [2]int
	switch q.Questions[0].Type {
	case dnsmessage.TypeA:
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}})
	case dnsmessage.TypeSRV:
		if n, _ := fmt.Sscanf(name.String(), "_sip._tcp.%d.%d.test.%s", &ports[0], &ports[1], &label); n < 2 {
			break
		}
		for i, port := range ports {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.SRVResource{
				Priority: uint16(i), Weight: 1, Port: uint16(port), Target: dnsmessage.MustNewName("host.test."),
			}})
		}
	}
	return m.Pack()
}

// P48: a target that is a name is found by SRV, and when the first address of it fails the next one is tried, with a new
// branch (RFC 3263 4.3).
func TestP48FailOver(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, gone, there := udpClient(t), tcpServer(t), tcpServer(t)
		gone.listener.Close()
		name := fmt.Sprintf("%d.%d.test", port(t, gone), port(t, there))
		s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) {
			r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: "sip:bob@" + name + ";transport=tcp"}}})})
		}, nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		there.send(s, response(there.want("INVITE sip:bob@"+name), 200, "there"))
		alice.want("SIP/2.0 200")
	})
}

// A 503 from one address of a name is not the answer while there is another one.
func TestP48FailOverAt503(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, busy, there := udpClient(t), tcpServer(t), tcpServer(t)
		name := fmt.Sprintf("%d.%d.test", port(t, busy), port(t, there))
		s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) {
			r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: "sip:bob@" + name + ";transport=tcp"}}})})
		}, nil)
		alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		first := busy.want("INVITE")
		busy.send(s, response(first, 503, "busy"))
		busy.want("ACK")
		second := there.want("INVITE")
		if a, b := string(first.TopVia().Branch), string(second.TopVia().Branch); a == b {
			t.Errorf("both copies have branch %s, want two", a)
		}
		there.send(s, response(second, 486, "there"))
		alice.want("SIP/2.0 486")
	})
}

// P50: a port in the URI, and the address alone is asked for.
func TestP50PortSkipsSRV(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		uri := fmt.Sprintf("sip:bob@host.test:%d", port(t, bob))
		s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) {
			r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: uri}}})})
		}, nil)
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1"))
		bob.send(s, response(bob.want("MESSAGE "+uri), 200, "bob"))
		alice.want("SIP/2.0 200")
	})
}

func port(t *testing.T, c *client) int {
	t.Helper()
	_, text, _ := net.SplitHostPort(c.addr())
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
