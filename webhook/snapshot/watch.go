package snapshot

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// mostReported bounds what is remembered of unreadable objects.
const mostReported = 10000

// Watch feeds a store from a cluster.
type Watch struct {
	Cluster *clusterstate.Reader
	Store   *Store
	Log     *zap.Logger
	// Panicked is told of each panic that was survived.
	Panicked func()
	// Unreadable is called with the first object of a kind and namespace that exceeds a bound.
	Unreadable func(*metav1.PartialObjectMetadata)

	// secretsIn limits the Secrets of labelled namespaces to those of one; empty for all.
	secretsIn string

	mu      sync.Mutex
	pending map[string]bool
	synced  chan struct{}
	// version is the index of the version in which Telemetries were last read.
	version atomic.Int32
	// labelled is closed once the labelled namespaces are known.
	labelled chan struct{}
	// reported are the kinds and namespaces with an object that was reported as unreadable.
	reported map[string]bool
}

// NewWatch makes a watch; Run starts it.
func NewWatch(cluster *clusterstate.Reader, store *Store, panicked func(), unreadable func(*metav1.PartialObjectMetadata), log *zap.Logger) *Watch {
	w := &Watch{
		Cluster: cluster, Store: store, Panicked: panicked, Unreadable: unreadable, Log: log,
		pending: map[string]bool{}, synced: make(chan struct{}), labelled: make(chan struct{}), reported: map[string]bool{},
	}
	for name := range w.subjects() {
		w.pending[name] = true
	}
	return w
}

// Synced is closed once each of the first watches has told everything, or has been refused.
func (w *Watch) Synced() <-chan struct{} { return w.synced }

// Run watches until the context ends: whatever the configuration in force names.
func (w *Watch) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	stops, absent := map[string]func(){}, map[string]func(){}
	running.Go(func() { w.listLate(ctx) })
	var config *settings.Settings // what is watched goes by the configuration alone
	for {
		now := w.Store.current.Load()
		if now.snapshot.Settings == config {
			if !superseded(ctx, now) {
				return
			}
			continue
		}
		config = now.snapshot.Settings
		wanted := w.subjects()
		for name, stop := range stops {
			if _, still := wanted[name]; !still {
				stop()
				delete(stops, name)
				if forget := absent[name]; forget != nil {
					forget() // what is no longer watched is not waited for, either
				}
				w.settle(name)
			}
		}
		for name, subject := range wanted {
			if stops[name] == nil {
				absent[name] = subject.absent
				stops[name] = start(ctx, &running, func(ctx context.Context) { w.follow(ctx, name, subject) })
			}
		}
	}
}

// superseded waits until there is a later snapshot; false where the context ends before that.
func superseded(ctx context.Context, now *published) bool {
	select {
	case <-now.superseded:
		return true
	case <-ctx.Done():
		return false
	}
}

// start runs a task until the context ends or the returned function is called, which returns when the task has.
func start(ctx context.Context, group *sync.WaitGroup, task func(context.Context)) func() {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	group.Go(func() {
		defer close(done)
		task(ctx)
	})
	return func() {
		cancel()
		<-done
	}
}

// follow lists and watches until the context ends, and begins again, ever more patiently, after every failure. The
// reflector's own words are dropped: it repeats itself with every attempt, and source says each failure once.
func (w *Watch) follow(ctx context.Context, name string, s subject) {
	told := func() { w.settle(name) }
	s.from.failed = func(err error) {
		switch {
		case apierrors.IsNotFound(err) && s.absent != nil:
			s.absent() // the cluster has no such kind; it may come to have it
			told()
			return
		case apierrors.IsForbidden(err) && !s.indispensable:
			told()
		}
		w.Log.Error("watch failed; it is tried again and again", zap.String("watch", name), zap.Error(err))
	}
	if s.after != nil {
		select {
		case <-s.after:
		case <-ctx.Done():
			return
		}
	}
	store := guard{s.into(told), w.panicked(name)}
	reflector := cache.NewReflectorWithOptions(s.from.listerWatcher(), s.example, store,
		cache.ReflectorOptions{Name: name, TypeDescription: name})
	reflector.RunWithContext(klog.NewContext(ctx, logr.Discard()))
}

// panicked reports a panic at an object.
func (w *Watch) panicked(name string) func(error) {
	return func(err error) {
		if w.Panicked == nil {
			return
		}
		w.Panicked()
		w.Log.Error("watch: what it has told could not be taken in", zap.String("watch", name), zap.Error(err))
	}
}

// unreadable reports an object that exceeds a bound: once for each kind and namespace.
func (w *Watch) unreadable(kind, apiVersion string, names *metav1.ObjectMeta) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := kind + "/" + names.Namespace
	if w.Unreadable == nil || w.reported[key] {
		return
	}
	if len(w.reported) >= mostReported {
		clear(w.reported)
	}
	w.reported[key] = true
	w.Log.Warn("object exceeds a bound, ignoring it", zap.String("kind", kind), zap.String("namespace", names.Namespace), zap.String("name", names.Name))
	w.Unreadable(&metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{Kind: kind, APIVersion: apiVersion}, ObjectMeta: *names})
}

// settle notes that a watch has told all it will for now; the last one of the first closes Synced. What is forbidden is
// settled, too, and nothing is claimed of it: of a Secret, that it is missing, which costs a tracer block that may not
// work yet; of Istio, its version. The labelled namespaces alone are indispensable, and are waited for.
func (w *Watch) settle(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.pending[name] {
		return
	}
	delete(w.pending, name)
	if name == namespacesName {
		close(w.labelled)
	}
	if len(w.pending) == 0 {
		close(w.synced)
	}
}
