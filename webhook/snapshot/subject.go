package snapshot

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/lightstep-injector/lightstep-injector/certs/distribute"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

// NamespaceSelector is the label by which a namespace opts in.
const NamespaceSelector = "lightstep.com/injection=enabled"

// subject is one thing that is watched.
type subject struct {
	from    *source
	example runtime.Object
	// into makes what a reflector takes for a cache; told is called when the whole list is known.
	into func(told func()) cache.ReflectorStore
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
	all := map[string]subject{"Istio's tags": w.tags(), "Istio's Telemetries": w.telemetries()}
	for _, namespace := range w.Store.Current().Settings.Istio().Namespaces {
		all["Istio's ConfigMaps in "+namespace] = w.controlPlanes(namespace)
	}
	return all
}

func namespacesResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
}

func (w *Watch) namespaces() subject {
	labelled := func(o *metav1.ListOptions) { o.LabelSelector = NamespaceSelector }
	return w.metadata(namespacesResource(), labelled, true, reducer[*metav1.PartialObjectMetadata]{
		replace: w.Store.ReplaceNamespaces,
		set:     w.Store.SetNamespace,
		remove:  w.Store.RemoveNamespace,
	})
}

// secrets watches one name, in all namespaces unless told otherwise, by a field selector, the one form of watch that RBAC can
// limit to a name. Of an access token's Secret the metadata alone is read.
func (w *Watch) secrets(name string, token bool) subject {
	named := namedSecret(name)
	if token {
		resource := schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
		s := w.metadata(resource, named, false, reducer[*metav1.PartialObjectMetadata]{
			replace: func(list []*metav1.PartialObjectMetadata) {
				w.Store.ReplaceSecrets(name, found(list, func(o *metav1.PartialObjectMetadata) distribute.Found { return distribute.OfMetadata(&o.ObjectMeta) }))
			},
			set: func(o *metav1.PartialObjectMetadata) {
				found := distribute.OfMetadata(&o.ObjectMeta)
				w.Store.SetSecret(name, o.Namespace, &found)
			},
			remove: func(o *metav1.PartialObjectMetadata) { w.Store.SetSecret(name, o.Namespace, nil) },
		})
		s.from.choices = []lister{fromMetadata(w.Metadata.Resource(resource).Namespace(w.secretsIn))}
		return s
	}
	return w.wholeSecrets(w.secretsIn, named, reducer[*corev1.Secret]{
		replace: func(list []*corev1.Secret) { w.Store.ReplaceSecrets(name, found(list, distribute.OfSecret)) },
		set: func(o *corev1.Secret) {
			found := distribute.OfSecret(o)
			w.Store.SetSecret(name, o.Namespace, &found)
		},
		remove: func(o *corev1.Secret) { w.Store.SetSecret(name, o.Namespace, nil) },
	})
}

func found[T metav1.Object](list []T, reduce func(T) distribute.Found) map[string]*distribute.Found {
	all := make(map[string]*distribute.Found, len(list))
	for _, object := range list {
		found := reduce(object)
		all[object.GetNamespace()] = &found
	}
	return all
}

// sources watches a Secret of the injector's own namespace.
func (w *Watch) sources(name string) subject {
	return w.wholeSecrets(w.Store.Current().OwnNamespace, namedSecret(name), reducer[*corev1.Secret]{
		replace: func(list []*corev1.Secret) {
			if len(list) == 0 {
				w.Store.SetSource(name, nil)
			}
			for _, object := range list {
				w.Store.SetSource(name, object)
			}
		},
		set:    func(o *corev1.Secret) { w.Store.SetSource(name, o) },
		remove: func(*corev1.Secret) { w.Store.SetSource(name, nil) },
	})
}

func namedSecret(name string) func(*metav1.ListOptions) {
	return func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	}
}

func (w *Watch) wholeSecrets(namespace string, tweak func(*metav1.ListOptions), into reducer[*corev1.Secret]) subject {
	client := w.Secrets.Secrets(namespace)
	whole := lister{
		list:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return client.List(ctx, o) },
		watch: client.Watch,
	}
	return subject{
		from:    &source{choices: []lister{whole}, tweak: tweak, client: client},
		example: &corev1.Secret{},
		into:    into.store,
	}
}

// tags watches the webhook configurations that stand for tags.
func (w *Watch) tags() subject {
	tagged := func(o *metav1.ListOptions) { o.LabelSelector = istio.TagLabel }
	resource := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"}
	return w.metadata(resource, tagged, false, reducer[*metav1.PartialObjectMetadata]{
		replace: w.Store.ReplaceTags,
		set:     w.Store.SetTag,
		remove:  w.Store.RemoveTag,
	})
}

// controlPlanes watches the ConfigMaps of one of Istio's namespaces: their names hold revisions, which no selector knows.
func (w *Watch) controlPlanes(namespace string) subject {
	s := w.objects(reducer[*unstructured.Unstructured]{
		replace: func(list []*unstructured.Unstructured) { w.Store.ReplaceControlPlanes(namespace, list) },
		set:     func(object *unstructured.Unstructured) { w.Store.SetControlPlane(namespace, object) },
		remove:  func(object *unstructured.Unstructured) { w.Store.RemoveControlPlane(namespace, object) },
	})
	s.from.choices = []lister{fromObjects(w.Objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(namespace))}
	return s
}

// telemetries watches Telemetry resources, in the first version that the cluster has: Istio before 1.22 has v1alpha1 alone.
func (w *Watch) telemetries() subject {
	s := w.objects(reducer[*unstructured.Unstructured]{
		replace: w.Store.ReplaceTelemetries,
		set:     w.Store.SetTelemetry,
		remove:  w.Store.RemoveTelemetry,
	})
	for _, version := range []string{"v1", "v1alpha1"} {
		resource := schema.GroupVersionResource{Group: "telemetry.istio.io", Version: version, Resource: "telemetries"}
		s.from.choices = append(s.from.choices, fromObjects(w.Objects.Resource(resource)))
	}
	s.absent = func() { w.Store.ReplaceTelemetries(nil) }
	return s
}

func (w *Watch) metadata(resource schema.GroupVersionResource, tweak func(*metav1.ListOptions), indispensable bool, into reducer[*metav1.PartialObjectMetadata]) subject {
	return subject{
		from:          &source{choices: []lister{fromMetadata(w.Metadata.Resource(resource))}, tweak: tweak, client: w.Metadata},
		example:       &metav1.PartialObjectMetadata{},
		into:          into.store,
		indispensable: indispensable,
	}
}

func (w *Watch) objects(into reducer[*unstructured.Unstructured]) subject {
	return subject{
		from:    &source{tweak: func(*metav1.ListOptions) {}, client: w.Objects},
		example: &unstructured.Unstructured{},
		into:    into.store,
	}
}
