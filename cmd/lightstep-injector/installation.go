package main

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

const (
	// objectName is that of the chart's Deployment, its ConfigMap and the Lease.
	objectName = "lightstep-injector"
	// configMapKey is the ConfigMap's one key.
	configMapKey = "config.yaml"
)

// installation says where in a cluster the injector is, for who looks at it from elsewhere.
type installation struct {
	// config is a file in the place of the chart's ConfigMap; none if empty.
	config    string
	namespace string
}

func (i *installation) register(flags *pflag.FlagSet) {
	flags.StringVar(&i.config, "config", "", "configuration `FILE` (without it, the ConfigMap "+objectName+" of the injector's namespace)")
	flags.StringVar(&i.namespace, "injector-namespace", "lightstep-system", "`NAMESPACE` of the injector itself")
}

// configuration is the file's, or that of the chart's ConfigMap.
func (i *installation) configuration(ctx context.Context, c *cluster) (config *settings.Settings, from string, err error) {
	if i.config != "" {
		config, err = readConfiguration(i.config)
		return config, i.config, err
	}
	if err := checkNamespace("--injector-namespace", i.namespace); err != nil {
		return nil, "", err
	}
	from = fmt.Sprintf("ConfigMap %s -n %s", objectName, i.namespace)
	found, err := c.objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(i.namespace).Get(ctx, objectName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, "", fmt.Errorf("read configuration: there is no %s: give the injector's own namespace with --injector-namespace, or its configuration with --config FILE", from)
	case err != nil:
		return nil, "", fmt.Errorf("read configuration %s: %w; --config FILE takes its place", from, err)
	}
	text, there, err := unstructured.NestedString(found.Object, "data", configMapKey)
	if err != nil || !there {
		return nil, "", fmt.Errorf("read configuration %s: it has no key %s", from, configMapKey)
	}
	if config, err = settings.Parse([]byte(text)); err != nil {
		return nil, "", fmt.Errorf("read configuration %s: %w", from, err)
	}
	return config, from, nil
}
