package transport

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/routr-fabric/routr/services/edgeport/message"
)

// clientTLS trusts the certificate that e made.
func (e *edge) clientTLS() *tls.Config {
	return &tls.Config{RootCAs: e.trust(), ServerName: "127.0.0.1"}
}

func (e *edge) trust() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(e.own.Leaf)
	return pool
}

// files writes a new certificate for name and returns its path; the key is in the same file.
func files(t *testing.T, path, name string) *x509.Certificate {
	t.Helper()
	text, err := makeCertificate([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

// However a stream of TLS is cut, the messages are the same, in and out.
func TestTLS(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		t.Run(addr, func(t *testing.T) {
			e := serve(t, on(TLS, addr), echo)
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				raw, err := net.Dial("tcp", e.addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer raw.Close()
				cfg := e.clientTLS()
				cfg.ServerName, cfg.MaxVersion = addr, version
				c := tls.Client(slowly{raw, 100}, cfg)
				large := sized("big", message.MaxSize)
				for _, msg := range []string{text("a", 300), large, text("b", 0)} {
					write(t, c, msg)
					if f := e.want(t, msg); f.Protocol() != TLS || f.Local() != e.addr() || f.Remote() != addrPort(raw.LocalAddr()) {
						t.Errorf("flow = %v %v %v, want TLS %v %v", f.Protocol(), f.Local(), f.Remote(), e.addr(), raw.LocalAddr())
					}
					read(t, c, msg)
				}
				write(t, c, "\r\n\r\n")
				read(t, c, "\r\n")
				e.wantReleased(t)
				// The half that the client closes leaves ours open, and our end is told (RFC 8446 6.1).
				write(t, c, text("last", 0))
				e.want(t, text("last", 0))
				read(t, c, text("last", 0))
				if err := c.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				f := wait(t, e.closed, "the end of the client's half")
				f.Send([]byte("answer"), nil)
				read(t, c, "answer")
			}
			e.stop()
		})
	}
}

// slowly writes in pieces.
type slowly struct {
	net.Conn
	size int
}

func (s slowly) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		var k int
		k, err = s.Conn.Write(b[:min(s.size, len(b))])
		n, b = n+k, b[k:]
	}
	return n, err
}

// A21 and W21: what is no TLS of 1.2 or later ends at the handshake.
func TestHandshakeOfTLS(t *testing.T) {
	e := serve(t, on(TLS, "127.0.0.1"), nil)
	for name, in := range map[string]string{"A21 SIP": text("a", 0), "A21 HTTP": "GET / HTTP/1.1\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			c := e.client(t, "127.0.0.1")
			write(t, c, in)
			e.wantClosed(t, noHandshake)
		})
	}
	t.Run("W21 TLS 1.1", func(t *testing.T) {
		cfg := e.clientTLS()
		cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		if err := tls.Client(e.client(t, "127.0.0.1"), cfg).Handshake(); err == nil || !strings.Contains(err.Error(), "version") {
			t.Errorf("handshake with TLS 1.1 = %v, want a refusal of the version", err)
		}
		e.wantClosed(t, noHandshake)
	})
	t.Run("W21 SNI", func(t *testing.T) { // whatever name the client asked for, it gets the certificate that there is
		for _, name := range []string{"localhost", "sip.example.com"} {
			cfg := e.clientTLS()
			cfg.ServerName, cfg.InsecureSkipVerify = name, true
			c := tls.Client(e.client(t, "127.0.0.1"), cfg)
			write(t, c, text("a", 0))
			e.want(t, text("a", 0))
			if got := c.ConnectionState().PeerCertificates[0]; !got.Equal(e.own.Leaf) {
				t.Errorf("certificate for %s is of %v, want ours", name, got.DNSNames)
			}
		}
	})
}

// W1 to W10 work the same within TLS.
func TestWSS(t *testing.T) {
	e := serve(t, on(WSS, "127.0.0.1"), nil)
	p := e.page(t)
	msg := sized("a", message.MaxSize)
	write(t, p, frame(text1, msg[:20000])+frame(fin|ping, "x")+frame(fin|more, msg[20000:]))
	p.want(t, fin|pong, "x")
	f := e.want(t, msg)
	f.Send([]byte(msg), nil)
	p.want(t, fin|text1, msg)
	if f.Protocol() != WSS {
		t.Errorf("flow is of %v, want WSS", f.Protocol())
	}
	go e.stop()
	p.wantEnd(t, 1001)
}

// A peer that does not read is closed within TLS as without, and many who send at once do not mix their bytes.
func TestTLSQueue(t *testing.T) {
	cfg := on(TLS, "127.0.0.1")
	cfg.Limits.Queue = 300 << 10
	e := serve(t, cfg, nil)
	c := tls.Client(e.client(t, "127.0.0.1"), e.clientTLS())
	write(t, c, text("a", 0))
	f := e.want(t, text("a", 0))
	data := strings.Repeat("x", 5000)
	sent := 0
	for ; queued(f) < 100<<10; sent++ {
		f.Send([]byte(data), func(err error) { t.Errorf("Send() failed: %v", err) })
	}
	read(t, c, strings.Repeat(data, sent))
	for f.conn.alive() {
		f.Send([]byte(data), nil)
	}
	e.wantClosed(t, queueFull)
	f.conn.writers.Wait()
	e.wantReleased(t)
}

// selfSigned is a certificate of a client.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestClientCertificate(t *testing.T) {
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	client, stranger := selfSigned(t), selfSigned(t)
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: client.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		auth ClientAuth
		cert *tls.Certificate
		ok   bool
	}{
		{"request, none", RequestClientCert, nil, true},
		{"request, good", RequestClientCert, &client, true},
		{"request, bad", RequestClientCert, &stranger, false},
		{"require, none", RequireClientCert, nil, false},
		{"require, good", RequireClientCert, &client, true},
		{"not asked for", NoClientCert, &stranger, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := on(TLS, "127.0.0.1")
			cfg.Listen[0].TLS = TLSConfig{ClientAuth: tt.auth, ClientCAFile: ca}
			e := serve(t, cfg, echo)
			tc := e.clientTLS()
			if tt.cert != nil {
				tc.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tt.cert, nil }
			}
			c := tls.Client(e.client(t, "127.0.0.1"), tc)
			_, _ = io.WriteString(c, text("a", 0))
			if !tt.ok {
				e.wantClosed(t, noHandshake)
				return
			}
			read(t, c, text("a", 0))
		})
	}
}

// W21: a certificate that is replaced serves new connections, drops none, and one that is broken is not used.
func TestW21CertificateReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cert.pem")
	first := files(t, path, "one.example.com")
	cfg := on(TLS, "127.0.0.1")
	cfg.Listen[0].TLS = TLSConfig{CertFile: path, KeyFile: path}
	var log bytes.Buffer
	e := &edge{got: make(chan received, 10), closed: make(chan Flow, 10)}
	e.Layer = New(cfg, func(f Flow, data []byte) { f.Send(data, nil) }, func(f Flow) { e.closed <- f }, slog.New(slog.NewTextHandler(&log, nil)), noop.Meter{})
	if err := e.Listen(); err != nil {
		t.Fatal(err)
	}
	e.run(t)
	cert := e.listeners[0].tls.cert
	connect := func(want *x509.Certificate) *tls.Conn {
		t.Helper()
		cert.lookAgain()
		c := tls.Client(e.client(t, "127.0.0.1"), &tls.Config{InsecureSkipVerify: true})
		write(t, c, text("a", 0))
		read(t, c, text("a", 0))
		if got := c.ConnectionState().PeerCertificates[0]; !got.Equal(want) {
			t.Errorf("certificate of %v, want of %v", got.DNSNames, want.DNSNames)
		}
		return c
	}
	old := connect(first)
	if err := os.WriteFile(path, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	connect(first)
	connect(first)
	second := files(t, path, "two.example.com")
	connect(second)
	write(t, old, text("b", 0))
	read(t, old, text("b", 0))
	e.stop()
	if n := strings.Count(log.String(), "cannot be read"); n != 1 {
		t.Errorf("a broken file was logged %d times, want once:\n%s", n, log.String())
	}
}

// lookAgain makes the last look at the files a long time ago.
func (f *fromFiles[T]) lookAgain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checked = time.Time{}
}

// W21: the authorities of client certificates are replaced like a certificate. Who was let in by the old ones stays, and
// has to show a new certificate when he comes again, with the ticket of the old session too.
func TestW21ClientCAReload(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ca := filepath.Join(t.TempDir(), "ca.pem")
			first, second := selfSigned(t), selfSigned(t)
			written := 0
			trust := func(cert tls.Certificate) {
				t.Helper()
				if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600); err != nil {
					t.Fatal(err)
				}
				// Two files that are written within one tick of the file system's clock, and are as long, look the same.
				written++
				at := time.Now().Add(time.Duration(written) * time.Minute)
				if err := os.Chtimes(ca, at, at); err != nil {
					t.Fatal(err)
				}
			}
			trust(first)
			cfg := on(TLS, "127.0.0.1")
			cfg.Listen[0].TLS = TLSConfig{ClientAuth: RequireClientCert, ClientCAFile: ca}
			var log bytes.Buffer
			e := &edge{got: make(chan received, 10), closed: make(chan Flow, 10)}
			e.Layer = New(cfg, func(f Flow, data []byte) { f.Send(data, nil) }, func(f Flow) { e.closed <- f }, slog.New(slog.NewTextHandler(&log, nil)), noop.Meter{})
			if err := e.Listen(); err != nil {
				t.Fatal(err)
			}
			e.run(t)
			sessions := tls.NewLRUClientSessionCache(1) // of first
			connect := func(cert tls.Certificate, sessions tls.ClientSessionCache, want bool) *tls.Conn {
				t.Helper()
				e.listeners[0].tls.clients.lookAgain()
				cfg := e.clientTLS()
				cfg.MaxVersion, cfg.ClientSessionCache = version, sessions
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
				c := tls.Client(e.client(t, "127.0.0.1"), cfg)
				_, _ = io.WriteString(c, text("a", 0)) // where it is refused, that may be told here or there
				if !want {
					e.wantClosed(t, noHandshake)
					return nil
				}
				read(t, c, text("a", 0))
				return c
			}
			old := connect(first, sessions, true)
			if !connect(first, sessions, true).ConnectionState().DidResume {
				t.Fatal("the second handshake resumed no session: there is none to try")
			}
			connect(second, nil, false)
			trust(second)
			connect(first, nil, false)
			connect(first, sessions, false)
			connect(second, nil, true)
			if err := os.WriteFile(ca, []byte("half a file"), 0o600); err != nil {
				t.Fatal(err)
			}
			connect(second, nil, true)
			connect(first, nil, false)
			write(t, old, text("b", 0))
			read(t, old, text("b", 0))
			e.stop()
			if n := strings.Count(log.String(), "cannot be read"); n != 1 {
				t.Errorf("a broken file was logged %d times, want once:\n%s", n, log.String())
			}
		})
	}
}

func TestOwnCertificate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	make := func(names ...string) *x509.Certificate {
		t.Helper()
		cfg := on(WSS, "127.0.0.1")
		cfg.CertificateDir, cfg.Names = dir, names
		e := serve(t, cfg, nil)
		talk(t, e)
		return e.own.Leaf
	}
	first := make("sip.example.com")
	info, err := os.Stat(filepath.Join(dir, ownFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v, want one of mode 0600", info, err)
	}
	host, _ := os.Hostname()
	for _, name := range []string{"sip.example.com", "localhost", "127.0.0.1", "::1", host} {
		if err := first.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if again := make("sip.example.com"); !again.Equal(first) {
		t.Error("the second start made another certificate")
	}
	second := make("sip.example.com", "2001:db8::5")
	if second.Equal(first) || second.VerifyHostname("2001:db8::5") != nil {
		t.Error("a new name made no new certificate")
	}
}

// A connection that we open is only for who proves the name.
func TestDialTLS(t *testing.T) {
	peer := serve(t, on(TLS, "127.0.0.1"), echo)
	cfg := on(TLS, "127.0.0.1")
	cfg.RootCAs = peer.trust()
	e := serve(t, cfg, nil)
	flows := map[Flow]bool{}
	for _, name := range []string{"localhost", ""} { // the address, without a name
		f, err := e.Flow(TLS, peer.addr(), name)
		if err != nil {
			t.Fatal(err)
		}
		for _, msg := range []string{text("a", 10), text("b", 10)} { // the first while it dials
			f.Send([]byte(msg), func(err error) { t.Errorf("Send() failed: %v", err) })
			peer.want(t, msg)
			if got := e.want(t, msg); got != f {
				t.Errorf("the answer came on %v, want %v", got, f)
			}
		}
		if again, err := e.Flow(TLS, peer.addr(), strings.ToUpper(name)); err != nil || again != f {
			t.Errorf("second Flow(%q) = %v, %v, want the same", name, again, err)
		}
		flows[f] = true
	}
	if len(flows) != 2 {
		t.Error("two names share a connection")
	}
	refused := func(e *edge, to netip.AddrPort, name string) {
		t.Helper()
		f, err := e.Flow(TLS, to, name)
		if err != nil {
			t.Fatal(err)
		}
		failed := make(chan error, 1)
		f.Send([]byte("x"), func(err error) { failed <- err })
		err = wait(t, failed, "the failure")
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
			t.Errorf("Send() to %s %q failed with %v, want a certificate that is refused", to, name, err)
		}
		e.wantClosed(t, unreachable)
	}
	refused(e, peer.addr(), "other.example.com")
	peer.wantClosed(t, noHandshake)
	refused(peer, e.addr(), "localhost") // it trusts the authorities of the system
	e.wantReleased(t)
}
