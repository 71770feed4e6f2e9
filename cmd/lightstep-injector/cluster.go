package main

import (
	"cmp"
	"fmt"
	"os"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/dynamic"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/lightstep-injector/lightstep-injector/webhook/mesh"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

// cluster is how the cluster is reached: objects' metadata, whole objects, and the lease by which one replica leads.
type cluster struct {
	// namespace is the one that whoever names none means.
	namespace string
	metadata metadata.Interface
	objects  dynamic.Interface
	leases   coordination.LeasesGetter
}

// requestsPerSecond bounds what is asked of the API server, beside watches; client-go's own 5 would take minutes to bring
// Istio's objects to hundreds of namespaces.
const requestsPerSecond = 50

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
	if c.metadata, err = metadata.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make a client for the cluster: %w", err)
	}
	if c.objects, err = dynamic.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make a client for the cluster: %w", err)
	}
	if c.leases, err = coordination.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make a client for the cluster: %w", err)
	}
	return c, nil
}

// newKeeper makes the controller that keeps Istio's objects where the configuration has istio.manage: true.
func newKeeper(c *cluster, store *snapshot.Store, watch *snapshot.Watch, log *zap.Logger) *mesh.Controller {
	host, _ := os.Hostname() // the rest tells processes apart, too
	return &mesh.Controller{
		Snapshots: store,
		Objects:   c.objects,
		Metadata:  c.metadata,
		Lease: mesh.Lease{
			Client:    c.leases,
			Namespace: cmp.Or(ownNamespace(), "default"),
			Name:      "lightstep-injector",
			Identity:  host + "_" + string(uuid.NewUUID()),
			Log:       log,
		},
		Log:    log,
		Synced: watch.Synced(),
	}
}
