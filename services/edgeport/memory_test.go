package edgeport

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/routr-fabric/routr/bus/bustest"
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
)

// What a call that rings takes, in memory that lives: a server and a client transaction, and what is between them. It is
// looked at while the INVITEs are still kept whole, as they are for the first seconds; `go tool task memory` shows a
// whole server, and what stays.
func TestMemoryOfRingingCalls(t *testing.T) {
	const (
		calls = 2000
		most  = 6 << 10 // of a call; the two INVITEs and the 180 have 2.3 KiB in all
	)
	callee := udpClient(t)
	s := start(t, bustest.Connect(t), to(callee), nil)
	caller := udpClient(t)
	invite := func(i int) string {
		return caller.request(s, "INVITE", "sip:bob@example.com", fmt.Sprint("z9hG4bK", i), fmt.Sprint("Call-ID: ", i),
			"Supported: timer, replaces", "Content-Type: application/sdp", "\r\n"+strings.Repeat("a=sendrecv\r\n", 25))
	}
	// of is the next message to c that is about call i and begins like that; another one may be sent again on a slow machine.
	of := func(c *client, i int, begin string) *message.Message {
		for {
			if m := c.next(); bytes.HasPrefix(m.Bytes(), []byte(begin)) && string(m.CallID()) == strconv.Itoa(i) {
				return m
			}
		}
	}
	ring := func(i int) {
		caller.send(s, invite(i))
		callee.send(s, response(of(callee, i, "INVITE"), 180, "bob-tag"))
		of(caller, i, "SIP/2.0 180")
	}
	ring(0) // what the first one needs is not a call's
	before := live()
	for i := range calls {
		ring(i + 1)
	}
	each := (live() - before) / calls
	t.Logf("%d bytes a call", each)
	if each > most {
		t.Errorf("a ringing call takes %d bytes, want %d at most", each, most)
	}
	if got := s.edge.proxy.Transactions().Servers.Load(); got != calls+1 {
		t.Errorf("%d server transactions live, want %d", got, calls+1)
	}
}

// Of calls that ring neither of two EdgePorts keeps the INVITEs whole for longer than T4.
func TestMemoryOfRingingCallsAcrossEdgePorts(t *testing.T) {
	const calls, size, most = 100, 32 << 10, 8 << 10
	timers := transaction.DefaultTimers()
	timers.T4 = 50 * time.Millisecond
	p := startPairTimed(t, nil, timers)
	alice, bob := p.a.tcpClient(), p.b.tcpClient()
	p.sendTo(p.bind(p.b, bob, "sip:bob@192.0.2.7;transport=tcp"))
	ring := func(i int) {
		alice.send(p.a, alice.request(p.a, "INVITE", "sip:bob@example.com", fmt.Sprint("z9hG4bK", i), fmt.Sprint("Call-ID: ", i), body(size)))
		bob.send(p.b, response(bob.await("INVITE"), 180, "b"))
		for string(alice.await("SIP/2.0 180").CallID()) != strconv.Itoa(i) { // one may come again across the bus
		}
	}
	ring(0)
	before := live()
	for i := range calls {
		ring(i + 1)
	}
	until(t, fmt.Sprintf("at %d bytes a call", most), func() bool { return (live()-before)/calls < most })
}

// live is how much of the heap is in use.
func live() int {
	runtime.GC()
	runtime.GC() // a pool keeps what it has for one more
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
