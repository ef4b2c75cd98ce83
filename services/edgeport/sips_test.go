package edgeport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"google.golang.org/protobuf/proto"

	"github.com/routr-fabric/routr/bus"
	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// trust is a certificate for 127.0.0.1 that everybody in a test has and trusts.
type trust struct {
	t    *testing.T
	file string // with its key
	tls  *tls.Config
}

func newTrust(t *testing.T) *trust {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	tr := &trust{t: t, file: filepath.Join(t.TempDir(), "cert.pem")}
	if err := os.WriteFile(tr.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	tr.tls = &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
	return tr
}

// configure adds TLS and secure WebSockets to an EdgePort.
func (tr *trust) configure(cfg *Config) {
	own := TransportTLS{CertFile: tr.file, KeyFile: tr.file}
	cfg.Spec.CAFile = tr.file
	cfg.Spec.Transport = append(cfg.Spec.Transport, Transport{Protocol: "tls", TLS: own}, Transport{Protocol: "wss", TLS: own})
}

// server waits for TLS connections.
func (tr *trust) server() *client {
	c := tcpServer(tr.t)
	c.tls = tr.tls
	return c
}

// client is connected to s by TLS.
func (tr *trust) client(s *system) *client {
	tr.t.Helper()
	conn, err := tls.Dial("tcp", s.tls, tr.tls)
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Cleanup(func() { conn.Close() })
	return &client{t: tr.t, stream: conn}
}

// page is a browser that is connected to s by a secure WebSocket.
func (tr *trust) page(s *system) *client {
	tr.t.Helper()
	dialer := ws.Dialer{Protocols: []string{"sip"}, TLSConfig: tr.tls}
	conn, _, _, err := dialer.Dial(tr.t.Context(), "wss://"+s.wss)
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Cleanup(func() { conn.Close() })
	return &client{t: tr.t, stream: socket{conn}}
}

// register tells the flow by which the EdgePort knows a client that has a connection. The dispatcher has to answer with
// what flows has received.
func register(s *system, c *client, flows <-chan string) string {
	s.t.Helper()
	c.send(s, c.request(s, "REGISTER", "sip:example.com", "z9hG4bKregister", "Call-ID: register-"+c.addr()))
	c.want("SIP/2.0 404")
	return <-flows
}

// P20: a call to a sips URI. Every hop is TLS, every Record-Route sips, and so is the rest of the dialog.
func TestP20Sips(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, name := range []string{"contact", "contact with a transport", "flow", "browser", "Path", "changed request", "next hop", "caller by UDP"} {
			t.Run(name, func(t *testing.T) {
				tr, flows := newTrust(t), make(chan string, 1)
				var decide atomic.Pointer[decider]
				s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
					if req.Method == processorpb.Method_REGISTER {
						flows <- req.Flow
						r.Fail(bus.Errorf(bus.NotFound, "as the test wants it"))
						return
					}
					(*decide.Load())(r, req)
				}, tr.configure)
				bob := tr.server()
				contact := "sips:bob@" + bob.addr()
				target := &processorpb.Target{}
				switch name {
				case "contact with a transport":
					contact += ";transport=tcp"
				case "flow":
					bob = tr.client(s)
					target.Flow = register(s, bob, flows)
					contact = "sips:bob@" + bob.addr()
				case "browser":
					bob = tr.page(s)
					target.Flow = register(s, bob, flows)
					contact = "sips:bob@bob1.invalid;transport=ws"
				case "Path": // a hop of a sips request is as if it were sips
					target.Path = []string{"<sip:" + bob.addr() + ";lr>"}
				case "next hop":
					target.NextHop = toTarget(bob).Targets[0].NextHop
					target.NextHop.Transport = commonpb.Transport_TLS
				}
				target.Uri = contact
				var call decider = func(r *bus.Request, req *processorpb.MessageRequest) {
					if name == "changed request" {
						changed := proto.Clone(req.Message).(*sipmessagepb.SIPMessage)
						uri := changed.GetRequestUri()
						uri.Host, uri.Port = hostPort(bob.addr())
						r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Message: changed})})
						return
					}
					reply(r, target)
				}
				decide.Store(&call)
				alice := tr.client(s)
				if name == "caller by UDP" {
					alice = udpClient(t)
				}
				alice.send(s, alice.request(s, "INVITE", "sips:bob@example.com", "z9hG4bKinvite"))
				alice.want("SIP/2.0 100")
				invite := bob.want("INVITE " + contact)
				via := "TLS"
				if name == "browser" {
					via = "WSS"
				}
				if got := string(invite.TopVia().Transport); got != via {
					t.Errorf("Via has transport %s, want %s", got, via)
				}
				rr := values(invite, message.KindRecordRoute)
				hosts := []string{"@" + s.tls + ";lr>"} // the callee's side on top
				if name == "browser" {
					hosts = []string{"@" + s.wss + ";transport=ws;lr>", "@" + s.tls + ";lr>"}
				}
				if len(rr) != len(hosts) {
					t.Fatalf("Record-Route = %q, want %d of them", rr, len(hosts))
				}
				for i, host := range hosts {
					if !strings.HasPrefix(rr[i], "<sips:") || !strings.HasSuffix(rr[i], host) {
						t.Errorf("Record-Route = %s, want sips and %s", rr[i], host)
					}
				}
				bob.send(s, response(invite, 200, "b", "Contact: <"+contact+">"))
				alice.want("SIP/2.0 200")
				if name == "caller by UDP" { // who has to find another way for the rest
					return
				}
				var fromAlice, fromBob string
				for i := range rr {
					fromAlice += ", " + rr[len(rr)-1-i]
					fromBob += ", " + rr[i]
				}
				alice.send(s, alice.request(s, "ACK", contact, "z9hG4bKack", "Route: "+fromAlice[2:], "To: <sips:bob@example.com>;tag=b"))
				bob.want("ACK " + contact)
				bob.send(s, bob.request(s, "BYE", "sips:alice@"+alice.addr(), "z9hG4bKbye", "Route: "+fromBob[2:],
					"From: <sips:bob@example.com>;tag=b", "To: <sips:alice@example.com>;tag=alice-tag"))
				alice.send(s, response(alice.want("BYE sips:alice@"), 200, ""))
				bob.want("SIP/2.0 200")
			})
		}
	})
}

// P20: what cannot go by TLS is not sent at all.
func TestP20NoTLS(t *testing.T) {
	const sips = "sips:bob@example.com"
	modes(t, func(t *testing.T, conn *bus.Conn) {
		tr := newTrust(t)
		alice, victim := udpClient(t), udpClient(t)
		flows := make(chan string, 1)
		var target atomic.Pointer[processorpb.Target]
		s := start(t, conn, func(r *bus.Request, req *processorpb.MessageRequest) {
			if req.Method == processorpb.Method_REGISTER {
				flows <- req.Flow
				r.Fail(bus.Errorf(bus.NotFound, "as the test wants it"))
				return
			}
			reply(r, target.Load())
		}, tr.configure)
		plain := s.tcpClient()
		flow := register(s, plain, flows)
		next := toTarget(victim).Targets[0].NextHop
		_, port := hostPort(victim.addr())
		named := &processorpb.NetInterface{Host: "host.test", Port: port}
		for name, tt := range map[string]struct {
			uri    string
			target *processorpb.Target
			want   string
		}{
			"sip contact":                {sips, &processorpb.Target{Uri: "sip:bob@" + victim.addr()}, "SIP/2.0 480"},
			"sip contact by TLS":         {sips, &processorpb.Target{Uri: "sip:bob@" + victim.addr() + ";transport=tls"}, "SIP/2.0 480"},
			"next hop by UDP":            {sips, &processorpb.Target{Uri: "sips:bob@192.0.2.1", NextHop: next}, "SIP/2.0 480"},
			"next hop by UDP, sips Path": {"sip:bob@example.com", &processorpb.Target{Uri: "sip:bob@192.0.2.1", NextHop: next, Path: []string{"<sips:192.0.2.1;lr>"}}, "SIP/2.0 480"},
			"name by UDP":                {sips, &processorpb.Target{Uri: "sips:bob@192.0.2.1", NextHop: named}, "SIP/2.0 480"},
			"flow of TCP":                {sips, &processorpb.Target{Uri: "sips:bob@192.0.2.1", Flow: flow}, "SIP/2.0 480"},
			"flow that is gone":          {sips, &processorpb.Target{Uri: "sips:bob@rnd.invalid;transport=ws", Flow: "gone"}, "SIP/2.0 480"},
			"nobody there":               {sips, &processorpb.Target{Uri: "sips:bob@" + victim.addr()}, "SIP/2.0 500"}, // P43, P47: a 503
			"sips contact of a sip URI":  {"sip:bob@example.com", &processorpb.Target{Uri: "sips:bob@192.0.2.1", NextHop: next}, "SIP/2.0 480"},
		} {
			target.Store(tt.target)
			id := strings.ReplaceAll(name, " ", "-")
			alice.send(s, alice.request(s, "MESSAGE", tt.uri, "z9hG4bK"+id, "Call-ID: "+id))
			if m := alice.next(); !strings.HasPrefix(string(m.Bytes()), tt.want) {
				t.Errorf("%s: answer\n%s\nwant %s", name, m.Bytes(), tt.want)
			}
		}
		victim.quiet(s)
		plain.quiet(s)
	})
}

// P20: in a dialog too. A side that is reached by UDP gets no request for a sips URI, neither on the flow in the token
// nor at its address.
func TestP20NoTLSInDialog(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		for name, tt := range map[string]struct{ contact, want string }{
			"at its address": {"", "SIP/2.0 500"}, // nobody listens for TLS there: P43, P47
			"behind a NAT":   {"sip:bob@192.0.2.1", "SIP/2.0 480"},
		} {
			t.Run(name, func(t *testing.T) {
				alice, bob := udpClient(t), udpClient(t)
				s := start(t, conn, func(r *bus.Request, _ *processorpb.MessageRequest) {
					answer := toTarget(bob)
					if tt.contact != "" {
						answer.Targets[0].Uri = tt.contact
					}
					r.Reply(bus.Reply{Body: bus.Value(answer)})
				}, nil)
				fields := []string{"Route: " + call(s, alice, bob)[0], "To: <sip:bob@example.com>;tag=b"}
				alice.send(s, alice.request(s, "ACK", "sips:bob@"+bob.addr(), "z9hG4bKack", fields...))
				alice.send(s, alice.request(s, "BYE", "sips:bob@"+bob.addr(), "z9hG4bKbye", fields...))
				alice.want(tt.want)
				bob.quiet(s)
			})
		}
	})
}

// P20: TLS from the caller to us is no sips. The callee may be reached by UDP, and the Record-Routes are sip.
func TestP20SipByTLS(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		tr, bob := newTrust(t), udpClient(t)
		s := start(t, conn, to(bob), tr.configure)
		alice := tr.client(s)
		rr := call(s, alice, bob)
		if len(rr) != 2 || !strings.HasPrefix(rr[0], "<sip:") || !strings.HasSuffix(rr[0], "@"+s.udp+";lr>") ||
			!strings.HasPrefix(rr[1], "<sip:") || !strings.HasSuffix(rr[1], "@"+s.tls+";transport=tls;lr>") {
			t.Errorf("Record-Route = %q, want sip, UDP on top of TLS", rr)
		}
	})
}
