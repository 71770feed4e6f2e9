package ssa

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/util/retry"

	"github.com/lightstep-injector/lightstep-injector/webhook/leader"
)

// Why nothing was written.
var (
	// ErrOvertaken means that the object has changed since it was seen, or that another replica leads now: look again.
	ErrOvertaken = errors.New("the object has changed since it was read")
	// ErrForeign means that an object of that name exists, and is not the injector's.
	ErrForeign = errors.New("an object of that name exists and is not the injector's")
	// ErrConflict means that another field manager owns a field with another value.
	ErrConflict = errors.New("another field manager has changed the object")
)

// Object is what can be applied.
type Object interface {
	metav1.Object
	runtime.Object
}

// Version identifies one version of one object. The zero Version stands for an object that does not exist.
type Version struct {
	UID             types.UID
	ResourceVersion string
}

// VersionOf returns the version of an object.
func VersionOf(object metav1.Object) Version {
	return Version{object.GetUID(), object.GetResourceVersion()}
}

// Apply writes an object over the version that was seen, and returns the metadata of the result. It fails with [ErrOvertaken]
// if the object has another version by then. The API server has no such precondition for a create: if another client creates
// the object a moment before, the apply changes that object where no policy denies it (docs/security.md). Apply then takes
// its fields out again and fails with [ErrForeign].
func Apply(ctx context.Context, client metadata.ResourceInterface, object Object, seen Version) (*metav1.PartialObjectMetadata, error) {
	if !leader.Holds(ctx) {
		return nil, ErrOvertaken
	}
	object.SetUID(seen.UID)
	object.SetResourceVersion(seen.ResourceVersion)
	now, err := patch(ctx, client, object)
	switch {
	case apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict):
		return nil, fmt.Errorf("%w: %w", ErrConflict, err)
	case apierrors.IsConflict(err):
		return nil, ErrOvertaken
	case err != nil:
		return nil, err
	case seen == Version{} && !onlyOurs(now):
		if err := giveBack(ctx, client, object); err != nil {
			return nil, err
		}
		return nil, ErrForeign
	}
	return now, nil
}

func patch(ctx context.Context, client metadata.ResourceInterface, object Object) (*metav1.PartialObjectMetadata, error) {
	data, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode the object: %w", err)
	}
	options := metav1.PatchOptions{FieldManager: FieldManager, FieldValidation: metav1.FieldValidationStrict}
	return client.Patch(ctx, object.GetName(), types.ApplyPatchType, data, options)
}

// onlyOurs reports whether no other client has written to an object that was just created.
func onlyOurs(object metav1.Object) bool {
	return !slices.ContainsFunc(object.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool { return !Applied(&e) })
}

// giveBack takes the injector's fields out of an object of another client: the apply of an empty object removes what only
// the injector owns.
func giveBack(ctx context.Context, client metadata.ResourceInterface, object Object) error {
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		live, err := client.Get(ctx, object.GetName(), metav1.GetOptions{})
		if err != nil || onlyOurs(live) { // deleted, or ours after all
			return err
		}
		nothing := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Namespace: object.GetNamespace(), Name: object.GetName(), UID: live.UID, ResourceVersion: live.ResourceVersion,
		}}
		nothing.SetGroupVersionKind(object.GetObjectKind().GroupVersionKind())
		_, err = patch(ctx, client, nothing)
		return err
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove the injector's fields from an object of another client: %w", err)
	}
	return nil
}

// Delete deletes the version of an object that was seen. It fails with [ErrOvertaken] if the object has another version by
// then; an object that no longer exists is no error.
func Delete(ctx context.Context, client metadata.ResourceInterface, name string, seen Version) error {
	if !leader.Holds(ctx) {
		return ErrOvertaken
	}
	err := client.Delete(ctx, name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &seen.UID, ResourceVersion: &seen.ResourceVersion},
	})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err):
		return ErrOvertaken
	}
	return err
}
