package snapshot

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// NamespaceSelector is the label by which a namespace opts in.
const NamespaceSelector = "lightstep.com/injection=enabled"

// Watch feeds a store from a cluster.
type Watch struct {
	// Client reads metadata alone: a Secret's data never enters this process.
	Client metadata.Interface
	Store  *Store
	Log    *zap.Logger

	mu      sync.Mutex
	pending map[string]bool
	synced  chan struct{}
}

// NewWatch makes a watch; Run starts it.
func NewWatch(client metadata.Interface, store *Store, log *zap.Logger) *Watch {
	w := &Watch{Client: client, Store: store, Log: log, synced: make(chan struct{})}
	w.pending = map[string]bool{namespaces: true}
	for _, name := range store.Current().Settings.SecretNames() {
		w.pending[secretNamed(name)] = true
	}
	return w
}

// Synced is closed once each of the first watches has told everything, or has been refused.
func (w *Watch) Synced() <-chan struct{} { return w.synced }

// Run watches until the context ends. The Secrets it watches are those that the configuration in force names.
func (w *Watch) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { w.namespaces(ctx) })

	stops := map[string]func(){}
	for {
		now := w.Store.current.Load()
		wanted := now.snapshot.Settings.SecretNames()
		for name, stop := range stops {
			if !slices.Contains(wanted, name) {
				stop()
				delete(stops, name)
				w.settle(secretNamed(name))
			}
		}
		for _, name := range wanted {
			if stops[name] == nil {
				stops[name] = start(ctx, &running, func(ctx context.Context) { w.secrets(ctx, name) })
			}
		}
		select {
		case <-now.superseded:
		case <-ctx.Done():
			return
		}
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

// namespaces names the watch of the labelled namespaces, as secretNamed names that of one Secret name.
const namespaces = "namespaces"

func secretNamed(name string) string { return "secrets " + name }

func (w *Watch) namespaces(ctx context.Context) {
	w.reflect(ctx, namespaces, "namespaces", func(o *metav1.ListOptions) { o.LabelSelector = NamespaceSelector }, reducer{
		replace: w.Store.ReplaceNamespaces,
		set:     w.Store.SetNamespace,
		remove:  w.Store.RemoveNamespace,
	})
}

// secrets watches one name in all namespaces by a field selector, the one form of watch that RBAC can limit to a name.
func (w *Watch) secrets(ctx context.Context, name string) {
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	w.reflect(ctx, secretNamed(name), "secrets", func(o *metav1.ListOptions) { o.FieldSelector = selector }, reducer{
		replace: func(list []*metav1.PartialObjectMetadata) { w.Store.ReplaceSecrets(name, list) },
		set:     func(object *metav1.PartialObjectMetadata) { w.Store.SetSecret(name, object.Namespace, true) },
		remove:  func(object *metav1.PartialObjectMetadata) { w.Store.SetSecret(name, object.Namespace, false) },
	})
}

// reflect lists and watches until the context ends, and begins again, ever more patiently, after every failure. The
// reflector's own words are dropped: it repeats itself with every attempt, and source says each failure once.
func (w *Watch) reflect(ctx context.Context, name, kind string, tweak func(*metav1.ListOptions), into reducer) {
	into.synced = func() { w.settle(name) }
	from := &source{
		client: w.Client.Resource(schema.GroupVersionResource{Version: "v1", Resource: kind}),
		tweak:  tweak,
		failed: func(err error) {
			w.Log.Error("watch failed; it is tried again and again", zap.String("watch", name), zap.Error(err))
			if apierrors.IsForbidden(err) && name != namespaces {
				w.settle(name)
			}
		},
	}
	reflector := cache.NewReflectorWithOptions(
		cache.ToListWatcherWithWatchListSemantics(from.listWatch(), w.Client),
		&metav1.PartialObjectMetadata{}, into, cache.ReflectorOptions{Name: name, TypeDescription: kind})
	reflector.RunWithContext(klog.NewContext(ctx, logr.Discard()))
}

// settle notes that a watch has told all it will for now; the last one of the first closes Synced. A Secret's watch that
// is forbidden is settled too: nothing will be claimed missing, which costs a tracer block that may not work yet. The
// labelled namespaces are indispensable, and are waited for.
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

// source is where a reflector lists and watches.
type source struct {
	client metadata.ResourceInterface
	tweak  func(*metav1.ListOptions)
	// failed is told of a failure, once until another kind of failure, or a success, follows it.
	failed func(error)
	last   metav1.StatusReason
	ill    bool
}

func (s *source) listWatch() *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			s.tweak(&o)
			list, err := s.client.List(ctx, o)
			return list, s.note(ctx, err)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			s.tweak(&o)
			stream, err := s.client.Watch(ctx, o)
			return stream, s.note(ctx, err)
		},
	}
}

// note passes an error through.
func (s *source) note(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		s.ill = false
		return err
	}
	if reason := apierrors.ReasonForError(err); !usual(err) && (!s.ill || reason != s.last) {
		s.ill, s.last = true, reason
		s.failed(err)
	}
	return err
}

// usual tells what belongs to a watch's life: a resource version that has expired, and an apiserver too old to send the
// initial list as a stream, which is then asked for as a list.
func usual(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.IsInvalid(err)
}

// reducer is what a reflector takes for a cache: it passes on what it is told and keeps nothing.
type reducer struct {
	replace     func([]*metav1.PartialObjectMetadata)
	set, remove func(*metav1.PartialObjectMetadata)
	synced      func()
}

// Replace takes the whole list.
func (r reducer) Replace(list []any, _ string) error {
	objects := make([]*metav1.PartialObjectMetadata, 0, len(list))
	for _, item := range list {
		object, err := partial(item)
		if err != nil {
			return err
		}
		objects = append(objects, object)
	}
	r.replace(objects)
	r.synced()
	return nil
}

// Add takes a new object.
func (r reducer) Add(item any) error { return pass(item, r.set) }

// Update takes a changed object.
func (r reducer) Update(item any) error { return pass(item, r.set) }

// Delete takes an object that is gone, or that no longer matches.
func (r reducer) Delete(item any) error { return pass(item, r.remove) }

// Resync has nothing to do: there is no cache to go through again.
func (r reducer) Resync() error { return nil }

func pass(item any, to func(*metav1.PartialObjectMetadata)) error {
	object, err := partial(item)
	if err == nil {
		to(object)
	}
	return err
}

func partial(item any) (*metav1.PartialObjectMetadata, error) {
	object, ok := item.(*metav1.PartialObjectMetadata)
	if !ok {
		return nil, fmt.Errorf("a watch of metadata told of a %T", item)
	}
	return object, nil
}
