package serving

import (
	"context"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/lightstep-injector/lightstep-injector/webhook/panics"
)

// resource lists and watches a kind of object.
type resource[L runtime.Object] interface {
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// object is one of the cluster's, by name, as a watch by that name has last told of it: the only watch that RBAC can
// limit to a name.
type object[T runtime.Object] struct {
	what     string
	log      *zap.Logger
	informer cache.SharedIndexInformer
	// forbidden says that this account may not look.
	forbidden atomic.Bool

	mu sync.Mutex
	// said is the failure that was told of last.
	said metav1.StatusReason
}

func follow[T, L runtime.Object](from resource[L], example T, name string, log *zap.Logger) *object[T] {
	named := func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	}
	o := &object[T]{what: name, log: log}
	o.informer = cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			named(&options)
			return from.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			named(&options)
			return from.Watch(ctx, options)
		},
	}, from), example, 0, cache.Indexers{})
	_ = o.informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { // fails once it runs
		o.failed(err)
	})
	return o
}

// run watches until the context ends.
func (o *object[T]) run(ctx context.Context) { o.informer.RunWithContext(ctx) }

// listen has a function called whenever something may have changed, the first answer, that there is none, included. One that
// panics, at what somebody has written, is called at the next change again.
func (o *object[T]) listen(ctx context.Context, told func()) error {
	changed := func() {
		if err := panics.Caught(func() error { told(); return nil }); err != nil {
			o.log.Error("watch: what it has told could not be taken in", zap.String("watch", o.what), zap.Error(err))
		}
	}
	handler, err := o.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { changed() }, UpdateFunc: func(any, any) { changed() }, DeleteFunc: func(any) { changed() },
	})
	if err != nil {
		return err
	}
	defer func() { _ = o.informer.RemoveEventHandler(handler) }()
	if cache.WaitForCacheSync(ctx.Done(), handler.HasSynced) {
		changed()
	}
	<-ctx.Done()
	return nil
}

// now returns the object; there is false where there is none, and known until the watch has said anything.
func (o *object[T]) now() (found T, there, known bool) {
	if !o.informer.HasSynced() {
		return found, false, false
	}
	for _, item := range o.informer.GetStore().List() {
		return item.(T), true, true
	}
	return found, false, true
}

// failed tells of a failure that is not the last one again.
func (o *object[T]) failed(err error) {
	o.forbidden.Store(apierrors.IsForbidden(err))
	o.mu.Lock()
	defer o.mu.Unlock()
	reason := apierrors.ReasonForError(err)
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || reason == o.said {
		return
	}
	o.said = reason
	o.log.Error("watch failed; it is tried again and again", zap.String("watch", o.what), zap.Error(err))
}
