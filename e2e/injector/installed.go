package injector

import (
	"context"
	"fmt"
	"net"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
)

// NewInstalled is New for an injector that the chart has installed. It is run with the arguments of the chart's Deployment,
// but for the configuration's file and the ports, and is reached through the chart's Service and webhook configuration. Its
// certificate is whose the chart has made it. The pods of the Deployment are kwok's: nothing runs in them.
func NewInstalled(ctx context.Context, c *cluster.Cluster, run *cluster.Run, options Options) (*Injector, error) {
	options.Certificate = true
	i := &Injector{options: options, cluster: c, run: run}
	if err := i.pickAddresses(); err != nil {
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
	return i, nil
}
