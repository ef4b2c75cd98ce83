package edgeport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/proxy"
)

// attacker is where the clients of these tests connect from that do not mean well.
const attacker = "127.0.0.66"

// unfriendly is an EdgePort that takes this machine for strangers.
func unfriendly(c *Config) { c.Spec.Guard.Allow = nil }

func attackerUDP(t *testing.T) *client {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(attacker)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{t: t, udp: conn}
}

// attackerTCP is connected to s; nil if its address is banned.
func (s *system) attackerTCP() *client {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(attacker)}, Timeout: patience}
	conn, err := d.Dial("tcp", s.tcp)
	if errors.Is(err, syscall.ECONNRESET) { // it is banned
		return nil
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return &client{t: s.t, stream: conn}
}

// judging answers every request with a status and what is wrong with who sent it, which its header X-Judge says.
func judging(r *bus.Request, req *processorpb.MessageRequest) {
	status, offence := int32(200), ""
	for _, x := range req.GetMessage().GetExtensions() {
		if strings.EqualFold(x.Name, "X-Judge") {
			fmt.Sscan(x.Value, &status, &offence)
		}
	}
	answer := &processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{StatusCode: status}}
	answer.Message.MessageType = &sipmessagepb.SIPMessage_ResponseType{ResponseType: sipmessagepb.ResponseType_UNKNOWN}
	if offence != "" {
		answer.Metadata = map[string]string{proxy.MetadataOffence: offence}
	}
	r.Reply(bus.Reply{Body: bus.Value(answer)})
}

const credentials = `Authorization: Digest username="alice", realm="example.com", nonce="n", uri="sip:example.com", response="r"`

// ask sends a MESSAGE with the number n, and waits for its answer, which may be the end of the connection instead.
func (c *client) ask(s *system, n int, status string, fields ...string) (ended bool) {
	c.t.Helper()
	code, _, _ := strings.Cut(status, " ")
	fields = append(fields, "X-Judge: "+status, fmt.Sprintf("Call-ID: %s-%d", c.addr(), n))
	text := c.request(s, "MESSAGE", "sip:bob@example.com", fmt.Sprintf("z9hG4bK%s-%d", strings.ReplaceAll(c.addr(), ":", "-"), n), fields...)
	if c.udp != nil {
		c.send(s, text)
	} else if _, err := io.WriteString(c.stream, text); err != nil {
		return true
	}
	m, err := c.read(patience)
	if errors.Is(err, os.ErrDeadlineExceeded) || err == nil && strconv.Itoa(m.Status()) != code {
		c.t.Fatalf("%s received %v %v, want %s", c.addr(), m, err, code)
	}
	return err != nil
}

// What scanners send is dropped: by UDP without a word, on a connection with its end; and that ends in a ban.
func TestScannersA1(t *testing.T) {
	dispatched := make(chan string, 100)
	s := start(t, bustest.Connect(t), func(r *bus.Request, req *processorpb.MessageRequest) {
		dispatched <- req.GetMessage().GetFrom().GetAddress().GetUri().GetUser()
		judging(r, req)
	}, unfriendly)

	t.Run("A1 over UDP nothing is answered, and nobody banned", func(t *testing.T) {
		c := attackerUDP(t)
		for i := range 20 {
			for _, method := range []string{"OPTIONS", "REGISTER", "INVITE"} {
				c.send(s, c.request(s, method, "sip:100@"+s.udp, fmt.Sprintf("z9hG4bK-%s-%d", method, i), "User-Agent: friendly-scanner", "From: <sip:scanner@example.com>;tag=1"))
			}
		}
		c.quiet(s)
	})
	t.Run("A1 over TCP the connection ends, and the source is banned", func(t *testing.T) {
		for i := 0; len(s.edge.guard.Bans()) == 0; i++ {
			if i == 20 {
				t.Fatal("no ban after 20 connections, want one after 4")
			}
			c := s.attackerTCP()
			if c == nil {
				break
			}
			c.send(s, c.request(s, "OPTIONS", "sip:100@"+s.udp, "z9hG4bK-1", "User-Agent: Foo SIPVicious 0.3"))
			c.wantEnd(0)
		}
		b := s.edge.guard.Bans()[0]
		if b.Prefix != netip.MustParsePrefix(attacker+"/32") || b.Reason != "scanner" || b.By != "guard/edge-under-test" {
			t.Errorf("banned %v for %s by %s, want %s for scanner by guard/edge-under-test", b.Prefix, b.Reason, b.By, attacker)
		}
		// Its datagrams are dropped too, and those of others are not.
		c, good := attackerUDP(t), udpClient(t)
		c.send(s, c.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK-2", "From: <sip:scanner@example.com>;tag=1"))
		good.ask(s, 1, "200")
	})
	t.Run("A1 a scanner among the friends is served", func(t *testing.T) {
		s := start(t, bustest.Connect(t), judging, nil)
		udpClient(t).ask(s, 1, "200", "User-Agent: friendly-scanner")
	})
	for len(dispatched) > 0 {
		if from := <-dispatched; from == "scanner" {
			t.Error("a request of a scanner was dispatched, want none")
		}
	}
}

// Garbage on a connection is closed without an answer, and bans; a message with a mistake does not.
func TestGarbageA21(t *testing.T) {
	s := start(t, bustest.Connect(t), judging, unfriendly)
	for i := range 30 {
		c := s.attackerTCP()
		c.send(s, "OPTIONS sip:a SIP/2.0\r\nContent-Length: 0\r\nVia: x\r\n\r\n")
		c.wantEnd(0)
		u := attackerUDP(t)
		u.send(s, "GET / HTTP/1.1\r\n\r\n")
		u.ask(s, i, "200")
	}
	if bans := s.edge.guard.Bans(); len(bans) > 0 {
		t.Fatalf("banned for %s, want nobody: UDP and mistakes ban nobody", bans[0].Reason)
	}
	for i := 0; len(s.edge.guard.Bans()) == 0; i++ {
		if i == 20 {
			t.Fatal("no ban after 20 connections, want one after 5")
		}
		c := s.attackerTCP()
		if c == nil {
			break
		}
		c.send(s, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
		c.wantEnd(0)
	}
	if b := s.edge.guard.Bans()[0]; b.Reason != "http" {
		t.Errorf("banned for %s, want http", b.Reason)
	}
}

// What a processor says of who sent a request counts on connections, and not for datagrams.
func TestOffencesOfRequests(t *testing.T) {
	tests := []struct {
		name    string
		do      func(c *client, s *system, n int) (ended bool)
		each    bool   // on a new connection each
		reason  string // of the ban; empty: none
		atLeast int
	}{
		{"a wrong password", func(c *client, s *system, n int) bool { return c.ask(s, n, "401 wrong-credentials", credentials) }, false, "wrong-credentials", 20},
		{"a wrong password on a new connection each", func(c *client, s *system, n int) bool { return c.ask(s, n, "401 wrong-credentials", credentials) }, true, "wrong-credentials", 20},
		{"a forged nonce", func(c *client, s *system, n int) bool { return c.ask(s, n, "401 forged-nonce", credentials) }, false, "forged-nonce", 21},
		{"challenges unanswered", func(c *client, s *system, n int) bool { return c.ask(s, n, "407") }, false, "unanswered-challenge", 50 * maxUnanswered},
		{"a challenge unanswered on a new connection each", func(c *client, s *system, n int) bool { return c.ask(s, n, "401") }, true, "unanswered-challenge", 50},
		{"challenges answered", func(c *client, s *system, n int) bool {
			return c.ask(s, 2*n, "401") || c.ask(s, 2*n+1, "200", credentials)
		}, false, "", 60},
		{"a nonce from before, then one of ours", func(c *client, s *system, n int) bool {
			return c.ask(s, 2*n, "401 forged-nonce", credentials) || c.ask(s, 2*n+1, "200", credentials)
		}, true, "", 30},
		{"what has no such name", func(c *client, s *system, n int) bool { return c.ask(s, n, "403 high-treason", credentials) }, false, "", 60},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, bustest.Connect(t), judging, unfriendly)
			u := attackerUDP(t)
			for n := range min(tt.atLeast, 60) {
				tt.do(u, s, n)
			}
			if bans := s.edge.guard.Bans(); len(bans) > 0 {
				t.Fatalf("banned for %s over UDP, want nobody", bans[0].Reason)
			}
			asked, ended := 0, false
			for c := (*client)(nil); !ended && asked < 3*tt.atLeast; asked++ {
				if c == nil || tt.each {
					if c, ended = s.attackerTCP(), false; c == nil {
						break
					}
				}
				ended = tt.do(c, s, asked)
				if tt.each {
					c.stream.Close()
					ended = len(s.edge.guard.Bans()) > 0
				}
			}
			// The offence is told behind the answer.
			for end := time.Now().Add(patience); tt.reason != "" && len(s.edge.guard.Bans()) == 0 && time.Now().Before(end); {
				runtime.Gosched()
			}
			bans := s.edge.guard.Bans()
			switch {
			case tt.reason == "" && len(bans) == 0:
			case tt.reason == "":
				t.Errorf("banned for %s, want nobody", bans[0].Reason)
			case len(bans) == 0:
				t.Errorf("nobody banned after %d, want %s after %d", asked, tt.reason, tt.atLeast)
			case bans[0].Reason != tt.reason || asked < tt.atLeast:
				t.Errorf("banned for %s after %d, want %s after %d", bans[0].Reason, asked, tt.reason, tt.atLeast)
			case !tt.each && !ended:
				t.Error("the connection is still open, want that it has ended with the ban")
			}
		})
	}
}
