package istiod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	satelliteHost = "satellite.example.com"
	satellitePort = "9292"
	// meshHost is the name by which the mesh knows the satellites.
	meshHost         = "satellite.lightstep.internal"
	satelliteCluster = "outbound|44317||" + meshHost
	sampling         = 25
)

// route is where the proxies of labelled namespaces send spans.
func route() *istiod.Route {
	return &istiod.Route{Host: satelliteHost, Port: satellitePort, Cluster: satelliteCluster, CAFile: mountPath + "/cacert.pem", Sampling: sampling}
}

// With the mesh's objects in place, the proxies of labelled namespaces trace to the satellite over TLS, and no other does.
func testTraced(t *testing.T, e *environment) {
	proxies := map[string]*corev1.Pod{}
	for namespace, labels := range map[string]map[string]string{"traced-1": labelled(), "traced-2": labelled(), "untraced": inMesh()} {
		e.namespace(t, namespace, labels)
		pods := e.bookinfo(t, namespace)
		proxies[namespace] = &pods[slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Labels["app"] == "productpage" })]
	}
	objects, err := os.ReadFile(e.objects)
	stage.Check(t, err)
	stage.Check(t, e.istiod.Apply(t.Context(), "", objects))

	t.Run("Labelled", func(t *testing.T) {
		for _, namespace := range []string{"traced-1", "traced-2"} {
			stage.Eventually(t, func(ctx context.Context) error {
				return e.asked(ctx, proxies[namespace], traces)
			})
		}
	})
	t.Run("NotLabelled", func(t *testing.T) {
		stage.Check(t, e.asked(t.Context(), proxies["untraced"], tracesNothing))
	})
	t.Run("OptedOut", func(t *testing.T) {
		pod := e.pod(t, "traced-1", "testdata/opted-out.yaml", "opted-out")
		_, err := sidecar(pod, false)
		stage.Check(t, err)
		stage.Eventually(t, func(ctx context.Context) error { return e.asked(ctx, pod, tracesNoPod) })
	})
	t.Run("Beaten", func(t *testing.T) { testBeaten(t, e) })
	t.Run("Gateway", func(t *testing.T) {
		gateway := e.gateway(t, "traced-1")
		stage.Eventually(t, func(ctx context.Context) error { return e.asked(ctx, gateway, traces) })
	})
	t.Run("IstiosOwnValidation", func(t *testing.T) { testIstiosOwnValidation(t, e) })
}

// A pod's sampling has no effect where a Telemetry sets another, and the pod says so; its tag has.
func testBeaten(t *testing.T, e *environment) {
	stage.Eventually(t, func(ctx context.Context) error {
		pod, err := e.try(ctx, "traced-1", podCase{make: annotate("lightstep.com/sampling", "80")})
		if err == nil && !strings.Contains(pod.Annotations["lightstep.com/status"], "SettingNotApplied") {
			err = fmt.Errorf("the status is %s", pod.Annotations["lightstep.com/status"])
		}
		return err
	})
	pod := e.pod(t, "traced-1", "testdata/beaten.yaml", "beaten")
	stage.Eventually(t, func(ctx context.Context) error {
		return e.asked(ctx, pod, func(a *istiod.Answer) error {
			if !strings.Contains(string(a.Raw), `"checkout"`) {
				return errors.New("its tag is not in what it was sent")
			}
			return traces(a)
		})
	})
}

// gateway makes one, where every trace begins, and returns its pod.
func (e *environment) gateway(t *testing.T, namespace string) *corev1.Pod {
	t.Helper()
	pod := e.pod(t, namespace, "testdata/gateway.yaml", "ingress")
	stage.Check(t, podCase{classic: true, also: isGateway}.holds(pod))
	return pod
}

// pod applies manifests, and returns a pod of theirs when it runs.
func (e *environment) pod(t *testing.T, namespace, file, name string) *corev1.Pod {
	t.Helper()
	manifests, err := os.ReadFile(file)
	stage.Check(t, err)
	stage.Check(t, e.istiod.Apply(t.Context(), namespace, manifests))
	var pod *corev1.Pod
	stage.Eventually(t, func(ctx context.Context) error {
		if pod, err = e.Client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		if pod.Status.PodIP == "" {
			return fmt.Errorf("pod %s does not run", name)
		}
		return nil
	})
	return pod
}

// asked asks istiod as a pod's proxy, and checks what it sent.
func (e *environment) asked(ctx context.Context, pod *corev1.Pod, check func(*istiod.Answer) error) error {
	answer, err := e.istiod.AskFor(ctx, pod)
	if err != nil {
		return err
	}
	if err := check(answer); err != nil {
		return fmt.Errorf("the proxy of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// traces tells what is wrong with the tracing of a proxy in a labelled namespace.
func traces(a *istiod.Answer) error {
	return errors.Join(a.Traces(route()), leavesApplicationsAlone(a))
}

// leavesApplicationsAlone tells what a proxy does to what its application sends to the satellite's own name or port: it may
// open TLS to it by itself.
func leavesApplicationsAlone(a *istiod.Answer) error {
	for _, listener := range a.Listeners {
		if name := fmt.Sprint(listener["name"]); strings.HasSuffix(name, "_"+satellitePort) {
			return fmt.Errorf("there is a listener %s", name)
		}
	}
	index := slices.IndexFunc(a.Clusters, func(c map[string]any) bool { return strings.HasSuffix(fmt.Sprint(c["name"]), "||"+satelliteHost) })
	if index >= 0 {
		return fmt.Errorf("there is a cluster %v", a.Clusters[index]["name"])
	}
	return nil
}

// tracesNoPod tells what a proxy without the satellite CA in a labelled namespace has of ours that it must not have: tracing,
// and a file that it would wait for.
func tracesNoPod(a *istiod.Answer) error {
	if strings.Contains(string(a.Raw), mountPath) {
		return errors.New("it is to read the satellite CA")
	}
	return a.TracesNot()
}

// tracesNothing tells what a proxy has of ours where it should have nothing.
func tracesNothing(a *istiod.Answer) error {
	errs := []error{a.TracesNot()}
	for _, ours := range []string{satelliteHost, meshHost, mountPath} {
		if strings.Contains(string(a.Raw), ours) {
			errs = append(errs, fmt.Errorf("istiod sent something of %s", ours))
		}
	}
	return errors.Join(errs...)
}

// What is applied is right in Istio's own eyes, too: without a cluster, and beside everything that is in this one.
func testIstiosOwnValidation(t *testing.T, e *environment) {
	mesh := e.meshConfig(t)
	stage.Check(t, e.istiod.Validate(t.Context(), e.objects, mesh))
	said, err := e.istiod.Analyze(t.Context())
	stage.Check(t, err)
	for line := range strings.Lines(said) {
		if strings.HasPrefix(line, "Error ") || strings.HasPrefix(line, "Warning ") {
			t.Errorf("istioctl analyze says: %s", line)
		}
	}
	t.Run("WouldFail", func(t *testing.T) {
		objects, err := os.ReadFile(e.objects)
		stage.Check(t, err)
		wrong := filepath.Join(t.TempDir(), "wrong.yaml")
		stage.Check(t, os.WriteFile(wrong, []byte(strings.ReplaceAll(string(objects), "Percentage: 25", "Percentage: 250")), 0o600))
		if e.istiod.Validate(t.Context(), wrong, mesh) == nil {
			t.Error("a sampling of 250 % passes")
		}
	})
}

// meshConfig writes the MeshConfig in force to a file.
func (e *environment) meshConfig(t *testing.T) string {
	t.Helper()
	istio, err := e.Client.CoreV1().ConfigMaps(istiod.Namespace).Get(t.Context(), "istio", metav1.GetOptions{})
	stage.Check(t, err)
	file := filepath.Join(t.TempDir(), "mesh.yaml")
	stage.Check(t, os.WriteFile(file, []byte(istio.Data["mesh"]), 0o600))
	return file
}
