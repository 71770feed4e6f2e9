package istio17

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/lightstep-injector/lightstep-injector/e2e/istio/agent"
	"github.com/lightstep-injector/lightstep-injector/e2e/istio17"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	volumeName = "lightstep-cacert"
	mountPath  = "/etc/lightstep"
	proxyName  = "istio-proxy"
	address    = "lightstep-satellite.lightstep"
)

func TestIstio17(t *testing.T) {
	e := setUp(t)
	e.namespace(t, "by-secret", "")
	e.namespace(t, "by-annotation", "annotation")
	t.Run("Pods", func(t *testing.T) { testPods(t, e) })
	t.Run("Bookinfo", func(t *testing.T) { testBookinfo(t, e) })
	t.Run("Gateway", func(t *testing.T) { testGateway(t, e) })
	t.Run("MeshKept", func(t *testing.T) { testMeshKept(t, e) })
	t.Run("Order", func(t *testing.T) { testOrder(t, e) })
	t.Run("NoToken", func(t *testing.T) { testNoToken(t, e) }) // looks at all that the others have left
}

// plain is a pod as a Deployment makes it.
func plain() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"app": "web"}, Annotations: map[string]string{}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.k8s.io/pause:3.10"}}},
	}
}

// Whatever the pod, and however the token is delivered: one volume, one mount in the sidecar, and a proxy that reports to
// the satellite over TLS.
func testPods(t *testing.T, e *environment) {
	for name, change := range map[string]func(*corev1.Pod){
		"Plain":          func(*corev1.Pod) {},
		"OwnVolumes":     withVolumes,
		"OwnConfig":      func(p *corev1.Pod) { p.Annotations["proxy.istio.io/config"] = "concurrency: 3\ndrainDuration: 7s\n" },
		"OwnConfigJSON":  func(p *corev1.Pod) { p.Annotations["proxy.istio.io/config"] = `{"concurrency":3,"drainDuration":"7s"}` },
		"UserVolumeMap":  userVolume(`{"extra":{"emptyDir":{}}}`, `{"extra":{"mountPath":"/extra"}}`),
		"UserVolumeList": userVolume(`[{"name":"extra","emptyDir":{}}]`, `[{"name":"extra","mountPath":"/extra"}]`),
	} {
		for _, namespace := range []string{"by-secret", "by-annotation"} {
			t.Run(name+"/"+namespace, func(t *testing.T) {
				sent := plain()
				change(sent)
				created, err := e.try(t.Context(), namespace, sent)
				stage.Check(t, err)
				stage.Check(t, e.holds(t.Context(), created))
				stage.Check(t, keeps(sent, created))
			})
		}
	}
}

// Every pod of Bookinfo, as its Deployment would create it.
func testBookinfo(t *testing.T, e *environment) {
	text, err := os.ReadFile(filepath.Join(root, "examples", "bookinfo.yaml"))
	stage.Check(t, err)
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	seen := 0
	for {
		var deployment appsv1.Deployment
		if err := documents.Decode(&deployment); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if deployment.Kind != "Deployment" {
			continue
		}
		seen++
		template := deployment.Spec.Template
		template.Spec.ServiceAccountName = "" // the ones of the example are not here
		template.GenerateName = deployment.Name + "-"
		created, err := e.try(t.Context(), "by-secret", &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec})
		stage.Check(t, err)
		if err := e.holds(t.Context(), created); err != nil {
			t.Errorf("%s: %v", deployment.Name, err)
		}
	}
	if seen != 6 {
		t.Errorf("Bookinfo has %d Deployments", seen)
	}
}

func withVolumes(pod *corev1.Pod) {
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data-web-0"},
	}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
}

func userVolume(volumes, mounts string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Annotations["sidecar.istio.io/userVolume"], pod.Annotations["sidecar.istio.io/userVolumeMount"] = volumes, mounts
	}
}

// keeps: what the user asked for is there.
func keeps(sent, created *corev1.Pod) error {
	proxy, err := sidecar(created)
	if err != nil {
		return err
	}
	var errs []error
	for name := range sent.Annotations {
		switch name {
		case "proxy.istio.io/config":
			for _, wish := range []string{"concurrency", "drainDuration"} {
				if !strings.Contains(created.Annotations[name], wish) {
					errs = append(errs, fmt.Errorf("%s lacks the user's %s: %s", name, wish, created.Annotations[name]))
				}
			}
		case "sidecar.istio.io/userVolumeMount":
			if mountsAt(proxy, "/extra") != 1 {
				errs = append(errs, errors.New("the sidecar lacks the user's mount at /extra"))
			}
		}
	}
	for _, volume := range sent.Spec.Volumes {
		if !hasVolume(created, volume.Name) {
			errs = append(errs, fmt.Errorf("the user's volume %s has gone", volume.Name))
		}
	}
	return errors.Join(errs...)
}

// sidecar returns what the real injector made, by its own marks: without them nothing else counts.
func sidecar(pod *corev1.Pod) (*corev1.Container, error) {
	var status struct{ Containers []string }
	if err := json.Unmarshal([]byte(pod.Annotations["sidecar.istio.io/status"]), &status); err != nil {
		return nil, fmt.Errorf("annotation sidecar.istio.io/status: %w", err)
	}
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; c.Name == proxyName {
			if want := "docker.io/istio/proxyv2:" + istio17.Version; c.Image != want {
				return nil, fmt.Errorf("the image of %s is %s, not %s", proxyName, c.Image, want)
			}
			return c, nil
		}
	}
	return nil, fmt.Errorf("there is no %s; the status names %v", proxyName, status.Containers)
}

// holds: one volume, one mount in each container, and a bootstrap that reports to the satellite.
func (e *environment) holds(ctx context.Context, pod *corev1.Pod) error {
	if _, err := sidecar(pod); err != nil {
		return err
	}
	var errs []error
	count := 0
	for _, volume := range pod.Spec.Volumes {
		if volume.Name == volumeName || (volume.Secret != nil && volume.Secret.SecretName == "lightstep.cacert") {
			count++
		}
	}
	if count != 1 {
		errs = append(errs, fmt.Errorf("%d volumes of the satellite CA", count))
	}
	for i := range pod.Spec.Containers {
		if n := mountsAt(&pod.Spec.Containers[i], mountPath); n != 1 {
			errs = append(errs, fmt.Errorf("container %s has %d mounts at %s", pod.Spec.Containers[i].Name, n, mountPath))
		}
	}
	return errors.Join(append(errs, e.reports(ctx, pod))...)
}

func mountsAt(c *corev1.Container, at string) int {
	count := 0
	for _, mount := range c.VolumeMounts {
		if path.Clean(mount.MountPath) == at {
			count++
		}
	}
	return count
}

func hasVolume(pod *corev1.Pod, name string) bool {
	for _, volume := range pod.Spec.Volumes {
		if volume.Name == name {
			return true
		}
	}
	return false
}

// envoy is the part of a bootstrap that tells where spans go.
type envoy struct {
	Tracing struct {
		HTTP struct {
			Name   string
			Config map[string]any `json:"typed_config"`
			Old    map[string]any `json:"config"`
		}
	}
	StaticResources struct {
		Clusters []struct {
			Name            string
			TransportSocket map[string]any  `json:"transport_socket"`
			LoadAssignment  json.RawMessage `json:"load_assignment"`
			Hosts           json.RawMessage
		}
	} `json:"static_resources"`
}

// reports: the bootstrap that Istio derives has the tracer, its cluster the satellite's address, TLS and the satellite CA's
// file, and the token's file the token. 1.7.8 sends no server name (SNI), whatever the settings say.
func (e *environment) reports(ctx context.Context, pod *corev1.Pod) error {
	made, err := e.istio.Bootstrap(ctx, pod, map[string]string{"lightstep-access-token/token": token})
	if err != nil {
		return err
	}
	var config envoy
	if err := json.Unmarshal(made.Bootstrap, &config); err != nil {
		return err
	}
	var errs []error
	if made.Token != token {
		errs = append(errs, fmt.Errorf("the tracer's token file holds %q", made.Token))
	}
	if config.Tracing.HTTP.Name != "envoy.tracers.lightstep" && config.Tracing.HTTP.Name != "envoy.lightstep" {
		errs = append(errs, fmt.Errorf("the tracer is %q", config.Tracing.HTTP.Name))
	}
	found := false
	for _, cluster := range config.StaticResources.Clusters {
		if cluster.Name != "lightstep" {
			continue
		}
		found = true
		text, _ := json.Marshal(cluster) // it was JSON
		for _, wanted := range []string{address, "9292", "UpstreamTlsContext", mountPath + "/cacert.pem"} {
			if !strings.Contains(string(text), wanted) {
				errs = append(errs, fmt.Errorf("the tracer's cluster lacks %s: %s", wanted, text))
			}
		}
	}
	if !found {
		errs = append(errs, errors.New("the bootstrap has no cluster lightstep"))
	}
	return errors.Join(errs...)
}

// The ingress gateway of 1.7's chart, in a labelled istio-system, which no injector touches: its proxy is there already.
// istiod gets nothing.
func testGateway(t *testing.T, e *environment) {
	gateway := plain()
	gateway.Labels = map[string]string{"app": "istio-ingressgateway", "istio": "ingressgateway", "istio.io/rev": "default"}
	gateway.Spec.Containers = []corev1.Container{{
		Name: proxyName, Image: "docker.io/istio/proxyv2:" + istio17.Version,
		Args:         []string{"proxy", "router"},
		Env:          []corev1.EnvVar{{Name: "JWT_POLICY", Value: "third-party-jwt"}},
		VolumeMounts: []corev1.VolumeMount{{Name: "config-volume", MountPath: "/etc/istio/config"}},
	}}
	gateway.Spec.Volumes = []corev1.Volume{{Name: "config-volume", VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "istio"}},
	}}}
	label := []byte(`{"metadata":{"labels":{"lightstep.com/injection":"enabled"}}}`)
	_, err := e.Client.CoreV1().Namespaces().Patch(t.Context(), istio17.Namespace, types.MergePatchType, label, metav1.PatchOptions{})
	stage.Check(t, err)
	e.secrets(t, istio17.Namespace, gateway)
	created, err := e.try(t.Context(), istio17.Namespace, gateway)
	stage.Check(t, err)
	if mountsAt(&created.Spec.Containers[0], mountPath) != 1 {
		t.Errorf("the gateway has the mounts %+v", created.Spec.Containers[0].VolumeMounts)
	}
	stage.Check(t, e.reports(t.Context(), created))

	istiod := plain()
	istiod.Labels = map[string]string{"app": "istiod", "istio": "pilot"}
	created, err = e.try(t.Context(), istio17.Namespace, istiod)
	stage.Check(t, err)
	if text, err := json.Marshal(created.Spec); err != nil || strings.Contains(string(text), "lightstep") {
		t.Errorf("istiod got something of ours: %s (%v)", text, err)
	}
}

// With delivery by Secret the token's value is nowhere but in the Secret, and, by Istio's own doing, where canary/istio.go says.
func testNoToken(t *testing.T, e *environment) {
	e.NoToken(t, agent.Made)
}

// Where ours is not in force, the mesh's own tracing is what it would be without us.
func testMeshKept(t *testing.T, e *environment) {
	alone := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "alone", Labels: map[string]string{"istio-injection": "enabled"}}}
	_, err := e.Client.CoreV1().Namespaces().Create(t.Context(), alone, metav1.CreateOptions{})
	stage.Check(t, err)
	theirs := plain()
	theirs.Annotations["proxy.istio.io/config"] = "tracing: {zipkin: {address: 'own:9411'}, sampling: 5}"
	optedOut := plain()
	optedOut.Labels["lightstep.com/inject"] = "false"
	for name, pod := range map[string]*corev1.Pod{"user's own tracing": theirs, "opted out": optedOut} {
		with, err := e.try(t.Context(), "by-secret", pod)
		stage.Check(t, err)
		without, err := e.try(t.Context(), "alone", pod)
		stage.Check(t, err)
		got, err := e.istio.Bootstrap(t.Context(), with, nil)
		stage.Check(t, err)
		want, err := e.istio.Bootstrap(t.Context(), without, nil)
		stage.Check(t, err)
		if !reflect.DeepEqual(tracingOf(t, got), tracingOf(t, want)) {
			t.Errorf("%s: the effective tracing is %v, and %v without us", name, tracingOf(t, got), tracingOf(t, want))
		}
	}
}

func tracingOf(t *testing.T, b *istio17.Bootstrap) any {
	t.Helper()
	var config struct{ Tracing any }
	stage.Check(t, json.Unmarshal(b.ProxyConfig, &config))
	if config.Tracing == nil {
		t.Errorf("there is no tracing at all in %s", b.ProxyConfig)
	}
	return config.Tracing
}

func tracerOf(pod *corev1.Pod) string {
	var status struct{ Tracer string }
	_ = json.Unmarshal([]byte(pod.Annotations["lightstep.com/status"]), &status) // no status, no tracer
	return status.Tracer
}
