package clusterstate

import (
	"context"
	"sync"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"

	"github.com/lightstep-injector/lightstep-injector/webhook/panics"
)

// Reduced is what is kept of an object: the names of its metadata, and what a reduction has made of the rest.
type Reduced[T any] struct {
	metav1.PartialObjectMetadata

	// Kept is the zero value for an object that is Unreadable, or of which only the names are known, in a bookmark.
	Kept T
	// Unreadable reports that the object exceeds a bound, so that only its names were read.
	Unreadable bool
}

// DeepCopyObject returns a copy that shares Kept, which is never changed.
func (r *Reduced[T]) DeepCopyObject() runtime.Object {
	reduced := *r
	r.DeepCopyInto(&reduced.PartialObjectMetadata)
	return &reduced
}

// Source is where objects of one kind are listed and watched. O is what it keeps of each.
type Source[O runtime.Object] struct {
	// Failed is called with each panic of the reduction; nil ignores them. The object is left out of a list, and an event of
	// a watch is ignored.
	Failed func(error)

	requests
	reduction[O]

	// gate admits one page at a time to memory, of all sources of a Reader.
	gate chan struct{}

	mu sync.Mutex
	// limit is the number of objects that the next page asks for, and good the number of pages since it last changed.
	limit int64
	good  int
}

// requests are those that a source sends. Each reads one page.
type requests struct {
	list func(context.Context, metav1.ListOptions) (*page, error)
	// watch passes each event through a function before the next one is read.
	watch func(context.Context, metav1.ListOptions, through) (watch.Interface, error)
	// names lists the metadata of what list lists; nil if list does so itself.
	names func(context.Context, metav1.ListOptions) (*page, error)
}

// through reduces an event; false drops it.
type through func(watch.Event) (watch.Event, bool)

// page is a response to a list. Its objects are decoded one by one, if the encoding allows that.
type page struct {
	metav1.ListMeta

	each func(func(runtime.Object) error) error
}

// reduction is how a source keeps an object.
type reduction[O runtime.Object] struct {
	// reduce returns what is kept; false drops the object.
	reduce func(runtime.Object) (kept O, keep bool)
	// bare makes what is kept of an object of which only the names are known.
	bare func(names metav1.ObjectMeta, unreadable bool) O
}

// kept reduces an object. A panic is the object's own affair: what a tenant has written must not end the process.
func (s *Source[O]) kept(object runtime.Object) (kept O, keep bool) {
	err := panics.Caught(func() error {
		kept, keep = s.reduce(object)
		return nil
	})
	if err == nil {
		return kept, keep
	}
	if s.Failed != nil {
		s.Failed(err)
	}
	return kept, false
}

// namesOf are the fields of the metadata that are kept of every object.
func namesOf(meta metav1.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:              meta.GetName(),
		Namespace:         meta.GetNamespace(),
		UID:               meta.GetUID(),
		ResourceVersion:   meta.GetResourceVersion(),
		CreationTimestamp: meta.GetCreationTimestamp(),
		DeletionTimestamp: meta.GetDeletionTimestamp(),
	}
}

// reduceTo makes the reduction of a kind to a Reduced.
func reduceTo[T any, O runtime.Object](keep func(O) (T, bool)) reduction[*Reduced[T]] {
	wrap := func(names metav1.ObjectMeta, kept T, unreadable bool) *Reduced[T] {
		return &Reduced[T]{metav1.PartialObjectMetadata{ObjectMeta: names}, kept, unreadable}
	}
	return reduction[*Reduced[T]]{
		reduce: func(object runtime.Object) (*Reduced[T], bool) {
			whole, ok := object.(O)
			meta, isMeta := object.(metav1.Object)
			if !ok || !isMeta {
				return nil, false
			}
			kept, keep := keep(whole)
			if !keep {
				return nil, false
			}
			return wrap(namesOf(meta), kept, false), true
		},
		bare: func(names metav1.ObjectMeta, unreadable bool) *Reduced[T] {
			var nothing T
			return wrap(names, nothing, unreadable)
		},
	}
}

// reduceMetadata makes the reduction of metadata to less of it.
func reduceMetadata(keep func(from, to *metav1.ObjectMeta)) reduction[*metav1.PartialObjectMetadata] {
	return reduction[*metav1.PartialObjectMetadata]{
		reduce: func(object runtime.Object) (*metav1.PartialObjectMetadata, bool) {
			whole, ok := object.(*metav1.PartialObjectMetadata)
			if !ok {
				return nil, false
			}
			reduced := &metav1.PartialObjectMetadata{ObjectMeta: namesOf(whole)}
			keep(&whole.ObjectMeta, &reduced.ObjectMeta)
			return reduced, true
		},
		bare: func(names metav1.ObjectMeta, _ bool) *metav1.PartialObjectMetadata {
			return &metav1.PartialObjectMetadata{ObjectMeta: names}
		},
	}
}

// quiet silences client-go, which logs each abandoned response as an error.
func quiet(ctx context.Context) context.Context { return klog.NewContext(ctx, logr.Discard()) }
