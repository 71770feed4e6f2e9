package mesh

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"

	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
	"github.com/lightstep-injector/lightstep-injector/internal/escape"
	"github.com/lightstep-injector/lightstep-injector/internal/ssa"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/panics"
)

const (
	// patience is how long a cluster without Istio, and an object that is not ours, are left before another look.
	patience = 10 * time.Second
	// gather is how long news is gathered before all namespaces are looked at again.
	gather = 200 * time.Millisecond
	// workers reconcile namespaces at the same time.
	workers = 2
)

// Snapshots is where the controller learns what is to be.
type Snapshots interface {
	// Now returns the snapshot in force, and a channel that is closed when there is a later one.
	Now() (*inject.Snapshot, <-chan struct{})
}

// Controller keeps the objects of labelled namespaces, while the configuration has istio.manage: true.
type Controller struct {
	Snapshots Snapshots
	Metadata  metadata.Interface
	// Cluster watches the objects that carry the controller's labels.
	Cluster *clusterstate.Reader
	// Events tells of objects that are left alone.
	Events events.EventRecorder
	Log    *zap.Logger
	// Synced is closed once the snapshot has all that is in the cluster: before that, a namespace that it does not have
	// may be labelled all the same.
	Synced <-chan struct{}

	mu     sync.Mutex
	states map[string]State
}

// Lead keeps the objects until the context ends. One process does so at a time. It asks the apiserver for nothing while the
// configuration has it manage nothing.
func (c *Controller) Lead(ctx context.Context) {
	select {
	case <-c.Synced:
	case <-ctx.Done():
		return
	}
	for c.until(ctx, managed) {
		managing, stop := context.WithCancel(ctx)
		go func() {
			defer stop()
			c.until(managing, func(snap *inject.Snapshot) bool { return !managed(snap) })
		}()
		c.manage(managing)
		stop()
	}
}

func managed(snap *inject.Snapshot) bool { return snap.Settings.Istio().Manage }

// until waits for a snapshot; false where the context ends before that.
func (c *Controller) until(ctx context.Context, wanted func(*inject.Snapshot) bool) bool {
	for {
		snap, later := c.Snapshots.Now()
		if ctx.Err() != nil {
			return false
		}
		if wanted(snap) {
			return true
		}
		select {
		case <-later:
		case <-ctx.Done():
			return false
		}
	}
}

// manage does the work.
func (c *Controller) manage(ctx context.Context) {
	c.Log.Info("mesh: managing")
	defer c.Log.Info("mesh: no longer managing")
	c.forget()
	defer c.forget()
	cluster := &cluster{metadata: c.Metadata, reader: c.Cluster}
	served := c.findIstio(ctx, cluster)
	if served == nil {
		return
	}
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	defer queue.ShutDown()
	if !cluster.watch(ctx, served, &running, queue.Add) {
		return
	}
	for range workers {
		running.Go(func() { c.work(ctx, cluster, queue) })
	}
	c.follow(ctx, cluster, queue)
}

// findIstio waits until the cluster has Istio's kinds, and says once that it has not.
func (c *Controller) findIstio(ctx context.Context, cluster *cluster) []servedKind {
	said := ""
	for {
		served, err := cluster.discover(ctx)
		if served != nil || ctx.Err() != nil {
			return served
		}
		says := "the cluster has not all of Istio's ServiceEntry, DestinationRule and Telemetry"
		if err != nil {
			says = err.Error()
		}
		if says != said {
			said = says
			c.Log.Warn("mesh: waiting: nothing can be kept yet", escape.LogText("why", says))
		}
		select {
		case <-time.After(patience):
		case <-ctx.Done():
			return nil
		}
	}
}

// follow has every namespace looked at again whenever there is news that matters to their objects. Telemetries do not, of which
// tenants can change thousands.
func (c *Controller) follow(ctx context.Context, cluster *cluster, queue workqueue.TypedInterface[string]) {
	var seen *inject.Snapshot
	for {
		snap, later := c.Snapshots.Now()
		if seen == nil || !alike(seen, snap) {
			for name := range snap.Namespaces.All() {
				queue.Add(name)
			}
			for _, name := range cluster.namespaces() {
				queue.Add(name)
			}
			c.retain(snap)
		}
		seen = snap
		select {
		case <-later:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(gather):
		case <-ctx.Done():
			return
		}
	}
}

func (c *Controller) work(ctx context.Context, cluster *cluster, queue workqueue.TypedRateLimitingInterface[string]) {
	for {
		namespace, stopping := queue.Get()
		if stopping {
			return
		}
		state := Failed
		err := panics.Caught(func() (err error) { // which is then one namespace's affair, and not all of the process's
			state, err = c.reconcile(ctx, cluster, namespace)
			return err
		})
		if ctx.Err() == nil {
			c.note(namespace, state, err)
		}
		switch state {
		case Failed:
			queue.AddRateLimited(namespace)
		case Foreign, Conflict:
			queue.Forget(namespace)
			queue.AddAfter(namespace, patience) // nobody tells when a foreign object goes
		default:
			queue.Forget(namespace)
		}
		queue.Done(namespace)
	}
}

// reconcile has a namespace's objects be as they should be. A Telemetry goes before what it needs, and comes after it, so
// that no proxy ever sends spans without the TLS that the profile wants.
func (c *Controller) reconcile(ctx context.Context, cluster *cluster, namespace string) (State, error) {
	snap, _ := c.Snapshots.Now()
	want := wanted(snap, namespace)
	if want.state == Unknown || !managed(snap) {
		return Unknown, nil
	}
	kept := map[objectKey]bool{}
	var applyErr error
	if want.state == Kept {
		if applyErr = cluster.keep(ctx, namespace, &want, kept); stateOf(applyErr) == Failed {
			return Failed, applyErr // what is there already may stay
		}
	}
	removeErr := cluster.prune(ctx, namespace, kept)
	if err := errors.Join(applyErr, removeErr); err != nil {
		return stateOf(err), err
	}
	return want.state, nil
}

// keep applies what is wanted, in order, and notes what is then there by right. It stops at the first that is not to be had.
func (c *cluster) keep(ctx context.Context, namespace string, want *want, kept map[objectKey]bool) error {
	a := abilities{networking: c.served[0].resource.Version, telemetry: c.served[len(c.served)-1].resource.Version}
	objects, err := namespaceObjects(namespace, &want.settings, want.export, a)
	if err != nil {
		return err
	}
	for _, object := range objects {
		at := slices.IndexFunc(c.served, func(k servedKind) bool { return k.name == object.GetKind() })
		err := c.ensure(ctx, c.served[at], object)
		if err == nil || errors.Is(err, ssa.ErrConflict) { // what somebody has changed is not deleted, either
			kept[objectKey{object.GetKind(), namespace, object.GetName()}] = true
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// prune deletes what is ours and no longer wanted, the last kind first.
func (c *cluster) prune(ctx context.Context, namespace string, kept map[objectKey]bool) error {
	for _, k := range slices.Backward(c.served) {
		for _, object := range c.owned(k, namespace) {
			if kept[objectKey{k.name, namespace, object.Name}] {
				continue
			}
			if err := c.remove(ctx, k, object); err != nil {
				return err
			}
		}
	}
	return nil
}

func stateOf(err error) State {
	switch {
	case err == nil:
		return Kept
	case terminating(err):
		return NotLabelled
	case errors.Is(err, ssa.ErrForeign):
		return Foreign
	case errors.Is(err, ssa.ErrConflict):
		return Conflict
	}
	return Failed
}

// note remembers how it stands with a namespace, and says what is new.
func (c *Controller) note(namespace string, state State, err error) {
	c.mu.Lock()
	before := c.states[namespace]
	if state == NotLabelled {
		delete(c.states, namespace)
	} else {
		c.states[namespace] = state
	}
	c.mu.Unlock()
	if state == before || (before == "" && state == NotLabelled) {
		return
	}
	log := c.Log.With(zap.String("namespace", namespace), zap.String("state", string(state)))
	switch state {
	case Foreign, Conflict:
		log.Warn("mesh: left alone, so the namespace's proxies may send no spans", zap.Error(err))
		c.tell(state, err)
	case Failed:
		if !errors.Is(err, ssa.ErrOvertaken) { // another look follows at once
			log.Error("mesh: failed; it is tried again", zap.Error(err))
		}
	default:
		log.Info("mesh: namespace")
	}
}

// maxWhy bounds, in bytes, what of an Event's note (at most 1 KiB) quotes another object: the names of its field managers.
const maxWhy = 512

// tell records an Event about an object that is left alone, in its namespace.
func (c *Controller) tell(state State, err error) {
	object, ok := errors.AsType[*leftAloneError](err)
	if !ok {
		return
	}
	c.Events.Eventf(&object.PartialObjectMetadata, nil, corev1.EventTypeWarning, eventReason(state), "Apply",
		"%s; it is left as it is, and the proxies of the namespace may send no spans: delete it to have the injector's in its place", escape.Cut(object.why.Error(), maxWhy))
}

func eventReason(state State) string { return string(state) + "Object" }

// EventReasons are the reasons of all Events that the controller records. The chart's policy rejects others.
func EventReasons() []string { return []string{eventReason(Foreign), eventReason(Conflict)} }

// retain drops what is known of namespaces that are no longer labelled.
func (c *Controller) retain(snap *inject.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.states, func(name string, _ State) bool { _, labelled := snap.Namespaces.Get(name); return !labelled })
}

// forget has the gauge say nothing while another process leads.
func (c *Controller) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states = map[string]State{}
}

// Register registers the gauge of how many labelled namespaces are in each state.
func (c *Controller) Register(registry prometheus.Registerer) error {
	return registry.Register(gauge{c})
}

// gauge counts the namespaces whenever it is asked.
type gauge struct{ controller *Controller }

func (gauge) description() *prometheus.Desc {
	return prometheus.NewDesc("lightstep_injector_mesh_namespaces",
		"Labelled namespaces by how it stands with the Istio objects that the injector keeps in them; of the leader alone.", []string{"state"}, nil)
}

// Describe names the gauge.
func (g gauge) Describe(to chan<- *prometheus.Desc) { to <- g.description() }

// Collect counts.
func (g gauge) Collect(to chan<- prometheus.Metric) {
	counts := map[State]int{}
	g.controller.mu.Lock()
	for _, state := range g.controller.states {
		counts[state]++
	}
	g.controller.mu.Unlock()
	for state, count := range counts {
		to <- prometheus.MustNewConstMetric(g.description(), prometheus.GaugeValue, float64(count), string(state))
	}
}
