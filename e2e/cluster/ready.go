package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// nodeCount is how many nodes kwok plays: more than one, so that a DaemonSet has something to do.
const nodeCount = 2

func createNodes(ctx context.Context, client kubernetes.Interface) error {
	for i := range nodeCount {
		name := fmt.Sprintf("kwok-%d", i+1)
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Labels:      map[string]string{corev1.LabelHostname: name, corev1.LabelOSStable: "linux"},
			Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
		}}
		if _, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create node %s: %w", name, err)
		}
	}
	return nil
}

// waitUntilUsable waits for the effect of each component: kwok makes the nodes ready, the controller manager gives the
// namespace its service account and takes the taint from the nodes.
func (c *Cluster) waitUntilUsable(ctx context.Context) error {
	problem := errors.New("not looked at yet")
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, startTimeout, true, func(ctx context.Context) (bool, error) {
		for _, component := range c.components {
			if err := component.Ended(); err != nil {
				return false, err
			}
		}
		problem = errors.Join(c.nodesReady(ctx), c.serviceAccountThere(ctx))
		return problem == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait until it can be used: %w: %w", err, problem)
	}
	return nil
}

func (c *Cluster) nodesReady(ctx context.Context) error {
	nodes, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, node := range nodes.Items {
		if !ready(&node) || len(node.Spec.Taints) > 0 {
			return fmt.Errorf("node %s is not ready", node.Name)
		}
	}
	return nil
}

func ready(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (c *Cluster) serviceAccountThere(ctx context.Context) error {
	_, err := c.Client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
	return err
}
