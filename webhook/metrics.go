package webhook

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

// outcome is what became of a pod, in one word.
type outcome string

const (
	injected  outcome = "injected"
	unchanged outcome = "unchanged"
	failed    outcome = "failed"
)

// outcomeOf sorts a result. Failed are those that the injector, not a rule, left unchanged.
func outcomeOf(result *inject.Result) outcome {
	switch result.Reason {
	case inject.InternalError, inject.BadRequest, inject.Overloaded:
		return failed
	}
	if result.Injected {
		return injected
	}
	return unchanged
}

// Metrics are the injector's own. Every label is bounded: outcomes and reasons are fixed lists.
type Metrics struct {
	admissions *prometheus.CounterVec
	duration   prometheus.Histogram
	inFlight   prometheus.Gauge
	shed       prometheus.Counter
	unwaited   prometheus.Counter
	revoked    prometheus.Counter
	config     prometheus.Gauge
	configTime prometheus.Gauge
	children   map[series]prometheus.Counter
}

// series is one combination of the labels of admissions_total.
type series struct {
	outcome outcome
	reason  inject.Reason
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		admissions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lightstep_injector_admissions_total",
			Help: "Admission requests answered, by outcome (injected, unchanged, failed) and reason.",
		}, []string{"outcome", "reason"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "lightstep_injector_admission_duration_seconds",
			Help:    "Time from an admission request's headers to its answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
		inFlight: gauge("in_flight", "Admission requests being decided."),
		shed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lightstep_injector_shed_total",
			Help: "Admission requests answered undecided because too many were in flight.",
		}),
		unwaited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lightstep_injector_namespace_waits_cut_total",
			Help: "Requests for a namespace not seen yet that were decided before the end of their wait, because too many were waiting.",
		}),
		revoked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lightstep_injector_bodies_cut_total",
			Help: "Bodies and answers that were given up because their memory was needed for another client's.",
		}),
		config:     gauge("config_loaded", "1 where the configuration in force is the file's, 0 where the file was refused and an older one is in force."),
		configTime: gauge("config_last_load_timestamp_seconds", "When the configuration in force was loaded, in Unix time."),
		children:   map[series]prometheus.Counter{},
	}
	for _, s := range usualSeries() {
		m.children[s] = m.admissions.WithLabelValues(string(s.outcome), string(s.reason))
	}
	for _, c := range []prometheus.Collector{m.admissions, m.duration, m.inFlight, m.shed, m.unwaited, m.revoked, m.config, m.configTime} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: "lightstep_injector_" + name, Help: help})
}

// usualSeries are the combinations that exist from the start: a rate over them has a beginning, and a request finds its
// counter without building one.
func usualSeries() []series {
	return []series{
		{injected, inject.SidecarExpected},
		{injected, inject.SidecarPresent},
		{injected, inject.SidecarNotExpected},
		{injected, inject.MeshDisabled},
		{unchanged, inject.OptedOut},
		{unchanged, inject.UpToDate},
		{unchanged, inject.NotConfigured},
		{failed, inject.InternalError},
		{failed, inject.BadRequest},
		{failed, inject.Overloaded},
	}
}

// admitted counts one answer.
func (m *Metrics) admitted(result *inject.Result, took time.Duration) {
	key := series{outcomeOf(result), result.Reason}
	counter, ok := m.children[key]
	if !ok {
		counter = m.admissions.WithLabelValues(string(key.outcome), string(key.reason))
	}
	counter.Inc()
	m.duration.Observe(took.Seconds())
}

// ConfigLoaded notes that the configuration file is in force.
func (m *Metrics) ConfigLoaded() {
	m.config.Set(1)
	m.configTime.SetToCurrentTime()
}

// ConfigRefused notes that the configuration file is not the one in force.
func (m *Metrics) ConfigRefused() { m.config.Set(0) }
