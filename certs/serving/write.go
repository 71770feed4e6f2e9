package serving

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/cert-manager/cert-manager/pkg/util/pki"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	applyv1 "k8s.io/client-go/applyconfigurations/core/v1"
	metaapplyv1 "k8s.io/client-go/applyconfigurations/meta/v1"
)

// manager is the field manager of every write but the first.
const manager = "lightstep-injector"

// propose puts a new pair into the Secret, beside what is there.
func (w *Writer) propose(ctx context.Context, secret *corev1.Secret, hosts []string, now time.Time) error {
	next, err := issue(hosts, now)
	if err != nil {
		return err
	}
	if !next.fits(hosts, now) {
		return fmt.Errorf("no certificate can be made for %q", hosts)
	}
	data := map[string][]byte{nextChainKey: next.chain, nextKeyKey: next.key, nextCAKey: next.ca}
	if secret == nil {
		return w.create(ctx, data)
	}
	patch := overSecret(secret)
	patch["data"] = data
	patch["metadata"].(map[string]any)["annotations"] = map[string]any{RotateAnnotation: nil}
	return w.patchSecret(ctx, patch)
}

// create makes the Secret, with nothing to serve yet. A create is granted by name to an apply alone, and an apply cannot
// say that there must be no Secret; but one by a manager that nobody else is conflicts with whatever is there.
func (w *Writer) create(ctx context.Context, data map[string][]byte) error {
	data[chainKey], data[keyKey] = []byte{}, []byte{} // the type wants them
	config := applyv1.Secret(w.Name, w.Namespace).
		WithLabels(map[string]string{"app.kubernetes.io/managed-by": manager}).
		WithType(corev1.SecretTypeTLS).
		WithData(data)
	for _, owner := range w.Owners(ctx) {
		config.WithOwnerReferences(metaapplyv1.OwnerReference().
			WithAPIVersion(owner.APIVersion).WithKind(owner.Kind).WithName(owner.Name).WithUID(owner.UID))
	}
	_, err := w.Secrets.Secrets(w.Namespace).Apply(ctx, config, metav1.ApplyOptions{FieldManager: manager + "-" + string(uuid.NewUUID())})
	return err
}

// swap makes the next pair the current one.
func (w *Writer) swap(ctx context.Context, secret *corev1.Secret, next *Pair) error {
	patch := overSecret(secret)
	patch["data"] = map[string]any{
		chainKey: next.chain, keyKey: next.key, caKey: next.ca,
		nextChainKey: nil, nextKeyKey: nil, nextCAKey: nil,
	}
	return w.patchSecret(ctx, patch)
}

// overSecret begins a merge patch that is good for the very version that was seen.
func overSecret(secret *corev1.Secret) map[string]any {
	return map[string]any{"metadata": map[string]any{"uid": secret.UID, "resourceVersion": secret.ResourceVersion}}
}

func (w *Writer) patchSecret(ctx context.Context, patch map[string]any) error {
	body, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	_, err = w.Secrets.Secrets(w.Namespace).Patch(ctx, w.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: manager})
	return err
}

// publish adds to each webhook's bundle the CAs that it lacks, and takes out nothing.
func (w *Writer) publish(ctx context.Context, configuration *admissionv1.MutatingWebhookConfiguration, s *state) error {
	return w.setBundles(ctx, configuration, func(webhook int) []*x509.Certificate {
		bundle := slices.Clone(s.bundles[webhook])
		for _, p := range s.pairs() {
			if !has(bundle, p.root) {
				bundle = append(bundle, p.root)
			}
		}
		return bundle
	})
}

// drop leaves the current CA alone in each webhook's bundle.
func (w *Writer) drop(ctx context.Context, configuration *admissionv1.MutatingWebhookConfiguration, current *Pair) error {
	return w.setBundles(ctx, configuration, func(int) []*x509.Certificate { return []*x509.Certificate{current.root} })
}

// bundlePatch is a strategic merge patch of the caBundles and nothing else; webhooks are merged by their names.
type bundlePatch struct {
	Metadata struct {
		UID             types.UID `json:"uid"`
		ResourceVersion string    `json:"resourceVersion"`
	} `json:"metadata"`
	Webhooks []webhookPatch `json:"webhooks"`
}

type webhookPatch struct {
	Name         string       `json:"name"`
	ClientConfig clientConfig `json:"clientConfig"`
}

type clientConfig struct {
	CABundle []byte `json:"caBundle"`
}

// setBundles writes over the very version that was seen; what is not there it does not make.
func (w *Writer) setBundles(ctx context.Context, configuration *admissionv1.MutatingWebhookConfiguration, bundle func(webhook int) []*x509.Certificate) error {
	var patch bundlePatch
	patch.Metadata.UID, patch.Metadata.ResourceVersion = configuration.UID, configuration.ResourceVersion
	for i := range configuration.Webhooks {
		text, err := encode(bundle(i))
		if err != nil {
			return err
		}
		patch.Webhooks = append(patch.Webhooks, webhookPatch{configuration.Webhooks[i].Name, clientConfig{text}})
	}
	body, err := json.Marshal(&patch)
	if err != nil {
		return err
	}
	_, err = w.Configurations.MutatingWebhookConfigurations().Patch(ctx, Configuration, types.StrategicMergePatchType, body, metav1.PatchOptions{FieldManager: manager})
	return err
}

func encode(bundle []*x509.Certificate) ([]byte, error) {
	var text []byte
	for _, ca := range bundle {
		one, err := pki.EncodeX509(ca)
		if err != nil {
			return nil, err
		}
		text = append(text, one...)
	}
	return text, nil
}
