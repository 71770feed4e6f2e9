package secrets

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// anyCA stands for a certificate in a caBundle, in base64.
const anyCA = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJkRENDQVJxZ0F3SUJBZ0lVQWpRPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo="

// works does all that the injector does, with the account's rights.
func (e *environment) works(t *testing.T) {
	t.Run("Copies", e.copies)
	t.Run("CleanUp", e.cleanUp)
	t.Run("Certificate", e.certificate)
	t.Run("CABundle", e.caBundle)
	t.Run("Lease", e.lease)
	t.Run("IstioObjects", e.istioObjects)
	t.Run("Events", e.events)
	t.Run("Reads", e.reads)
}

// copies go through their whole life, each of the names.
func (e *environment) copies(t *testing.T) {
	namespace := e.namespace(t, "works", labelled())
	for _, name := range []string{satelliteCA, otherCA, token} {
		secret := copyOf(namespace, name)
		stage.Check(t, e.apply(t.Context(), secret))
		made, err := e.account.CoreV1().Secrets(namespace).Get(t.Context(), name, metav1.GetOptions{})
		stage.Check(t, err)
		secret.UID, secret.Data = made.UID, map[string][]byte{keyOf(name): []byte("y")}
		stage.Check(t, e.apply(t.Context(), secret))
		now := e.secret(t, namespace, name)
		repair := fmt.Sprintf(`{"metadata":{"uid":%q,"resourceVersion":%q},"data":{"more":null}}`, now.UID, now.ResourceVersion)
		stage.Check(t, e.merge(t.Context(), namespace, name, repair))
		e.removeExactly(t, namespace, name)
	}
}

// removeExactly deletes a Secret as the account, if it is still the one that is there.
func (e *environment) removeExactly(t *testing.T, namespace, name string) {
	t.Helper()
	now := e.secret(t, namespace, name)
	stage.Check(t, e.account.CoreV1().Secrets(namespace).Delete(t.Context(), name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &now.UID, ResourceVersion: &now.ResourceVersion},
	}))
}

// cleanUp removes a copy after the label, when it could not be made any more.
func (e *environment) cleanUp(t *testing.T) {
	namespace := e.namespace(t, "left", labelled())
	stage.Check(t, e.apply(t.Context(), copyOf(namespace, satelliteCA)))
	e.label(t, namespace, map[string]any{"lightstep.com/injection": nil})
	stage.Eventually(t, func(ctx context.Context) error {
		return refused(e.apply(ctx, copyOf(namespace, otherCA), dryRun), unlabelled)
	})
	e.removeExactly(t, namespace, satelliteCA)
}

// certificate is made and renewed; it is left to others to take away.
func (e *environment) certificate(t *testing.T) {
	secret := certificateOf(own, certificate)
	stage.Check(t, e.apply(t.Context(), secret))
	secret.Data["tls.crt"] = []byte("y")
	stage.Check(t, e.apply(t.Context(), secret))
	now, err := e.account.CoreV1().Secrets(own).Get(t.Context(), certificate, metav1.GetOptions{})
	stage.Check(t, err)
	asks := []byte(`{"metadata":{"annotations":{"lightstep.com/rotate-certificate":"","tenant":"x"},"labels":{"tenant":"x"}},"stringData":{"tenant":"x"}}`)
	_, err = e.admin.CoreV1().Secrets(own).Patch(t.Context(), certificate, types.MergePatchType, asks, metav1.PatchOptions{})
	stage.Check(t, err)
	rotates := fmt.Sprintf(`{"metadata":{"uid":%q,"annotations":{"lightstep.com/rotate-certificate":null}},"stringData":{"next-tls.crt":"x","next-tls.key":"x","next-ca.crt":"x"}}`, now.UID)
	stage.Check(t, e.merge(t.Context(), own, certificate, rotates))
	switches := `{"stringData":{"tls.crt":"x","tls.key":"x","ca.crt":"x"},"data":{"next-tls.crt":null,"next-tls.key":null,"next-ca.crt":null}}`
	stage.Check(t, e.merge(t.Context(), own, certificate, switches))
	stage.Check(t, e.admin.CoreV1().Secrets(own).Delete(t.Context(), certificate, metav1.DeleteOptions{}))
}

// caBundle is set, changed and applied, in the place of any webhook.
func (e *environment) caBundle(t *testing.T) {
	ctx := t.Context()
	stage.Check(t, e.patchWebhookBy(ctx, types.JSONPatchType, webhookName, caBundle(0)))
	stage.Check(t, e.patchWebhookBy(ctx, types.JSONPatchType, webhookName, caBundle(1)))
	stage.Check(t, e.patchWebhookBy(ctx, types.JSONPatchType, webhookName, `[{"op":"remove","path":"/webhooks/0/clientConfig/caBundle"}]`))
	stage.Check(t, e.patchWebhookBy(ctx, types.ApplyPatchType, webhookName, fmt.Sprintf(`{"apiVersion":"admissionregistration.k8s.io/v1",
		"kind":"MutatingWebhookConfiguration","metadata":{"name":%q},"webhooks":[{"name":"inject.lightstep.com","clientConfig":{"caBundle":%q}}]}`, webhookName, anyCA)))
}

// lease is taken and kept.
func (e *environment) lease(t *testing.T) {
	leases := e.account.CoordinationV1().Leases(own)
	lease, err := leases.Create(t.Context(), leaseOf("lightstep-injector"), metav1.CreateOptions{})
	stage.Check(t, err)
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = new("me"), new(int32(15))
	lease.Spec.LeaseTransitions = new(int32(1))
	_, err = leases.Update(t.Context(), lease, metav1.UpdateOptions{})
	stage.Check(t, err)
	_, err = leases.Get(t.Context(), lease.Name, metav1.GetOptions{})
	stage.Check(t, err)
}

// events are made, and counted up, in any namespace.
func (e *environment) events(t *testing.T) {
	events := e.account.EventsV1().Events("works")
	made, err := events.Create(t.Context(), eventOf("works"), metav1.CreateOptions{})
	stage.Check(t, err)
	series, err := json.Marshal(map[string]any{"series": eventsv1.EventSeries{Count: 2, LastObservedTime: metav1.NowMicro()}})
	stage.Check(t, err)
	_, err = events.Patch(t.Context(), made.Name, types.StrategicMergePatchType, series, metav1.PatchOptions{})
	stage.Check(t, err)
}

// reads lists and watches what the injector goes by.
func (e *environment) reads(t *testing.T) {
	config, err := e.cluster.As(t.Context(), own, accountName)
	stage.Check(t, err)
	config.WarningHandler = rest.NoWarnings{}
	client, err := metadata.NewForConfig(config)
	stage.Check(t, err)
	core := corev1.SchemeGroupVersion
	secrets := core.WithResource("secrets")
	webhooks := client.Resource(admissionv1.SchemeGroupVersion.WithResource("mutatingwebhookconfigurations"))
	for _, name := range []string{satelliteCA, otherCA, token} {
		listAndWatch(t, client.Resource(secrets), named(name))
	}
	for _, name := range []string{satelliteCA, "other-source", "token-source", certificate} {
		listAndWatch(t, client.Resource(secrets).Namespace(own), named(name))
	}
	listAndWatch(t, client.Resource(core.WithResource("namespaces")), metav1.ListOptions{LabelSelector: "lightstep.com/injection=enabled"})
	listAndWatch(t, client.Resource(core.WithResource("configmaps")).Namespace(istioSpace), metav1.ListOptions{})
	listAndWatch(t, webhooks, metav1.ListOptions{LabelSelector: "istio.io/tag"})
	pods := client.Resource(core.WithResource("pods")).Namespace("works")
	_, err = pods.List(t.Context(), metav1.ListOptions{LabelSelector: "lightstep.com/injected=true", Limit: 1})
	stage.Check(t, err)
}

// listAndWatch does what a reflector does.
func listAndWatch(t *testing.T, resource metadata.ResourceInterface, options metav1.ListOptions) {
	t.Helper()
	_, err := resource.List(t.Context(), options)
	stage.Check(t, err)
	events, err := resource.Watch(t.Context(), options)
	stage.Check(t, err)
	events.Stop()
}
