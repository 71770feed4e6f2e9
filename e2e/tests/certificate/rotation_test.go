package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const secretName = "lightstep-injector-tls"

// rotateOnce asks for a new certificate, and waits until every replica serves it and nothing else is trusted. It tells of each
// stage as it is seen.
func (e *environment) rotateOnce(t *testing.T, at func(stage string)) {
	t.Helper()
	old := e.serial(t)
	_, err := e.admin.CoreV1().Secrets(own).Patch(t.Context(), secretName, types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"lightstep.com/rotate-certificate":"now"}}}`), metav1.PatchOptions{})
	stage.Check(t, err)
	switched := func() bool { return e.serial(t).Cmp(old) != 0 }
	stage.Eventually(t, func(ctx context.Context) error {
		secret, err := e.secret(ctx)
		if err != nil || len(secret.Data["next-tls.crt"]) == 0 && !switched() {
			return errors.Join(errors.New("nothing is proposed"), err)
		}
		return nil
	})
	at("proposed")
	stage.Eventually(t, func(ctx context.Context) error {
		if err := e.trusted(ctx, 2); err != nil && !switched() {
			return err
		}
		return nil
	})
	at("published")
	stage.Eventually(t, func(context.Context) error {
		if !switched() {
			return errors.New("it is not switched to")
		}
		return nil
	})
	at("switched")
	e.awaitServed(t, e.serial(t))
	stage.Eventually(t, func(ctx context.Context) error { return e.trusted(ctx, 1) })
}

// awaitServed waits until every replica serves the certificate of that serial.
func (e *environment) awaitServed(t *testing.T, serial *big.Int) {
	t.Helper()
	began := time.Now()
	for i, r := range e.replicas {
		stage.Eventually(t, func(context.Context) error {
			served, err := servedBy(r.Address())
			if err != nil || served.Cmp(serial) != 0 {
				return fmt.Errorf("replica %d serves %x: %w", i, served, err)
			}
			return nil
		})
	}
	e.figures.Served = max(e.figures.Served, time.Since(began))
}

func (e *environment) secret(ctx context.Context) (*corev1.Secret, error) {
	return e.admin.CoreV1().Secrets(own).Get(ctx, secretName, metav1.GetOptions{})
}

// serial is that of the certificate that is to be served.
func (e *environment) serial(t *testing.T) *big.Int {
	t.Helper()
	secret, err := e.secret(t.Context())
	stage.Check(t, err)
	block, _ := pem.Decode(secret.Data["tls.crt"])
	if block == nil {
		t.Fatal("the Secret has no certificate")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	stage.Check(t, err)
	return certificate.SerialNumber
}

// servedBy is the serial of the certificate that is served at an address.
func servedBy(address string) (*big.Int, error) {
	connection, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = connection.Close() }()
	return connection.ConnectionState().PeerCertificates[0].SerialNumber, nil
}

// trusted sees that the API server is told to trust so many CAs.
func (e *environment) trusted(ctx context.Context, want int) error {
	configuration, err := e.admin.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, configurationName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if got := bytes.Count(configuration.Webhooks[0].ClientConfig.CABundle, []byte("BEGIN CERTIFICATE")); got != want {
		return fmt.Errorf("%d CAs are trusted, not %d", got, want)
	}
	return nil
}
