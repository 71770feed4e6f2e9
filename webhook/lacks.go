package webhook

import (
	"fmt"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

// mostLackSeries bounds the series of each gauge: the first namespaces by name have one each, the others one together, whose
// label is empty.
const mostLackSeries = 1000

// lacks tells, whenever it is asked, what the mesh of each labelled namespace still lacks. Its label has a value for each
// labelled namespace in a mesh that lacks something, and no other, up to mostLackSeries.
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
	all := snapshot.Lacks(c.store.Current())
	names := slices.Sorted(maps.Keys(all))
	collect(to, c.provider, names, func(name string) bool { return all[name] == istio.LacksProvider })
	collect(to, c.telemetry, names, func(name string) bool { return all[name] == istio.LacksTelemetry })
}

// collect sends a bounded number of series for the namespaces that lack something.
func collect(to chan<- prometheus.Metric, gauge *prometheus.Desc, names []string, lacks func(string) bool) {
	series, others := 0, 0
	for _, name := range names {
		switch {
		case !lacks(name):
		case series < mostLackSeries:
			series++
			to <- prometheus.MustNewConstMetric(gauge, prometheus.GaugeValue, 1, name)
		default:
			others++
		}
	}
	if others > 0 {
		to <- prometheus.MustNewConstMetric(gauge, prometheus.GaugeValue, float64(others), "")
	}
}
