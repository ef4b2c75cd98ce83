package e2e_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"

	"github.com/routr-fabric/routr/services"
)

// The first start of `routr one`, in this process: no resources, so it makes a domain and two agents and prints their
// passwords. Two phones of another SIP stack register with what the screen says, call, and hang up. The second start has
// the same passwords and does not print them.
func TestFirstStart(t *testing.T) {
	data := t.TempDir()
	s := startFirst(t, data)
	passwords := s.all(`user (\d+)\s+password (\S+)`)
	if len(passwords) != 2 || passwords["1001"] == passwords["1002"] {
		t.Fatalf("the screen shows the passwords %q, want those of 1001 and 1002\n%s", passwords, s.text)
	}
	domain := s.one(`Domain\s+(\S+)`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, transport := range []string{"udp", "tcp"} {
		alice := newPhone(t, s.one(transport+`:(\S+)`), transport, domain, "1001", passwords["1001"])
		bob := newPhone(t, s.one(transport+`:(\S+)`), transport, domain, "1002", passwords["1002"])
		alice.register(ctx, sip.StatusOK)
		bob.register(ctx, sip.StatusOK)
		alice.call(ctx, bob)
		bob.register(ctx, sip.StatusOK, sip.NewHeader("Expires", "0")) // or the next call rings here too
	}
	newPhone(t, s.one(`udp:(\S+)`), "udp", domain, "1001", "guessed").register(ctx, sip.StatusUnauthorized)
	s.ready(t, http.StatusOK)
	s.stop()

	again := startFirst(t, data)
	if strings.Contains(again.text, "password 1") || len(again.all(`user (\d+)\s+password (\S+)`)) != 0 {
		t.Errorf("the second start prints passwords again:\n%s", again.text)
	}
	newPhone(t, again.one(`udp:(\S+)`), "udp", domain, "1001", passwords["1001"]).register(ctx, sip.StatusOK)
}

// started is a system in this process, and the screen it has printed.
type started struct {
	t    *testing.T
	text string
	stop func()
}

// startFirst runs the system on free ports, with its state in data.
func startFirst(t *testing.T, data string) *started {
	t.Helper()
	config := t.TempDir()
	for name, text := range map[string]string{
		"bus.yaml": "{apiVersion: v2beta1, kind: Bus, spec: {listen: '127.0.0.1:0'}}",
		"edgeport.yaml": "{apiVersion: v2beta1, kind: EdgePort, ref: edgeport-01, spec: {bindAddr: 127.0.0.1, " +
			"transport: [{protocol: udp, port: 0}, {protocol: tcp, port: 0}]}}",
	} {
		if err := os.WriteFile(filepath.Join(config, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	screen := make(chan string, 1)
	done := make(chan error, 1)
	go func() {
		done <- services.RunOne(ctx, services.Options{
			Config: config, Data: data, HTTPAddr: "127.0.0.1:0", LogLevel: "warn",
			Stdout: writer(func(b []byte) { screen <- string(b) }), Stderr: t.Output(),
		})
	}()
	s := &started{t: t}
	s.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("RunOne = %v", err)
		}
		s.stop = func() {}
	}
	t.Cleanup(func() { s.stop() })
	select {
	case s.text = <-screen:
	case err := <-done:
		s.stop = func() {}
		t.Fatalf("RunOne = %v", err)
	}
	return s
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// one is what the pattern finds on the screen.
func (s *started) one(pattern string) string {
	s.t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(s.text)
	if m == nil {
		s.t.Fatalf("the screen has nothing like %s:\n%s", pattern, s.text)
	}
	return m[1]
}

func (s *started) all(pattern string) map[string]string {
	found := map[string]string{}
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(s.text, -1) {
		found[m[1]] = m[2]
	}
	return found
}

func (s *started) ready(t *testing.T, want int) {
	t.Helper()
	resp, err := http.Get(s.one(`(http://\S+/readyz)`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		t.Errorf("/readyz = %d, want %d", resp.StatusCode, want)
	}
}

// sipgoPhone is a user agent of sipgo.
type sipgoPhone struct {
	t         *testing.T
	proxy     string
	transport string
	domain    string
	user      string
	password  string
	client    *sipgo.Client
	dialogs   sipgo.DialogUA
	answered  chan *sipgo.DialogServerSession // until its ACK has come
	confirmed chan struct{}                   // has a word when an answered call was acknowledged
	hungUp    chan struct{}
}

func newPhone(t *testing.T, proxy, transport, domain, user, password string) *sipgoPhone {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ua, err := sipgo.NewUA(sipgo.WithUserAgent(user), sipgo.WithUserAgentHostname(domain))
	must(err)
	t.Cleanup(func() { ua.Close() })
	server, err := sipgo.NewServer(ua)
	must(err)
	var addr string
	if transport == "udp" {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		must(err)
		addr = conn.LocalAddr().String()
		go server.ServeUDP(conn) // it ends when its socket is closed
	} else {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		addr = l.Addr().String()
		go server.ServeTCP(l)
	}
	host, portText, _ := strings.Cut(addr, ":")
	port, err := strconv.Atoi(portText)
	must(err)
	p := &sipgoPhone{t: t, proxy: proxy, transport: transport, domain: domain, user: user, password: password, answered: make(chan *sipgo.DialogServerSession, 1), confirmed: make(chan struct{}, 1), hungUp: make(chan struct{}, 1)}
	p.client, err = sipgo.NewClient(ua, sipgo.WithClientHostname(host), sipgo.WithClientPort(port))
	must(err)
	contact := sip.Uri{User: user, Host: host, Port: port, UriParams: sip.NewParams()}
	contact.UriParams.Add("transport", transport)
	p.dialogs = sipgo.DialogUA{Client: p.client, ContactHDR: sip.ContactHeader{Address: contact}}
	server.OnInvite(p.answer)
	server.OnAck(func(req *sip.Request, tx sip.ServerTransaction) {
		if err := (<-p.answered).ReadAck(req, tx); err != nil {
			t.Errorf("%s reads the ACK: %v", user, err)
		}
	})
	server.OnBye(func(req *sip.Request, tx sip.ServerTransaction) {
		if err := tx.Respond(sip.NewResponseFromRequest(req, sip.StatusOK, "OK", nil)); err != nil {
			t.Errorf("%s answers BYE: %v", user, err)
		}
		p.hungUp <- struct{}{}
	})
	return p
}

// request is one that goes to the outbound proxy.
func (p *sipgoPhone) request(method sip.RequestMethod, user string) *sip.Request {
	req := sip.NewRequest(method, sip.Uri{User: user, Host: p.domain})
	req.SetTransport(strings.ToUpper(p.transport))
	req.SetDestination(p.proxy)
	return req
}

func (p *sipgoPhone) register(ctx context.Context, want int, headers ...sip.Header) {
	p.t.Helper()
	req := p.request(sip.REGISTER, "")
	aor := sip.Uri{User: p.user, Host: p.domain}
	from := &sip.FromHeader{Address: aor, Params: sip.NewParams()}
	from.Params.Add("tag", sip.GenerateTagN(8))
	req.AppendHeader(from)
	req.AppendHeader(&sip.ToHeader{Address: aor, Params: sip.NewParams()})
	req.AppendHeader(&p.dialogs.ContactHDR)
	for _, h := range headers {
		req.AppendHeader(h)
	}
	resp, err := p.client.Do(ctx, req)
	if err == nil && resp.StatusCode == sip.StatusUnauthorized {
		resp, err = p.client.DoDigestAuth(ctx, req, resp, sipgo.DigestAuth{Username: p.user, Password: p.password})
	}
	if err != nil || resp.StatusCode != want {
		p.t.Fatalf("%s registers over %s: %v, %v, want %d", p.user, p.transport, resp, err, want)
	}
}

// answer takes a call.
func (p *sipgoPhone) answer(req *sip.Request, tx sip.ServerTransaction) {
	d, err := p.dialogs.ReadInvite(req, tx)
	if err == nil {
		err = d.Respond(sip.StatusRinging, "Ringing", nil)
	}
	if err == nil {
		p.answered <- d
		err = d.Respond(sip.StatusOK, "OK", nil) // waits for the ACK
	}
	if err != nil {
		p.t.Errorf("%s answers: %v", p.user, err)
	}
	p.confirmed <- struct{}{}
}

// call calls another phone, waits for its answer and hangs up.
func (p *sipgoPhone) call(ctx context.Context, other *sipgoPhone) {
	p.t.Helper()
	d, err := p.dialogs.WriteInvite(ctx, p.request(sip.INVITE, other.user))
	if err != nil {
		p.t.Fatalf("%s calls %s: %v", p.user, other.user, err)
	}
	if err := d.WaitAnswer(ctx, sipgo.AnswerOptions{Username: p.user, Password: p.password}); err != nil {
		p.t.Fatalf("%s calls %s over %s: %v", p.user, other.user, p.transport, err)
	}
	if err := d.Ack(ctx); err != nil {
		p.t.Fatalf("%s acknowledges: %v", p.user, err)
	}
	<-other.confirmed
	if err := d.Bye(ctx); err != nil {
		p.t.Fatalf("%s hangs up: %v", p.user, err)
	}
	select {
	case <-other.hungUp:
	case <-ctx.Done():
		p.t.Fatalf("%s did not hear that %s hung up", other.user, p.user)
	}
}
