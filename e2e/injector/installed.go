package injector

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
)

// NewInstalled is New for an injector that the chart has installed. It is run with the arguments of the chart's Deployment,
// but for files and ports, and is reached through the chart's Service and webhook configuration, which is told the webhook
// CA. The pods of the Deployment are kwok's: nothing runs in them.
func NewInstalled(ctx context.Context, c *cluster.Cluster, run *cluster.Run, options Options) (*Injector, error) {
	i, ca, err := prepare(c, run, options)
	if err != nil {
		return nil, err
	}
	service, err := c.Client.CoreV1().Services(Namespace).Get(ctx, Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("find the chart's Service: %w", err)
	}
	i.listen = net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port)))
	deployment, err := c.Client.AppsV1().Deployments(Namespace).Get(ctx, Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("find the chart's Deployment: %w", err)
	}
	i.arguments = deployment.Spec.Template.Spec.Containers[0].Args
	return i, i.tellCA(ctx, ca.PEM)
}

// tellCA writes the webhook CA into the webhook configuration.
func (i *Injector) tellCA(ctx context.Context, caBundle []byte) error {
	patch, err := json.Marshal([]map[string]any{{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": caBundle}})
	if err != nil {
		return err
	}
	configurations := i.cluster.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	if _, err := configurations.Patch(ctx, configurationName, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: "webhook-ca"}); err != nil {
		return fmt.Errorf("tell the webhook configuration its CA: %w", err)
	}
	return nil
}
