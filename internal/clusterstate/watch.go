package clusterstate

import (
	"context"
	"sync"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// Watch returns the events of a watch with each object reduced. An event whose object is dropped becomes a bookmark, so that a
// watch that begins again does so after it.
func (s *Source[O]) Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	return s.watch(ctx, options, s.reduceEvent)
}

func (s *Source[O]) tweakedWatch(tweak func(*metav1.ListOptions)) func(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		tweak(&o)
		return s.Watch(ctx, o)
	}
}

// reducedWatch hands on the events of a typed client's watch, reduced.
type reducedWatch struct {
	from   watch.Interface
	reduce through
	to     chan watch.Event
	done   chan struct{}
	stop   sync.Once
}

// reduced adapts a typed client's watch.
func reduced(open func(context.Context, metav1.ListOptions) (watch.Interface, error)) func(context.Context, metav1.ListOptions, through) (watch.Interface, error) {
	return func(ctx context.Context, options metav1.ListOptions, reduce through) (watch.Interface, error) {
		from, err := open(ctx, options)
		if err != nil {
			return nil, err
		}
		w := &reducedWatch{from: from, reduce: reduce, to: make(chan watch.Event), done: make(chan struct{})}
		go w.run()
		return w, nil
	}
}

// ResultChan returns the events. It is closed when the watch ends.
func (w *reducedWatch) ResultChan() <-chan watch.Event { return w.to }

// Stop ends the watch.
func (w *reducedWatch) Stop() {
	w.stop.Do(func() {
		close(w.done)
		w.from.Stop()
	})
}

func (w *reducedWatch) run() {
	defer close(w.to)
	defer w.from.Stop()
	for event := range w.from.ResultChan() {
		event, ok := w.reduce(event)
		if !ok {
			continue
		}
		select {
		case w.to <- event:
		case <-w.done:
			return
		}
	}
}

// reduceEvent reduces an event's object; false if it has none that can be named.
func (s *Source[O]) reduceEvent(event watch.Event) (watch.Event, bool) {
	if event.Type == watch.Error {
		return event, true
	}
	if event.Type != watch.Bookmark {
		if kept, keep := s.kept(event.Object); keep {
			return watch.Event{Type: event.Type, Object: kept}, true
		}
	}
	meta, err := apimeta.Accessor(event.Object)
	if err != nil {
		return watch.Event{}, false
	}
	return watch.Event{Type: watch.Bookmark, Object: s.bare(bookmark(meta, event.Type), false)}, true
}

// bookmark is what a reflector reads of a bookmark: the resource version, and whether the initial list ends here. That mark is
// no annotation of an object's own.
func bookmark(meta metav1.Object, of watch.EventType) metav1.ObjectMeta {
	mark := metav1.ObjectMeta{ResourceVersion: meta.GetResourceVersion()}
	if of == watch.Bookmark {
		mark.Annotations = Named(meta.GetAnnotations(), metav1.InitialEventsAnnotationKey)
	}
	return mark
}
