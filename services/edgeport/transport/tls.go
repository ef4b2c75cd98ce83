package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// TLSConfig is how a listening point speaks TLS, 1.2 or later. Its files are PEM.
type TLSConfig struct {
	// CertFile and KeyFile are its certificate, with those between it and the root, and the key. They are read again
	// when they change. Without them it has one that the layer makes for itself.
	CertFile, KeyFile string
	// ClientCAFile are the authorities of client certificates. It is read again when it changes.
	ClientCAFile string
	ClientAuth   ClientAuth
}

// ClientAuth is whether clients need a certificate.
type ClientAuth string

// One that is sent must be valid in any case, but for NoClientCert, which does not ask.
const (
	NoClientCert      ClientAuth = ""
	RequestClientCert ClientAuth = "request"
	RequireClientCert ClientAuth = "require"
)

// listenerTLS is how a listening point speaks TLS, by its files as they are now.
type listenerTLS struct {
	*tls.Config
	cert    *fromFiles[*tls.Certificate] // nil: the one that was made here
	clients *fromFiles[*tls.Config]      // nil: no certificate is asked for
}

// serverTLS reads the files of a listening point.
func (l *Layer) serverTLS(p Listen) (s listenerTLS, err error) {
	s.Config = &tls.Config{MinVersion: tls.VersionTLS12}
	if p.TLS.CertFile == "" {
		own, err := l.ownCertificate()
		if err != nil {
			return s, err
		}
		s.Certificates = []tls.Certificate{*own}
	} else {
		if s.cert, err = certificateFiles(l.log, p.TLS.CertFile, p.TLS.KeyFile); err != nil {
			return s, err
		}
		s.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert.get(), nil }
	}
	if p.TLS.ClientAuth != NoClientCert {
		s.ClientAuth = tls.VerifyClientCertIfGiven
		if p.TLS.ClientAuth == RequireClientCert {
			s.ClientAuth = tls.RequireAndVerifyClientCert
		}
		if s.clients, err = clientFiles(l.log, s.Config, p.TLS.ClientCAFile); err != nil {
			return s, err
		}
		s.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.clients.get(), nil }
	}
	return s, nil
}

// ReadCAs reads the certificates of authorities from a PEM file.
func ReadCAs(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read certificates: %s has none", file)
	}
	return pool, nil
}

// clientTLS is for a connection that we open.
func (l *Layer) clientTLS(name string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, RootCAs: l.cfg.RootCAs}
}

// errWait is what a read says that would have to wait. TLS goes on after an error that calls itself temporary.
var errWait net.Error = waitError{}

type waitError struct{}

func (waitError) Error() string   { return "nothing to read yet" }
func (waitError) Timeout() bool   { return true }
func (waitError) Temporary() bool { return true }

// tunnel is the TLS of a connection. Once it stands it neither waits nor writes by itself: what it has encrypted is
// fetched by the connection, and goes the way of the bytes of TCP.
type tunnel struct {
	*tls.Conn
	wire wire
}

// wire is what TLS takes for its socket.
type wire struct {
	net.Conn
	c        *conn
	rest     []byte // came with the PROXY header
	standing bool   // the handshakes are over, and nothing waits any more

	mu  sync.Mutex
	out *scratch // nil: nothing
}

func (w *wire) Read(b []byte) (n int, err error) {
	switch {
	case len(w.rest) > 0:
		n = copy(b, w.rest)
		if w.rest = w.rest[n:]; len(w.rest) == 0 {
			w.rest = nil
		}
		return n, nil
	case w.standing:
		n, err = w.c.direct.take(w.Conn, b)
	default:
		n, err = w.Conn.Read(b)
	}
	w.c.layer.counters[w.c.protocol].bytesIn.Add(int64(n))
	return n, err
}

func (w *wire) Write(b []byte) (int, error) {
	if !w.standing {
		return w.Conn.Write(b)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out == nil {
		w.out = w.c.layer.newScratch()
	}
	return w.out.Write(b)
}

// fetch returns what there is to be written, or nil.
func (w *wire) fetch() *scratch {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.out
	w.out = nil
	return s
}

// Deadlines are the connection's, and TLS must not move them.

func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// secure does the handshake. What is in in has come already.
func (c *conn) secure(in *inbox) error {
	t := &tunnel{wire: wire{Conn: c.nc, c: c, rest: append([]byte(nil), in.buf[:in.n]...)}}
	in.drop(in.n)
	in.rest()
	if c.dialed {
		name := c.name
		if name == "" {
			name = c.remote.Addr().WithZone("").String()
		}
		t.Conn = tls.Client(&t.wire, c.layer.clientTLS(name))
	} else {
		t.Conn = tls.Server(&t.wire, c.point.tls.Config)
	}
	if err := t.Handshake(); err != nil {
		return err
	}
	c.tls = t
	return nil
}

// decrypt is fill for TLS. While it waits it holds no buffer.
func (c *conn) decrypt(in *inbox) (int, error) {
	for {
		room, err := in.room()
		if err != nil {
			return 0, err
		}
		n, err := c.tls.Read(room)
		c.mu.Lock()
		if c.ready && c.why == alive {
			c.flushTLS(nil) // the answer to a KeyUpdate, an alert
		}
		c.mu.Unlock()
		switch {
		case n > 0 && errors.Is(err, errWait):
			return n, nil
		case errors.Is(err, errWait):
			in.rest()
			if err := c.direct.wait(); err != nil {
				return 0, err
			}
		case errors.Is(err, io.ErrUnexpectedEOF):
			return n, io.EOF // without a close_notify, which many omit; a message tells its length
		default:
			return n, err
		}
	}
}

// flushTLS sends what TLS has encrypted. The caller holds the lock.
func (c *conn) flushTLS(fail func(error)) bool {
	s := c.tls.wire.fetch()
	if s == nil {
		return true
	}
	defer c.layer.free(s)
	return c.put(s.Bytes(), fail)
}
