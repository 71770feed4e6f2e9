package managed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root        = "../../.."
	token       = "canary-51c8e07b9d34"
	tokenHeader = "lightstep-access-token"
	// kept has all that it needs; bare lacks the satellite CA; other is in the mesh, and not labelled.
	kept, bare, other = "kept", "bare", "other"
)

type environment struct {
	*stage.Stage
	istiod   *istiod.Istiod
	injector *injector.Injector
}

// TestManaged runs every test against one control plane, one istiod and one injector, in this order.
func TestManaged(t *testing.T) {
	e := setUp(t)
	t.Run("Kept", func(t *testing.T) { testKept(t, e) })
	t.Run("TokenInXDS", func(t *testing.T) { testTokenInXDS(t, e) })
	t.Run("Detect", func(t *testing.T) { testDetect(t, e) })
	t.Run("Explain", func(t *testing.T) { testExplain(t, e) })
	t.Run("TelemetryMissing", func(t *testing.T) { testTelemetryMissing(t, e) })
	t.Run("ProviderMissing", func(t *testing.T) { testProviderMissing(t, e) })
	t.Run("NoToken", func(t *testing.T) { e.NoToken(t) }) // looks at all that the others have left
}

func setUp(t *testing.T) *environment {
	t.Helper()
	e := &environment{Stage: stage.New(t, root)}
	e.Guard(token)
	e.Run.Seen = nil // what istiod sends holds the token, as testTokenInXDS shows
	e.Namespace(t, istiod.Namespace, nil, nil)
	e.Secret(t, istiod.Namespace, "lightstep-access-token", "token", token)
	e.istiod = e.Istiod(t, istiod.Version, e.values(t))
	objects, _ := e.render(t, "--print", "objects")
	stage.Check(t, e.istiod.Apply(t.Context(), "", objects))
	e.injector = e.Injector(t, "testdata/config.yaml", injector.Options{})
	inMesh := map[string]string{"istio-injection": "enabled"}
	labelled := map[string]string{"istio-injection": "enabled", "lightstep.com/injection": "enabled"}
	for name, labels := range map[string]map[string]string{kept: labelled, bare: labelled, other: inMesh} {
		e.Namespace(t, name, labels, nil)
		e.Secret(t, name, "lightstep-access-token", "token", token)
	}
	e.Secret(t, kept, "lightstep.cacert", "cacert.pem", "x")
	return e
}

// render is what `render istio` prints and says for spans that go straight to the satellites, with the token from istiod.
func (e *environment) render(t *testing.T, flags ...string) (printed []byte, said string) {
	t.Helper()
	return e.renderFor(t, append([]string{"--istio-version", istiod.Version}, flags...)...)
}

func (e *environment) renderFor(t *testing.T, flags ...string) (printed []byte, said string) {
	t.Helper()
	args := append([]string{"render", "istio", "--config", "testdata/config.yaml", "--direct", "--token-in-xds"}, flags...)
	cmd := exec.CommandContext(t.Context(), e.Program, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.Cluster.Kubeconfig)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	printed, err := cmd.Output()
	stage.Check(t, err)
	return printed, stderr.String()
}

// values are those of the charts, as they are rendered, beside a release's images.
func (e *environment) values(t *testing.T) string {
	t.Helper()
	printed, _ := e.render(t, "--print", "mesh")
	var installation struct {
		Spec struct {
			MeshConfig any
			Values     map[string]any
		}
	}
	stage.Check(t, yaml.Unmarshal(printed, &installation))
	values := installation.Spec.Values
	values["global"] = map[string]string{"hub": "docker.io/istio", "tag": istiod.Version}
	values["meshConfig"] = installation.Spec.MeshConfig
	text, err := yaml.Marshal(values)
	stage.Check(t, err)
	file := filepath.Join(e.Run.Dir, "values.yaml")
	stage.Check(t, os.WriteFile(file, text, 0o600))
	return file
}

// pod creates one, and returns it when it has an address.
func (e *environment) pod(t *testing.T, namespace, name string, change func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}, Annotations: map[string]string{}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "app", Image: "registry.k8s.io/pause:3.10", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}},
		}},
	}
	change(pod)
	stage.Eventually(t, func(ctx context.Context) error { // once the namespace has its service account
		_, err := e.Client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
		return err
	})
	stage.Eventually(t, func(ctx context.Context) (err error) {
		if pod, err = e.Client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{}); err == nil && pod.Status.PodIP == "" {
			err = fmt.Errorf("pod %s does not run", name)
		}
		return err
	})
	return pod
}

func asItIs(*corev1.Pod) {}

// service makes one: a proxy has HTTP listeners only where there is something to listen for.
func (e *environment) service(t *testing.T, namespace, name string) {
	t.Helper()
	_, err := e.Client.CoreV1().Services(namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Name: "http", Port: 8080}}},
	}, metav1.CreateOptions{})
	stage.Check(t, err)
}

// asked waits until what istiod sends to a pod's proxy is as wanted.
func (e *environment) asked(t *testing.T, namespace, name string, wanted func(*istiod.Answer) error) {
	t.Helper()
	pod, err := e.Client.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
	stage.Check(t, err)
	stage.Eventually(t, func(ctx context.Context) error {
		answer, err := e.istiod.AskFor(ctx, pod)
		if err != nil {
			return err
		}
		return wanted(answer)
	})
}

func route() *istiod.Route {
	return &istiod.Route{
		Host: "satellite.example.com", Port: "9292", Cluster: "outbound|44317||satellite.lightstep.internal",
		CAFile: "/etc/lightstep/cacert.pem", Sampling: 25,
	}
}

// The label, and the provider that whoever installs Istio adds, are all: the proxy has the provider, TLS, the satellite CA's
// file, the server's name and the sampling; that of another namespace has nothing of it.
func testKept(t *testing.T, e *environment) {
	for _, namespace := range []string{kept, bare, other} {
		e.service(t, namespace, "web")
		e.pod(t, namespace, "web", asItIs)
	}
	e.asked(t, kept, "web", func(a *istiod.Answer) error { return a.Traces(route()) })
	for _, namespace := range []string{bare, other} {
		e.asked(t, namespace, "web", func(a *istiod.Answer) error {
			for _, ours := range []string{"satellite.example.com", "satellite.lightstep.internal", "/etc/lightstep", tokenHeader} {
				if strings.Contains(string(a.Raw), ours) {
					return errors.New("it is sent " + ours)
				}
			}
			return a.TracesNot()
		})
	}
}

// sentToken tells what is wrong with the header of each listener that traces.
func sentToken(a *istiod.Answer) error {
	for _, manager := range a.Managers() {
		header := fmt.Sprint(istiod.At(manager, "tracing", "provider", "typedConfig", "grpcService", "initialMetadata"))
		if header != fmt.Sprintf("[map[key:%s value:%s]]", tokenHeader, token) {
			return fmt.Errorf("listener %v sends the header %s", manager["statPrefix"], header)
		}
	}
	return nil
}

// With --token-in-xds the proxies that use the provider have the token, and no other; and whoever can write a Telemetry can
// have its own proxy use it, which is what is said beforehand.
func testTokenInXDS(t *testing.T, e *environment) {
	e.asked(t, kept, "web", sentToken)
	e.asked(t, other, "web", func(a *istiod.Answer) error {
		if strings.Contains(string(a.Raw), token) {
			return errors.New("it is sent the token")
		}
		return nil
	})
	printed, said := e.render(t)
	if want := "any tenant who can name the provider in a Telemetry reads it in its own proxy"; !strings.Contains(said, want) {
		t.Errorf("it does not say that %s: %s", want, said)
	}
	if strings.Contains(string(printed)+said, token) {
		t.Error("the token is printed")
	}
	tenants := "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: mine}\nspec: {tracing: [{providers: [{name: lightstep}]}]}\n"
	stage.Check(t, e.istiod.Apply(t.Context(), other, []byte(tenants)))
	e.asked(t, other, "web", sentToken)
}

// What is printed for the control plane that is found is what is printed for its version; what it has already is said.
func testDetect(t *testing.T, e *environment) {
	for _, flags := range [][]string{nil, {"--namespace", kept}} {
		want, _ := e.render(t, flags...)
		got, said := e.renderFor(t, append(flags, "--detect")...)
		if string(got) != string(want) {
			t.Errorf("%v: it prints\n%s\nwanted\n%s", flags, got, want)
		}
		for _, note := range []string{
			"note: found Istio 1.31.0: revision default in istio-system\n",
			"note: its MeshConfig has the provider lightstep already, which sends to istio-system/satellite.lightstep.internal, port 44317\n",
		} {
			if !strings.Contains(said, note) {
				t.Errorf("%v: it does not say %s: %s", flags, note, said)
			}
		}
	}
}

// statusOf is what the injector says of a pod that it has seen.
func statusOf(pod *corev1.Pod) string { return pod.Annotations["lightstep.com/status"] }

// missing shows a code on every path: a pod's status, explain, the gauge.
func (e *environment) missing(t *testing.T, namespace, code, gauge string) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "try"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}}
		pod, err := e.Client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && !strings.Contains(statusOf(pod), `"`+code+`"`) {
			err = fmt.Errorf("the status of a pod in %s is %s", namespace, statusOf(pod))
		}
		return err
	})
	explained := e.explain(t, "web", "-n", namespace, "-o", "json")
	if explained.code != 1 || explained.Mesh.Lacks != code || !strings.Contains(fmt.Sprint(explained.Problems), code) || !strings.Contains(explained.stderr, code) {
		t.Errorf("explain of a pod in %s says %+v", namespace, explained)
	}
	for _, warning := range explained.Warnings {
		if warning.Code == code && !strings.Contains(warning.Message, "lightstep-injector render istio") {
			t.Errorf("%s is said without its fix: %s", code, warning.Message)
		}
	}
	value, err := e.injector.Metric(t.Context(), gauge, map[string]string{"namespace": namespace})
	stage.Check(t, err)
	if value != 1 {
		t.Errorf("%s of %s is %v", gauge, namespace, value)
	}
}

// Without the satellite CA the controller keeps no Telemetry in a namespace.
func testTelemetryMissing(t *testing.T, e *environment) {
	e.missing(t, bare, "MeshTelemetryMissing", "lightstep_injector_mesh_telemetry_missing")
}

// Without the provider everything of the controller's goes, and every path says why no span is sent.
func testProviderMissing(t *testing.T, e *environment) {
	configMaps := e.Client.CoreV1().ConfigMaps(istiod.Namespace)
	mesh, err := configMaps.Get(t.Context(), "istio", metav1.GetOptions{})
	stage.Check(t, err)
	var config map[string]any
	stage.Check(t, yaml.Unmarshal([]byte(mesh.Data["mesh"]), &config))
	delete(config, "extensionProviders")
	text, err := json.Marshal(config) // which is YAML, too
	stage.Check(t, err)
	mesh.Data["mesh"] = string(text)
	_, err = configMaps.Update(t.Context(), mesh, metav1.UpdateOptions{})
	stage.Check(t, err)
	e.missing(t, kept, "MeshProviderMissing", "lightstep_injector_mesh_provider_missing")
	e.asked(t, kept, "web", func(a *istiod.Answer) error { return a.TracesNot() })
}
