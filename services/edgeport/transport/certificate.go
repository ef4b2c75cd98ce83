package transport

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// ownTime is how long a certificate of ours is valid: what clients take at most.
	ownTime = 825 * 24 * time.Hour
	// ownLeft is when it is made anew.
	ownLeft = 30 * 24 * time.Hour
	ownFile = "edgeport-tls.pem"
)

// ownCertificate is the certificate for who has configured none. It is made once and kept, as clients will have been
// told to trust it; it is made anew when it expires soon, or is not for one of Config.Names.
func (l *Layer) ownCertificate() (*tls.Certificate, error) {
	if l.own != nil {
		return l.own, nil
	}
	file := ""
	if l.cfg.CertificateDir != "" {
		file = filepath.Join(l.cfg.CertificateDir, ownFile)
		pair, err := tls.LoadX509KeyPair(file, file)
		switch {
		case err == nil && time.Until(pair.Leaf.NotAfter) > ownLeft && covers(pair.Leaf, l.cfg.Names):
			l.own = &pair
			l.log.Info("no certificate is configured, the one that was made before is used", ownAttrs(l.own, file)...)
			return l.own, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("read certificate %s, which was made here: %w", file, err)
		}
	}
	text, err := makeCertificate(l.cfg.Names)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	if file != "" {
		if err := keep(file, text); err != nil {
			return nil, fmt.Errorf("keep the certificate that was made: %w", err)
		}
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	l.own = &pair
	l.log.Warn("no certificate is configured, one was made; clients do not trust it by themselves", ownAttrs(l.own, file)...)
	return l.own, nil
}

// ownAttrs are what a person needs to trust the certificate.
func ownAttrs(cert *tls.Certificate, file string) []any {
	if file == "" {
		file = "none, it ends with this process"
	}
	sum := sha256.Sum256(cert.Leaf.Raw)
	return []any{"file", file, "sha256", hex.EncodeToString(sum[:]), "not_after", cert.Leaf.NotAfter}
}

func covers(cert *x509.Certificate, names []string) bool {
	for _, name := range names {
		if cert.VerifyHostname(name) != nil {
			return false
		}
	}
	return true
}

// keep writes a file that only we can read, whole or not at all.
func keep(file string, text []byte) error {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ownFile+".*") // its mode is 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// makeCertificate is a key and a certificate for names and this machine, which it signs itself.
func makeCertificate(names []string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	cert := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Routr EdgePort"},
		NotBefore:    now.Add(-time.Hour), // a client's clock may be late
		NotAfter:     now.Add(ownTime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// It signs itself, but nothing else: whoever trusts it trusts no other name.
		BasicConstraintsValid: true,
	}
	names = append(slices.Clone(names), "localhost")
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	for _, zero := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		addrs, _ := localAddrs(zero) // none is none
		for _, a := range addrs {
			names = append(names, a.String())
		}
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip == nil {
			if !slices.Contains(cert.DNSNames, name) {
				cert.DNSNames = append(cert.DNSNames, name)
			}
		} else if !slices.ContainsFunc(cert.IPAddresses, ip.Equal) {
			cert.IPAddresses = append(cert.IPAddresses, ip)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = errors.Join(pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.Encode(&text, &pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return text.Bytes(), err
}
