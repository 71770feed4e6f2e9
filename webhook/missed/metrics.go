package missed

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// mostSeries bounds the gauge's series: the namespaces with most missed pods have one each, the others one together, whose
// label is empty.
const mostSeries = 1000

// Register registers the gauges.
func (c *Counter) Register(registry prometheus.Registerer) error {
	collector := gauges{
		counter: c,
		missed: prometheus.NewDesc("lightstep_injector_missed_pods",
			"Pods that run in a labelled namespace and were never injected, for each namespace that has any; of the leader alone.", []string{"namespace"}, nil),
		looked: prometheus.NewDesc("lightstep_injector_missed_pods_last_look_timestamp_seconds",
			"When every labelled namespace had last been looked at for missed pods, in Unix time; of the leader alone.", nil, nil),
	}
	if err := registry.Register(collector); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// gauges tell what has been counted.
type gauges struct {
	counter        *Counter
	missed, looked *prometheus.Desc
}

// Describe names the gauges.
func (g gauges) Describe(to chan<- *prometheus.Desc) { to <- g.missed; to <- g.looked }

// Collect reads what was counted last.
func (g gauges) Collect(to chan<- prometheus.Metric) {
	c := g.counter
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.looked.IsZero() {
		to <- prometheus.MustNewConstMetric(g.looked, prometheus.GaugeValue, float64(c.looked.UnixMilli())/1000)
	}
	names := slices.SortedFunc(maps.Keys(c.missed), func(a, b string) int {
		return cmp.Or(cmp.Compare(c.missed[b], c.missed[a]), cmp.Compare(a, b))
	})
	others := 0
	for i, name := range names {
		if i < mostSeries {
			to <- prometheus.MustNewConstMetric(g.missed, prometheus.GaugeValue, float64(c.missed[name]), name)
		} else {
			others += c.missed[name]
		}
	}
	if others > 0 {
		to <- prometheus.MustNewConstMetric(g.missed, prometheus.GaugeValue, float64(others), "")
	}
}
