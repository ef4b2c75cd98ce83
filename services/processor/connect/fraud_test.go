package connect

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/icholy/digest"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	"github.com/routr-fabric/routr/services/dispatcher"
	"github.com/routr-fabric/routr/services/edgeport"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// socket is a SIP element on a UDP socket.
type socket struct {
	t    *testing.T
	conn *net.UDPConn
	edge *net.UDPAddr
	last int // of its requests
}

func newSocket(t *testing.T, edge string) *socket {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", edge)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &socket{t: t, conn: conn, edge: to}
}

func (s *socket) addr() string { return s.conn.LocalAddr().String() }

// read is the next message that is not provisional.
func (s *socket) read() string {
	s.t.Helper()
	b := make([]byte, 65536)
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			s.t.Fatal(err)
		}
		n, err := s.conn.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.t.Fatal("nothing came")
		}
		if err != nil {
			s.t.Fatal(err)
		}
		if text := string(b[:n]); !strings.HasPrefix(text, "SIP/2.0 1") {
			return text
		}
	}
}

func (s *socket) send(text string) {
	s.t.Helper()
	if _, err := s.conn.WriteTo([]byte(strings.ReplaceAll(text, "\n", "\r\n")), s.edge); err != nil {
		s.t.Fatal(err)
	}
}

// message is a request of 1001, unless its headers say otherwise, which replace From and To or are added.
type message struct {
	method, uri string
	headers     []string
}

// ask sends m and returns the final answer. Unless challenge is empty, it has the credentials of user.
func (s *socket) ask(m message, user, challenge string) (answer string) {
	s.t.Helper()
	s.last++
	headers := map[string]string{"From": "<sip:1001@sip.local>;tag=f", "To": "<" + m.uri + ">"}
	var more strings.Builder
	for _, h := range m.headers {
		name, value, _ := strings.Cut(h, ": ")
		if _, own := headers[name]; own {
			headers[name] = value
		} else {
			more.WriteString(h + "\n")
		}
	}
	if challenge != "" {
		made, err := client.ParseChallenge(challenge)
		if err != nil {
			s.t.Fatalf("challenge %s: %v", challenge, err)
		}
		c, err := client.Digest(made, client.Options{Method: m.method, URI: m.uri, Username: user, Password: password(user), Count: 1})
		if err != nil {
			s.t.Fatal(err)
		}
		name := "Proxy-Authorization"
		if m.method == "REGISTER" {
			name = "Authorization"
		}
		more.WriteString(name + ": " + c.String() + "\n")
	}
	branch := fmt.Sprintf("z9hG4bK%s.%04d", strings.ReplaceAll(s.addr(), ":", "."), s.last)
	s.send(fmt.Sprintf("%s %s SIP/2.0\nVia: SIP/2.0/UDP %s;branch=%s\nMax-Forwards: 70\nFrom: %s\nTo: %s\nCall-ID: %s\nCSeq: %d %s\n%sContent-Length: 0\n\n",
		m.method, m.uri, s.addr(), branch, headers["From"], headers["To"], branch, s.last, m.method, more.String()))
	for answer = s.read(); !strings.Contains(answer, branch); { // one that comes again, as its ACK took its time
		answer = s.read()
	}
	return answer
}

// challengeOf is the challenge of an answer for MD5, which these clients know.
func challengeOf(answer string) string {
	for line := range strings.SplitSeq(answer, "\r\n") {
		if name, value, _ := strings.Cut(line, ": "); strings.HasSuffix(name, "-Authenticate") && strings.Contains(value, "algorithm=MD5") {
			return value
		}
	}
	return ""
}

func statusOf(answer string) string {
	status, _, _ := strings.Cut(strings.TrimPrefix(answer, "SIP/2.0 "), " ")
	return status
}

// startSystem runs a whole system; edge is where its EdgePort listens.
func startSystem(t *testing.T) (edge string) {
	t.Helper()
	conn := bustest.Local(t)
	newFabric(t, conn, nil)
	log := slog.New(slog.DiscardHandler)
	d := dispatcher.Default()
	d.Spec.Processors = []dispatcher.Processor{{Ref: "connect", Methods: []string{"REGISTER", "INVITE", "MESSAGE", "OPTIONS", "BYE", "REFER"}}}
	dispatch, err := dispatcher.New(d, conn, log, noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	run(t, dispatch)
	return startEdge(t, conn, log)
}

func startEdge(t *testing.T, conn *bus.Conn, log *slog.Logger) string {
	t.Helper()
	cfg := edgeport.Default()
	cfg.Spec.BindAddr, cfg.Spec.DrainTime = "127.0.0.1", 0
	cfg.Spec.Transport = []edgeport.Transport{{Protocol: "udp"}}
	cfg.Spec.Methods = []string{"REGISTER", "INVITE", "MESSAGE", "OPTIONS", "BYE", "REFER"}
	e, err := edgeport.New(cfg, conn, log, noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	run(t, e)
	for _, p := range e.Points() {
		if addr, ok := strings.CutPrefix(p, "udp:"); ok {
			return addr
		}
	}
	t.Fatalf("the EdgePort listens on %q, want UDP among them", e.Points())
	return ""
}

// A33: neither strangers nor agents reach a gateway that takes calls from our address, whatever they write into a
// request: what leads nowhere is refused, and what leads to a phone goes to the phone alone.
func TestA33TollFraud(t *testing.T) {
	edge := startSystem(t)
	gateway, phone, caller := newSocket(t, edge), newSocket(t, edge), newSocket(t, edge)
	pstn := gateway.addr()
	_, pstnPort, _ := strings.Cut(pstn, ":")

	register := message{method: "REGISTER", uri: "sip:sip.local", headers: []string{
		"From: <sip:1002@sip.local>;tag=f", "To: <sip:1002@sip.local>", "Contact: <sip:1002@" + phone.addr() + ">"}}
	if got := statusOf(phone.ask(register, "1002", challengeOf(phone.ask(register, "", "")))); got != "200" {
		t.Fatalf("REGISTER = %s, want 200", got)
	}
	const toPhone = "486"
	if err := phone.conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(phone.busy)
	t.Cleanup(func() { phone.conn.Close(); wg.Wait() })
	for _, tt := range []struct {
		name     string
		in       message
		stranger string // the status without credentials
		agent    string // and with those of 1001
	}{
		{"preloaded Route", message{uri: "sip:+900@sip.local", headers: []string{"Route: <sip:" + pstn + ";lr>"}}, "407", "404"},
		{"preloaded Route to us and on", message{uri: "sip:+900@sip.local", headers: []string{"Route: <sip:" + edge + ";lr>, <sip:" + pstn + ";lr>"}}, "407", "404"},
		{"preloaded Route with an agent's number", message{uri: "sip:1002@sip.local", headers: []string{"Route: <sip:" + pstn + ";lr>"}}, "407", toPhone},
		{"strict Route", message{uri: "sip:" + edge, headers: []string{"Route: <sip:+900@" + pstn + ">"}}, "407", "403"},
		{"Request-URI of the gateway", message{uri: "sip:+900@" + pstn}, "407", "403"},
		{"maddr of the gateway at our domain", message{uri: "sip:+900@sip.local;maddr=127.0.0.1:" + pstnPort}, "407", "404"},
		{"maddr and port", message{uri: "sip:+900@sip.local:" + pstnPort + ";maddr=127.0.0.1"}, "407", "404"},
		{"maddr with an agent's number", message{uri: "sip:1002@sip.local:" + pstnPort + ";maddr=127.0.0.1"}, "407", toPhone},
		{"maddr of ours at the gateway", message{uri: "sip:+900@" + pstn + ";maddr=sip.local"}, "407", "403"},
		{"From of a trunk", message{uri: "sip:+900@" + pstn, headers: []string{"From: <sip:trunk@" + pstn + ">;tag=f"}}, "403", ""},
		{"From of a trunk to an agent", message{uri: "sip:1002@sip.local", headers: []string{"From: <sip:trunk@" + pstn + ">;tag=f"}}, "403", ""},
		{"From of another agent", message{uri: "sip:1002@sip.local", headers: []string{"From: <sip:1002@sip.local>;tag=f"}}, "407", "403"},
		{"anonymous", message{uri: "sip:+900@" + pstn, headers: []string{"From: <sip:anonymous@anonymous.invalid>;tag=f"}}, "403", ""},
		{"To of an agent", message{uri: "sip:+900@" + pstn, headers: []string{"To: <sip:1002@sip.local>"}}, "407", "403"},
		{"To of the gateway", message{uri: "sip:1002@sip.local", headers: []string{"To: <sip:+900@" + pstn + ">"}}, "407", toPhone},
		{"tel", message{uri: "tel:+900"}, "407", "416"},
		{"tel and a Route", message{uri: "tel:+900", headers: []string{"Route: <sip:" + pstn + ";lr>"}}, "407", "416"},
		{"escaped dot in the host", message{uri: "sip:1002@sip%2elocal"}, "400", "400"},
		{"escaped @ in the user", message{uri: "sip:+900%40" + strings.ReplaceAll(pstn, ":", "%3a") + "@sip.local"}, "407", "404"},
		{"two hosts, ours last", message{uri: "sip:+900@" + pstn + "@sip.local"}, "400", "400"},
		{"two hosts, ours first", message{uri: "sip:1002@sip.local@" + pstn}, "400", "400"},
		{"password that looks like a host", message{uri: "sip:1002:x;y@sip.local"}, "407", toPhone},
		{"upper case", message{uri: "SIP:1002@SIP.LOCAL"}, "407", toPhone},
		{"trailing dot", message{uri: "sip:1002@sip.local."}, "407", toPhone},
		{"escaped user", message{uri: "sip:%31002@sip.local"}, "407", toPhone},
		{"headers in the Request-URI", message{uri: "sip:1002@sip.local?Route=%3Csip:" + pstn + "%3Blr%3E"}, "400", ""},
		{"forged X-Edgeport-Ref", message{uri: "sip:+900@" + pstn, headers: []string{"X-Edgeport-Ref: edgeport-02"}}, "407", "403"},
		{"forged X-Request-Uri", message{uri: "sip:1002@sip.local", headers: []string{"X-Request-Uri: sip:+900@" + pstn}}, "407", toPhone},
		{"in a dialog", message{uri: "sip:+900@" + pstn, headers: []string{"To: <sip:1002@sip.local>;tag=x", "Route: <sip:" + edge + ";lr>"}}, "407", "481"},
	} {
		for _, method := range []string{"MESSAGE", "INVITE"} {
			t.Run(method+" "+tt.name, func(t *testing.T) {
				in := tt.in
				in.method = method
				refusal := caller.ask(in, "", "")
				acknowledge(caller, in, refusal)
				if got := statusOf(refusal); got != tt.stranger {
					t.Fatalf("%s %s of a stranger = %s, want %s", method, in.uri, got, tt.stranger)
				}
				challenge := challengeOf(refusal)
				if challenge == "" {
					return
				}
				answer := caller.ask(in, "1001", challenge)
				acknowledge(caller, in, answer)
				if got := statusOf(answer); got != tt.agent {
					t.Errorf("%s %s of an agent = %s, want %s", method, in.uri, got, tt.agent)
				}
			})
		}
	}
	// Loopback keeps the order: what the system had sent to the gateway would be there before this.
	if _, err := caller.conn.WriteTo([]byte("the end"), gateway.conn.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if got := gateway.read(); got != "the end" {
		t.Errorf("the gateway got %q, want nothing", got)
	}
}

// acknowledge ends an INVITE transaction, or its answer would come again.
func acknowledge(s *socket, m message, answer string) {
	if m.method != "INVITE" {
		return
	}
	var b strings.Builder
	for line := range strings.SplitSeq(answer, "\r\n") {
		switch name, _, _ := strings.Cut(line, ":"); name {
		case "Via", "From", "To", "Call-ID":
			b.WriteString(line + "\n")
		case "CSeq":
			b.WriteString(strings.Replace(line, "INVITE", "ACK", 1) + "\n")
		}
	}
	s.send(fmt.Sprintf("ACK %s SIP/2.0\n%sMax-Forwards: 70\nContent-Length: 0\n\n", m.uri, b.String()))
}

// busy answers requests with 486 until the socket is closed.
func (s *socket) busy() {
	b := make([]byte, 65536)
	for {
		n, err := s.conn.Read(b)
		if err != nil {
			return
		}
		request := string(b[:n])
		if strings.HasPrefix(request, "ACK") {
			continue
		}
		answer := "SIP/2.0 486 Busy Here\r\n"
		for line := range strings.SplitSeq(request, "\r\n") {
			switch name, _, _ := strings.Cut(line, ":"); name {
			case "Via", "From", "Call-ID", "CSeq":
				answer += line + "\r\n"
			case "To":
				answer += line + ";tag=phone\r\n"
			}
		}
		if _, err := s.conn.WriteTo([]byte(answer+"Content-Length: 0\r\n\r\n"), s.edge); err != nil {
			return
		}
	}
}
