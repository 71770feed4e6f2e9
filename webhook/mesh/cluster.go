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
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
)

const (
	// FieldOwner owns the fields that the controller applies.
	FieldOwner = "lightstep-injector"
	// ManagedByLabel and OwnerLabel mark its objects.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// OwnerLabel tells them from what else the injector may manage.
	OwnerLabel = "lightstep.com/managed"
	owner      = "mesh"

	ourObjects = ManagedByLabel + "=" + FieldOwner + "," + OwnerLabel + "=" + owner
)

// errForeign and errConflict say why an object of our name is left alone.
var (
	errForeign  = errors.New("an object of that name is there already, and is not the injector's")
	errConflict = errors.New("somebody else has changed it")
)

// leftAloneError says which object of our name is left as it is, and why: errForeign or errConflict.
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
	objects  dynamic.Interface
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
			DeleteFunc: tell,
		})
		if err != nil { // only an informer that has stopped takes none
			return false
		}
		synced = append(synced, handler.HasSynced)
		running.Go(func() { k.informer.RunWithContext(quiet) })
	}
	return cache.WaitForCacheSync(ctx.Done(), synced...)
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
		if object, ok := item.(*metav1.PartialObjectMetadata); ok && isOurs(object) {
			ours = append(ours, object)
		}
	}
	return ours
}

// keepOurs returns what keeps, of an object, what isOurs reads. Labels and managed fields that make an object ours are the same
// for all, and shared.
func keepOurs() func(from, to *metav1.ObjectMeta) {
	labels := map[string]string{ManagedByLabel: FieldOwner, OwnerLabel: owner}
	managers := []metav1.ManagedFieldsEntry{{Manager: FieldOwner, Operation: metav1.ManagedFieldsOperationApply}}
	return func(from, to *metav1.ObjectMeta) {
		if isOurs(from) {
			to.Labels, to.ManagedFields = labels, managers
		}
	}
}

// isOurs goes by the labels and by who has applied fields: labels alone may have been copied with a manifest.
func isOurs(object metav1.Object) bool {
	labels := object.GetLabels()
	if labels[ManagedByLabel] != FieldOwner || labels[OwnerLabel] != owner {
		return false
	}
	for _, entry := range object.GetManagedFields() {
		if entry.Manager == FieldOwner && entry.Operation == metav1.ManagedFieldsOperationApply {
			return true
		}
	}
	return false
}

// ensure has an object be as wanted, unless it is somebody else's. It asks the apiserver for nothing while the object is
// what it was when it was last applied.
func (c *cluster) ensure(ctx context.Context, k servedKind, wanted *unstructured.Unstructured) error {
	wanted.SetLabels(map[string]string{ManagedByLabel: FieldOwner, OwnerLabel: owner})
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
	case !isOurs(there):
		return k.leftAlone(key, there.UID, errForeign)
	case there.DeletionTimestamp != nil:
		return nil // its going will be told
	}
	return c.apply(ctx, k, key, text, there)
}

func (c *cluster) cached(k servedKind, key objectKey) (*metav1.PartialObjectMetadata, bool) {
	item, ok, err := k.informer.GetIndexer().GetByKey(key.namespace + "/" + key.name)
	if err != nil || !ok {
		return nil, false
	}
	object, ok := item.(*metav1.PartialObjectMetadata)
	return object, ok
}

// apply never forces: what somebody else has changed stays as it is.
func (c *cluster) apply(ctx context.Context, k servedKind, key objectKey, text []byte, there *metav1.PartialObjectMetadata) error {
	client := c.objects.Resource(k.resource).Namespace(key.namespace)
	options := metav1.PatchOptions{FieldManager: FieldOwner, FieldValidation: metav1.FieldValidationStrict}
	now, err := client.Patch(ctx, key.name, types.ApplyPatchType, text, options)
	switch {
	case apierrors.IsConflict(err) && there != nil:
		err = k.leftAlone(key, there.UID, fmt.Errorf("%w: %w", errConflict, err))
		c.remember(key, applied{string(text), there.ResourceVersion, err})
		return err
	case apierrors.IsConflict(err):
		return k.leftAlone(key, "", errForeign)
	case err != nil:
		return fmt.Errorf("apply %s %s/%s: %w", k.name, key.namespace, key.name, err)
	case there == nil && !onlyOurs(now):
		return errors.Join(k.leftAlone(key, now.GetUID(), errForeign), c.takeBack(ctx, client, k, key))
	}
	c.remember(key, applied{string(text), now.GetResourceVersion(), nil})
	return nil
}

// onlyOurs tells whether nobody else has written to an object that has just been created: an apply that was to create one
// merges into what somebody else has created a moment before.
func onlyOurs(object metav1.Object) bool {
	for _, entry := range object.GetManagedFields() {
		if entry.Manager != FieldOwner {
			return false
		}
	}
	return true
}

// takeBack removes from an object all that was merged into it.
func (c *cluster) takeBack(ctx context.Context, client dynamic.ResourceInterface, k servedKind, key objectKey) error {
	nothing := &unstructured.Unstructured{}
	nothing.SetAPIVersion(k.resource.GroupVersion().String())
	nothing.SetKind(k.name)
	nothing.SetName(key.name)
	nothing.SetNamespace(key.namespace)
	if _, err := client.Apply(ctx, key.name, nothing, metav1.ApplyOptions{FieldManager: FieldOwner}); err != nil {
		return fmt.Errorf("take back what was merged into %s %s/%s: %w", k.name, key.namespace, key.name, err)
	}
	return nil
}

// remove deletes an object of ours, if it is still the one that was seen.
func (c *cluster) remove(ctx context.Context, k servedKind, object *metav1.PartialObjectMetadata) error {
	if object.DeletionTimestamp != nil {
		return nil
	}
	err := c.metadata.Resource(k.resource).Namespace(object.Namespace).Delete(ctx, object.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &object.UID, ResourceVersion: &object.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
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
