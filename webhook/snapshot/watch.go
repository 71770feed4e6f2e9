package snapshot

import (
	"context"
	"sync"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/dynamic"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// Watch feeds a store from a cluster.
type Watch struct {
	// Metadata reads metadata alone.
	Metadata metadata.Interface
	// Secrets reads the Secrets of the satellite CA, which are reduced at once, and what is copied.
	Secrets typedcorev1.SecretsGetter
	// Objects reads whole objects: Istio's ConfigMaps and Telemetry resources, which are reduced at once.
	Objects dynamic.Interface
	Store   *Store
	Log     *zap.Logger
	// Panicked is told of each panic that was survived.
	Panicked func()

	// secretsIn limits the Secrets of labelled namespaces to those of one; empty for all.
	secretsIn string

	mu      sync.Mutex
	pending map[string]bool
	synced  chan struct{}
}

// NewWatch makes a watch; Run starts it.
func NewWatch(meta metadata.Interface, secrets typedcorev1.SecretsGetter, objects dynamic.Interface, store *Store, panicked func(), log *zap.Logger) *Watch {
	w := &Watch{Metadata: meta, Secrets: secrets, Objects: objects, Store: store, Panicked: panicked, Log: log, pending: map[string]bool{}, synced: make(chan struct{})}
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
	stops := map[string]func(){}
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
				w.settle(name)
			}
		}
		for name, subject := range wanted {
			if stops[name] == nil {
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
	store := guard{s.into(told), func(err error) {
		w.Panicked()
		w.Log.Error("watch: what it has told could not be taken in", zap.String("watch", name), zap.Error(err))
	}}
	reflector := cache.NewReflectorWithOptions(s.from.listerWatcher(), s.example, store,
		cache.ReflectorOptions{Name: name, TypeDescription: name})
	reflector.RunWithContext(klog.NewContext(ctx, logr.Discard()))
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
	if len(w.pending) == 0 {
		close(w.synced)
	}
}
