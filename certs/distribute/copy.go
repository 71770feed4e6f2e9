package distribute

import (
	"maps"
	"slices"
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/lightstep-injector/lightstep-injector/internal/ssa"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// What marks a copy.
const (
	// AppLabel, with the value App, is on every Secret of the satellite CA, by whomever.
	AppLabel = "app"
	// App is what Lightstep's own instructions say.
	App = "lightstep"
	// Owner is the value of the label ssa.OwnerLabel.
	Owner = "distribute"
	// HashAnnotation has the hash of the content, SourceAnnotation the source's namespace and name.
	HashAnnotation = "lightstep.com/content-hash"
	// SourceAnnotation is for the reader alone.
	SourceAnnotation = "lightstep.com/source"
)

// Found is what is kept of a Secret of a configured name, wherever it is.
type Found struct {
	UID             types.UID
	ResourceVersion string
	// Ours says that the injector has made it: its label says so, and its apply is among the managers, which no manifest
	// that somebody has pasted brings along.
	Ours bool
	// Edited says that somebody else has written data, or a mark, of a copy of ours, or taken a mark away.
	Edited bool
	// Hash is the hash that the copy's annotation has.
	Hash string
	// Applied are the keys of the data that the injector's apply owns, sorted and joined by commas.
	Applied string
	// Keys are the keys that are there, each with its value's hash, sorted; nil where the metadata alone is read.
	Keys []Key
	// Deleting says that a finalizer holds it.
	Deleting bool
	// Unreadable reports that the Secret exceeds a bound: it has more keys than Keys, or none of them is known.
	Unreadable bool
}

// The bounds of what is kept of a Secret, and of what is read of its managed fields, which tenants can fill.
const (
	mostKeys   = 16
	mostText   = 256
	mostFields = 64 << 10
)

// seen is the version that a write is bound to; nil stands for a Secret that is not there.
func (f *Found) seen() ssa.Version {
	if f == nil {
		return ssa.Version{}
	}
	return ssa.Version{UID: f.UID, ResourceVersion: f.ResourceVersion}
}

// Key is a key of a Secret, and the hash of its value.
type Key struct{ Name, Hash string }

// same returns one copy of equal texts: of ten thousand copies, nearly all have the same keys and hashes. A text that is longer
// than any of ours is cut, and so equals none of them.
func same(text string) string { return unique.Make(text[:min(len(text), mostText)]).Value() }

// OfSecret reduces a Secret.
func OfSecret(secret *corev1.Secret) Found {
	found := OfMetadata(&secret.ObjectMeta)
	found.Ours = found.Ours && secret.Type == corev1.SecretTypeOpaque
	names := slices.Sorted(maps.Keys(secret.Data))
	if len(names) > mostKeys {
		names, found.Edited, found.Unreadable = names[:mostKeys], found.Ours, true
	}
	found.Keys = make([]Key, 0, len(names))
	for _, key := range names {
		found.Keys = append(found.Keys, Key{same(key), same(hashOf(key, secret.Data[key]))})
	}
	return found
}

// OfMetadata reduces what is seen of a Secret whose data is not read.
func OfMetadata(meta *metav1.ObjectMeta) Found {
	found := Found{
		UID:             meta.UID,
		ResourceVersion: meta.ResourceVersion,
		Hash:            same(meta.Annotations[HashAnnotation]),
		Deleting:        meta.DeletionTimestamp != nil,
		Ours:            ssa.Owned(meta, Owner),
	}
	for _, entry := range meta.ManagedFields {
		if entry.FieldsV1 != nil && len(entry.FieldsV1.GetRawBytes()) > mostFields {
			found.Edited = true
			continue
		}
		set := fieldsOf(&entry)
		if set == nil {
			continue
		}
		if ssa.Applied(&entry) {
			found.Applied = same(strings.Join(dataKeys(set), ","))
		} else if len(dataKeys(set)) > 0 || marks(set) {
			found.Edited = true
		}
	}
	found.Edited = found.Ours && (found.Edited || unmarked(meta))
	return found
}

// unmarked tells whether somebody has taken one of the copy's own marks away, which nobody then is a manager of. A hash that is
// gone differs from the source's.
func unmarked(meta *metav1.ObjectMeta) bool {
	return meta.Labels[AppLabel] != App || meta.Labels[ssa.ManagedByLabel] == "" || meta.Annotations[SourceAnnotation] == ""
}

// fieldsOf reads what a manager owns; nil where that cannot be read.
func fieldsOf(entry *metav1.ManagedFieldsEntry) *fieldpath.Set {
	if entry.FieldsV1 == nil {
		return nil
	}
	set := new(fieldpath.Set)
	if err := set.FromJSON(entry.FieldsV1.GetRawReader()); err != nil {
		return nil
	}
	return set
}

// dataKeys returns the keys of the data that are in a set of fields, sorted.
func dataKeys(set *fieldpath.Set) []string {
	name := "data"
	var keys []string
	for field := range set.WithPrefix(fieldpath.PathElement{FieldName: &name}).Members.All() {
		if field.FieldName != nil {
			keys = append(keys, *field.FieldName)
		}
	}
	slices.Sort(keys)
	return keys
}

// marks tells whether a set of fields has one of the copy's own marks, or makes it immutable.
func marks(set *fieldpath.Set) bool {
	return set.Has(pathOf("metadata", "labels", AppLabel)) || set.Has(pathOf("metadata", "labels", ssa.ManagedByLabel)) ||
		set.Has(pathOf("metadata", "annotations", HashAnnotation)) || set.Has(pathOf("metadata", "annotations", SourceAnnotation)) ||
		set.Has(pathOf("immutable"))
}

// pathOf names a field.
func pathOf(names ...string) fieldpath.Path {
	path := make(fieldpath.Path, len(names))
	for i := range names {
		path[i].FieldName = &names[i]
	}
	return path
}

// Has tells whether a Secret has a key, as far as that can be seen.
func (f *Found) Has(secret settings.Secret) bool {
	if f.Keys == nil || f.Unreadable {
		return true
	}
	return slices.ContainsFunc(f.Keys, func(k Key) bool { return k.Name == secret.Key })
}
