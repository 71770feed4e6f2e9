package clusterstate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
)

const (
	// mostObjects is the number of objects that a page asks for, unless pages were too large. client-go's pager has the same.
	mostObjects = 500
	// steady is the number of pages after which twice as many objects are asked for again.
	steady = 4
	// pageTime is how long a page may take, so that a slow response does not keep other lists from being read.
	pageTime = 30 * time.Second
)

// ListerWatcher returns what a reflector reads from. The tweak adds selectors.
func (s *Source[O]) ListerWatcher(tweak func(*metav1.ListOptions)) cache.ListerWatcher {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			tweak(&o)
			return s.List(ctx, o)
		},
		WatchFuncWithContext: s.tweakedWatch(tweak),
	}
}

// List returns all objects, reduced. It ignores the options' resource version, limit and continue token: an API server
// ignores the limit of a list at resource version 0.
func (s *Source[O]) List(ctx context.Context, options metav1.ListOptions) (*metainternal.List, error) {
	list := &metainternal.List{}
	version, err := s.Each(ctx, options, func(object O) error {
		list.Items = append(list.Items, object)
		return nil
	})
	list.ResourceVersion = version
	return list, err
}

// Each calls a function with each object, reduced, while one page is in memory at most. An error of the function ends it. The
// resource version is that of the first page.
func (s *Source[O]) Each(ctx context.Context, options metav1.ListOptions, each func(O) error) (resourceVersion string, err error) {
	options.ResourceVersion, options.ResourceVersionMatch, options.Continue = "", "", ""
	ctx = quiet(ctx)
	for first := true; first || options.Continue != ""; first = false {
		objects, meta, err := s.page(ctx, &options)
		if err != nil {
			return "", err
		}
		if first {
			resourceVersion = meta.ResourceVersion
		}
		for _, object := range objects {
			if err := each(object); err != nil {
				return "", err
			}
		}
		options.Continue = meta.Continue
	}
	return resourceVersion, nil
}

// page reads the next page with the largest limit that works.
func (s *Source[O]) page(ctx context.Context, options *metav1.ListOptions) ([]O, metav1.ListMeta, error) {
	for {
		options.Limit = s.pageSize()
		objects, meta, err := s.read(ctx, *options)
		switch {
		case err == nil:
			s.fits()
			return objects, meta, nil
		case isUnreadable(err) && options.Limit > 1:
			s.exceeds(options.Limit)
			continue
		case isUnreadable(err) && s.names != nil:
			return s.skip(ctx, *options)
		}
		token := continueAfter(err)
		if token == "" || token == options.Continue {
			return nil, metav1.ListMeta{}, err
		}
		options.Continue = token
	}
}

// read reads one page and reduces it.
func (s *Source[O]) read(ctx context.Context, options metav1.ListOptions) (objects []O, meta metav1.ListMeta, err error) {
	err = s.alone(ctx, func(ctx context.Context) error {
		page, err := s.list(ctx, options)
		if err != nil {
			return err
		}
		meta = page.ListMeta
		return page.each(func(object runtime.Object) error {
			if kept, keep := s.kept(object); keep {
				objects = append(objects, kept)
			}
			return nil
		})
	})
	return objects, meta, err
}

// skip reads the names of an object that alone exceeds the bound, and where the list continues after it.
func (s *Source[O]) skip(ctx context.Context, options metav1.ListOptions) (objects []O, meta metav1.ListMeta, err error) {
	err = s.alone(ctx, func(ctx context.Context) error {
		page, err := s.names(ctx, options)
		if err != nil {
			return fmt.Errorf("read the name of an object that is too large: %w", err)
		}
		meta = page.ListMeta
		return page.each(func(object runtime.Object) error {
			names, err := apimeta.Accessor(object)
			if err == nil {
				objects = append(objects, s.bare(namesOf(names), true))
			}
			return err
		})
	})
	return objects, meta, err
}

// alone runs a task while no other page is in memory.
func (s *Source[O]) alone(ctx context.Context, task func(context.Context) error) error {
	select {
	case s.gate <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.gate }()
	ctx, cancel := context.WithTimeout(ctx, pageTime)
	defer cancel()
	return task(ctx)
}

// pageSize is the number of objects that the next page asks for.
func (s *Source[O]) pageSize() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limit == 0 {
		s.limit = mostObjects
	}
	return s.limit
}

// fits notes that a page was not too large.
func (s *Source[O]) fits() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.good++; s.good >= steady {
		s.limit, s.good = min(2*s.limit, mostObjects), 0
	}
}

// exceeds notes that a page with that limit was too large.
func (s *Source[O]) exceeds(limit int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit, s.good = max(1, min(s.limit, limit/2)), 0
}

// isUnreadable reports whether a read fails because of an object in it: it is too large, or nested too deeply for the decoder. The
// API server takes JSON that is nested as deeply as the decoder allows, and a list or an event nests it deeper.
func isUnreadable(err error) bool {
	_, tooLarge := errors.AsType[*TooLargeError](err)
	_, tooDeep := errors.AsType[*jsontext.SyntacticError](err)
	return tooLarge || tooDeep && !errors.Is(err, io.ErrUnexpectedEOF)
}

// continueAfter returns the token with which a list goes on whose token has expired; empty if there is none. What follows is
// of a later resource version than what has been read. A reflector watches from the first page's, and so learns what has
// changed between the two, or that it must list again.
func continueAfter(err error) string {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || !apierrors.IsResourceExpired(err) {
		return ""
	}
	return status.Status().Continue
}
