package faults

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// notSelfSigned runs it as one whose serving Secret somebody else keeps.
func notSelfSigned(*testing.T, *environment) injector.Options {
	return injector.Options{Flags: []string{}}
}

// removeServing deletes the serving Secret.
func removeServing(t *testing.T, e *environment) func() {
	t.Helper()
	return e.remove(t, servingSecret)
}

// removeServingKept deletes it where the injector makes another.
func removeServingKept(t *testing.T, e *environment) func() {
	t.Helper()
	before, err := e.Client.CoreV1().Secrets(own).Get(t.Context(), servingSecret, metav1.GetOptions{})
	stage.Check(t, err)
	stage.Check(t, e.Client.CoreV1().Secrets(own).Delete(t.Context(), servingSecret, metav1.DeleteOptions{}))
	return func() {
		stage.Eventually(t, func(ctx context.Context) error {
			now, err := e.Client.CoreV1().Secrets(own).Get(ctx, servingSecret, metav1.GetOptions{})
			if err == nil && (now.UID == before.UID || len(now.Data["tls.crt"]) == 0 || len(now.Data["next-tls.crt"]) != 0) {
				err = errors.New("it has not been made anew yet")
			}
			return err
		})
	}
}

// fillServing fills the serving Secret with what is no certificate.
func fillServing(t *testing.T, e *environment) func() {
	t.Helper()
	return e.serve(t, []byte("garbage"), []byte("garbage"))
}

// serveTomorrows puts a certificate into the Secret that is valid from tomorrow on, as an issuer makes whose clock is ahead. It
// stands for a clock that jumps, too: the API server verifies by its own.
func serveTomorrows(t *testing.T, e *environment) func() {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	stage.Check(t, err)
	tomorrow := time.Now().Add(24 * time.Hour)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{injector.Name + "." + own + ".svc"}, NotBefore: tomorrow, NotAfter: tomorrow.Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	stage.Check(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	stage.Check(t, err)
	return e.serve(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}

// serve fills the serving Secret, and returns what puts back what it had.
func (e *environment) serve(t *testing.T, chain, key []byte) func() {
	t.Helper()
	secrets := e.Client.CoreV1().Secrets(own)
	before, err := secrets.Get(t.Context(), servingSecret, metav1.GetOptions{})
	stage.Check(t, err)
	put := func(chain, key []byte) {
		patch, err := json.Marshal(map[string]any{"data": map[string][]byte{"tls.crt": chain, "tls.key": key}})
		stage.Check(t, err)
		_, err = secrets.Patch(t.Context(), servingSecret, types.MergePatchType, patch, metav1.PatchOptions{})
		stage.Check(t, err)
	}
	put(chain, key)
	return func() { put(before.Data["tls.crt"], before.Data["tls.key"]) }
}
