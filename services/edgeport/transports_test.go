package edgeport

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// transports are the five of an EdgePort, as its file spells them.
var transports = []string{"udp", "tcp", "tls", "ws", "wss"}

// phone is a client that speaks one transport. All but UDP are reached on the connection that they opened.
type phone struct {
	*client
	x         *exchange // where it has registered
	transport string
	name      string // the user, and what a browser calls its host
	secure    bool   // it is called by sips
	flow      string // of its connection, once it has said hello
	heard     map[string]bool
}

// via is the Via of a request, with the branch.
func (p *phone) via(branch string) string {
	return "Via: SIP/2.0/" + strings.ToUpper(p.transport) + " " + p.host() + ";branch=z9hG4bK" + branch + ";rport"
}

// host is where the phone believes that it is. A browser does not know, and takes a name that nobody can resolve.
func (p *phone) host() string {
	if p.transport == "ws" || p.transport == "wss" {
		return p.name + ".invalid"
	}
	return p.addr()
}

// contact is the URI by which the phone wants to be called.
func (p *phone) contact() string {
	uri := p.scheme() + ":" + p.name + "@" + p.host()
	switch p.transport {
	case "udp":
		return uri
	case "tls":
		if p.secure {
			return uri // RFC 5630 3.1.4: TLS is what sips says
		}
		return uri + ";transport=tls"
	case "wss":
		return uri + ";transport=ws" // RFC 7118 5.2: there is no other
	default:
		return uri + ";transport=" + p.transport
	}
}

func (p *phone) scheme() string {
	if p.secure {
		return "sips"
	}
	return "sip"
}

// target is where a processor sends what is for the phone.
func (p *phone) target() *processorpb.Target {
	return &processorpb.Target{Uri: p.contact(), Flow: p.flow}
}

// frames is a connection whose messages are those of a WebSocket: text, or binary where they are no UTF-8.
type frames struct{ net.Conn }

func (f frames) Write(b []byte) (int, error) {
	op := ws.OpText
	if !utf8.Valid(b) {
		op = ws.OpBinary
	}
	return len(b), wsutil.WriteClientMessage(f.Conn, op, b)
}

func (f frames) Read(b []byte) (int, error) {
	data, _, err := wsutil.ReadServerData(f.Conn)
	return copy(b, data), err
}

// exchange is an EdgePort with the five transports.
type exchange struct {
	*system
	*decisions
	roots *x509.CertPool // with its certificate
}

// decisions are the test as the dispatcher of all EdgePorts on a bus.
type decisions struct {
	mu     sync.Mutex
	byCall map[string]decider // by Call-ID
}

// serveDecisions answers what the EdgePorts on a bus dispatch.
func serveDecisions(t *testing.T, conn *bus.Conn) *decisions {
	t.Helper()
	d := &decisions{byCall: make(map[string]decider)}
	serve(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
		d.mu.Lock()
		decide := d.byCall[req.Ref]
		d.mu.Unlock()
		if decide == nil {
			r.Fail(bus.Errorf(bus.NotFound, "no decision for %s of call %s", req.Method, req.Ref))
			return
		}
		decide(r, req)
	})
	return d
}

// startExchange runs an EdgePort with the five transports on 127.0.0.1, and the test as its dispatcher.
func startExchange(t *testing.T, conn *bus.Conn, change func(*Config)) *exchange {
	t.Helper()
	x := serveDecisions(t, conn).startExchange(t, conn, change)
	dir := x.edge.cfg.Spec.DataDir
	files, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the EdgePort keeps the certificates %q (%v), want the one that it has made", files, err)
	}
	certificate, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	x.roots = x509.NewCertPool()
	if !x.roots.AppendCertsFromPEM(certificate) {
		t.Fatalf("%s holds no certificate:\n%s", files[0], certificate)
	}
	return x
}

// startExchange runs an EdgePort with the five transports whose dispatcher is d.
func (d *decisions) startExchange(t *testing.T, conn *bus.Conn, change func(*Config)) *exchange {
	t.Helper()
	dir := t.TempDir()
	return &exchange{decisions: d, system: start(t, conn, nil, func(cfg *Config) {
		cfg.Spec.DataDir = dir
		cfg.Spec.Transport = nil
		for _, name := range transports {
			cfg.Spec.Transport = append(cfg.Spec.Transport, Transport{Protocol: name})
		}
		if change != nil {
			change(cfg)
		}
	})}
}

// decides says what becomes of the requests with that Call-ID.
func (d *decisions) decides(callID string, decide decider) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.byCall[callID] = decide
}

// point is where the EdgePort listens for a transport.
func (x *exchange) point(transport string) string {
	for _, p := range x.edge.Points() {
		if addr, found := strings.CutPrefix(p, transport+":"); found {
			return addr
		}
	}
	x.t.Fatalf("the EdgePort listens on %v, not on %s", x.edge.Points(), transport)
	return ""
}

// phone is a phone that has said hello: the EdgePort knows its connection.
func (x *exchange) phone(t *testing.T, transport, name string) *phone {
	t.Helper()
	p := &phone{x: x, transport: transport, name: name}
	addr := x.point(transport)
	secure := &tls.Config{RootCAs: x.roots, ServerName: "127.0.0.1"}
	var conn net.Conn
	var err error
	switch transport {
	case "udp":
		p.client = udpClient(t)
		return p
	case "tcp":
		conn, err = net.Dial("tcp", addr)
	case "tls":
		conn, err = tls.Dial("tcp", addr, secure)
	default:
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		conn, _, _, err = ws.Dialer{Protocols: []string{"sip"}, TLSConfig: secure}.Dial(ctx, transport+"://"+addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if transport == "ws" || transport == "wss" {
		conn = frames{conn}
	}
	p.client = &client{t: t, stream: conn}
	p.register()
	return p
}

// register has the phone send a REGISTER, from which the EdgePort knows its flow.
func (p *phone) register() {
	p.t.Helper()
	hello, flow := "hello-"+p.name, make(chan string, 1)
	p.x.decides(hello, func(r *bus.Request, req *processorpb.MessageRequest) {
		flow <- req.Flow
		r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{
			MessageType: &sipmessagepb.SIPMessage_ResponseType{ResponseType: sipmessagepb.ResponseType_OK},
		}})})
	})
	p.send(p.x.system, p.request(p.x.system, "REGISTER", "sip:example.com", "", p.via(hello), "Call-ID: "+hello))
	p.want("SIP/2.0 200")
	p.flow = <-flow
}

// next is the next message that the phone receives and has not received before: on UDP a slow phone hears things twice,
// and a 100 to what is no INVITE (RFC 4320 4.1).
func (p *phone) next() (*message.Message, []byte) {
	p.t.Helper()
	for {
		data, err := p.receive(patience)
		if err != nil {
			p.t.Fatalf("%s over %s received nothing: %v", p.name, p.transport, err)
		}
		if p.heard[string(data)] {
			continue
		}
		if p.heard == nil {
			p.heard = make(map[string]bool)
		}
		p.heard[string(data)] = true
		m := new(message.Message)
		if err := m.Parse(bytes.Clone(data), message.DefaultLimits()); err != nil {
			p.t.Fatalf("%s over %s received what is no message: %v\n%q", p.name, p.transport, err, data)
		}
		if m.Status() != 100 || m.CSeqMethod() == message.INVITE {
			return m, data
		}
	}
}

// want is the next message that the phone receives, which has to begin with start.
func (p *phone) want(start string) *message.Message {
	p.t.Helper()
	m, data := p.next()
	if !bytes.HasPrefix(data, []byte(start)) {
		p.t.Fatalf("%s over %s received\n%s\nwant %s", p.name, p.transport, data, start)
	}
	return m
}
