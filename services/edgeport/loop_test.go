package edgeport

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/routr-fabric/routr/bus"
	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// toEdge is the decision to send a request, under a Request-URI, to the UDP address of an EdgePort.
func toEdge(uri, addr string) *processorpb.Target {
	host, port := hostPort(addr)
	next := &processorpb.NetInterface{Host: host, Port: port, Transport: commonpb.Transport_UDP}
	return &processorpb.Target{Uri: uri, Q: 1000, NextHop: next}
}

// hostPort takes an address apart.
func hostPort(addr string) (host string, port int32) {
	host, text, _ := net.SplitHostPort(addr)
	fmt.Sscan(text, &port)
	return host, port
}

// two starts two EdgePorts, a and b, that have no dispatcher yet.
func two(t *testing.T, conn *bus.Conn) (a, b *system) {
	t.Helper()
	a = start(t, conn, nil, func(cfg *Config) { cfg.Ref = "a" })
	b = start(t, conn, nil, func(cfg *Config) { cfg.Ref = "b" })
	return a, b
}

func reply(r *bus.Request, targets ...*processorpb.Target) {
	r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Targets: targets})})
}

// P6, RFC 3261 16.3 step 4: of two EdgePorts that send a request to each other, the first one answers 482 when it comes
// back; one that comes back for somebody else goes on.
func TestP6Loop(t *testing.T) {
	const bob, carol = "sip:bob@example.com", "sip:carol@example.com"
	tests := []struct {
		name    string
		back    string   // the Request-URI with which b sends it to a
		fields  []string // of the INVITE
		want    string   // what alice gets
		at      []string // where it was dispatched
		counted int64
	}{
		{"loop", bob, nil, "SIP/2.0 482 Loop Detected", []string{"a", "b"}, 1},
		{"loop behind other proxies", bob, []string{"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx, SIP/2.0/UDP 192.0.2.2"}, "SIP/2.0 482", []string{"a", "b"}, 1},
		{"loop with a Route to us", bob, []string{"Route: <sip:SELF;lr>"}, "SIP/2.0 482", []string{"a", "b"}, 1},
		{"spiral", carol, nil, "SIP/2.0 486", []string{"a", "b", "a"}, 0},
	}
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				alice, phone := udpClient(t), udpClient(t)
				asked := make(chan string, 100)
				a, b := two(t, conn)
				serve(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
					asked <- req.EdgePortRef
					switch {
					case req.EdgePortRef == "b":
						reply(r, toEdge(tt.back, a.udp))
					case req.Message.GetRequestUri().GetUser() == "carol":
						to(phone)(r, req)
					default:
						reply(r, toEdge(bob, b.udp))
					}
				})
				var fields []string
				for _, f := range tt.fields {
					fields = append(fields, strings.ReplaceAll(f, "SELF", a.udp))
				}
				invite := alice.request(a, "INVITE", bob, "z9hG4bK1", fields...)
				if tt.name == "loop behind other proxies" { // alice's own Via is on top of theirs
					invite = strings.ReplaceAll(alice.request(a, "INVITE", bob, "z9hG4bK1"), "\r\nMax-Forwards", "\r\n"+tt.fields[0]+"\r\nMax-Forwards")
				}
				alice.send(a, invite)
				alice.want("SIP/2.0 100")
				if tt.name == "spiral" {
					phone.send(a, response(phone.want("INVITE"), 486, "phone"))
				}
				alice.want(tt.want)
				var at []string
				for len(asked) > 0 {
					at = append(at, <-asked)
				}
				if !slices.Equal(at, tt.at) {
					t.Errorf("dispatched at %q, want %q", at, tt.at)
				}
				if n := a.edge.proxy.Counts().Looped.Load(); n != tt.counted {
					t.Errorf("counted %d loops, want %d", n, tt.counted)
				}
			})
		}
	})
}

// P6: the mark in our branch is for us alone to read: one that a stranger writes, or another EdgePort, is no loop.
func TestP6ForeignMark(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob := udpClient(t), udpClient(t)
		s := start(t, conn, to(bob), nil)
		for i, branch := range []string{"z9hG4bK0000000000001.00000000", "z9hG4bK0000000000001.vvvvvvvv", "z9hG4bK0000000000001."} {
			callID := fmt.Sprint("Call-ID: ", i)
			alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", branch, callID))
			bob.send(s, response(bob.want("MESSAGE"), 200, "b"))
			alice.want("SIP/2.0 200")
		}
		if n := s.edge.proxy.Counts().Looped.Load(); n != 0 {
			t.Errorf("counted %d loops, want none", n)
		}
	})
}

// P7, RFC 5393 5.3: Max-Breadth is shared out among the branches that are tried at a time.
func TestP7MaxBreadth(t *testing.T) {
	tests := []struct {
		name   string
		phones int
		fields []string
		want   []string // the Max-Breadth of each copy that goes out at once
	}{
		{"absent", 1, nil, []string{"60"}},
		{"absent, forked", 3, nil, []string{"20", "20", "20"}},
		{"one branch keeps it", 1, []string{"Max-Breadth: 7"}, []string{"7"}},
		{"it does not come out even", 2, []string{"Max-Breadth: 5"}, []string{"3", "2"}},
		{"less than there are targets", 5, []string{"Max-Breadth: 3"}, []string{"1", "1", "1"}},
		{"one at a time", 2, []string{"max-breadth:1"}, []string{"1"}},
		{"more than anyone needs", 2, []string{"Max-Breadth: 99999999999999999999"}, []string{"30", "30"}},
		{"no number", 2, []string{"Max-Breadth: many"}, []string{"30", "30"}},
	}
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				alice := udpClient(t)
				var phones []*client
				for range tt.phones {
					phones = append(phones, udpClient(t))
				}
				s := start(t, conn, toAll(phones), nil)
				alice.send(s, alice.request(s, "INVITE", "sip:bob@example.com", "z9hG4bK1", tt.fields...))
				alice.want("SIP/2.0 100")
				var got []string
				var invites []*message.Message
				for i := range tt.want {
					invites = append(invites, phones[i].want("INVITE"))
					got = append(got, header(invites[i], "Max-Breadth"))
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("Max-Breadth = %q, want %q", got, tt.want)
				}
				for _, later := range phones[len(tt.want):] {
					later.quiet(s)
				}
				for i, invite := range invites { // whose breadth is free again then
					phones[i].send(s, response(invite, 486, "busy"))
					phones[i].want("ACK")
				}
				for _, later := range phones[len(tt.want):] {
					later.send(s, response(later.want("INVITE"), 486, "busy"))
					later.want("ACK")
				}
				alice.want("SIP/2.0 486")
			})
		}
	})
}

// P7: with a Max-Breadth of 0 a request can be answered, but not forwarded.
func TestP7MaxBreadthExceeded(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice, bob, mobile := udpClient(t), udpClient(t), udpClient(t)
		s := start(t, conn, toAll([]*client{bob, mobile}), nil)
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK1", "Max-Breadth: 0"))
		alice.want("SIP/2.0 440 Max-Breadth Exceeded")
		bob.quiet(s)
		mobile.quiet(s)
		alice.send(s, alice.request(s, "OPTIONS", "sip:"+s.udp, "z9hG4bK2", "Max-Breadth: 0"))
		alice.want("SIP/2.0 200")
	})
}

// P8, RFC 5393 3: two addresses-of-record, each with two contacts that are the other one. Each lap would double the
// messages; they end when every URI was seen once.
func TestP8Amplification(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		alice := udpClient(t)
		var dispatched atomic.Int64
		a, b := two(t, conn)
		serve(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			if n := dispatched.Add(1); n > 1000 {
				r.Fail(bus.Errorf(bus.Internal, "enough"))
				return
			}
			user, addr := "bob", b.udp
			if req.EdgePortRef == "b" {
				user, addr = "alice", a.udp
			}
			uri := "sip:" + user + "@example.com"
			reply(r, toEdge(uri+";line=1", addr), toEdge(uri+";line=2", addr))
		})
		alice.send(a, alice.request(a, "INVITE", "sip:alice@example.com", "z9hG4bK1"))
		alice.want("SIP/2.0 100")
		alice.want("SIP/2.0 482")
		looped := a.edge.proxy.Counts().Looped.Load() + b.edge.proxy.Counts().Looped.Load()
		if n := dispatched.Load() + looped; n >= 70 {
			t.Errorf("%d requests were received, %d of them loops, want fewer than 70", n, looped)
		}
	})
}
