package ssa

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// FieldManager is the field manager of every apply.
	FieldManager = "lightstep-injector"
	// ManagedByLabel has the value [FieldManager] on every object of the injector.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// OwnerLabel names the controller that keeps the object.
	OwnerLabel = "lightstep.com/managed"
)

// Labels returns the labels of the objects that a controller keeps.
func Labels(owner string) map[string]string {
	return map[string]string{ManagedByLabel: FieldManager, OwnerLabel: owner}
}

// Owned reports whether an object is the controller's. Its label is not enough, since a pasted manifest has it, too: the
// injector must also have applied the object.
func Owned(object metav1.Object, owner string) bool {
	return object.GetLabels()[OwnerLabel] == owner &&
		slices.ContainsFunc(object.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool { return Applied(&e) })
}

// Applied reports whether an entry of managedFields is the injector's apply.
func Applied(entry *metav1.ManagedFieldsEntry) bool {
	return entry.Manager == FieldManager && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == ""
}
