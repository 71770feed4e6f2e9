package clusterstate

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// Reader reads a cluster. Of all its lists, one page at most is in memory at a time.
type Reader struct {
	metadata metadata.Interface
	core     typedcorev1.CoreV1Interface
	custom   rest.Interface
	gate     chan struct{}
}

// NewReader makes a reader. It asks for protobuf where the API server has it: for metadata and for built-in kinds.
func NewReader(config *rest.Config) (*Reader, error) {
	config = rest.CopyConfig(config)
	config.Wrap(BoundResponses)
	r := &Reader{gate: make(chan struct{}, 1)}
	var err error
	if r.metadata, err = metadata.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make a client of metadata: %w", err)
	}
	if r.core, err = typedcorev1.NewForConfig(Binary(config)); err != nil {
		return nil, fmt.Errorf("make a client of built-in kinds: %w", err)
	}
	config.GroupVersion, config.APIPath = &schema.GroupVersion{}, "/apis"
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	if r.custom, err = rest.RESTClientFor(config); err != nil {
		return nil, fmt.Errorf("make a client of custom resources: %w", err)
	}
	return r, nil
}

// Binary returns a configuration with which built-in kinds are sent and received as protobuf, which costs the API server a
// tenth of JSON.
func Binary(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	return config
}

// Metadata reads the metadata of a resource, in all namespaces if none is given. The names are kept, and what keep copies.
func (r *Reader) Metadata(resource schema.GroupVersionResource, namespace string, keep func(from, to *metav1.ObjectMeta)) *Source[*metav1.PartialObjectMetadata] {
	return newSource(r, r.metadataOf(resource, namespace), reduceMetadata(keep))
}

// MetadataTo reads metadata and keeps what a function makes of it; false drops an object.
func MetadataTo[T any](r *Reader, resource schema.GroupVersionResource, namespace string, keep func(*metav1.PartialObjectMetadata) (T, bool)) *Source[*Reduced[T]] {
	return newSource(r, r.metadataOf(resource, namespace), reduceTo(keep))
}

// Get reads the metadata of one object, whole.
func (r *Reader) Get(ctx context.Context, resource schema.GroupVersionResource, namespace, name string) (*metav1.PartialObjectMetadata, error) {
	return r.metadata.Resource(resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
}

// Secrets reads Secrets and keeps what a function makes of each; false drops it.
func Secrets[T any](r *Reader, namespace string, keep func(*corev1.Secret) (T, bool)) *Source[*Reduced[T]] {
	client := r.core.Secrets(namespace)
	return newSource(r, r.whole("secrets", namespace, requests{list: pageOf(client.List), watch: reduced(client.Watch)}), reduceTo(keep))
}

// ConfigMaps reads ConfigMaps and keeps what a function makes of each; false drops it.
func ConfigMaps[T any](r *Reader, namespace string, keep func(*corev1.ConfigMap) (T, bool)) *Source[*Reduced[T]] {
	client := r.core.ConfigMaps(namespace)
	return newSource(r, r.whole("configmaps", namespace, requests{list: pageOf(client.List), watch: reduced(client.Watch)}), reduceTo(keep))
}

// Pods reads pods and keeps what a function makes of each; false drops it.
func Pods[T any](r *Reader, namespace string, keep func(*corev1.Pod) (T, bool)) *Source[*Reduced[T]] {
	client := r.core.Pods(namespace)
	return newSource(r, r.whole("pods", namespace, requests{list: pageOf(client.List), watch: reduced(client.Watch)}), reduceTo(keep))
}

// CustomResources reads a custom resource as JSON and keeps what a function makes of each; false drops it.
func CustomResources[T any](r *Reader, resource schema.GroupVersionResource, namespace string, keep func(*Custom) (T, bool)) *Source[*Reduced[T]] {
	client := customClient{r.custom, resource, namespace}
	named := r.metadataOf(resource, namespace)
	return newSource(r, requests{list: client.list, watch: client.watch, names: named.list}, reduceTo(keep))
}

func newSource[O runtime.Object](r *Reader, requests requests, reduction reduction[O]) *Source[O] {
	return &Source[O]{requests: requests, reduction: reduction, gate: r.gate}
}

// whole adds the names to the requests for whole objects of a built-in kind.
func (r *Reader) whole(resource, namespace string, requests requests) requests {
	requests.names = r.metadataOf(schema.GroupVersionResource{Version: "v1", Resource: resource}, namespace).list
	return requests
}

func (r *Reader) metadataOf(resource schema.GroupVersionResource, namespace string) requests {
	client := r.metadata.Resource(resource).Namespace(namespace)
	return requests{list: pageOf(client.List), watch: reduced(client.Watch)}
}

// pageOf adapts a typed client's list.
func pageOf[L interface {
	runtime.Object
	metav1.ListInterface
}](list func(context.Context, metav1.ListOptions) (L, error)) func(context.Context, metav1.ListOptions) (*page, error) {
	return func(ctx context.Context, options metav1.ListOptions) (*page, error) {
		objects, err := list(ctx, options)
		if err != nil {
			return nil, err
		}
		return &page{
			ListMeta: metav1.ListMeta{ResourceVersion: objects.GetResourceVersion(), Continue: objects.GetContinue()},
			each:     func(each func(runtime.Object) error) error { return apimeta.EachListItem(objects, each) },
		}, nil
	}
}
