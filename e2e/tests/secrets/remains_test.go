package secrets

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// remains shows each power that whoever has the account's credentials still has: a row of "What remains" in docs/security.md
// for each. Where one of them is taken away, its test fails, and the row goes.
func (e *environment) remains(t *testing.T) {
	tests := map[string]func(*testing.T, string){
		"ReadSecrets":        e.remainsReadSecrets,
		"ReadPods":           e.remainsReadPods,
		"ChangeCopies":       e.remainsChangeCopies,
		"Orphan":             e.remainsOrphan,
		"ReplaceCertificate": e.remainsReplaceCertificate,
		"MisleadAPIServer":   e.remainsMisleadAPIServer,
		"HoldLease":          e.remainsHoldLease,
		"RecordEvents":       e.remainsRecordEvents,
		"ChangeIstioObjects": e.remainsChangeIstioObjects,
	}
	if diff := cmp.Diff(documented(t), slices.Sorted(maps.Keys(tests))); diff != "" {
		t.Errorf("What remains (-docs/security.md +tests):\n%s", diff)
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, e.namespace(t, "remains-"+strings.ToLower(name), labelled())) })
	}
}

// documented are the tests that docs/security.md names.
func documented(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	stage.Check(t, err)
	_, section, _ := strings.Cut(string(text), "\n## What remains\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var names []string
	for _, row := range regexp.MustCompile("(?m)^\\|.*\\| `([A-Za-z]+)` \\|$").FindAllStringSubmatch(section, -1) {
		names = append(names, row[1])
	}
	slices.Sort(names)
	return names
}

// remainsReadSecrets: tokens that are sources, and any Secret of a configured name wherever it is.
func (e *environment) remainsReadSecrets(t *testing.T, namespace string) {
	e.given(t, foreign(own, "token-source"))
	e.given(t, foreign(namespace, token))
	for _, of := range []struct{ namespace, name string }{{own, "token-source"}, {"", token}} {
		list, err := e.account.CoreV1().Secrets(of.namespace).List(t.Context(), named(of.name))
		stage.Check(t, err)
		if len(list.Items) == 0 || len(list.Items[0].Data) == 0 {
			t.Errorf("Secrets %s: nothing is read: the row of docs/security.md is wrong", of.name)
		}
	}
	stage.Check(t, e.admin.CoreV1().Secrets(own).Delete(t.Context(), "token-source", metav1.DeleteOptions{}))
}

// remainsReadPods: whole pods, since RBAC cannot limit a list to metadata.
func (e *environment) remainsReadPods(t *testing.T, _ string) {
	_, err := e.account.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	stage.Check(t, err)
	_, err = e.account.CoreV1().ConfigMaps(istioSpace).List(t.Context(), metav1.ListOptions{})
	stage.Check(t, err)
	_, err = e.accountObjects.Resource(telemetries()).List(t.Context(), metav1.ListOptions{})
	stage.Check(t, err)
}

// remainsChangeCopies: a copy has any content under its key, and goes.
func (e *environment) remainsChangeCopies(t *testing.T, namespace string) {
	stage.Check(t, e.apply(t.Context(), copyOf(namespace, satelliteCA)))
	stage.Check(t, e.merge(t.Context(), namespace, satelliteCA, `{"stringData":{"cacert.pem":"another CA"}}`))
	stage.Check(t, e.remove(t.Context(), namespace, satelliteCA))
}

// remainsOrphan: by a delete option the API server itself adds a finalizer, which its garbage collector removes.
func (e *environment) remainsOrphan(t *testing.T, namespace string) {
	stage.Check(t, e.apply(t.Context(), copyOf(namespace, satelliteCA)))
	stage.Check(t, e.account.CoreV1().Secrets(namespace).Delete(t.Context(), satelliteCA, metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)}))
	stage.Eventually(t, func(ctx context.Context) error {
		_, err := e.admin.CoreV1().Secrets(namespace).Get(ctx, satelliteCA, metav1.GetOptions{})
		if err == nil {
			return errors.New("the copy is still there")
		}
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// remainsReplaceCertificate: the webhook's key is read, and another put in its place.
func (e *environment) remainsReplaceCertificate(t *testing.T, _ string) {
	stage.Check(t, e.apply(t.Context(), certificateOf(own, certificate)))
	read, err := e.account.CoreV1().Secrets(own).Get(t.Context(), certificate, metav1.GetOptions{})
	stage.Check(t, err)
	if len(read.Data[corev1.TLSPrivateKeyKey]) == 0 {
		t.Error("no key is read")
	}
	_, err = e.account.CoreV1().Secrets(own).Patch(t.Context(), certificate, types.MergePatchType, []byte(`{"stringData":{"tls.key":"mine"}}`), metav1.PatchOptions{})
	stage.Check(t, err)
	stage.Check(t, e.admin.CoreV1().Secrets(own).Delete(t.Context(), certificate, metav1.DeleteOptions{}))
}

// remainsMisleadAPIServer: with a caBundle that matches nobody's certificate, pods are created without the injector.
func (e *environment) remainsMisleadAPIServer(t *testing.T, _ string) {
	stage.Check(t, e.patchWebhookBy(t.Context(), types.JSONPatchType, webhookName, caBundle(0)))
}

// remainsHoldLease: nobody else leads while a Lease is renewed, and for 60 s after the last time.
func (e *environment) remainsHoldLease(t *testing.T, _ string) {
	leases := e.account.CoordinationV1().Leases(own)
	now, err := leases.Get(t.Context(), lease, metav1.GetOptions{})
	stage.Check(t, err)
	before := now.Spec.DeepCopy()
	now.Spec.HolderIdentity, now.Spec.LeaseDurationSeconds, now.Spec.RenewTime = new("thief"), new(int32(60)), new(metav1.NowMicro())
	now, err = leases.Update(t.Context(), now, metav1.UpdateOptions{})
	stage.Check(t, err)
	now.Spec = *before
	_, err = leases.Update(t.Context(), now, metav1.UpdateOptions{})
	stage.Check(t, err)
}

// remainsRecordEvents: Events that say what is not so, in the injector's name.
func (e *environment) remainsRecordEvents(t *testing.T, namespace string) {
	for _, where := range []string{namespace, own} {
		made := eventOf(where)
		made.Name, made.Note = "untrue", "it is not so"
		_, err := e.account.EventsV1().Events(where).Create(t.Context(), made, metav1.CreateOptions{})
		stage.Check(t, err)
	}
}

// remainsChangeIstioObjects: the sampling and tags of labelled namespaces, any Gateway there, and all of it deleted.
func (e *environment) remainsChangeIstioObjects(t *testing.T, namespace string) {
	stage.Check(t, e.applyObject(t.Context(), entryOf(namespace)))
	stage.Check(t, e.applyObject(t.Context(), telemetryOf(namespace, targets(gateway()))))
	stage.Check(t, e.applyObject(t.Context(), telemetryOf(namespace, setField("spec.tracing", []any{map[string]any{
		"providers": []any{map[string]any{"name": provider}}, "randomSamplingPercentage": int64(0),
	}}))))
	for _, kind := range []int{0, 2} {
		stage.Check(t, e.accountObjects.Resource(istioKinds()[kind]).Namespace(namespace).Delete(t.Context(), provider, metav1.DeleteOptions{}))
	}
}
