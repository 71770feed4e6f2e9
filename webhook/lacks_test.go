package webhook

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

// Of the labelled namespaces, those whose mesh lacks the provider are counted, and no other.
func TestLacks(t *testing.T) {
	store := snapshot.NewStore(settings.Default(), "injector", "v1")
	registry := prometheus.NewPedanticRegistry()
	if err := RegisterLacks(registry, store); err != nil {
		t.Fatal(err)
	}
	inRevision := func(name, revision string) *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"istio.io/rev": revision}}}
	}
	store.ReplaceNamespaces([]*metav1.PartialObjectMetadata{inRevision("bare", "new"), inRevision("old", "old"), inRevision("lost", "gone")})
	configMap := func(name string, data map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": name}, "data": data}}
	}
	store.ReplaceControlPlanes("istio-system", []*unstructured.Unstructured{
		configMap("istio-new", map[string]any{"mesh": "{}"}), configMap("istio-sidecar-injector-new", map[string]any{"values": "global: {tag: 1.31.0}"}),
		configMap("istio-old", map[string]any{"mesh": "{}"}), configMap("istio-sidecar-injector-old", map[string]any{"values": "global: {tag: 1.7.8}"}),
	})
	const want = `
# HELP lightstep_injector_mesh_provider_missing 1 for a labelled namespace whose mesh lacks the OpenTelemetry provider that spans are to go through.
# TYPE lightstep_injector_mesh_provider_missing gauge
lightstep_injector_mesh_provider_missing{namespace="bare"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
