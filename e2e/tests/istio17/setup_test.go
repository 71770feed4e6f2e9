package istio17

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/istio17"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root = "../../.."
	// token is the access token.
	token = "canary-7f3e90b2c1"
)

// environment is what all tests share.
type environment struct {
	*stage.Stage
	istio    *istio17.Istio
	injector *injector.Injector
}

// setUp brings up the cluster, Istio's injection and the injector, and has all of them taken down with the test.
func setUp(t *testing.T) *environment {
	t.Helper()
	e := &environment{Stage: stage.New(t, root)}
	e.Guard(token, "by-annotation")
	e.istio = e.Oldest(t, istio17.Options{})
	e.injector = e.Injector(t, "testdata/config.yaml", injector.Options{Flags: e.Publishing(t, token, "annotation")})
	return e
}

// namespace makes one that both webhooks serve, with the Secrets, and waits until ours knows of them.
func (e *environment) namespace(t *testing.T, name, profile string) {
	t.Helper()
	annotations := map[string]string{}
	if profile != "" {
		annotations["lightstep.com/profile"] = profile
	}
	e.Namespace(t, name, map[string]string{"lightstep.com/injection": "enabled", "istio-injection": "enabled"}, annotations)
	e.secrets(t, name, plain())
}

// secrets makes the Secrets of a namespace, and waits until a pod there gets its tracer.
func (e *environment) secrets(t *testing.T, name string, probe *corev1.Pod) {
	t.Helper()
	e.Secret(t, name, "lightstep.cacert", "cacert.pem", "x")
	e.Secret(t, name, stage.TokenSecret, "token", token)
	stage.Eventually(t, func(ctx context.Context) error {
		pod, err := e.try(ctx, name, probe)
		if err == nil && tracerOf(pod) != "lightstep" {
			err = errors.New("a pod gets no tracer")
		}
		return err
	})
}

// try returns what a pod created now would be, and creates none.
func (e *environment) try(ctx context.Context, namespace string, pod *corev1.Pod) (*corev1.Pod, error) {
	return e.Client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}
