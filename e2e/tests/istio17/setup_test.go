package istio17

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/istio17"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
)

const (
	root = "../../.."
	// deadline bounds every wait for the cluster.
	deadline = time.Minute
	// canary is the access token.
	canary = "canary-7f3e90b2c1"
)

// environment is what all tests share.
type environment struct {
	client   *kubernetes.Clientset
	istio    *istio17.Istio
	injector *injector.Injector
}

// setUp brings up the cluster, Istio's injection and the injector, and has all of them taken down with the test.
func setUp(t *testing.T) *environment {
	t.Helper()
	ctx := t.Context()
	run, err := cluster.NewRun(root)
	check(t, err)
	t.Cleanup(func() { check(t, run.Remove()) })
	progress := report.New(os.Stdout)
	control, err := cluster.Build(ctx, root, progress.Progress)
	check(t, err)
	theirs, err := istio17.Build(ctx, root, func() { progress.Linef("Istio 1.7.8 is built from source the first time: some minutes.") })
	check(t, err)
	ours, err := injector.Build(ctx, root, run)
	check(t, err)
	c, err := cluster.Start(ctx, control, run)
	check(t, err)
	t.Cleanup(func() { check(t, c.Stop()) })
	quiet := rest.CopyConfig(c.Config)
	quiet.WarningHandler = rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(quiet)
	check(t, err)
	e := &environment{client: client}
	e.istio, err = istio17.Start(ctx, root, c, run, theirs, istio17.Options{})
	check(t, err)
	t.Cleanup(func() { e.logOnFailure(t, e.istio.LogFile()); check(t, e.istio.Stop()) })
	e.startInjector(t, c, run, ours)
	return e
}

func (e *environment) startInjector(t *testing.T, c *cluster.Cluster, run *cluster.Run, binary string) {
	t.Helper()
	config, token := filepath.Join(run.Dir, "config.yaml"), filepath.Join(run.Dir, "token")
	content, err := os.ReadFile("testdata/config.yaml")
	check(t, err)
	check(t, injector.WriteConfig(config, content))
	check(t, os.WriteFile(token, []byte(canary), 0o600))
	e.injector, err = injector.New(t.Context(), c, run, injector.Options{
		Binary: binary, Config: config, Flags: []string{"--expose-token-in-annotations", "--access-token-file", "annotation=" + token},
	})
	check(t, err)
	t.Cleanup(func() { e.logOnFailure(t, e.injector.LogFile()); e.injector.Kill() })
	check(t, e.injector.Start(t.Context()))
}

func (e *environment) logOnFailure(t *testing.T, log string) {
	if t.Failed() {
		t.Logf("the end of %s:\n%s", filepath.Base(log), process.Tail(log, 20))
	}
}

// namespace makes one that both webhooks serve, with the Secrets, and waits until ours knows of them.
func (e *environment) namespace(t *testing.T, name, profile string) {
	t.Helper()
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		"lightstep.com/injection": "enabled", "istio-injection": "enabled",
	}}}
	if profile != "" {
		object.Annotations = map[string]string{"lightstep.com/profile": profile}
	}
	_, err := e.client.CoreV1().Namespaces().Create(t.Context(), object, metav1.CreateOptions{})
	check(t, err)
	e.secrets(t, name, plain())
}

// secrets makes the Secrets of a namespace, and waits until a pod there gets its tracer.
func (e *environment) secrets(t *testing.T, name string, probe *corev1.Pod) {
	t.Helper()
	for secret, key := range map[string]string{"lightstep.cacert": "cacert.pem", "lightstep-access-token": "token"} {
		_, err := e.client.CoreV1().Secrets(name).Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: secret, Labels: map[string]string{"app": "lightstep"}},
			StringData: map[string]string{key: canary},
		}, metav1.CreateOptions{})
		check(t, err)
	}
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, deadline, true, func(ctx context.Context) (bool, error) {
		pod, err := e.try(ctx, name, probe)
		return err == nil && tracerOf(pod) == "lightstep", nil
	})
	check(t, err)
}

// try returns what a pod created now would be, and creates none.
func (e *environment) try(ctx context.Context, namespace string, pod *corev1.Pod) (*corev1.Pod, error) {
	return e.client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
