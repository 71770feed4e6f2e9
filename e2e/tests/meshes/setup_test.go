package meshes

import (
	"context"
	"encoding/json"
	"errors"
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
	"github.com/lightstep-injector/lightstep-injector/e2e/istio/agent"
	"github.com/lightstep-injector/lightstep-injector/e2e/istio17"
	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
)

const (
	root = "../../.."
	// deadline bounds every wait for the cluster.
	deadline = time.Minute
	// canary is the access token.
	canary = "canary-c04e18d2aa57"
)

// environment is what all tests share.
type environment struct {
	client   *kubernetes.Clientset
	cluster  *cluster.Cluster
	run      *cluster.Run
	injector *injector.Injector
	istiod   *istiod.Istiod
	agent    *agent.Agent
	// oldest is the binary of Istio 1.7.8's injection.
	oldest string
}

// programs are the binaries of a run.
type programs struct{ control, ours, oldest, newest, agent string }

func build(t *testing.T, run *cluster.Run) (p programs) {
	t.Helper()
	ctx, progress := t.Context(), report.New(os.Stdout)
	compiling := func() { progress.Linef("Istio is built from source the first time: some minutes.") }
	var errs [5]error
	p.control, errs[0] = cluster.Build(ctx, root, progress.Progress)
	p.oldest, errs[1] = istio17.Build(ctx, root, compiling)
	p.newest, errs[2] = istiod.Build(ctx, root, compiling)
	p.agent, errs[3] = agent.Build(ctx, root, compiling)
	p.ours, errs[4] = injector.Build(ctx, root, run)
	check(t, errors.Join(errs[:]...))
	return p
}

// setUp brings up the cluster, the newest istiod and the injector, and has all of them taken down with the test.
func setUp(t *testing.T) *environment {
	t.Helper()
	ctx := t.Context()
	run, err := cluster.NewRun(root)
	check(t, err)
	t.Cleanup(func() { check(t, run.Remove()) })
	p := build(t, run)
	e := &environment{run: run, oldest: p.oldest}
	e.cluster, err = cluster.Start(ctx, p.control, run)
	check(t, err)
	t.Cleanup(func() { check(t, e.cluster.Stop()) })
	quiet := rest.CopyConfig(e.cluster.Config)
	quiet.WarningHandler = rest.NoWarnings{}
	quiet.QPS = -1
	e.client, err = kubernetes.NewForConfig(quiet)
	check(t, err)
	e.agent, err = agent.Start(ctx, root, run, p.agent)
	check(t, err)
	t.Cleanup(func() { logOnFailure(t, e.agent.LogFile()); check(t, e.agent.Stop()) })
	values := filepath.Join(run.Dir, "values.yaml")
	check(t, os.WriteFile(values, []byte("global: {hub: docker.io/istio, tag: "+istiod.Version+"}\n"), 0o600))
	e.istiod, err = istiod.Start(ctx, e.cluster, run, p.newest, values)
	check(t, err)
	t.Cleanup(func() { logOnFailure(t, e.istiod.LogFile()); check(t, e.istiod.Stop()) })
	e.startInjector(t, p.ours)
	return e
}

func (e *environment) startInjector(t *testing.T, binary string) {
	t.Helper()
	config, token := filepath.Join(e.run.Dir, "config.yaml"), filepath.Join(e.run.Dir, "token")
	content, err := os.ReadFile("testdata/config.yaml")
	check(t, err)
	check(t, injector.WriteConfig(config, content))
	check(t, os.WriteFile(token, []byte(canary), 0o600))
	flags := []string{"--expose-token-in-annotations"}
	for _, p := range profiles() {
		if p.byAnnotation {
			flags = append(flags, "--access-token-file", p.name+"="+token)
		}
	}
	e.injector, err = injector.New(t.Context(), e.cluster, e.run, injector.Options{
		Binary: binary, Config: config, Flags: flags,
	})
	check(t, err)
	t.Cleanup(func() { logOnFailure(t, e.injector.LogFile()); e.injector.Kill() })
	check(t, e.injector.Start(t.Context()))
}

func logOnFailure(t *testing.T, log string) {
	if t.Failed() {
		t.Logf("the end of %s:\n%s", filepath.Base(log), process.Tail(log, 20))
	}
}

// namespace makes one, with the Secrets.
func (e *environment) namespace(t *testing.T, name string, labels, annotations map[string]string) {
	t.Helper()
	_, err := e.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: annotations},
	}, metav1.CreateOptions{})
	check(t, err)
	for secret, key := range map[string]string{"lightstep.cacert": "cacert.pem", "satellite-ca": "cacert.pem", "lightstep-access-token": "token"} {
		_, err := e.client.CoreV1().Secrets(name).Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: secret, Labels: map[string]string{"app": "lightstep"}},
			StringData: map[string]string{key: canary},
		}, metav1.CreateOptions{})
		check(t, err)
	}
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
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until a condition holds: until it returns nil.
func eventually(t *testing.T, condition func(context.Context) error) {
	t.Helper()
	last := errors.New("never checked")
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, deadline, true, func(ctx context.Context) (bool, error) {
		now := condition(ctx)
		if ctx.Err() == nil { // what failed for want of time says nothing
			last = now
		}
		return now == nil, nil
	})
	if err != nil {
		t.Fatalf("%v: %v", err, last)
	}
}
