package distribute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"

	"github.com/lightstep-injector/lightstep-injector/internal/ssa"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/leader"
)

// apply writes the copy over the version that was seen, if any.
func (c *Controller) apply(ctx context.Context, key types.NamespacedName, a *assessment, own string) error {
	wanted := &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   key.Namespace,
			Name:        key.Name,
			Labels:      ssa.Labels(Owner),
			Annotations: map[string]string{HashAnnotation: a.source.Hash, SourceAnnotation: own + "/" + a.copy.Source},
		},
		Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{a.copy.Key: a.source.value},
	}
	wanted.Labels[AppLabel] = App
	_, err := ssa.Apply(ctx, c.secrets(key.Namespace), wanted, a.found.seen())
	switch {
	case gone(err):
		return nil
	case errors.Is(err, ssa.ErrConflict), errors.Is(err, ssa.ErrForeign):
		return ssa.ErrOvertaken // the watch reports whose Secret it is
	case err != nil:
		return fmt.Errorf("apply: %w", err)
	}
	c.wrote(key, a)
	return nil
}

// mend restores a copy that somebody has written to. What they own they would keep, an apply being refused; so the Secret
// is first made nobody's but ours, keys that are not the copy's are removed, and then it is applied.
func (c *Controller) mend(ctx context.Context, key types.NamespacedName, a *assessment, own string) error {
	live, err := c.secrets(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("get the copy's metadata: %w", err)
	}
	now := OfMetadata(&live.ObjectMeta)
	if now.UID != a.found.UID || !now.Ours || !leader.Holds(ctx) {
		return ssa.ErrOvertaken
	}
	if immutable(&live.ObjectMeta) {
		return c.remove(ctx, key, &now) // its absence has it made anew
	}
	patch, err := json.Marshal(disown(live, a))
	if err != nil {
		return fmt.Errorf("write the patch: %w", err)
	}
	patched, err := c.secrets(key.Namespace).Patch(ctx, key.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: ssa.FieldManager})
	switch {
	case gone(err):
		return nil
	case apierrors.IsConflict(err):
		return ssa.ErrOvertaken
	case err != nil:
		return fmt.Errorf("take an edited copy back: %w", err)
	}
	now = OfMetadata(&patched.ObjectMeta)
	return c.apply(ctx, key, &assessment{copy: a.copy, found: &now, source: a.source}, own)
}

// disown is a merge patch, good for one version of one object, that leaves our apply alone among its managers and our key
// alone among its keys.
func disown(live *metav1.PartialObjectMetadata, a *assessment) map[string]any {
	var managers []metav1.ManagedFieldsEntry
	data := map[string]any{}
	for _, key := range a.found.Keys {
		data[key.Name] = nil
	}
	for _, entry := range live.ManagedFields {
		if ssa.Applied(&entry) {
			managers = append(managers, entry)
		} else if set := fieldsOf(&entry); set != nil {
			for _, key := range dataKeys(set) {
				data[key] = nil
			}
		}
	}
	delete(data, a.copy.Key) // the apply replaces it; without it, pods would see none for a moment
	return map[string]any{
		"metadata": map[string]any{"uid": live.UID, "resourceVersion": live.ResourceVersion, "managedFields": managers},
		"data":     data,
	}
}

// immutable tells from a Secret's managers whether somebody has made it so: its data is not read.
func immutable(meta *metav1.ObjectMeta) bool {
	return slices.ContainsFunc(meta.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
		set := fieldsOf(&e)
		return set != nil && set.Has(pathOf("immutable"))
	})
}

// leave removes a copy whose namespace is no longer labelled, unless pods run there that may have it mounted: a kubelet
// empties the mount of a Secret that goes. Both are asked of the apiserver itself, which knows later than any watch.
func (c *Controller) leave(ctx context.Context, snap *inject.Snapshot, key types.NamespacedName, found *Found) (time.Duration, error) {
	namespaces, err := c.Metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, key.Namespace).String(), // list is all that the account may
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("look at the namespace: %w", err)
	case len(namespaces.Items) == 0 || namespaces.Items[0].DeletionTimestamp != nil:
		return 0, nil
	}
	_, seen := snap.Namespaces.Get(key.Namespace)
	if !seen && namespaces.Items[0].Labels[inject.NamespaceLabel] == inject.NamespaceLabelEnabled {
		return 0, ssa.ErrOvertaken
	}
	pods, err := c.Metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace(key.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: inject.InjectedLabel + "=true",
		FieldSelector: "status.phase!=" + string(corev1.PodSucceeded) + ",status.phase!=" + string(corev1.PodFailed),
		Limit:         1,
	})
	if err != nil {
		return 0, fmt.Errorf("look for injected pods: %w", err)
	}
	if len(pods.Items) > 0 {
		return patience, nil
	}
	return 0, c.remove(ctx, key, found)
}

// remove deletes the version of a copy that was seen.
func (c *Controller) remove(ctx context.Context, key types.NamespacedName, found *Found) error {
	if err := ssa.Delete(ctx, c.secrets(key.Namespace), key.Name, found.seen()); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}

func (c *Controller) secrets(namespace string) metadata.ResourceInterface {
	return c.Metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}).Namespace(namespace)
}

// gone tells whether an error says that the namespace is gone or going.
func gone(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}
