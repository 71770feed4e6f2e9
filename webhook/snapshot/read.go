package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

// Read makes, once and with no watch, the snapshot that an injector has of one namespace, or, without a name, of all that are
// labelled: of the same subjects, reduced alike. The store, which holds the configuration, knows then what the injector's
// does. What may not be read leaves the snapshot without a claim, as it leaves a watch's, and is told in unread.
func Read(ctx context.Context, cluster *clusterstate.Reader, store *Store, namespace string) (snap *inject.Snapshot, unread []error, err error) {
	w := &Watch{Cluster: cluster, Store: store, secretsIn: namespace}
	subjects := w.subjects()
	labelled := subjects[namespacesName]
	delete(subjects, namespacesName)
	if namespace != "" {
		return w.read(ctx, subjects, namespace)
	}
	if err := labelled.read(ctx); err != nil {
		return nil, nil, fmt.Errorf("read the labelled namespaces: %w", err)
	}
	return w.read(ctx, subjects)
}

// ReadIstio is Read without Secrets, of any number of namespaces.
func ReadIstio(ctx context.Context, cluster *clusterstate.Reader, store *Store, namespaces ...string) (snap *inject.Snapshot, unread []error, err error) {
	w := &Watch{Cluster: cluster, Store: store}
	return w.read(ctx, w.istio(), namespaces...)
}

func (w *Watch) read(ctx context.Context, subjects map[string]subject, namespaces ...string) (snap *inject.Snapshot, unread []error, err error) {
	unlabelled := map[string]bool{}
	for _, name := range namespaces {
		found, err := w.Cluster.Get(ctx, namespacesResource(), "", name)
		if err != nil {
			return nil, nil, fmt.Errorf("read namespace %s: %w", name, err)
		}
		w.Store.SetNamespace(found)
		unlabelled[name] = found.Labels[inject.NamespaceLabel] != inject.NamespaceLabelEnabled
	}
	for _, name := range slices.Sorted(maps.Keys(subjects)) {
		if err := subjects[name].read(ctx); err != nil {
			unread = append(unread, fmt.Errorf("read %s: %w", name, err))
		}
	}
	read := *w.Store.Current()
	for name := range unlabelled {
		known, _ := read.Namespaces.Get(name)
		known.Unlabelled = unlabelled[name]
		read.Namespaces = read.Namespaces.With(name, known)
	}
	return &read, unread, nil
}

// read passes on the list, in the first version that the cluster has.
func (s subject) read(ctx context.Context) error {
	var options metav1.ListOptions
	s.from.tweak(&options)
	var errs []error
	for _, choice := range s.from.choices {
		list, err := choice.List(ctx, options)
		if apierrors.IsNotFound(err) {
			errs = append(errs, err)
			continue
		}
		if err != nil {
			return err
		}
		items := make([]any, 0, len(list.Items))
		for _, item := range list.Items {
			items = append(items, item)
		}
		return s.into(func() {}).Replace(items, "")
	}
	if s.absent == nil {
		return errors.Join(errs...)
	}
	s.absent()
	return nil
}
