package webhook

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

// unreadableObjects counts, whenever it is asked, the objects that exceed a bound. Its label has a value for each kind.
type unreadableObjects struct {
	store *snapshot.Store
	gauge *prometheus.Desc
}

// RegisterUnreadable registers the gauge of the objects that exceed a bound.
func RegisterUnreadable(registry prometheus.Registerer, store *snapshot.Store) error {
	gauge := prometheus.NewDesc("lightstep_injector_unreadable_objects",
		"Objects that exceed a bound and are ignored, by kind.", []string{"kind"}, nil)
	if err := registry.Register(unreadableObjects{store, gauge}); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// Describe names the gauge.
func (u unreadableObjects) Describe(to chan<- *prometheus.Desc) { to <- u.gauge }

// Collect counts.
func (u unreadableObjects) Collect(to chan<- prometheus.Metric) {
	for kind, count := range u.store.Unreadable() {
		to <- prometheus.MustNewConstMetric(u.gauge, prometheus.GaugeValue, float64(count), kind)
	}
}
