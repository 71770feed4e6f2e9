package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

// Read makes, once and with no watch, the snapshot that an injector has of one namespace, or, without a name, of all that are
// labelled: of the same subjects, reduced alike. The store, which holds the configuration, knows then what the injector's
// does. What may not be read leaves the snapshot without a claim, as it leaves a watch's, and is told in unread.
func Read(ctx context.Context, meta metadata.Interface, secrets typedcorev1.SecretsGetter, objects dynamic.Interface, store *Store, namespace string) (snap *inject.Snapshot, unread []error, err error) {
	w := &Watch{Metadata: meta, Secrets: secrets, Objects: objects, Store: store, secretsIn: namespace}
	subjects := w.subjects()
	unlabelled := false
	if namespace == "" {
		err = subjects[namespacesName].read(ctx)
	} else {
		unlabelled, err = w.readNamespace(ctx, namespace)
	}
	if err != nil {
		return nil, nil, err
	}
	delete(subjects, namespacesName)
	for _, name := range slices.Sorted(maps.Keys(subjects)) {
		if err := subjects[name].read(ctx); err != nil {
			unread = append(unread, fmt.Errorf("read %s: %w", name, err))
		}
	}
	read := *w.Store.Current()
	if unlabelled {
		known, _ := read.Namespaces.Get(namespace)
		known.Unlabelled = true
		read.Namespaces = read.Namespaces.With(namespace, known)
	}
	return &read, unread, nil
}

// readNamespace takes one namespace, labelled or not.
func (w *Watch) readNamespace(ctx context.Context, name string) (unlabelled bool, err error) {
	found, err := w.Metadata.Resource(namespacesResource()).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return false, fmt.Errorf("read namespace %s: %w", name, err)
	}
	w.Store.SetNamespace(found)
	return found.Labels[inject.NamespaceLabel] != inject.NamespaceLabelEnabled, nil
}

// read passes on the list, in the first version that the cluster has.
func (s subject) read(ctx context.Context) error {
	var options metav1.ListOptions
	s.from.tweak(&options)
	var errs []error
	for _, choice := range s.from.choices {
		list, err := choice.list(ctx, options)
		if apierrors.IsNotFound(err) {
			errs = append(errs, err)
			continue
		}
		if err != nil {
			return err
		}
		var items []any
		err = apimeta.EachListItem(list, func(item runtime.Object) error { items = append(items, item); return nil })
		return errors.Join(err, s.into(func() {}).Replace(items, ""))
	}
	if s.absent == nil {
		return errors.Join(errs...)
	}
	s.absent()
	return nil
}
