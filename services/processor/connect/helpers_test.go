package connect

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	client "github.com/icholy/digest"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/routr-fabric/routr/bus"
	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/location"
	"github.com/routr-fabric/routr/services/processor"
)

const (
	stranger = "192.0.2.1"    // where phones send from
	peer     = "198.51.100.7" // in the trusted network
)

func ptr[T any](v T) *T { return &v }

// testResources are two domains; sip.local has the agents 1001 and 1002, 1003 who is disabled, 1004 who may have one
// contact for ten minutes, 1005 who shares the credentials of 1001, and 1006 who has none.
func testResources() Resources {
	var r Resources
	for ref, host := range map[string]string{"domain-01": "sip.local", "domain-02": "Other.Local"} {
		r.Domains = append(r.Domains, Domain{Ref: ref, Spec: DomainSpec{Context: DomainContext{DomainURI: host}}})
	}
	for _, a := range []struct {
		user, credentials string
		change            func(*AgentSpec)
	}{
		{"1001", "credentials-1001", nil},
		{"1002", "credentials-1002", nil},
		{"1003", "credentials-1003", func(a *AgentSpec) { a.Enabled = ptr(false) }},
		{"1004", "credentials-1004", func(a *AgentSpec) { a.MaxContacts, a.Expires = 1, 600 }},
		{"1005", "credentials-1001", nil},
		{"1006", "", nil},
	} {
		spec := AgentSpec{Username: a.user, DomainRef: "domain-01", CredentialsRef: a.credentials}
		if a.change != nil {
			a.change(&spec)
		}
		r.Agents = append(r.Agents, Agent{Ref: "agent-" + a.user, Spec: spec})
		if a.credentials == "credentials-"+a.user {
			r.Credentials = append(r.Credentials, Credentials{Ref: a.credentials, Spec: CredentialsSpec{
				Credentials: UserPassword{Username: a.user, Password: password(a.user)},
			}})
		}
	}
	return r
}

func password(user string) string { return "secret of " + user }

// runner is a service of the fabric.
type runner interface {
	Run(ctx context.Context, ready func()) error
}

// run runs a service until the test ends or stop is called.
func run(t testing.TB, s runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("Run = %v before it was ready", err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// fabric is a Connect processor and a Location Service on a bus.
type fabric struct {
	t        testing.TB
	conn     *bus.Conn
	connect  *Service
	ref      string // of the processor; connect if empty
	location func() // stops it
	stop     func() // stops the processor
}

// testConfig trusts one network and offers every digest algorithm there is.
func testConfig() Config {
	cfg := Default()
	cfg.Spec.Trusted = []string{"198.51.100.0/24"}
	cfg.Spec.Algorithms = []string{processor.SHA256, processor.MD5}
	return cfg
}

func newFabric(t testing.TB, conn *bus.Conn, change func(*Service)) *fabric {
	t.Helper()
	return newFabricOf(t, conn, testConfig(), change)
}

func newFabricOf(t testing.TB, conn *bus.Conn, cfg Config, change func(*Service)) *fabric {
	t.Helper()
	f := &fabric{t: t, conn: conn}
	l, err := location.New(location.Default(), conn, slog.New(slog.DiscardHandler), noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	f.location = run(t, l)
	if f.connect, err = New(cfg, testResources(), conn, slog.New(slog.DiscardHandler), noop.Meter{}); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(f.connect)
	}
	f.stop = run(t, f.connect)
	return f
}

// request is a SIP request in few words. Absent parts have the value of a phone of 1001 that registers.
type request struct {
	method, uri  string
	from, to     string
	toTag        string
	contacts     []contact
	expires      string // of the header
	headers      []string
	source       string
	sourcePort   int32
	flow         string
	callID       string
	cSeq         uint32
	edgePort     string
	vias         int // how many there are; 0: one
	noFrom, noTo bool
}

// contact is a value of a Contact header.
type contact struct {
	uri     string // "*" for the wildcard
	expires string // the parameter; empty: none
	q       string // the parameter; empty: none
	params  map[string]string
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// sipURI is the SipURI of a text, as the EdgePort makes it.
func sipURI(text string) *sipmessagepb.SipURI {
	u, ok := processor.ParseURI(text)
	if !ok {
		return &sipmessagepb.SipURI{Raw: text}
	}
	return &sipmessagepb.SipURI{User: u.User, Host: u.Host, Port: int32(u.Port), Secure: u.Secure, Raw: text}
}

func (r request) build() *processorpb.MessageRequest {
	method := or(r.method, "REGISTER")
	from := or(r.from, "sip:1001@sip.local")
	to := or(r.to, from)
	uri := r.uri
	if uri == "" {
		if uri = to; method == "REGISTER" {
			uri = "sip:sip.local"
		}
	}
	if r.sourcePort == 0 {
		r.sourcePort = 5060
	}
	callID := or(r.callID, "call-1")
	m := &sipmessagepb.SIPMessage{
		MessageType: &sipmessagepb.SIPMessage_RequestUri{RequestUri: sipURI(uri)},
		From:        &sipmessagepb.From{Address: &sipmessagepb.Address{Uri: sipURI(from)}, Tag: "f"},
		To:          &sipmessagepb.To{Address: &sipmessagepb.Address{Uri: sipURI(to)}, Tag: r.toTag},
		CallId:      &sipmessagepb.CallID{CallId: callID},
		CSeq:        &sipmessagepb.CSeq{Number: max(r.cSeq, 1), Method: method},
	}
	for range max(r.vias, 1) {
		m.Via = append(m.Via, &sipmessagepb.Via{Host: "192.0.2.1", Transport: "UDP"})
	}
	if r.noFrom {
		m.From = nil
	}
	if r.noTo {
		m.To = nil
	}
	for _, c := range r.contacts {
		m.Contacts = append(m.Contacts, c.build())
	}
	if len(m.Contacts) > 0 {
		m.Contact = m.Contacts[0]
		if len(m.Contacts) == 1 {
			m.Contacts = nil
		}
	}
	if r.expires != "" {
		m.Expires = &sipmessagepb.Expires{Expires: atoi(r.expires)}
	}
	for _, h := range r.headers {
		name, value, _ := strings.Cut(h, ": ")
		m.Extensions = append(m.Extensions, &sipmessagepb.Extension{Name: name, Value: value})
	}
	out := &processorpb.MessageRequest{
		Ref:         callID,
		EdgePortRef: or(r.edgePort, "edgeport-01"),
		Method:      processorpb.Method(processorpb.Method_value[method]),
		Sender:      &processorpb.NetInterface{Host: or(r.source, stranger), Port: r.sourcePort, Transport: commonpb.Transport_UDP},
		ListeningPoints: []*processorpb.NetInterface{
			{Host: "203.0.113.1", Port: 5060, Transport: commonpb.Transport_UDP},
		},
		Message: m,
		Flow:    r.flow,
	}
	if out.Method == processorpb.Method_UNKNOWN {
		out.MethodName = method
	}
	if r.flow != "" {
		out.Sender.Transport = commonpb.Transport_TCP
	}
	return out
}

// post sends a request to the processor and waits for the answer.
func (f *fabric) post(req *processorpb.MessageRequest) (*processorpb.MessageResponse, error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return bus.Ask[processorpb.MessageResponse](ctx, f.conn, bus.SubjectProcess(or(f.ref, "connect"), processor.MethodOf(req)), req)
}

// send is post for those who expect an answer.
func (f *fabric) send(r request) *processorpb.MessageResponse {
	f.t.Helper()
	answer, err := f.post(r.build())
	if err != nil {
		f.t.Fatalf("%s %s: %v", or(r.method, "REGISTER"), r.uri, err)
	}
	return answer
}

// phone is a client that answers challenges.
type phone struct {
	user      string // of the credentials; 1001 if empty
	password  string // the right one if empty
	algorithm string // SHA-256 if empty
	digestURI string // the Request-URI if empty
	count     int
}

// credentials answer the challenge with a header for r.
func (p phone) credentials(t testing.TB, r request, challenge *processorpb.MessageResponse) string {
	t.Helper()
	user := or(p.user, "1001")
	req := r.build()
	for _, e := range challenge.GetMessage().GetExtensions() {
		c, err := client.ParseChallenge(e.Value)
		if err != nil || c.Algorithm != or(p.algorithm, processor.SHA256) {
			continue
		}
		made, err := client.Digest(c, client.Options{
			Method:   processor.MethodOf(req),
			URI:      or(p.digestURI, req.Message.GetRequestUri().Raw),
			Username: user,
			Password: or(p.password, password(user)),
			Count:    max(p.count, 1),
		})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Replace(e.Name, "Authenticate", "Authorization", 1) + ": " + made.String()
	}
	t.Fatalf("no challenge for %s in %v", or(p.algorithm, processor.SHA256), challenge)
	return ""
}

// call sends a request, answers the challenge, and gives the answer to that.
func (f *fabric) call(p phone, r request) *processorpb.MessageResponse {
	f.t.Helper()
	first := f.send(r)
	if status := first.GetMessage().GetStatusCode(); status != 401 && status != 407 {
		f.t.Fatalf("%s without credentials = %s, want 401 or 407", or(r.method, "REGISTER"), describe(first))
	}
	return f.send(p.answer(f.t, r, first))
}

// answer is r with credentials; WWW-Authenticate is answered by Authorization.
func (p phone) answer(t testing.TB, r request, challenge *processorpb.MessageResponse) request {
	header := strings.Replace(p.credentials(t, r, challenge), "WWW-Authorization", "Authorization", 1)
	r.headers = append(append([]string(nil), r.headers...), header)
	return r
}

// describe is an answer in a line.
func describe(m *processorpb.MessageResponse) string {
	var b strings.Builder
	if status := m.GetMessage().GetStatusCode(); status != 0 {
		b.WriteString(itoa(status) + " " + m.Message.ReasonPhrase)
		for _, e := range m.Message.Extensions {
			if e.Name != "Date" {
				b.WriteString(" | " + e.Name + ": " + e.Value)
			}
		}
		return b.String()
	}
	for i, t := range m.GetTargets() {
		if i > 0 {
			b.WriteString(" + ")
		}
		b.WriteString(t.Uri)
		if h := t.NextHop; h != nil {
			b.WriteString(" at " + h.Transport.String() + " " + h.Host + ":" + itoa(h.Port))
		}
		for _, x := range [][2]string{{"flow", t.Flow}, {"edgeport", t.EdgePortRef}, {"path", strings.Join(t.Path, " ")}, {"instance", t.Instance}} {
			if x[1] != "" {
				b.WriteString(" " + x[0] + "=" + x[1])
			}
		}
		for _, at := range t.EdgePortAddrs {
			b.WriteString(" by " + at.Transport.String() + " " + at.Host + ":" + itoa(at.Port))
		}
		if t.Q != 1000 {
			b.WriteString(" q=" + itoa(t.Q))
		}
	}
	for _, name := range m.GetRemoveHeaders() {
		b.WriteString(" -" + name)
	}
	for _, e := range m.GetAddHeaders() {
		b.WriteString(" +" + e.Name)
	}
	return b.String()
}

func itoa(n int32) string { return strconv.Itoa(int(n)) }

func atoi(s string) int32 {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		panic(err)
	}
	return int32(n)
}

func (c contact) build() *sipmessagepb.Contact {
	if c.uri == "*" {
		return &sipmessagepb.Contact{Address: &sipmessagepb.Address{Wildcard: true}, Expires: -1, QValue: -1}
	}
	out := &sipmessagepb.Contact{
		Address: &sipmessagepb.Address{Uri: sipURI(c.uri)}, Expires: -1, QValue: -1, Parameters: c.params,
	}
	if c.q != "" {
		q, err := strconv.ParseFloat(c.q, 32)
		if err != nil {
			panic(err)
		}
		out.QValue = float32(q)
	}
	if c.expires != "" {
		out.Expires = atoi(c.expires)
	}
	return out
}

// newProcessor is a Connect processor on a bus, which can be reached by ref alone, without a Location Service.
func newProcessor(t testing.TB, conn *bus.Conn, ref string) *fabric {
	t.Helper()
	cfg := testConfig()
	cfg.Ref = ref
	s, err := New(cfg, testResources(), conn, slog.New(slog.DiscardHandler), noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	return &fabric{t: t, conn: conn, connect: s, ref: ref, stop: run(t, s)}
}
