package serving

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/cert-manager/cert-manager/pkg/util/pki"
)

const (
	// life is how long a new certificate is good for, from now.
	life = 365 * 24 * time.Hour
	// backdated is how long it has been by then: no clock that is behind, the API server's or a former leader's, is to
	// find it not valid yet.
	backdated = 365 * 24 * time.Hour
	// renewBefore is how long before its end a certificate is replaced: a third of its life.
	renewBefore = life / 3
)

// Pair is a certificate with its key and the webhook CA that has signed it, in PEM, as a Secret has them.
type Pair struct {
	chain, key, ca []byte

	certificate *tls.Certificate
	// root is the CA; nil where none is known that verifies the certificate.
	root *x509.Certificate
}

// parse reads a pair. That its CA is missing, or another's, is no error: it can be served all the same.
func parse(chain, key, ca []byte) (*Pair, error) {
	certificate, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, err
	}
	p := &Pair{chain: chain, key: key, ca: ca, certificate: &certificate}
	if roots, err := pki.DecodeX509CertificateSetBytes(ca); err == nil && len(roots) == 1 {
		if err := certificate.Leaf.CheckSignatureFrom(roots[0]); err == nil {
			p.root = roots[0]
		}
	}
	return p, nil
}

// issue makes a pair for the hosts, names or addresses. Its CA signs this one certificate: the CA's key is kept nowhere.
func issue(hosts []string, now time.Time) (*Pair, error) {
	p, err := sign(hosts, now)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %v: %w", hosts, err)
	}
	return p, nil
}

// sign makes the CA, and has it sign.
func sign(hosts []string, now time.Time) (*Pair, error) {
	caKey, err := pki.GenerateECPrivateKey(pki.ECCurve256)
	if err != nil {
		return nil, err
	}
	ca := template("lightstep-injector webhook CA", now)
	ca.BasicConstraintsValid, ca.IsCA, ca.MaxPathLenZero, ca.KeyUsage = true, true, true, x509.KeyUsageCertSign
	caPEM, ca, err := pki.SignCertificate(ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, err
	}
	key, err := pki.GenerateECPrivateKey(pki.ECCurve256)
	if err != nil {
		return nil, err
	}
	leaf := template("lightstep-injector", now)
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, host)
		}
	}
	leafPEM, _, err := pki.SignCertificate(leaf, ca, key.Public(), caKey)
	if err != nil {
		return nil, err
	}
	keyPEM, err := pki.EncodePKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return parse(leafPEM, keyPEM, caPEM)
}

// template is what both certificates have.
func template(name string, now time.Time) *x509.Certificate {
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // which never fails
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-backdated),
		NotAfter:     now.Add(life),
	}
}

// fits tells whether the pair is of a known CA, and good for the hosts at this time.
func (p *Pair) fits(hosts []string, now time.Time) bool {
	leaf := p.certificate.Leaf
	if p.root == nil || now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return false
	}
	for _, host := range hosts {
		if leaf.VerifyHostname(host) != nil {
			return false
		}
	}
	return true
}

// renewal is when the pair is to be replaced.
func (p *Pair) renewal() time.Time { return p.certificate.Leaf.NotAfter.Add(-renewBefore) }
