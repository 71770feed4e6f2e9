package istio17

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/lightstep-injector/lightstep-injector/e2e/compile"
)

// chart is the part of Istio's own installation that injection needs, rendered by Istio itself.
type chart struct {
	injector, mesh corev1.ConfigMap
	webhook        admissionv1.MutatingWebhookConfiguration
	// template is the file of the proxy image's bootstrap template.
	template string
}

// readChart reads what the module ships, and makes of it the installation of a release.
func readChart(ctx context.Context, source string, o Options) (*chart, error) {
	dir, err := compile.Command(ctx, source, "list", "-m", "-f", "{{.Dir}}", "istio.io/istio").Output()
	if err != nil {
		return nil, fmt.Errorf("find Istio's module: %w", err)
	}
	root := strings.TrimSpace(string(dir))
	text, err := os.ReadFile(filepath.Join(root, "manifests/charts/istio-control/istio-discovery/files/gen-istio.yaml"))
	if err != nil {
		return nil, fmt.Errorf("read Istio's chart: %w", err)
	}
	c := &chart{template: filepath.Join(root, "tools/packaging/common/envoy_bootstrap.json")}
	if err := c.read(text); err != nil {
		return nil, fmt.Errorf("read Istio's chart: %w", err)
	}
	if err := c.release(o); err != nil {
		return nil, fmt.Errorf("change the chart's values: %w", err)
	}
	if o.Revision != "" {
		c.rename(o.Revision)
	}
	return c, nil
}

func (c *chart) read(text []byte) error {
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		var raw json.RawMessage
		if err := documents.Decode(&raw); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var head metav1.PartialObjectMetadata
		if err := json.Unmarshal(raw, &head); err != nil {
			return err
		}
		var into any
		switch head.Kind + "/" + head.Name {
		case "ConfigMap/istio":
			into = &c.mesh
		case "ConfigMap/istio-sidecar-injector":
			into = &c.injector
		case "MutatingWebhookConfiguration/istio-sidecar-injector":
			into = &c.webhook // v1beta1, whose fields are those of v1
		default:
			continue
		}
		if err := json.Unmarshal(raw, into); err != nil {
			return err
		}
	}
}

// release sets what an installation of a release has in the place of the module's own hub and tag.
func (c *chart) release(o Options) error {
	var all map[string]any
	if err := json.Unmarshal([]byte(c.injector.Data["values"]), &all); err != nil {
		return err
	}
	global := all["global"].(map[string]any)
	global["hub"], global["tag"] = "docker.io/istio", Version
	if o.Tracer != "" {
		global["proxy"].(map[string]any)["tracer"] = o.Tracer
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	c.injector.Data["values"] = string(text)
	if o.Mesh != "" {
		c.mesh.Data["mesh"] = o.Mesh
	}
	return nil
}

// rename does what the chart's templates do with a revision: names, labels and the selector follow it
// (istio@1.7.8 istio-discovery/templates).
func (c *chart) rename(revision string) {
	for _, object := range []metav1.Object{&c.injector, &c.mesh, &c.webhook} {
		object.SetName(object.GetName() + "-" + revision)
		labels := object.GetLabels()
		labels["istio.io/rev"] = revision
		object.SetLabels(labels)
	}
	c.webhook.Webhooks[0].ClientConfig.Service.Name += "-" + revision
	c.webhook.Webhooks[0].NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "istio-injection", Operator: metav1.LabelSelectorOpDoesNotExist},
		{Key: "istio.io/rev", Operator: metav1.LabelSelectorOpIn, Values: []string{revision}},
	}}
}

func (i *Istio) install(ctx context.Context, c *chart, caBundle []byte) error {
	core := i.cluster.Client.CoreV1()
	_, err := core.Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	for _, configMap := range []*corev1.ConfigMap{&c.injector, &c.mesh} {
		if _, err := core.ConfigMaps(Namespace).Create(ctx, configMap, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: i.service()},
		Spec:       corev1.ServiceSpec{ClusterIP: i.claimed.Address, Ports: []corev1.ServicePort{{Name: "https-webhook", Port: port}}},
	}
	if _, err := core.Services(Namespace).Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return err
	}
	client := &c.webhook.Webhooks[0].ClientConfig
	client.CABundle, client.Service.Port = caBundle, new(int32(port))
	_, err = i.cluster.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(ctx, &c.webhook, metav1.CreateOptions{})
	return err
}
