package secrets

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// The names of copies, and that of the certificate.
const (
	satelliteCA = "lightstep.cacert"
	otherCA     = "other.cacert"
	token       = "lightstep-access-token"
	certificate = "lightstep-injector-tls"
)

// manager is the name under which the account applies.
const manager = "lightstep-injector"

// writeOption changes how something is written.
type writeOption func(*metav1.PatchOptions)

func dryRun(o *metav1.PatchOptions) { o.DryRun = []string{metav1.DryRunAll} }

// copyOf is a copy as the injector makes it.
func copyOf(namespace, name string) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: namespace,
			Labels: map[string]string{
				"app":                          "lightstep",
				"app.kubernetes.io/managed-by": manager,
				"lightstep.com/managed":        "distribute",
			},
			Annotations: map[string]string{"lightstep.com/content-hash": "x", "lightstep.com/source": own + "/" + satelliteCA},
		},
		Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{keyOf(name): []byte("x")},
	}
}

// keyOf is the key of a copy.
func keyOf(name string) string {
	if name == token {
		return "token"
	}
	return "cacert.pem"
}

// tokenOf is a copy whose type has the API server fill in the token of a service account.
func tokenOf(namespace, name, account string) *corev1.Secret {
	made := copyOf(namespace, name)
	made.Type, made.Data = corev1.SecretTypeServiceAccountToken, nil
	made.Annotations[corev1.ServiceAccountNameKey] = account
	return made
}

// moreFor is a copy that has no field in common with a foreign Secret: a conflict would refuse it as well.
func moreFor(namespace, name string) *corev1.Secret {
	made := copyOf(namespace, name)
	made.Data = map[string][]byte{"more": []byte("x")}
	return made
}

// certificateOf is the webhook's certificate.
func certificateOf(namespace, name string) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{"tls.crt": []byte("x"), "tls.key": []byte("x")},
	}
}

// foreign is somebody else's Secret.
func foreign(namespace, name string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Data:       map[string][]byte{"cacert.pem": []byte("theirs")},
	}
}

// apply applies a Secret as the account, the way the injector does.
func (e *environment) apply(ctx context.Context, secret *corev1.Secret, options ...writeOption) error {
	text, err := json.Marshal(secret)
	if err != nil {
		return err
	}
	return e.patchSecret(ctx, secret.Namespace, secret.Name, types.ApplyPatchType, text, options...)
}

// merge merges into a Secret as the account.
func (e *environment) merge(ctx context.Context, namespace, name, text string) error {
	return e.patchSecret(ctx, namespace, name, types.MergePatchType, []byte(text))
}

func (e *environment) patchSecret(ctx context.Context, namespace, name string, how types.PatchType, text []byte, options ...writeOption) error {
	o := metav1.PatchOptions{FieldManager: manager}
	for _, option := range options {
		option(&o)
	}
	_, err := e.account.CoreV1().Secrets(namespace).Patch(ctx, name, how, text, o)
	return err
}

// post creates a Secret as the account.
func (e *environment) post(ctx context.Context, secret *corev1.Secret) error {
	_, err := e.account.CoreV1().Secrets(secret.Namespace).Create(ctx, secret, metav1.CreateOptions{})
	return err
}

// remove deletes a Secret as the account.
func (e *environment) remove(ctx context.Context, namespace, name string) error {
	return e.account.CoreV1().Secrets(namespace).Delete(ctx, name, metav1.DeleteOptions{})
}

// patchWebhook merges into a webhook configuration as the account.
func (e *environment) patchWebhook(ctx context.Context, name, text string, options ...writeOption) error {
	return e.patchWebhookBy(ctx, types.MergePatchType, name, text, options...)
}

func (e *environment) patchWebhookBy(ctx context.Context, how types.PatchType, name, text string, options ...writeOption) error {
	o := metav1.PatchOptions{FieldManager: manager}
	for _, option := range options {
		option(&o)
	}
	_, err := e.account.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(ctx, name, how, []byte(text), o)
	return err
}

// given makes a Secret as an administrator.
func (e *environment) given(t *testing.T, secret *corev1.Secret) {
	t.Helper()
	_, err := e.admin.CoreV1().Secrets(secret.Namespace).Create(t.Context(), secret, metav1.CreateOptions{})
	stage.Check(t, err)
}

// secret reads one as an administrator.
func (e *environment) secret(t *testing.T, namespace, name string) *corev1.Secret {
	t.Helper()
	read, err := e.admin.CoreV1().Secrets(namespace).Get(t.Context(), name, metav1.GetOptions{})
	stage.Check(t, err)
	return read
}

// label gives a namespace labels, as an administrator; a null takes one away.
func (e *environment) label(t *testing.T, namespace string, labels map[string]any) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": maps.Clone(labels)}})
	stage.Check(t, err)
	_, err = e.admin.CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, text, metav1.PatchOptions{})
	stage.Check(t, err)
}

// named selects by a name, the one form of list that the account has a right to.
func named(name string) metav1.ListOptions {
	return metav1.ListOptions{FieldSelector: fmt.Sprintf("metadata.name=%s", name)}
}
