package webhook

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

// manyLacks is a collector of as many namespaces as are named, of which the first lacks nothing.
type manyLacks struct {
	gauge *prometheus.Desc
	names []string
}

func (m manyLacks) Describe(to chan<- *prometheus.Desc) { to <- m.gauge }

func (m manyLacks) Collect(to chan<- prometheus.Metric) {
	collect(to, m.gauge, m.names, func(name string) bool { return name != m.names[0] })
}

// However many namespaces lack something, each gauge has a bounded number of series, and their sum is right.
func TestLacksAreBounded(t *testing.T) {
	many := manyLacks{prometheus.NewDesc("lacks", "Lacks.", []string{"namespace"}, nil), make([]string, mostLackSeries+5)}
	for i := range many.names {
		many.names[i] = fmt.Sprintf("n%04d", i)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(many)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	sum, byName := 0.0, map[string]float64{}
	for _, series := range families[0].GetMetric() {
		byName[series.GetLabel()[0].GetValue()] = series.GetGauge().GetValue()
		sum += series.GetGauge().GetValue()
	}
	if len(byName) != mostLackSeries+1 || byName[""] != 4 || sum != mostLackSeries+4 {
		t.Errorf("%d series, others %v, sum %v", len(byName), byName[""], sum)
	}
}

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
	configMap := func(name string, data map[string]string) *snapshot.PlaneObject {
		plane, _ := snapshot.ReadPlane(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data})
		return &snapshot.PlaneObject{PartialObjectMetadata: metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name}}, Kept: plane}
	}
	store.ReplaceControlPlanes("istio-system", []*snapshot.PlaneObject{
		configMap("istio-new", map[string]string{"mesh": "{}"}), configMap("istio-sidecar-injector-new", map[string]string{"values": "global: {tag: 1.31.0}"}),
		configMap("istio-old", map[string]string{"mesh": "{}"}), configMap("istio-sidecar-injector-old", map[string]string{"values": "global: {tag: 1.7.8}"}),
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
