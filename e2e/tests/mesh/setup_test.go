package mesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/relay"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root = "../../.."
	// token is the access token.
	token = "canary-2e90c7b15a4f"
	// settle is long enough for the injector to have done something, had it wanted to.
	settle = time.Second
	// marker is a namespace that is always as it should be.
	marker = "marker"
	// ours is the name of every object.
	ours       = "lightstep"
	istioSpace = "istio-system"
)

// The kinds that the injector keeps.
const (
	serviceEntry    = "serviceentries"
	destinationRule = "destinationrules"
	telemetry       = "telemetries"
)

// environment is what all tests share.
type environment struct {
	*stage.Stage
	objects  *dynamic.DynamicClient
	injector *injector.Injector
	// relay lies between the injector and the API server.
	relay *relay.Relay
	// round counts how often the marker was changed.
	round int
}

// setUp brings up the cluster and the injector, and has both taken down when the test has ended.
func setUp(t *testing.T) *environment {
	t.Helper()
	e := &environment{Stage: stage.New(t, root)}
	e.Guard(token)
	var err error
	config := rest.CopyConfig(e.Cluster.Config)
	config.QPS = -1
	e.objects, err = dynamic.NewForConfig(config)
	stage.Check(t, err)
	e.relay, err = relay.Start(e.Cluster.Kubeconfig)
	stage.Check(t, err)
	t.Cleanup(func() { stage.Check(t, e.relay.Close()) })
	relayed := filepath.Join(e.Run.Dir, "kubeconfig-relayed")
	stage.Check(t, e.relay.WriteKubeconfig(relayed))
	e.injector = e.Injector(t, "testdata/config.yaml", injector.Options{Kubeconfig: relayed})
	return e
}

// configure puts the configuration in force, with a text replaced.
func (e *environment) configure(t *testing.T, old, replacement string) {
	t.Helper()
	config, err := os.ReadFile("testdata/config.yaml")
	stage.Check(t, err)
	stage.Check(t, injector.WriteConfig(e.Config, []byte(strings.Replace(string(config), old, replacement, 1))))
}

// installIstio has the API server know Istio's kinds.
func (e *environment) installIstio(t *testing.T) {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "istio.io/istio")
	list.Dir = filepath.Join(root, "e2e", "istio", "istiod")
	dir, err := list.Output()
	stage.Check(t, err)
	file := filepath.Join(strings.TrimSpace(string(dir)), "manifests", "charts", "base", "files", "crd-all.gen.yaml")
	e.kubectl(t, "apply", "--server-side", "--filename", file)
	e.kubectl(t, "wait", "--for=condition=Established", "--timeout=30s",
		"crd/serviceentries.networking.istio.io", "crd/destinationrules.networking.istio.io", "crd/telemetries.telemetry.istio.io")
}

func (e *environment) kubectl(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.Cluster.Kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.Cluster.Kubeconfig, "KUBECACHEDIR="+filepath.Dir(e.Config))
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, output)
	}
}

// install writes what the injector reads of a control plane.
func (e *environment) install(t *testing.T, version, mesh string) {
	t.Helper()
	for name, data := range map[string]map[string]string{
		"istio":                  {"mesh": mesh},
		"istio-sidecar-injector": {"values": `{"global":{"tag":"` + version + `"}}`},
	} {
		maps := e.Client.CoreV1().ConfigMaps(istioSpace)
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
		_, err := maps.Update(t.Context(), object, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			_, err = maps.Create(t.Context(), object, metav1.CreateOptions{})
		}
		stage.Check(t, err)
	}
}

// The MeshConfigs that the tests install.
const (
	collectorMesh = `{extensionProviders: [{name: lightstep, opentelemetry: {service: otel.shop.svc.cluster.local, port: 4317}}]}`
	directMesh    = `{extensionProviders: [{name: lightstep, opentelemetry: {service: istio-system/satellite.lightstep.internal, port: 44317}}]}`
	noProvider    = `{}`
)

// namespace makes one in the mesh that is labelled.
func (e *environment) namespace(t *testing.T, name string, annotations map[string]string) {
	t.Helper()
	e.Namespace(t, name, map[string]string{"lightstep.com/injection": "enabled", "istio-injection": "enabled"}, annotations)
	e.Secret(t, name, stage.TokenSecret, "token", token)
}

func (e *environment) client(kind, namespace string) dynamic.ResourceInterface {
	group := "networking.istio.io"
	if kind == telemetry {
		group = "telemetry.istio.io"
	}
	return e.objects.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: kind}).Namespace(namespace)
}

// get returns an object of our name; nil where there is none.
func (e *environment) get(ctx context.Context, kind, namespace string) (*unstructured.Unstructured, error) {
	object, err := e.client(kind, namespace).Get(ctx, ours, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return object, err
}

// has tells what is wrong with the kinds that a namespace has of ours.
func (e *environment) has(ctx context.Context, namespace string, wanted ...string) error {
	var errs []error
	for _, kind := range []string{serviceEntry, destinationRule, telemetry} {
		object, err := e.get(ctx, kind, namespace)
		want := strings.Contains(strings.Join(wanted, " "), kind)
		switch {
		case err != nil:
			errs = append(errs, err)
		case want != (object != nil):
			errs = append(errs, fmt.Errorf("namespace %s: %s: there is %v, wanted %v", namespace, kind, object != nil, want))
		}
	}
	return errors.Join(errs...)
}

// awaits waits until a namespace has these kinds of ours and no other.
func (e *environment) awaits(t *testing.T, namespace string, wanted ...string) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error { return e.has(ctx, namespace, wanted...) })
}

// stays checks that a namespace has these kinds of ours and no other once the controller has looked at it again. It looks at
// all namespaces whenever there is news, one after the other: when it has done so twice for the marker's, it has been through
// all of them.
func (e *environment) stays(t *testing.T, namespace string, wanted ...string) {
	t.Helper()
	for range 2 {
		e.round++
		e.annotate(t, marker, fmt.Sprintf(`{"lightstep.com/custom-tags":"round=%d"}`, e.round))
		e.awaitField(t, telemetry, marker, fmt.Sprintf("[map[customTags:map[round:map[literal:map[value:%d]] team:map[literal:map[value:shop]]] providers:[map[name:lightstep]] randomSamplingPercentage:25]]", e.round), "spec", "tracing")
	}
	stage.Check(t, e.has(t.Context(), namespace, wanted...))
}

// rests checks that a controller that manages nothing does nothing to a namespace for a while: nothing tells that nothing is
// to come.
func (e *environment) rests(t *testing.T, namespace string, wanted ...string) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, settle, true, func(context.Context) (bool, error) {
		return false, e.has(t.Context(), namespace, wanted...)
	})
	if !wait.Interrupted(err) { // by the while's end
		t.Fatal(err)
	}
}

// awaitField waits until a field of an object has a value, printed.
func (e *environment) awaitField(t *testing.T, kind, namespace, want string, path ...string) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		object, err := e.get(ctx, kind, namespace)
		if err != nil {
			return err
		}
		if object == nil {
			return fmt.Errorf("there is no %s in %s", kind, namespace)
		}
		value, _, err := unstructured.NestedFieldNoCopy(object.Object, path...)
		if got := fmt.Sprint(value); got != want {
			return fmt.Errorf("%s in %s: %s is %s, wanted %s", kind, namespace, strings.Join(path, "."), got, want)
		}
		return err
	})
}

// awaitState waits until so many labelled namespaces are in a state.
func (e *environment) awaitState(t *testing.T, state string, count float64) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		got, err := e.injector.Metric(ctx, "lightstep_injector_mesh_namespaces", map[string]string{"state": state})
		if err == nil && got != count {
			return fmt.Errorf("%v namespaces are %s, wanted %v", got, state, count)
		}
		return err
	})
}

// seen tells that the injector does not know of a namespace yet; nil where it does.
func (e *environment) seen(ctx context.Context, namespace string) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}}
	pod, err := e.Client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err == nil && strings.Contains(pod.Annotations["lightstep.com/status"], "NamespaceNotSeen") {
		err = errors.New("it has not seen the namespace")
	}
	return err
}

// awaitLook waits until the API server has answered the injector's look for a namespace's Telemetry, by its audit log.
func (e *environment) awaitLook(t *testing.T, namespace string) error {
	t.Helper()
	return wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) {
		log, err := os.ReadFile(e.Cluster.AuditLog)
		return bytes.Contains(log, []byte(`"requestURI":"/apis/telemetry.istio.io/v1/namespaces/`+namespace+`/telemetries/`+ours+`","verb":"get"`)), err
	})
}

// awaitEvent waits for a warning about a namespace's Telemetry of ours.
func (e *environment) awaitEvent(t *testing.T, namespace, reason, says string) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		events, err := e.Client.EventsV1().Events(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, event := range events.Items {
			if event.Regarding.Kind == "Telemetry" && event.Regarding.Name == ours && event.Regarding.UID != "" &&
				event.Type == corev1.EventTypeWarning && event.Reason == reason && strings.Contains(event.Note, says) {
				return nil
			}
		}
		return fmt.Errorf("namespace %s has no Event %s that says %s", namespace, reason, says)
	})
}

func (e *environment) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(e.injector.LogFile())
	stage.Check(t, err)
	return string(text)
}
