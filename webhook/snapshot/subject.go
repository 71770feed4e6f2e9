package snapshot

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/lightstep-injector/lightstep-injector/certs/distribute"
	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// NamespaceSelector is the label by which a namespace opts in.
const NamespaceSelector = "lightstep.com/injection=enabled"

// subject is one thing that is watched.
type subject struct {
	from    *source
	example runtime.Object
	// into makes what a reflector takes for a cache; told is called when the whole list is known.
	into func(told func()) cache.ReflectorStore
	// after is closed when the subject may be watched; nil if that is at once.
	after <-chan struct{}
	// absent is called where the cluster has no such kind; nil where every cluster does.
	absent func()
	// indispensable says that being forbidden to look does not settle it.
	indispensable bool
}

// namespacesName is the name of the subject that the others depend on.
const namespacesName = "namespaces"

// subjects are what the configuration in force has watched, each under the name by which the log knows it.
func (w *Watch) subjects() map[string]subject {
	config, all := w.Store.Current().Settings, w.istio()
	all[namespacesName] = w.namespaces()
	for _, secret := range config.Secrets() {
		all["secrets "+secret.Name] = w.secrets(secret.Name, secret.Token)
	}
	if w.Store.Current().OwnNamespace != "" {
		for _, secret := range config.Sources() {
			all["source "+secret.Name] = w.sources(secret.Name)
		}
	}
	return all
}

// istio are those of them that tell of Istio. Without a namespace of Istio's there is no control plane to which tags and
// Telemetries could belong, and the chart gives no permission to read these.
func (w *Watch) istio() map[string]subject {
	if len(w.Store.Current().Settings.Istio().Namespaces) == 0 {
		return map[string]subject{}
	}
	all := map[string]subject{"Istio's tags": w.tags(), telemetriesName: w.telemetries()}
	for _, namespace := range w.Store.Current().Settings.Istio().Namespaces {
		all["Istio's ConfigMaps in "+namespace] = w.controlPlanes(namespace)
	}
	return all
}

func namespacesResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
}

// The kinds of which an object may exceed a bound.
const (
	telemetryKind = "Telemetry"
	secretKind    = "Secret"
	configMapKind = "ConfigMap"
)

func (w *Watch) namespaces() subject {
	labelled := func(o *metav1.ListOptions) { o.LabelSelector = NamespaceSelector }
	keep := func(from, to *metav1.ObjectMeta) {
		to.Labels = clusterstate.Named(from.Labels, istio.NamespaceInjectionLabel, istio.RevisionLabel, istio.DataplaneModeLabel)
		to.Annotations = clusterstate.Named(from.Annotations, settings.ProfileAnnotation, settings.SamplingAnnotation, settings.CustomTagsAnnotation)
	}
	s := w.metadata(namespacesName, namespacesResource(), labelled, keep, reducer[*metav1.PartialObjectMetadata]{
		replace: w.Store.ReplaceNamespaces,
		set:     w.Store.SetNamespace,
		remove:  w.Store.RemoveNamespace,
	})
	s.indispensable = true
	return s
}

// foundObject is a Secret of a configured name as it arrives.
type foundObject = clusterstate.Reduced[*distribute.Found]

// secrets watches one name, in all namespaces unless told otherwise, by a field selector, the one form of watch that RBAC can
// limit to a name. Of an access token's Secret only the metadata is read.
func (w *Watch) secrets(name string, token bool) subject {
	var from lister
	if token {
		resource := schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
		from = failing(clusterstate.MetadataTo(w.Cluster, resource, w.secretsIn, func(o *metav1.PartialObjectMetadata) (*distribute.Found, bool) {
			found := distribute.OfMetadata(&o.ObjectMeta)
			return &found, true
		}), w.panicked("secrets "+name))
	} else {
		from = failing(clusterstate.Secrets(w.Cluster, w.secretsIn, func(o *corev1.Secret) (*distribute.Found, bool) {
			found := distribute.OfSecret(o)
			return &found, true
		}), w.panicked("secrets "+name))
	}
	into := reducer[*foundObject]{
		replace: func(list []*foundObject) {
			all := make(map[string]*distribute.Found, len(list))
			for _, object := range list {
				all[object.Namespace] = w.found(object)
			}
			w.Store.ReplaceSecrets(name, all)
		},
		set:    func(o *foundObject) { w.Store.SetSecret(name, o.Namespace, w.found(o)) },
		remove: func(o *foundObject) { w.Store.SetSecret(name, o.Namespace, nil) },
	}
	return subject{from: &source{choices: []lister{from}, tweak: namedSecret(name)}, example: &foundObject{}, into: into.store}
}

// found is what is kept of a Secret. One that could not be read at all is somebody else's.
func (w *Watch) found(object *foundObject) *distribute.Found {
	found := object.Kept
	if object.Unreadable {
		found = &distribute.Found{UID: object.UID, ResourceVersion: object.ResourceVersion, Unreadable: true}
	}
	if found.Unreadable {
		w.unreadable(secretKind, "v1", &object.ObjectMeta)
	}
	return found
}

// failing sets what is called with a source's panics.
func failing[O runtime.Object](s *clusterstate.Source[O], failed func(error)) *clusterstate.Source[O] {
	s.Failed = failed
	return s
}

// sourceObject is a Secret of the injector's own namespace, whole.
type sourceObject = clusterstate.Reduced[*corev1.Secret]

// sources watches a Secret of the injector's own namespace.
func (w *Watch) sources(name string) subject {
	into := reducer[*sourceObject]{
		replace: func(list []*sourceObject) {
			if len(list) == 0 {
				w.Store.SetSource(name, nil)
			}
			for _, object := range list {
				w.Store.SetSource(name, object.Kept)
			}
		},
		set:    func(o *sourceObject) { w.Store.SetSource(name, o.Kept) },
		remove: func(*sourceObject) { w.Store.SetSource(name, nil) },
	}
	whole := clusterstate.Secrets(w.Cluster, w.Store.Current().OwnNamespace, func(o *corev1.Secret) (*corev1.Secret, bool) { return o, true })
	from := failing(whole, w.panicked("source "+name))
	return subject{from: &source{choices: []lister{from}, tweak: namedSecret(name)}, example: &sourceObject{}, into: into.store}
}

func namedSecret(name string) func(*metav1.ListOptions) {
	return func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	}
}

// tags watches the webhook configurations that stand for tags.
func (w *Watch) tags() subject {
	tagged := func(o *metav1.ListOptions) { o.LabelSelector = istio.TagLabel }
	resource := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"}
	keep := func(from, to *metav1.ObjectMeta) {
		to.Labels = clusterstate.Named(from.Labels, istio.TagLabel, istio.RevisionLabel)
	}
	return w.metadata("Istio's tags", resource, tagged, keep, reducer[*metav1.PartialObjectMetadata]{
		replace: w.Store.ReplaceTags,
		set:     w.Store.SetTag,
		remove:  w.Store.RemoveTag,
	})
}

// controlPlanes watches the ConfigMaps of one of Istio's namespaces: their names hold revisions, which no selector knows.
func (w *Watch) controlPlanes(namespace string) subject {
	into := reducer[*PlaneObject]{
		replace: func(list []*PlaneObject) {
			for _, object := range list {
				w.readPlane(object)
			}
			w.Store.ReplaceControlPlanes(namespace, list)
		},
		set: func(object *PlaneObject) {
			w.readPlane(object)
			w.Store.SetControlPlane(namespace, object)
		},
		remove: func(object *PlaneObject) { w.Store.RemoveControlPlane(namespace, object) },
	}
	from := failing(clusterstate.ConfigMaps(w.Cluster, namespace, ReadPlane), w.panicked("Istio's ConfigMaps in "+namespace))
	return subject{from: &source{choices: []lister{from}, tweak: func(*metav1.ListOptions) {}}, example: &PlaneObject{}, into: into.store}
}

func (w *Watch) readPlane(object *PlaneObject) {
	if object.Unreadable {
		w.unreadable(configMapKind, "v1", &object.ObjectMeta)
	}
}

func (w *Watch) metadata(name string, resource schema.GroupVersionResource, tweak func(*metav1.ListOptions), keep func(from, to *metav1.ObjectMeta), into reducer[*metav1.PartialObjectMetadata]) subject {
	from := failing(w.Cluster.Metadata(resource, "", keep), w.panicked(name))
	return subject{from: &source{choices: []lister{from}, tweak: tweak}, example: &metav1.PartialObjectMetadata{}, into: into.store}
}
