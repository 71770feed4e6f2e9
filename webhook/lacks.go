package webhook

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

// lacks tells, whenever it is asked, what the mesh of each labelled namespace still lacks. Its label has a value for each
// labelled namespace in a mesh that lacks something, and no other.
type lacks struct {
	store               *snapshot.Store
	provider, telemetry *prometheus.Desc
}

// RegisterLacks registers the gauges of what the mesh still lacks.
func RegisterLacks(registry prometheus.Registerer, store *snapshot.Store) error {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("lightstep_injector_"+name, help, []string{"namespace"}, nil)
	}
	c := &lacks{
		store:     store,
		provider:  describe("mesh_provider_missing", "1 for a labelled namespace whose mesh lacks the OpenTelemetry provider that spans are to go through."),
		telemetry: describe("mesh_telemetry_missing", "1 for a labelled namespace for which no Telemetry switches that provider on."),
	}
	if err := registry.Register(c); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// Describe names the gauges.
func (c *lacks) Describe(to chan<- *prometheus.Desc) { to <- c.provider; to <- c.telemetry }

// Collect reads the snapshot in force.
func (c *lacks) Collect(to chan<- prometheus.Metric) {
	for namespace, lack := range snapshot.Lacks(c.store.Current()) {
		switch lack {
		case istio.LacksProvider:
			to <- prometheus.MustNewConstMetric(c.provider, prometheus.GaugeValue, 1, namespace)
		case istio.LacksTelemetry:
			to <- prometheus.MustNewConstMetric(c.telemetry, prometheus.GaugeValue, 1, namespace)
		}
	}
}
