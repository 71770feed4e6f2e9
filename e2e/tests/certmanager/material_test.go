package certmanager

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// The names that the chart gives.
const (
	configurationName = "0-lightstep-injector"
	secretName        = "lightstep-injector-tls"
	rootName          = "lightstep-injector-root"
	leafName          = "lightstep-injector"
)

func certificates() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "cert-manager.io", Version: "v1", Resource: "certificates"}
}

// settled waits until cert-manager has done all that it had to do about a certificate, and returns it.
func (e *environment) settled(t *testing.T, name string) (certificate *unstructured.Unstructured) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) (err error) {
		if certificate, err = e.objects.Resource(certificates()).Namespace(own).Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		if conditionOf(certificate, "Ready") != "True" || conditionOf(certificate, "Issuing") != "" {
			return fmt.Errorf("the certificate %s is not issued: %v", name, certificate.Object["status"])
		}
		return nil
	})
	return certificate
}

func conditionOf(certificate *unstructured.Unstructured, kind string) string {
	conditions, _, _ := unstructured.NestedSlice(certificate.Object, "status", "conditions")
	for _, condition := range conditions {
		if c := condition.(map[string]any); c["type"] == kind {
			return c["status"].(string)
		}
	}
	return ""
}

// renew has cert-manager renew a certificate now, as `cmctl renew` does.
func (e *environment) renew(t *testing.T, name string) {
	t.Helper()
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error { // cert-manager writes there, too
		found := e.settled(t, name)
		conditions, _, err := unstructured.NestedSlice(found.Object, "status", "conditions")
		stage.Check(t, err)
		conditions = append(conditions, map[string]any{
			"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "renewed by a test",
			"lastTransitionTime": time.Now().UTC().Format(time.RFC3339), "observedGeneration": found.GetGeneration(),
		})
		stage.Check(t, unstructured.SetNestedSlice(found.Object, conditions, "status", "conditions"))
		_, err = e.objects.Resource(certificates()).Namespace(own).UpdateStatus(t.Context(), found, metav1.UpdateOptions{})
		return err
	})
	stage.Check(t, err)
}

// forget deletes the Secret of a certificate.
func (e *environment) forget(t *testing.T, name, secret string) {
	t.Helper()
	e.settled(t, name)
	stage.Check(t, e.Client.CoreV1().Secrets(own).Delete(t.Context(), secret, metav1.DeleteOptions{}))
}

func (e *environment) configuration(t *testing.T) *admissionv1.MutatingWebhookConfiguration {
	t.Helper()
	found, err := e.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), configurationName, metav1.GetOptions{})
	stage.Check(t, err)
	return found
}

// trusts waits until the API server is told to trust so many CAs, that of the certificate among them.
func (e *environment) trusts(t *testing.T, leaf *x509.Certificate, want int) {
	t.Helper()
	stage.Eventually(t, func(context.Context) error {
		trusted, err := parse(e.configuration(t).Webhooks[0].ClientConfig.CABundle)
		if err != nil {
			return err
		}
		if len(trusted) != want || !slices.ContainsFunc(trusted, func(ca *x509.Certificate) bool { return leaf.CheckSignatureFrom(ca) == nil }) {
			return fmt.Errorf("%d CAs are trusted, not %d with that of %x", len(trusted), want, leaf.SerialNumber)
		}
		return nil
	})
}

// published waits until the API server is told to trust a CA.
func (e *environment) published(t *testing.T, ca *x509.Certificate) {
	t.Helper()
	stage.Eventually(t, func(context.Context) error {
		trusted, err := parse(e.configuration(t).Webhooks[0].ClientConfig.CABundle)
		if err != nil || !slices.ContainsFunc(trusted, ca.Equal) {
			return errors.Join(fmt.Errorf("%x is not trusted", ca.SerialNumber), err)
		}
		return nil
	})
}

// emptyBundle takes every CA out of the caBundle.
func (e *environment) emptyBundle(t *testing.T) {
	t.Helper()
	patch := []byte(`[{"op":"remove","path":"/webhooks/0/clientConfig/caBundle"}]`)
	_, err := e.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(t.Context(), configurationName, types.JSONPatchType, patch, metav1.PatchOptions{})
	stage.Check(t, err)
}

// writtenBy sees who alone has written what the Secret holds.
func (e *environment) writtenBy(t *testing.T, want string) {
	t.Helper()
	var writers []string
	for _, managed := range e.secret(t, secretName).ManagedFields {
		if strings.Contains(managed.FieldsV1.String(), `"f:data"`) {
			writers = append(writers, managed.Manager)
		}
	}
	if !slices.Equal(writers, []string{want}) {
		t.Errorf("what the Secret holds was written by %v", writers)
	}
}

func (e *environment) secret(t *testing.T, name string) *corev1.Secret {
	t.Helper()
	found, err := e.Client.CoreV1().Secrets(own).Get(t.Context(), name, metav1.GetOptions{})
	stage.Check(t, err)
	return found
}

// issued waits until a Secret has a certificate other than an earlier one, if there is one, and returns it.
func (e *environment) issued(t *testing.T, name string, before *x509.Certificate) (now *x509.Certificate) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		found, err := e.Client.CoreV1().Secrets(own).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		chain, err := parse(found.Data[corev1.TLSCertKey])
		if err != nil {
			return err
		}
		if len(chain) == 0 || before != nil && chain[0].Equal(before) {
			return fmt.Errorf("the Secret %s has no new certificate", name)
		}
		now = chain[0]
		return nil
	})
	return now
}

// served waits until every replica serves a certificate.
func (e *environment) served(t *testing.T, want *x509.Certificate) {
	t.Helper()
	for i, r := range e.running {
		stage.Eventually(t, func(context.Context) error {
			got, err := servedBy(r)
			if err != nil || !got.Equal(want) {
				return errors.Join(fmt.Errorf("replica %d does not serve %x", i, want.SerialNumber), err)
			}
			return nil
		})
	}
}

func servedBy(r *injector.Injector) (*x509.Certificate, error) {
	connection, err := tls.Dial("tcp", r.Address(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = connection.Close() }()
	return connection.ConnectionState().PeerCertificates[0], nil
}

// parse reads the certificates of a PEM.
func parse(text []byte) ([]*x509.Certificate, error) {
	var ders []byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		ders = append(ders, block.Bytes...)
	}
	return x509.ParseCertificates(ders)
}

// pair is a certificate with its key and its CA, in PEM, and as they are parsed.
type pair struct {
	chain, key, ca []byte
	leaf, root     *x509.Certificate
}

// newPair makes one for the webhook, as somebody without cert-manager would.
func (e *environment) newPair(t *testing.T) *pair {
	t.Helper()
	ca, err := injector.NewCA("mine")
	stage.Check(t, err)
	chainFile, keyFile, err := ca.WriteServing(t.TempDir(), injector.Name+"."+own+".svc")
	stage.Check(t, err)
	p := &pair{ca: ca.PEM}
	p.chain, err = os.ReadFile(chainFile)
	stage.Check(t, err)
	p.key, err = os.ReadFile(keyFile)
	stage.Check(t, err)
	certificates, err := parse(slices.Concat(p.chain, p.ca))
	stage.Check(t, err)
	p.leaf, p.root = certificates[0], certificates[1]
	return p
}

// put puts a pair into the Secret, in the place of what is there.
func (e *environment) put(t *testing.T, p *pair) {
	t.Helper()
	found := e.secret(t, secretName)
	found.Data = map[string][]byte{corev1.TLSCertKey: p.chain, corev1.TLSPrivateKeyKey: p.key}
	_, err := e.Client.CoreV1().Secrets(own).Update(t.Context(), found, metav1.UpdateOptions{})
	stage.Check(t, err)
}

// clusterIssuer makes one with a CA of its own, where the chart has none.
func (e *environment) clusterIssuer(t *testing.T, name string) {
	t.Helper()
	for _, object := range []map[string]any{
		{"kind": "ClusterIssuer", "metadata": map[string]any{"name": name + "-root"}, "spec": map[string]any{"selfSigned": map[string]any{}}},
		{"kind": "Certificate", "metadata": map[string]any{"name": name, "namespace": metav1.NamespaceSystem}, "spec": map[string]any{
			"isCA": true, "commonName": name, "secretName": name, "issuerRef": map[string]any{"kind": "ClusterIssuer", "name": name + "-root"},
		}},
		{"kind": "ClusterIssuer", "metadata": map[string]any{"name": name}, "spec": map[string]any{"ca": map[string]any{"secretName": name}}},
	} {
		made := &unstructured.Unstructured{Object: object}
		made.SetAPIVersion("cert-manager.io/v1")
		resource := certificates()
		if made.GetKind() == "ClusterIssuer" {
			resource.Resource = "clusterissuers"
		}
		_, err := e.objects.Resource(resource).Namespace(made.GetNamespace()).Create(t.Context(), made, metav1.CreateOptions{})
		stage.Check(t, err)
	}
}
