package injector

import (
	"os"
	"path/filepath"
	"time"
)

// CallerName is the common name of the API server's client certificate.
const CallerName = "kube-apiserver-webhook-client"

// Caller is what the API server proves to be itself by: a client certificate of a CA of its own.
type Caller struct {
	CA *CA
	// CAFile is the CA's certificate, CertFile and KeyFile are the client certificate and its key, once Issue has been called.
	CAFile, CertFile, KeyFile string
}

// NewCaller makes the CA.
func NewCaller() (*Caller, error) {
	ca, err := NewCA("cluster CA")
	return &Caller{CA: ca}, err
}

// Issue writes the CA, and a client certificate of the API server's with its key, into a folder. It is for
// cluster.WithClientCertificate.
func (c *Caller) Issue(dir string) (certFile, keyFile string, err error) {
	c.CAFile = filepath.Join(dir, "client-ca.crt")
	if err := os.WriteFile(c.CAFile, c.CA.PEM, 0o600); err != nil {
		return "", "", err
	}
	c.CertFile, c.KeyFile, err = c.CA.WriteClient(dir, CallerName, time.Now().Add(lifetime))
	return c.CertFile, c.KeyFile, err
}

// Flags are those by which the injector requires that certificate.
func (c *Caller) Flags() []string {
	return []string{"--client-ca-file", c.CAFile, "--client-name", CallerName}
}
