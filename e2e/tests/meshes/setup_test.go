package meshes

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/istio/agent"
	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root = "../../.."
	// canary is the access token.
	canary = "canary-c04e18d2aa57"
)

// environment is what all tests share.
type environment struct {
	*stage.Stage
	client   *kubernetes.Clientset
	injector *injector.Injector
	istiod   *istiod.Istiod
	agent    *agent.Agent
}

// setUp brings up the cluster, the newest istiod and the injector, and has all of them taken down with the test.
func setUp(t *testing.T) *environment {
	t.Helper()
	e := &environment{Stage: stage.New(t, root)}
	e.client = e.Client
	var published, delivered []string
	for _, p := range profiles() {
		if !p.byAnnotation {
			continue
		}
		delivered = append(delivered, p.name)
		for _, m := range meshes() {
			published = append(published, (&old{mesh: m}).in(p.name))
		}
	}
	e.Guard(canary, published...)
	e.agent = e.Agent(t, istiod.Version)
	values := filepath.Join(e.Run.Dir, "values.yaml")
	check(t, os.WriteFile(values, []byte("global: {hub: docker.io/istio, tag: "+istiod.Version+"}\n"), 0o600))
	e.istiod = e.Istiod(t, istiod.Version, values)
	e.injector = e.Injector(t, "testdata/config.yaml", injector.Options{Flags: e.Publishing(t, canary, delivered...)})
	return e
}

// namespace makes one, with the Secrets.
func (e *environment) namespace(t *testing.T, name string, labels, annotations map[string]string) {
	t.Helper()
	e.Namespace(t, name, labels, annotations)
	for _, ca := range []string{"lightstep.cacert", "satellite-ca"} {
		e.Secret(t, name, ca, "cacert.pem", "x")
	}
	e.Secret(t, name, stage.TokenSecret, "token", canary)
}

// try returns what a pod created now would be, and creates none.
func (e *environment) try(ctx context.Context, namespace string, pod *corev1.Pod) (*corev1.Pod, error) {
	return e.client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

// statusOf is what the injector says of a pod.
func statusOf(pod *corev1.Pod) (status struct {
	Tracer   string
	Warnings []string
},
) {
	_ = json.Unmarshal([]byte(pod.Annotations["lightstep.com/status"]), &status) // no status, no tracer
	return status
}

func check(t *testing.T, err error) {
	t.Helper()
	stage.Check(t, err)
}

func eventually(t *testing.T, condition func(context.Context) error) {
	t.Helper()
	stage.Eventually(t, condition)
}
