package injector

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// CA is a certificate authority for one run: as the webhook CA it signs the webhook's certificate, and its certificate
// does as a satellite CA.
type CA struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	// PEM is the certificate.
	PEM []byte
}

// lifetime of certificates: no run takes longer.
const lifetime = 24 * time.Hour

// NewCA makes a CA.
func NewCA(name string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the CA %s: %w", name, err)
	}
	template := certificate(name)
	template.IsCA, template.BasicConstraintsValid, template.NotAfter = true, true, template.NotBefore.AddDate(10, 0, 0)
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the CA %s: %w", name, err)
	}
	return &CA{certificate: template, key: key, PEM: pemOf("CERTIFICATE", der)}, nil
}

// WriteServing writes a serving certificate for the host, a name or an address, and its key.
func (ca *CA) WriteServing(dir, host string) (certFile, keyFile string, err error) {
	template := certificate(host)
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	return ca.write(template, filepath.Join(dir, "webhook"))
}

// WriteClient writes a client certificate for the name, and its key, valid until the end.
func (ca *CA) WriteClient(dir, name string, end time.Time, organizations ...string) (certFile, keyFile string, err error) {
	template := certificate(name)
	template.Subject.Organization, template.NotAfter = organizations, end
	if !end.After(template.NotBefore) {
		template.NotBefore = end.Add(-time.Hour)
	}
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return ca.write(template, filepath.Join(dir, "client"))
}

// write signs a certificate, and writes it and its key beside each other.
func (ca *CA) write(template *x509.Certificate, path string) (certFile, keyFile string, err error) {
	name := template.Subject.CommonName
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make the certificate for %s: %w", name, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, key.Public(), ca.key)
	if err != nil {
		return "", "", fmt.Errorf("make the certificate for %s: %w", name, err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", fmt.Errorf("make the certificate for %s: %w", name, err)
	}
	certFile, keyFile = path+".crt", path+".key"
	if err := os.WriteFile(certFile, pemOf("CERTIFICATE", der), 0o600); err != nil {
		return "", "", fmt.Errorf("write the certificate for %s: %w", name, err)
	}
	if err := os.WriteFile(keyFile, pemOf("PRIVATE KEY", keyDER), 0o600); err != nil {
		return "", "", fmt.Errorf("write the key for %s: %w", name, err)
	}
	return certFile, keyFile, nil
}

func certificate(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Minute),
		NotAfter:     now.Add(lifetime),
	}
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
