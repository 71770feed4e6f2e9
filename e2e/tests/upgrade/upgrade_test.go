// Package upgrade tests a canary upgrade from Istio 1.7.8 to the newest, both real, by revision labels.
package upgrade

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/istio17"
	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root     = "../../.."
	deadline = time.Minute
	revision = "v1-7"
	// token is the access token.
	token = "canary-6b04f8d31c9e"
	shop  = "shop"
	// each is how many pods are wanted of each side, created without a pause.
	each = 30
)

// Pods are created all the while that their namespace goes from the old revision to the new: each gets what its own needs.
func TestUpgrade(t *testing.T) {
	s := setUp(t)
	count := map[string]int{}
	relabelled := false
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for count[istiod.Version] < each {
		stage.Check(t, ctx.Err())
		pod, err := create(ctx, s.Client)
		stage.Check(t, err)
		version, err := holds(pod)
		if err != nil {
			t.Fatalf("after %v: %v\n%v", count, err, pod.Annotations)
		}
		count[version]++
		if count[istio17.Version] == each && !relabelled {
			relabelled = true
			change := []byte(`{"metadata":{"labels":{"istio.io/rev":null,"istio-injection":"enabled"}}}`)
			_, err := s.Client.CoreV1().Namespaces().Patch(ctx, shop, types.MergePatchType, change, metav1.PatchOptions{})
			stage.Check(t, err)
		}
	}
	t.Logf("pods by the version of their sidecar: %v", count)
	detects(t, s)
	s.NoToken(t)
}

// detects: while there are two control planes, the namespaces say which of them is meant.
func detects(t *testing.T, s *stage.Stage) {
	t.Helper()
	render := func(flags ...string) string {
		cmd := exec.CommandContext(t.Context(), s.Program, append([]string{"render", "istio", "--config", "testdata/config.yaml", "--detect"}, flags...)...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Cluster.Kubeconfig)
		said, _ := cmd.CombinedOutput() // the exit code says no more than the error
		return string(said)
	}
	if said := render(); !strings.HasPrefix(said, "error: --detect: the cluster has control planes of several versions (default: Istio 1.31.0, v1-7: Istio 1.7.8)") {
		t.Errorf("of no namespace it says %s", said)
	}
	if said := render("-n", shop); !strings.Contains(said, "note: found Istio 1.31.0: revision default in istio-system\n") || !strings.Contains(said, "kind: Telemetry") {
		t.Errorf("of the namespace it says %s", said)
	}
}

// holds tells the version of a pod's sidecar, by the real injectors' own marks, and whether the pod has what that needs.
func holds(pod *corev1.Pod) (version string, err error) {
	if pod.Annotations["sidecar.istio.io/status"] == "" {
		return "", fmt.Errorf("no injector of Istio's was there")
	}
	var proxy *corev1.Container
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == "istio-proxy" {
				proxy = &list[i]
			}
		}
	}
	if proxy == nil {
		return "", fmt.Errorf("there is no sidecar")
	}
	_, version, _ = strings.Cut(proxy.Image, ":")
	var config string
	for _, variable := range proxy.Env {
		if variable.Name == "PROXY_CONFIG" {
			config = variable.Value
		}
	}
	mounts := 0
	for _, mount := range proxy.VolumeMounts {
		if strings.TrimSuffix(mount.MountPath, "/") == "/etc/lightstep" {
			mounts++
		}
	}
	native := strings.Contains(config+pod.Annotations["proxy.istio.io/config"], `"lightstep"`)
	if mounts != 1 || native != (version == istio17.Version) {
		return "", fmt.Errorf("the sidecar of %s has %d mounts at /etc/lightstep, and the native tracer: %t", version, mounts, native)
	}
	return version, nil
}

func create(ctx context.Context, client kubernetes.Interface) (*corev1.Pod, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "web-"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.k8s.io/pause:3.10"}}},
	}
	return client.CoreV1().Pods(shop).Create(ctx, pod, metav1.CreateOptions{})
}

// setUp brings up the cluster with both control planes and the injector, and a namespace with the old revision.
func setUp(t *testing.T) *stage.Stage {
	t.Helper()
	s := stage.New(t, root)
	s.Guard(token)
	s.Istiod(t, istiod.Version, "testdata/values.yaml")
	s.Oldest(t, istio17.Options{Revision: revision})
	s.Injector(t, "testdata/config.yaml", injector.Options{})
	makeNamespace(t, s)
	return s
}

// makeNamespace makes the namespace with its Secrets, and waits until pods there have the old revision's tracer.
func makeNamespace(t *testing.T, s *stage.Stage) {
	t.Helper()
	s.Namespace(t, shop, map[string]string{"lightstep.com/injection": "enabled", "istio.io/rev": revision}, nil)
	s.Secret(t, shop, "lightstep.cacert", "cacert.pem", "x")
	s.Secret(t, shop, stage.TokenSecret, "token", token)
	stage.Eventually(t, func(ctx context.Context) error {
		pod, err := create(ctx, s.Client)
		if err != nil {
			return err
		}
		var status struct{ Tracer string }
		text := pod.Annotations["lightstep.com/status"]
		if err := json.Unmarshal([]byte(text), &status); err != nil || status.Tracer != "lightstep" {
			return fmt.Errorf("no pod got the old revision's tracer: %s", text)
		}
		return nil
	})
}
