package istio126

import (
	"context"
	"flag"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/istio/agent"
	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root = "../../.."
	// token is the access token.
	token = "canary-9e51c7a04d2b"

	// Pods are injected by both in the one, and by Istio alone in the other.
	both, alone = "both", "alone"
)

var pods = flag.Int("pods", 1000, "how many pods to generate")

// environment is what all tests share.
type environment struct {
	*stage.Stage
	istiod   *istiod.Istiod
	injector *injector.Injector
	agent    *agent.Agent
}

// TestIstio126 runs every test against one control plane, one istiod and one injector.
func TestIstio126(t *testing.T) {
	e := setUp(t)
	t.Run("Bookinfo", func(t *testing.T) { testBookinfo(t, e) })
	t.Run("StatefulSet", func(t *testing.T) { testStatefulSet(t, e) })
	t.Run("Pods", func(t *testing.T) { testPods(t, e) })
	t.Run("Explicit", func(t *testing.T) { testExplicit(t, e) })
	t.Run("Asked", func(t *testing.T) { testAsked(t, e) })
	t.Run("Order", func(t *testing.T) { testOrder(t, e) })
	t.Run("NoToken", func(t *testing.T) { e.NoToken(t) })
}

// setUp brings up the cluster, istiod and the injector, and has all of them taken down with the test.
func setUp(t *testing.T) *environment {
	t.Helper()
	e := &environment{Stage: stage.New(t, root)}
	e.Guard(token)
	e.istiod = e.Istiod(t, istiod.Middle, "testdata/values.yaml")
	e.agent = e.Agent(t, istiod.Middle)
	e.injector = e.Injector(t, "testdata/config.yaml", injector.Options{})
	e.namespace(t, both, map[string]string{"istio-injection": "enabled", "lightstep.com/injection": "enabled"})
	e.namespace(t, alone, map[string]string{"istio-injection": "enabled"})
	return e
}

// namespace makes one, with the Secrets, in which pods can be created.
func (e *environment) namespace(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	e.Namespace(t, name, labels, nil)
	e.Secret(t, name, "lightstep.cacert", "cacert.pem", "x")
	e.Secret(t, name, stage.TokenSecret, "token", token)
	stage.Eventually(t, func(ctx context.Context) error {
		_, err := e.try(ctx, name, pod())
		return err
	})
}

// try returns what a pod created now would be, and creates none.
func (e *environment) try(ctx context.Context, namespace string, pod *corev1.Pod) (*corev1.Pod, error) {
	return e.Client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}
