package snapshot

import (
	"context"
	"fmt"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// lister lists and watches one kind of object, each reduced as it arrives.
type lister interface {
	List(context.Context, metav1.ListOptions) (*metainternal.List, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// source is where a reflector lists and watches.
type source struct {
	// choices are the versions of a kind that a cluster may have; the next one is tried where it does not have one.
	choices []lister
	chosen  atomic.Int32
	tweak   func(*metav1.ListOptions)
	// failed is told of a failure, once until another kind of failure, or a success, follows it.
	failed func(error)
	last   metav1.StatusReason
	ill    bool
}

func (s *source) listerWatcher() cache.ListerWatcher {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			s.tweak(&o)
			list, err := s.choices[s.chosen.Load()].List(ctx, o)
			return list, s.note(ctx, err)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			s.tweak(&o)
			stream, err := s.choices[s.chosen.Load()].Watch(ctx, o)
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
	if apierrors.IsNotFound(err) && int(s.chosen.Load())+1 < len(s.choices) {
		s.chosen.Add(1)
		return err
	}
	if reason := apierrors.ReasonForError(err); !usual(err) && (!s.ill || reason != s.last) {
		s.ill, s.last = true, reason
		s.failed(err)
	}
	if apierrors.IsNotFound(err) {
		s.chosen.Store(0)
	}
	return err
}

// usual tells what belongs to a watch's life: a resource version that has expired, and an apiserver too old to send the
// initial list as a stream, which is then asked for as a list.
func usual(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.IsInvalid(err)
}

// reducer is what a reflector takes for a cache: it passes on what it is told and keeps nothing.
type reducer[T runtime.Object] struct {
	replace     func([]T)
	set, remove func(T)
	told        func()
}

func (r reducer[T]) store(told func()) cache.ReflectorStore {
	r.told = told
	return r
}

// Replace takes the whole list.
func (r reducer[T]) Replace(list []any, _ string) error {
	objects := make([]T, 0, len(list))
	for _, item := range list {
		object, err := as[T](item)
		if err != nil {
			return err
		}
		objects = append(objects, object)
	}
	r.replace(objects)
	r.told()
	return nil
}

// Add takes a new object.
func (r reducer[T]) Add(item any) error { return pass(item, r.set) }

// Update takes a changed object.
func (r reducer[T]) Update(item any) error { return pass(item, r.set) }

// Delete takes an object that is gone, or that no longer matches.
func (r reducer[T]) Delete(item any) error { return pass(item, r.remove) }

// Resync has nothing to do: there is no cache to go through again.
func (r reducer[T]) Resync() error { return nil }

func pass[T any](item any, to func(T)) error {
	object, err := as[T](item)
	if err == nil {
		to(object)
	}
	return err
}

func as[T any](item any) (T, error) {
	object, ok := item.(T)
	if !ok {
		return object, fmt.Errorf("a watch told of a %T, not of a %T", item, object)
	}
	return object, nil
}
