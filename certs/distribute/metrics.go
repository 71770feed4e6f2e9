package distribute

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
)

// Register registers the gauges.
func (c *Controller) Register(registry prometheus.Registerer) error {
	return registry.Register(gauges{
		controller: c,
		copies: prometheus.NewDesc("lightstep_injector_copies",
			"Secrets in labelled namespaces, and copies left in others, by how they stand; of the leader alone.", []string{"secret", "state"}, nil),
		expiry: prometheus.NewDesc("lightstep_injector_satellite_ca_expiry_seconds",
			"Seconds until the first still valid certificate of a satellite CA expires.", []string{"secret"}, nil),
		problem: prometheus.NewDesc("lightstep_injector_source_problem",
			"1 for a source that is not fit to be handed out, by its fault.", []string{"secret", "fault"}, nil),
	})
}

// gauges are told from the world whenever somebody asks.
type gauges struct {
	controller              *Controller
	copies, expiry, problem *prometheus.Desc
}

// Describe names the gauges.
func (g gauges) Describe(to chan<- *prometheus.Desc) {
	to <- g.copies
	to <- g.expiry
	to <- g.problem
}

// Collect looks at every source and, on the leader, at every copy.
func (g gauges) Collect(to chan<- prometheus.Metric) {
	c := g.controller
	now := time.Now()
	snap, _ := c.World.Now()
	seen := sets.New[string]()
	for _, of := range snap.Settings.Sources() {
		source := c.World.Source(of)
		if source == nil || seen.Has(of.Name) {
			continue
		}
		seen.Insert(of.Name) // one of its keys stands for it
		if expiry, ok := source.Expiry(now); ok {
			to <- prometheus.MustNewConstMetric(g.expiry, prometheus.GaugeValue, expiry.Sub(now).Seconds(), of.Name)
		}
		if problem := source.Problem(now); problem != nil {
			to <- prometheus.MustNewConstMetric(g.problem, prometheus.GaugeValue, 1, of.Name, string(problem.Fault))
		}
	}
	if c.isLeading() {
		for of, count := range c.count(now) {
			to <- prometheus.MustNewConstMetric(g.copies, prometheus.GaugeValue, float64(count), of.secret, string(of.state))
		}
	}
}

type counted struct {
	secret string
	state  State
}

// count assesses every Secret that may be due, and every copy elsewhere.
func (c *Controller) count(now time.Time) map[counted]int {
	snap, _ := c.World.Now()
	counts := map[counted]int{}
	look := func(key types.NamespacedName) {
		if a := assess(c.World, snap, key, now); a.state != None {
			counts[counted{key.Name, a.state}]++
		}
	}
	for namespace := range snap.Namespaces.All() {
		for _, name := range snap.Settings.SecretNames() {
			look(types.NamespacedName{Namespace: namespace, Name: name})
		}
	}
	var elsewhere []types.NamespacedName // not looked at yet: the world is busy with the call
	c.World.Copies(func(key types.NamespacedName) {
		if _, counted := snap.Namespaces.Get(key.Namespace); !counted {
			elsewhere = append(elsewhere, key)
		}
	})
	for _, key := range elsewhere {
		look(key)
	}
	return counts
}

func (c *Controller) isLeading() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leading
}
