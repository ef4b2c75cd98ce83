package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// identity is the key of the servers that phones of the web connect to.
type identity struct{ key *ecdsa.PrivateKey }

func newIdentity(t *testing.T) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &identity{key}
}

// spki is the SHA-256 of the public key, as Chromium wants it.
func (id *identity) spki(t *testing.T) string {
	t.Helper()
	key, err := x509.MarshalPKIXPublicKey(id.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(key)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// certificate writes a file with the key and a certificate for a host, which is an authority of its own.
func (id *identity) certificate(t *testing.T, host string) (file string) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: host},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.ParseIP(host)},
		IsCA:         true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, id.key.Public(), id.key)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(id.key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "server.pem")
	write(t, file, "%s%s", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	return file
}

// webEdgeportYAML is an EdgePort that takes every method, for phones of the web as well.
const webEdgeportYAML = `
apiVersion: v2beta1
kind: EdgePort
ref: edgeport-01
metadata: {region: e2e}
spec:
  bindAddr: %s
  processor: {addr: "nats://"}
  transport:
    - {protocol: udp, port: 5060}
    - {protocol: tcp, port: 5060}
    - {protocol: ws, port: 5062}
    - {protocol: wss, port: 5063, tls: {certFile: %[2]s, keyFile: %[2]s}}
`

// A webSystem is a system for phones of the web.
type webSystem struct {
	*system
	transport string // ws or wss
	cert      string // file of its certificate
}

// startWeb starts the system in one process, for phones that connect by transport, with that many agents or more.
func startWeb(t *testing.T, id *identity, transport string, agents int) *webSystem {
	t.Helper()
	s := &webSystem{system: newSystem(), transport: transport}
	for i := len(s.passwords); i < agents; i++ {
		s.passwords["web"+strconv.Itoa(i)] = rand.Text()
	}
	s.cert = id.certificate(t, s.host)
	s.run(t, "one", s.one(t, fmt.Sprintf(webEdgeportYAML, s.host, s.cert), strings.TrimPrefix(s.nats, "nats://"))...)
	return s
}

// addr is where phones of the web connect.
func (s *webSystem) addr() string {
	port := map[string]string{"ws": "5062", "wss": "5063"}[s.transport]
	return net.JoinHostPort(s.host, port)
}

// agent is the account of an agent whom no other test uses.
func (s *webSystem) agent(t *testing.T) account {
	t.Helper()
	p := s.phone(t, s.transport)
	return s.account(p.user)
}

// account is that of a user.
func (s *webSystem) account(user string) account {
	return account{URL: s.transport + "://" + s.addr(), User: user, Domain: domain, Password: s.passwords[user]}
}
