package istio126

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/order"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	configAnnotation  = "proxy.istio.io/config"
	volumesAnnotation = "sidecar.istio.io/userVolume"
	mountsAnnotation  = "sidecar.istio.io/userVolumeMount"
	injectName        = "sidecar.istio.io/inject"
)

// pod is one as a Deployment makes it, with annotations: names and values by turns.
func pod(annotations ...string) *corev1.Pod {
	made := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"app": "web"}, Annotations: map[string]string{}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.k8s.io/pause:3.10"}}},
	}
	for pair := range slices.Chunk(annotations, 2) {
		made.Annotations[pair[0]] = pair[1]
	}
	return made
}

// bookinfoPods is how many pods examples/bookinfo.yaml makes.
const bookinfoPods = 6

func testBookinfo(t *testing.T, e *environment) {
	manifests, err := os.ReadFile(filepath.Join(root, "examples", "bookinfo.yaml"))
	stage.Check(t, err)
	stage.Check(t, e.istiod.Apply(t.Context(), both, manifests))
	var running []corev1.Pod
	stage.Eventually(t, func(ctx context.Context) error {
		list, err := e.Client.CoreV1().Pods(both).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
		if err != nil {
			return err
		}
		if running = list.Items; len(running) != bookinfoPods {
			return fmt.Errorf("%d pods run of %d", len(running), bookinfoPods)
		}
		return nil
	})
	for _, pod := range running {
		if err := e.holds(t.Context(), &pod); err != nil {
			t.Errorf("pod %s: %v", pod.Name, err)
		}
	}
	e.wantsVersion(t, running[0].Name)
}

// wantsVersion: the version is found in Istio's own ConfigMaps.
func (e *environment) wantsVersion(t *testing.T, name string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.Program, "explain", "--config", "testdata/config.yaml", name, "-n", both, "-o", "json")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.Cluster.Kubeconfig)
	said, _ := cmd.Output() // it fails where the mesh lacks the provider, as this one does
	var explained struct{ Mesh struct{ Version string } }
	stage.Check(t, json.Unmarshal(said, &explained))
	if explained.Mesh.Version != istiod.Middle {
		t.Errorf("explain says %s", said)
	}
}

// A StatefulSet's pod keeps its volumes.
func testStatefulSet(t *testing.T, e *environment) {
	labels := map[string]string{"app": "db"}
	template := withVolumes()
	_, err := e.Client.AppsV1().StatefulSets(both).Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			ServiceName: "db",
			Selector:    &metav1.LabelSelector{MatchLabels: labels},
			Template:    corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: template.Spec},
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: "data"},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
				},
			}},
		},
	}, metav1.CreateOptions{})
	stage.Check(t, err)
	var made *corev1.Pod
	stage.Eventually(t, func(ctx context.Context) error {
		made, err = e.Client.CoreV1().Pods(both).Get(ctx, "db-0", metav1.GetOptions{})
		return err
	})
	stage.Check(t, errors.Join(e.holds(t.Context(), made), keepsMounts(template, made)))
	if !slices.ContainsFunc(made.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Name == "data" && v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == "data-db-0"
	}) {
		t.Errorf("the pod's volumes are %+v", made.Spec.Volumes)
	}
}

func withVolumes() *corev1.Pod {
	made := pod()
	made.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	made.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}, {Name: "scratch", MountPath: "/scratch"}}
	return made
}

// keepsMounts: what the user mounts is mounted, by the containers and, where the pod asks for it, by the sidecar.
func keepsMounts(sent, made *corev1.Pod) error {
	wanted := map[string][]string{}
	for _, c := range sent.Spec.Containers {
		for _, mount := range c.VolumeMounts {
			wanted[c.Name] = append(wanted[c.Name], mount.MountPath)
		}
	}
	if _, asked := sent.Annotations[mountsAnnotation]; asked {
		wanted[proxyName] = append(wanted[proxyName], "/extra")
	}
	var errs []error
	for name, paths := range wanted {
		for _, at := range paths {
			if !slices.ContainsFunc(container(made, name).VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == at }) {
				errs = append(errs, fmt.Errorf("container %s lacks the user's mount at %s", name, at))
			}
		}
	}
	return errors.Join(errs...)
}

// Whatever the pod is, it has the mounts, and its proxy is otherwise told what it would be told without us: the pod's own
// settings, and the mesh's tracing, its tags and its TLS.
func testPods(t *testing.T, e *environment) {
	gateway, custom := pod("inject.istio.io/templates", "gateway"), pod()
	gateway.Spec.Containers = []corev1.Container{{Name: proxyName, Image: "auto"}}
	custom.Spec.Volumes = []corev1.Volume{{Name: "custom", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	custom.Spec.Containers = append(custom.Spec.Containers, corev1.Container{
		Name: proxyName, Image: "auto", VolumeMounts: []corev1.VolumeMount{{Name: "custom", MountPath: "/custom"}},
	})
	for name, sent := range map[string]*corev1.Pod{
		"Plain":      pod(),
		"Gateway":    gateway,
		"Custom":     custom,
		"OwnConfig":  pod(configAnnotation, "concurrency: 3"),
		"OwnTracing": pod(configAnnotation, `{"concurrency":3,"tracing":{"sampling":5}}`),
		"Held":       pod(configAnnotation, "holdApplicationUntilProxyStarts: true"),
		"Map":        pod(volumesAnnotation, `{"extra":{"emptyDir":{}}}`, mountsAnnotation, `{"extra":{"mountPath":"/extra"}}`),
		"List":       pod(volumesAnnotation, `[{"name":"extra","emptyDir":{}}]`, mountsAnnotation, `[{"name":"extra","mountPath":"/extra"}]`),
	} {
		t.Run(name, func(t *testing.T) {
			made, err := e.try(t.Context(), both, sent)
			stage.Check(t, err)
			stage.Check(t, errors.Join(e.holds(t.Context(), made), keepsMounts(sent, made)))
			without, err := e.proxyIn(t, alone, sent)
			stage.Check(t, err)
			with, err := e.proxyOf(t.Context(), made)
			stage.Check(t, err)
			if !reflect.DeepEqual(with, without) {
				t.Errorf("with us %+v, without %+v", with, without)
			}
		})
	}
	plain, err := e.proxyIn(t, alone, pod())
	stage.Check(t, err)
	if tracing, _ := plain.config["tracing"].(map[string]any); plain.tracer != "envoy.tracers.zipkin" || tracing["customTags"] == nil {
		t.Errorf("the mesh traces with %s, %+v: nothing that could be lost", plain.tracer, tracing)
	}
}

// proxyIn is what the proxy of a pod in a namespace would be told.
func (e *environment) proxyIn(t *testing.T, namespace string, sent *corev1.Pod) (*proxy, error) {
	t.Helper()
	made, err := e.try(t.Context(), namespace, sent)
	stage.Check(t, err)
	stage.Check(t, marked(made))
	return e.proxyOf(t.Context(), made)
}

// A pod's own sampling is over the mesh's tracing, and loses nothing of it.
func testExplicit(t *testing.T, e *environment) {
	with, err := e.proxyIn(t, both, pod("lightstep.com/sampling", "12.5"))
	stage.Check(t, err)
	want, err := e.proxyIn(t, alone, pod())
	stage.Check(t, err)
	want.config["tracing"].(map[string]any)["sampling"] = 12.5
	if !reflect.DeepEqual(with, want) {
		t.Errorf("with us %+v, wanted %+v", with, want)
	}
}

// A pod that says in this release's words that it wants no sidecar has none, and nothing that waits for one; the label
// beats the annotation.
func testAsked(t *testing.T, e *environment) {
	for _, asked := range []struct {
		label, annotation string
		sidecar           bool
	}{
		{"", "yes", true},
		{"", "on", true},
		{"", "no", false},
		{"", "maybe", false},
		{"true", "false", true},
		{"y", "no", true},
		{"no", "true", false},
		{"maybe", "yes", false},
	} {
		sent := pod(injectName, asked.annotation)
		if asked.label != "" {
			sent.Labels[injectName] = asked.label
		}
		made, err := e.try(t.Context(), both, sent)
		stage.Check(t, err)
		if asked.sidecar {
			err = e.holds(t.Context(), made)
		} else {
			err = waitsForNone(made)
		}
		if err != nil {
			t.Errorf("%+v: %v", asked, err)
		}
	}
}

func waitsForNone(pod *corev1.Pod) error {
	_, injected := pod.Annotations["sidecar.istio.io/status"]
	asks, waits := pod.Annotations[mountsAnnotation]
	if injected || waits || len(pod.Spec.Containers) != 1 {
		return fmt.Errorf("there is a sidecar (%t), or what waits for it: %s", injected, asks)
	}
	return errors.Join(oneVolume(pod), oneMount(&pod.Spec.Containers[0]))
}

func testOrder(t *testing.T, e *environment) {
	property := order.Property{
		Ours: e.injector.URL(), Istio: e.istiod.URL(), Namespaces: []string{both}, Placeholders: true,
		Answered: e.Answered,
		Proxy:    func(ctx context.Context, pod *corev1.Pod) (any, error) { return e.proxyOf(ctx, pod) },
		Counts:   func(found any) bool { p, ok := found.(*proxy); return ok && p.config["tracing"] != nil },
	}
	property.Check(t, *pods)
}
