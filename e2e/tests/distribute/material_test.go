package distribute

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// certificate makes a certificate in PEM that signs itself: a CA's, valid between two times from now.
func certificate(t *testing.T, from, until time.Duration, isCA bool) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	stage.Check(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	stage.Check(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "satellite CA"},
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(until), IsCA: isCA, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	stage.Check(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// goodCA is a satellite CA.
func goodCA(t *testing.T) []byte { return certificate(t, -time.Hour, year, true) }

// sourceCanary is in bad sources, and must be in nothing that the injector says of them.
const sourceCanary = "canary-source-5e1d90"

// badCAs are what no namespace should be given, by the fault that is named.
func badCAs(t *testing.T) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	stage.Check(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	stage.Check(t, err)
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	unended, _, _ := bytes.Cut(private, []byte("-----END"))
	cutOff := goodCA(t)
	return map[string][]byte{
		"NotPEM":          []byte("hello"),
		"NoCACertificate": certificate(t, -time.Hour, year, false),
		"Expired":         certificate(t, -year, -time.Hour, true),
		"NotYetValid":     certificate(t, time.Hour, year, true),
		"TooLarge":        bytes.Repeat(goodCA(t), 600),
		"HasPrivateKey":   slices.Concat(goodCA(t), []byte("# "+sourceCanary+"\n"), unended),
		"BadCertificate":  slices.Concat(goodCA(t), cutOff[:len(cutOff)/2]),
		"ExtraContent":    slices.Concat(goodCA(t), []byte(sourceCanary+"\n")),
	}
}
