package main

import (
	"context"
	"fmt"

	"go.uber.org/zap"
	appsv1 "k8s.io/api/apps/v1"
	apicorev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	admissionv1 "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
	authentication "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorization "k8s.io/client-go/kubernetes/typed/authorization/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	eventsv1 "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/events"

	"github.com/lightstep-injector/lightstep-injector/certs/distribute"
	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
	"github.com/lightstep-injector/lightstep-injector/webhook/mesh"
	"github.com/lightstep-injector/lightstep-injector/webhook/missed"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

// cluster is how the cluster is reached: objects' metadata, whole objects, and the lease by which one replica leads.
type cluster struct {
	// namespace is the one that whoever names none means.
	namespace string
	// reader lists and watches what tenants can write.
	reader   *clusterstate.Reader
	metadata metadata.Interface
	objects  dynamic.Interface
	core     corev1.SecretsGetter
	webhooks admissionv1.MutatingWebhookConfigurationsGetter
	leases   coordination.LeasesGetter
	events   events.EventBroadcaster
	reviews  authorization.SelfSubjectAccessReviewsGetter
	// tokens and access are for --metrics-auth.
	tokens authentication.TokenReviewsGetter
	access authorization.SubjectAccessReviewsGetter
}

// requestsPerSecond bounds what each client asks of the API server, beside watches; client-go's own 5 would take half an hour
// to bring the satellite CA to ten thousand namespaces. The API server's own priority and fairness guards it beyond that.
const requestsPerSecond = 200

// reviewsPerSecond bounds the reviews of scrapers' tokens that strangers can bring about.
const reviewsPerSecond = 5

// checkNamespace rejects what is no namespace's name before it becomes part of a request's path. The error is one of usage.
func checkNamespace(flag, name string) error {
	if len(validation.IsDNS1123Label(name)) > 0 {
		return usageError{fmt.Errorf("%s %s: write the name of a namespace", flag, name)}
	}
	return nil
}

// connect finds the cluster of $KUBECONFIG or, inside one, the pod's own.
func connect() (*cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{})
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the cluster (KUBECONFIG, or a pod's service account): %w", err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, fmt.Errorf("find the namespace of the kubeconfig's context: %w", err)
	}
	config.UserAgent = "lightstep-injector/" + version()
	config.QPS, config.Burst = requestsPerSecond, 2*requestsPerSecond
	c := &cluster{namespace: namespace}
	if c.reader, err = clusterstate.NewReader(config); err != nil {
		return nil, err
	}
	config.Wrap(clusterstate.BoundResponses)
	if c.metadata, err = metadata.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make a client for the cluster: %w", err)
	}
	if c.objects, err = dynamic.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make a client for the cluster: %w", err)
	}
	core, err := corev1.NewForConfig(clusterstate.Binary(config))
	if err != nil {
		return nil, fmt.Errorf("make a client for the cluster: %w", err)
	}
	c.core = core
	if c.webhooks, err = admissionv1.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make a client for the cluster: %w", err)
	}
	recorded, err := eventsv1.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for the cluster: %w", err)
	}
	c.events = events.NewBroadcaster(&events.EventSinkImpl{Interface: recorded})
	if c.reviews, err = authorization.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make a client for the cluster: %w", err)
	}
	slow := rest.CopyConfig(config)
	slow.QPS, slow.Burst = reviewsPerSecond, 2*reviewsPerSecond
	if c.tokens, err = authentication.NewForConfig(slow); err != nil {
		return nil, fmt.Errorf("make a client for the cluster: %w", err)
	}
	if c.access, err = authorization.NewForConfig(slow); err != nil {
		return nil, fmt.Errorf("make a client for the cluster: %w", err)
	}
	if c.leases, err = coordination.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make a client for the cluster: %w", err)
	}
	return c, nil
}

// owners are those with whose end goes what the injector makes in its own namespace for itself: its Deployment, so that nothing is
// left when the chart is uninstalled. Where there is none, or it cannot be seen, nobody is.
func (c *cluster) owners(ctx context.Context) []metav1.OwnerReference {
	kind := appsv1.SchemeGroupVersion.WithKind("Deployment")
	found, err := c.metadata.Resource(appsv1.SchemeGroupVersion.WithResource("deployments")).Namespace(ownNamespace()).Get(ctx, objectName, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return []metav1.OwnerReference{{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind, Name: objectName, UID: found.UID}}
}

// newKeeper makes the controller that keeps Istio's objects where the configuration has istio.manage: true.
func newKeeper(c *cluster, store *snapshot.Store, watch *snapshot.Watch, log *zap.Logger) *mesh.Controller {
	return &mesh.Controller{
		Snapshots: store, Metadata: c.metadata, Cluster: c.reader, Events: c.events.NewRecorder(scheme.Scheme, "lightstep-injector"), Log: log, Synced: watch.Synced(),
	}
}

// newDistributor makes the controller that brings Secrets to labelled namespaces.
func newDistributor(c *cluster, store *snapshot.Store, watch *snapshot.Watch, log *zap.Logger) *distribute.Controller {
	return &distribute.Controller{
		World: store, Metadata: c.metadata, Events: c.events.NewRecorder(scheme.Scheme, "lightstep-injector"), Log: log, Synced: watch.Synced(),
	}
}

// newMissedCounter makes what counts the pods of labelled namespaces that were never injected.
func newMissedCounter(c *cluster, store *snapshot.Store, watch *snapshot.Watch, log *zap.Logger) *missed.Counter {
	return &missed.Counter{Snapshots: store, Cluster: c.reader, Log: log, Synced: watch.Synced()}
}

// objectUnreadable is the reason of an Event about an object that exceeds a bound. The chart's policy lists all reasons.
const objectUnreadable = "ObjectUnreadable"

// tellUnreadable records an Event about an object that exceeds a bound, in its namespace.
func tellUnreadable(c *cluster) func(*metav1.PartialObjectMetadata) {
	recorder := c.events.NewRecorder(scheme.Scheme, "lightstep-injector")
	return func(object *metav1.PartialObjectMetadata) {
		recorder.Eventf(object, nil, apicorev1.EventTypeWarning, objectUnreadable, "Read", "it exceeds a bound and is ignored; see docs/memory.md for the bounds")
	}
}
