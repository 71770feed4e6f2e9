package mesh

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
	"github.com/lightstep-injector/lightstep-injector/internal/ssa"
)

const (
	// owner is this package's value of the label that marks its objects.
	owner = "mesh"

	ourObjects = ssa.ManagedByLabel + "=" + ssa.FieldManager + "," + ssa.OwnerLabel + "=" + owner
)

// leftAloneError says which object of our name is left as it is, and why: ssa.ErrForeign or ssa.ErrConflict.
type leftAloneError struct {
	metav1.PartialObjectMetadata

	why error
}

// Error names the object.
func (l *leftAloneError) Error() string {
	return fmt.Sprintf("%s %s/%s: %s", l.Kind, l.Namespace, l.Name, l.why)
}

// Unwrap tells why.
func (l *leftAloneError) Unwrap() error { return l.why }

func (k servedKind) leftAlone(key objectKey, uid types.UID, why error) error {
	return &leftAloneError{metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: k.resource.GroupVersion().String(), Kind: k.name},
		ObjectMeta: metav1.ObjectMeta{Namespace: key.namespace, Name: key.name, UID: uid},
	}, why}
}

// cluster is where the objects are.
type cluster struct {
	metadata metadata.Interface
	// reader reads the metadata of all objects that carry our labels, which a tenant can copy.
	reader *clusterstate.Reader
	// served are the kinds that the cluster has, in the order of kinds.
	served []servedKind

	mu sync.Mutex
	// applied remembers the version that an object had when it was last as wanted, or found in conflict.
	applied map[objectKey]applied
}

type servedKind struct {
	kind
	resource schema.GroupVersionResource
	informer cache.SharedIndexInformer
}

type objectKey struct{ kind, namespace, name string }

type applied struct {
	text, resourceVersion string
	err                   error
}

// discover finds the version in which the cluster has each kind; nothing where it lacks one, since Istio is not there.
func (c *cluster) discover(ctx context.Context) ([]servedKind, error) {
	var found []servedKind
	for _, k := range kinds() {
		version, err := c.version(ctx, k)
		if err != nil || version == "" {
			return nil, err
		}
		found = append(found, servedKind{kind: k, resource: k.at(version)})
	}
	return found, nil
}

func (c *cluster) version(ctx context.Context, k kind) (string, error) {
	for _, version := range k.versions {
		_, err := c.metadata.Resource(k.at(version)).List(ctx, metav1.ListOptions{Limit: 1, LabelSelector: ourObjects})
		if err == nil {
			return version, nil
		}
		if !apierrors.IsNotFound(err) {
			return "", fmt.Errorf("look for %s: %w", k.at(version), err)
		}
	}
	return "", nil
}

// watch follows the injector's own objects, and tells of each namespace with news, until the context ends. It returns when
// all that are there are known.
func (c *cluster) watch(ctx context.Context, served []servedKind, running *sync.WaitGroup, news func(namespace string)) bool {
	quiet := klog.NewContext(ctx, logr.Discard())
	tell := func(item any) {
		if gone, ok := item.(cache.DeletedFinalStateUnknown); ok {
			item = gone.Obj
		}
		if object, ok := item.(*metav1.PartialObjectMetadata); ok {
			news(object.Namespace)
		}
	}
	c.served, c.applied = served, map[objectKey]applied{}
	var synced []cache.InformerSynced
	for i := range c.served {
		k := &c.served[i]
		source := c.reader.Metadata(k.resource, metav1.NamespaceAll, keepOurs())
		k.informer = cache.NewSharedIndexInformer(source.ListerWatcher(func(o *metav1.ListOptions) { o.LabelSelector = ourObjects }),
			&metav1.PartialObjectMetadata{}, 0, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
		handler, err := k.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    tell,
			UpdateFunc: func(_, now any) { tell(now) },
			DeleteFunc: func(gone any) { c.forget(k.name, gone); tell(gone) },
		})
		if err != nil { // only an informer that has stopped takes none
			return false
		}
		synced = append(synced, handler.HasSynced)
		running.Go(func() { k.informer.RunWithContext(quiet) })
	}
	return cache.WaitForCacheSync(ctx.Done(), synced...)
}

// forget drops what was remembered of an object that is gone, with its namespace for example.
func (c *cluster) forget(kind string, gone any) {
	if last, ok := gone.(cache.DeletedFinalStateUnknown); ok {
		gone = last.Obj
	}
	if object, ok := gone.(*metav1.PartialObjectMetadata); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.applied, objectKey{kind, object.Namespace, object.Name})
	}
}

// namespaces are those that have an object of ours.
func (c *cluster) namespaces() []string {
	var names []string
	for _, k := range c.served {
		names = append(names, k.informer.GetIndexer().ListIndexFuncValues(cache.NamespaceIndex)...)
	}
	return names
}

// owned lists a namespace's objects of ours, as the watch has told of them.
func (c *cluster) owned(k servedKind, namespace string) []*metav1.PartialObjectMetadata {
	items, err := k.informer.GetIndexer().ByIndex(cache.NamespaceIndex, namespace)
	if err != nil { // there is such an index
		return nil
	}
	var ours []*metav1.PartialObjectMetadata
	for _, item := range items {
		if object, ok := item.(*metav1.PartialObjectMetadata); ok && ssa.Owned(object, owner) {
			ours = append(ours, object)
		}
	}
	return ours
}

// keepOurs returns what keeps, of an object, what [ssa.Owned] reads. Labels and managed fields that make an object ours are the same
// for all, and shared.
func keepOurs() func(from, to *metav1.ObjectMeta) {
	labels := ssa.Labels(owner)
	managers := []metav1.ManagedFieldsEntry{{Manager: ssa.FieldManager, Operation: metav1.ManagedFieldsOperationApply}}
	return func(from, to *metav1.ObjectMeta) {
		if ssa.Owned(from, owner) {
			to.Labels, to.ManagedFields = labels, managers
		}
	}
}

// ensure has an object be as wanted, unless it is somebody else's. It asks the apiserver for nothing while the object is
// what it was when it was last applied.
func (c *cluster) ensure(ctx context.Context, k servedKind, wanted *unstructured.Unstructured) error {
	wanted.SetLabels(ssa.Labels(owner))
	text, err := wanted.MarshalJSON()
	if err != nil {
		return err
	}
	key := objectKey{k.name, wanted.GetNamespace(), wanted.GetName()}
	cached, _ := c.cached(k, key)
	if last, ok := c.last(key); ok && cached != nil && last.text == string(text) && last.resourceVersion == cached.ResourceVersion {
		return last.err
	}
	client := c.metadata.Resource(k.resource).Namespace(key.namespace)
	there, err := client.Get(ctx, key.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		there = nil
	case err != nil:
		return fmt.Errorf("look for %s %s/%s: %w", k.name, key.namespace, key.name, err)
	case !ssa.Owned(there, owner):
		return k.leftAlone(key, there.UID, ssa.ErrForeign)
	case there.DeletionTimestamp != nil:
		return nil // its going will be told
	}
	return c.apply(ctx, k, wanted, text, there)
}

func (c *cluster) cached(k servedKind, key objectKey) (*metav1.PartialObjectMetadata, bool) {
	item, ok, err := k.informer.GetIndexer().GetByKey(key.namespace + "/" + key.name)
	if err != nil || !ok {
		return nil, false
	}
	object, ok := item.(*metav1.PartialObjectMetadata)
	return object, ok
}

// apply writes an object over the version that is there, if any.
func (c *cluster) apply(ctx context.Context, k servedKind, wanted *unstructured.Unstructured, text []byte, there *metav1.PartialObjectMetadata) error {
	key := objectKey{k.name, wanted.GetNamespace(), wanted.GetName()}
	seen := ssa.Version{}
	if there != nil {
		seen = ssa.VersionOf(there)
	}
	now, err := ssa.Apply(ctx, c.metadata.Resource(k.resource).Namespace(key.namespace), wanted, seen)
	switch {
	case errors.Is(err, ssa.ErrConflict) && there != nil:
		err = k.leftAlone(key, there.UID, err)
		c.remember(key, applied{string(text), there.ResourceVersion, err})
		return err
	case errors.Is(err, ssa.ErrConflict):
		return k.leftAlone(key, "", ssa.ErrForeign)
	case errors.Is(err, ssa.ErrForeign):
		return k.leftAlone(key, "", err)
	case err != nil:
		return fmt.Errorf("apply %s %s/%s: %w", k.name, key.namespace, key.name, err)
	}
	c.remember(key, applied{string(text), now.ResourceVersion, nil})
	return nil
}

// remove deletes an object of ours, if it is still the one that was seen.
func (c *cluster) remove(ctx context.Context, k servedKind, object *metav1.PartialObjectMetadata) error {
	if object.DeletionTimestamp != nil {
		return nil
	}
	client := c.metadata.Resource(k.resource).Namespace(object.Namespace)
	if err := ssa.Delete(ctx, client, object.Name, ssa.VersionOf(object)); err != nil {
		return fmt.Errorf("delete %s %s/%s: %w", k.name, object.Namespace, object.Name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.applied, objectKey{k.name, object.Namespace, object.Name})
	return nil
}

func (c *cluster) last(key objectKey) (applied, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, ok := c.applied[key]
	return last, ok
}

func (c *cluster) remember(key objectKey, now applied) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.applied[key] = now
}

// terminating tells whether an error says that the namespace is going.
func terminating(err error) bool {
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}
