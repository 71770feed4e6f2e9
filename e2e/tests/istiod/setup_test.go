package istiod

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
)

const (
	root = "../../.."
	// deadline bounds every wait for the cluster.
	deadline = time.Minute
)

// environment is what all tests share.
type environment struct {
	client   *kubernetes.Clientset
	istiod   *istiod.Istiod
	injector *injector.Injector
	// objects is the file of what render istio prints for the labelled namespaces.
	objects string
}

// setUp brings up the cluster, istiod and the injector, and has all of them taken down when the test has ended.
func setUp(t *testing.T) *environment {
	t.Helper()
	ctx := t.Context()
	run, err := cluster.NewRun(root)
	check(t, err)
	t.Cleanup(func() { check(t, run.Remove()) })
	progress := report.New(os.Stdout)
	control, err := cluster.Build(ctx, root, progress.Progress)
	check(t, err)
	istio, err := istiod.Build(ctx, root, func() { progress.Linef("istiod is built from source the first time: some minutes.") })
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
	e := &environment{client: client, objects: filepath.Join(run.Dir, "objects.yaml")}
	check(t, e.nameKubelets(ctx))
	check(t, os.WriteFile(e.objects, render(t, ours, "--print", "objects"), 0o600))
	e.istiod, err = istiod.Start(ctx, c, run, istio, values(t, run, render(t, ours, "--print", "mesh")))
	check(t, err)
	t.Cleanup(func() { e.logOnFailure(t, e.istiod.LogFile()); check(t, e.istiod.Stop()) })
	config := filepath.Join(run.Dir, "config.yaml")
	content, err := os.ReadFile("testdata/config.yaml")
	check(t, err)
	check(t, injector.WriteConfig(config, content))
	e.injector, err = injector.New(ctx, c, run, injector.Options{Binary: ours, Config: config})
	check(t, err)
	t.Cleanup(func() { e.logOnFailure(t, e.injector.LogFile()); e.injector.Kill() })
	check(t, e.injector.Start(ctx))
	return e
}

// render is what `lightstep-injector render istio` prints, with spans sent straight to the satellites.
func render(t *testing.T, binary string, flags ...string) []byte {
	t.Helper()
	args := append([]string{"render", "istio", "--config", "testdata/config.yaml", "--istio-version", istiod.Version, "--direct", "-n", "traced-1", "-n", "traced-2"}, flags...)
	printed, err := exec.CommandContext(t.Context(), binary, args...).Output()
	check(t, err)
	return printed
}

// values are those of the charts: a release's images, the MeshConfig that was rendered for istioctl, and a label of pods
// that the injector is to leave alone.
func values(t *testing.T, run *cluster.Run, rendered []byte) string {
	t.Helper()
	var installation struct{ Spec struct{ MeshConfig any } }
	check(t, yaml.Unmarshal(rendered, &installation))
	text, err := yaml.Marshal(map[string]any{
		"global":     map[string]string{"hub": "docker.io/istio", "tag": istiod.Version},
		"meshConfig": installation.Spec.MeshConfig,
		"sidecarInjectorWebhook": map[string]any{
			"neverInjectSelector": []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "never", Operator: metav1.LabelSelectorOpExists}}}},
		},
	})
	check(t, err)
	file := filepath.Join(run.Dir, "values.yaml")
	check(t, os.WriteFile(file, text, 0o600))
	return file
}

// nameKubelets has the nodes say that their kubelets are of the API server's version: kwok gives its own, in which Istio,
// which looks whether all of them know native sidecars, sees none.
func (e *environment) nameKubelets(ctx context.Context) error {
	version, err := e.client.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	nodes, err := e.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	patch := []byte(`{"status":{"nodeInfo":{"kubeletVersion":"` + version.GitVersion + `"}}}`)
	for _, node := range nodes.Items {
		_, err := e.client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if err != nil {
			return fmt.Errorf("name the kubelet of node %s: %w", node.Name, err)
		}
	}
	return nil
}

func (e *environment) logOnFailure(t *testing.T, log string) {
	if t.Failed() {
		t.Logf("the end of %s:\n%s", filepath.Base(log), process.Tail(log, 20))
	}
}

// inMesh are the labels of a namespace whose pods get a sidecar.
func inMesh() map[string]string { return map[string]string{"istio-injection": "enabled"} }

// labelled are the labels of one whose pods are injected by both.
func labelled() map[string]string {
	labels := inMesh()
	maps.Copy(labels, map[string]string{"lightstep.com/injection": "enabled"})
	return labels
}

// namespace makes a namespace in which pods can be created and proxies can reach istiod, with the satellite CA.
func (e *environment) namespace(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	_, err := e.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
	}, metav1.CreateOptions{})
	check(t, err)
	ca, err := injector.NewCA("satellite CA")
	check(t, err)
	e.secret(t, name, "lightstep.cacert", "cacert.pem", ca.PEM)
	eventually(t, func(ctx context.Context) error {
		_, account := e.client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		_, root := e.client.CoreV1().ConfigMaps(name).Get(ctx, "istio-ca-root-cert", metav1.GetOptions{})
		return errors.Join(account, root)
	})
}

func (e *environment) secret(t *testing.T, namespace, name, key string, value []byte) {
	t.Helper()
	_, err := e.client.CoreV1().Secrets(namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string][]byte{key: value},
	}, metav1.CreateOptions{})
	check(t, err)
}

// bookinfoPods is how many pods examples/bookinfo.yaml makes.
const bookinfoPods = 6

// bookinfo applies Bookinfo to a namespace, and returns its pods when all of them run.
func (e *environment) bookinfo(t *testing.T, namespace string) []corev1.Pod {
	t.Helper()
	manifests, err := os.ReadFile(filepath.Join(root, "examples", "bookinfo.yaml"))
	check(t, err)
	check(t, e.istiod.Apply(t.Context(), namespace, manifests))
	var pods []corev1.Pod
	eventually(t, func(ctx context.Context) error {
		list, err := e.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
		if err != nil {
			return err
		}
		pods = list.Items
		if len(pods) != bookinfoPods {
			return fmt.Errorf("namespace %s has %d pods running of %d", namespace, len(pods), bookinfoPods)
		}
		return nil
	})
	return pods
}

// check ends the test if there is an error.
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
