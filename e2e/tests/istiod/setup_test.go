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

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root = "../../.."
	// token is the access token.
	token = "canary-7d1f0b6c93e2"
)

// environment is what all tests share.
type environment struct {
	*stage.Stage
	istiod   *istiod.Istiod
	injector *injector.Injector
	// objects is the file of what render istio prints for the labelled namespaces.
	objects string
}

// setUp brings up the cluster, istiod and the injector, and has all of them taken down when the test has ended.
func setUp(t *testing.T) *environment {
	t.Helper()
	e := &environment{Stage: stage.New(t, root)}
	e.Guard(token)
	stage.Check(t, e.nameKubelets(t.Context()))
	e.objects = filepath.Join(e.Run.Dir, "objects.yaml")
	stage.Check(t, os.WriteFile(e.objects, e.render(t, "--print", "objects"), 0o600))
	e.istiod = e.Istiod(t, istiod.Version, e.values(t, e.render(t, "--print", "mesh")))
	e.injector = e.Injector(t, "testdata/config.yaml", injector.Options{})
	return e
}

// render is what `lightstep-injector render istio` prints, with spans sent straight to the satellites.
func (e *environment) render(t *testing.T, flags ...string) []byte {
	t.Helper()
	args := append([]string{"render", "istio", "--config", "testdata/config.yaml", "--istio-version", istiod.Version, "--direct", "-n", "traced-1", "-n", "traced-2"}, flags...)
	printed, err := exec.CommandContext(t.Context(), e.Program, args...).Output()
	stage.Check(t, err)
	return printed
}

// values are those of the charts: a release's images, the MeshConfig that was rendered for istioctl, and a label of pods
// that the injector is to leave alone.
func (e *environment) values(t *testing.T, rendered []byte) string {
	t.Helper()
	var installation struct{ Spec struct{ MeshConfig any } }
	stage.Check(t, yaml.Unmarshal(rendered, &installation))
	text, err := yaml.Marshal(map[string]any{
		"global":     map[string]string{"hub": "docker.io/istio", "tag": istiod.Version},
		"meshConfig": installation.Spec.MeshConfig,
		"sidecarInjectorWebhook": map[string]any{
			"neverInjectSelector": []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "never", Operator: metav1.LabelSelectorOpExists}}}},
		},
	})
	stage.Check(t, err)
	file := filepath.Join(e.Run.Dir, "values.yaml")
	stage.Check(t, os.WriteFile(file, text, 0o600))
	return file
}

// nameKubelets has the nodes say that their kubelets are of the API server's version: kwok gives its own, in which Istio,
// which looks whether all of them know native sidecars, sees none.
func (e *environment) nameKubelets(ctx context.Context) error {
	version, err := e.Client.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	nodes, err := e.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	patch := []byte(`{"status":{"nodeInfo":{"kubeletVersion":"` + version.GitVersion + `"}}}`)
	for _, node := range nodes.Items {
		_, err := e.Client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if err != nil {
			return fmt.Errorf("name the kubelet of node %s: %w", node.Name, err)
		}
	}
	return nil
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
	e.Namespace(t, name, labels, nil)
	ca, err := injector.NewCA("satellite CA")
	stage.Check(t, err)
	e.Secret(t, name, "lightstep.cacert", "cacert.pem", string(ca.PEM))
	e.Secret(t, name, stage.TokenSecret, "token", token)
	stage.Eventually(t, func(ctx context.Context) error {
		_, account := e.Client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		_, root := e.Client.CoreV1().ConfigMaps(name).Get(ctx, "istio-ca-root-cert", metav1.GetOptions{})
		return errors.Join(account, root)
	})
}

// bookinfoPods is how many pods examples/bookinfo.yaml makes.
const bookinfoPods = 6

// bookinfo applies Bookinfo to a namespace, and returns its pods when all of them run.
func (e *environment) bookinfo(t *testing.T, namespace string) []corev1.Pod {
	t.Helper()
	manifests, err := os.ReadFile(filepath.Join(root, "examples", "bookinfo.yaml"))
	stage.Check(t, err)
	stage.Check(t, e.istiod.Apply(t.Context(), namespace, manifests))
	var pods []corev1.Pod
	stage.Eventually(t, func(ctx context.Context) error {
		list, err := e.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
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
