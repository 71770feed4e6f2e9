package istiod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	volumeName = "lightstep-cacert"
	secretName = "lightstep.cacert"
	mountPath  = "/etc/lightstep"
	proxyName  = "istio-proxy"

	configAnnotation  = "proxy.istio.io/config"
	statusAnnotation  = "sidecar.istio.io/status"
	nativeAnnotation  = "sidecar.istio.io/nativeSidecar"
	volumesAnnotation = "sidecar.istio.io/userVolume"
	mountsAnnotation  = "sidecar.istio.io/userVolumeMount"
)

// podCase is a pod as a user would create it, and what has to hold of it beyond what holds of all.
type podCase struct {
	name string
	make func(*corev1.Pod)
	// classic is true where the sidecar is no native one.
	classic bool
	also    func(*corev1.Pod) error
}

func podCases() []podCase {
	return []podCase{
		{name: "Native"},
		{name: "Classic", make: annotate(nativeAnnotation, "false"), classic: true},
		{name: "Gateway", make: asGateway, classic: true, also: isGateway},
		{name: "HeldNative", make: annotate(configAnnotation, "holdApplicationUntilProxyStarts: true"), also: keeps("holdApplicationUntilProxyStarts")},
		{name: "HeldClassic", make: heldClassic, classic: true, also: proxyComesFirst},
		{name: "OwnVolumes", make: withVolumes, also: hasVolumes("data", "scratch")},
		{name: "OwnProxyConfig", make: annotate(configAnnotation, `{"concurrency":3,"tracing":{"sampling":7}}`), also: keeps(`"concurrency":3`, `"sampling":7`)},
		{name: "UserVolumeMap", make: userVolume(
			`{"extra":{"emptyDir":{}}}`, `{"extra":{"mountPath":"/extra"}}`), also: proxyMounts("/extra")},
		{name: "UserVolumeList", make: userVolume(
			`[{"name":"extra","emptyDir":{}}]`, `[{"name":"extra","mountPath":"/extra"}]`), also: proxyMounts("/extra")},
		{name: "CustomSidecar", make: customSidecar, classic: true, also: proxyMounts("/custom")},
	}
}

// Whatever the pod is, both webhooks together give it one volume, and its sidecar one mount.
func testPods(t *testing.T, e *environment) {
	e.namespace(t, "pods", labelled())
	for _, c := range podCases() {
		t.Run(c.name, func(t *testing.T) {
			created, err := e.try(t.Context(), "pods", c)
			stage.Check(t, err)
			stage.Check(t, c.holds(created))
		})
	}
}

func testBookinfo(t *testing.T, e *environment) {
	e.namespace(t, "bookinfo", labelled())
	for _, pod := range e.bookinfo(t, "bookinfo") {
		if err := (podCase{}).holds(&pod); err != nil {
			t.Errorf("pod %s: %v", pod.Name, err)
		}
	}
}

// A namespace with Istio's label alone has sidecars, and nothing of ours.
func testNotLabelled(t *testing.T, e *environment) {
	e.namespace(t, "not-labelled", inMesh())
	created, err := e.try(t.Context(), "not-labelled", podCase{})
	stage.Check(t, err)
	_, err = sidecar(created, false)
	stage.Check(t, err)
	created.ManagedFields = nil
	text, err := json.Marshal(created)
	stage.Check(t, err)
	if strings.Contains(string(text), "lightstep") {
		t.Errorf("there is something of ours in it: %s", text)
	}
}

// A namespace, or a pod alone, may ask for its sidecar in other ways.
func testRevision(t *testing.T, e *environment) {
	ours := map[string]string{"lightstep.com/injection": "enabled"}
	byRevision := maps.Clone(ours)
	byRevision["istio.io/rev"] = "default"
	e.namespace(t, "revision", byRevision)
	e.namespace(t, "pod-alone", ours)
	asks := func(pod *corev1.Pod) { pod.Labels["sidecar.istio.io/inject"] = "true" }
	for namespace, c := range map[string]podCase{"revision": {}, "pod-alone": {make: asks}} {
		created, err := e.try(t.Context(), namespace, c)
		stage.Check(t, err)
		if err := c.holds(created); err != nil {
			t.Errorf("namespace %s: %v", namespace, err)
		}
	}
}

// A pod that Istio's neverInjectSelector names has no sidecar, and nothing that waits for one; one that asks all the same
// has it.
func testPolicy(t *testing.T, e *environment) {
	e.namespace(t, "policy", labelled())
	never := func(pod *corev1.Pod) { pod.Labels["never"] = "" }
	created, err := e.try(t.Context(), "policy", podCase{make: never})
	stage.Check(t, err)
	_, injected := created.Annotations[statusAnnotation]
	_, asked := created.Annotations[mountsAnnotation]
	if len(created.Spec.Containers) != 1 || injected || asked {
		t.Errorf("there is a sidecar, or what waits for it: %+v", created.ObjectMeta)
	}
	stage.Check(t, oneMount(&created.Spec.Containers[0]))
	asks := podCase{make: func(pod *corev1.Pod) { never(pod); pod.Labels["sidecar.istio.io/inject"] = "true" }}
	created, err = e.try(t.Context(), "policy", asks)
	stage.Check(t, err)
	stage.Check(t, asks.holds(created))
	unread := podCase{make: annotate("sidecar.istio.io/inject", "no")} // neither true nor false: as if it were not there
	created, err = e.try(t.Context(), "policy", unread)
	stage.Check(t, err)
	stage.Check(t, unread.holds(created))
	if _, waits := created.Annotations[mountsAnnotation]; !waits {
		t.Errorf("nothing waits for the sidecar that comes: %v", created.Annotations)
	}
}

// holds tells what of a pod is not as it has to be. Istio's own mark comes first: without it nothing else counts.
func (c podCase) holds(pod *corev1.Pod) error {
	proxy, err := sidecar(pod, c.classic)
	if err != nil {
		return err
	}
	errs := []error{oneVolume(pod), noNativeTracer(pod, proxy)}
	for _, container := range append(pod.Spec.Containers, *proxy) {
		errs = append(errs, oneMount(&container))
	}
	if c.also != nil {
		errs = append(errs, c.also(pod))
	}
	return errors.Join(errs...)
}

// sidecar returns what the real injector made, by its own marks: its status annotation and its release's image.
func sidecar(pod *corev1.Pod, classic bool) (*corev1.Container, error) {
	var status struct{ Revision string }
	if err := json.Unmarshal([]byte(pod.Annotations[statusAnnotation]), &status); err != nil {
		return nil, fmt.Errorf("annotation %s: %w", statusAnnotation, err)
	}
	if status.Revision != "default" {
		return nil, fmt.Errorf("the revision in %s is %q", statusAnnotation, status.Revision)
	}
	among := pod.Spec.InitContainers
	if classic {
		among = pod.Spec.Containers
	}
	index := slices.IndexFunc(among, func(c corev1.Container) bool { return c.Name == proxyName })
	if index < 0 {
		return nil, fmt.Errorf("there is no container %s where it should be (classic: %t)", proxyName, classic)
	}
	proxy := &among[index]
	if want := "docker.io/istio/proxyv2:" + istiod.Version; proxy.Image != want {
		return nil, fmt.Errorf("the image of %s is %s, not %s", proxyName, proxy.Image, want)
	}
	if native := proxy.RestartPolicy != nil && *proxy.RestartPolicy == corev1.ContainerRestartPolicyAlways; native == classic {
		return nil, fmt.Errorf("the restart policy of %s is %v (classic: %t)", proxyName, proxy.RestartPolicy, classic)
	}
	return proxy, nil
}

func oneVolume(pod *corev1.Pod) error {
	var named, ofSecret int
	for _, volume := range pod.Spec.Volumes {
		if volume.Name == volumeName {
			named++
		}
		if volume.Secret != nil && volume.Secret.SecretName == secretName && *volume.Secret.Optional {
			ofSecret++
		}
	}
	if named != 1 || ofSecret != 1 {
		return fmt.Errorf("%d volumes named %s, %d of the optional Secret %s; want one, the same", named, volumeName, ofSecret, secretName)
	}
	return nil
}

// oneMount compares paths cleaned: Istio's own, had it made one, would end in a slash.
func oneMount(container *corev1.Container) error {
	var found []corev1.VolumeMount
	for _, mount := range container.VolumeMounts {
		if path.Clean(mount.MountPath) == mountPath || mount.Name == volumeName {
			found = append(found, mount)
		}
	}
	if len(found) != 1 || found[0].Name != volumeName || found[0].MountPath != mountPath || !found[0].ReadOnly {
		return fmt.Errorf("container %s: want one mount of %s at %s, read-only; it has %+v", container.Name, volumeName, mountPath, found)
	}
	return nil
}

// noNativeTracer: the proxy of such a release would not start with one.
func noNativeTracer(pod *corev1.Pod, proxy *corev1.Container) error {
	for _, config := range []string{pod.Annotations[configAnnotation], env(proxy, "PROXY_CONFIG")} {
		if strings.Contains(config, "lightstep") {
			return fmt.Errorf("there is a tracer of ours in %s", config)
		}
	}
	return nil
}

func env(container *corev1.Container, name string) string {
	for _, variable := range container.Env {
		if variable.Name == name {
			return variable.Value
		}
	}
	return ""
}

// try returns what a pod created now would be, and creates none.
func (e *environment) try(ctx context.Context, namespace string, c podCase) (*corev1.Pod, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"app": "web"}, Annotations: map[string]string{}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "app", Image: "registry.k8s.io/pause:3.10", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}},
		}},
	}
	if c.make != nil {
		c.make(pod)
	}
	return e.Client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

func annotate(name, value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Annotations[name] = value }
}

func heldClassic(pod *corev1.Pod) {
	pod.Annotations[nativeAnnotation] = "false"
	pod.Annotations[configAnnotation] = "holdApplicationUntilProxyStarts: true"
}

func userVolume(volumes, mounts string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Annotations[volumesAnnotation], pod.Annotations[mountsAnnotation] = volumes, mounts
	}
}

// asGateway is a pod as Istio's own gateway chart makes it: the container is there, its image is for the injector to say.
func asGateway(pod *corev1.Pod) {
	pod.Annotations["inject.istio.io/templates"] = "gateway"
	pod.Labels["istio"] = "ingressgateway"
	pod.Spec.Containers = []corev1.Container{{Name: proxyName, Image: "auto"}}
}

func isGateway(pod *corev1.Pod) error {
	if args := pod.Spec.Containers[0].Args; len(args) < 2 || args[1] != "router" {
		return fmt.Errorf("it is no gateway: the arguments are %q", args)
	}
	return nil
}

// customSidecar ships the container with a mount of its own.
func customSidecar(pod *corev1.Pod) {
	pod.Annotations[nativeAnnotation] = "false"
	pod.Spec.Volumes = append(pod.Spec.Volumes, emptyVolume("custom"))
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
		Name: proxyName, Image: "auto", VolumeMounts: []corev1.VolumeMount{{Name: "custom", MountPath: "/custom"}},
	})
}

// withVolumes is a pod such as a StatefulSet makes.
func withVolumes(pod *corev1.Pod) {
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data-web-0"},
		}},
		emptyVolume("scratch"),
	}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}, {Name: "scratch", MountPath: "/scratch"}}
}

func emptyVolume(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
}

func hasVolumes(names ...string) func(*corev1.Pod) error {
	return func(pod *corev1.Pod) error {
		for _, name := range names {
			if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name }) {
				return fmt.Errorf("the user's volume %s has gone", name)
			}
		}
		return nil
	}
}

// keeps: the user's settings are in the annotation that the proxy reads.
func keeps(settings ...string) func(*corev1.Pod) error {
	return func(pod *corev1.Pod) error {
		for _, setting := range settings {
			if !strings.Contains(pod.Annotations[configAnnotation], setting) {
				return fmt.Errorf("%s lacks the user's %s: %s", configAnnotation, setting, pod.Annotations[configAnnotation])
			}
		}
		return nil
	}
}

func proxyComesFirst(pod *corev1.Pod) error {
	if first := pod.Spec.Containers[0].Name; first != proxyName {
		return fmt.Errorf("the first container is %s", first)
	}
	return keeps("holdApplicationUntilProxyStarts")(pod)
}

func proxyMounts(at string) func(*corev1.Pod) error {
	return func(pod *corev1.Pod) error {
		for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			if container.Name == proxyName && slices.ContainsFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == at }) {
				return nil
			}
		}
		return fmt.Errorf("%s lacks the user's mount at %s", proxyName, at)
	}
}
