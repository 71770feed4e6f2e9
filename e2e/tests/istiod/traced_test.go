package istiod

import (
	"context"
	"encoding/json"
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
)

const (
	satelliteHost = "satellite.example.com"
	satellitePort = "9292"
	// meshHost is the name by which the mesh knows the satellites.
	meshHost         = "satellite.lightstep.internal"
	satelliteCluster = "outbound|44317||" + meshHost
	sampling         = 25
)

// sent is what istiod sends to a proxy, as far as it is looked at here.
type sent struct {
	Clusters  []map[string]any `json:"CDS"`
	Listeners []map[string]any `json:"LDS"`
	raw       []byte
}

// With the mesh's objects in place, the proxies of labelled namespaces trace to the satellite over TLS, and no other does;
// and no proxy is told the token.
func testTraced(t *testing.T, e *environment) {
	e.secret(t, "lightstep-system", tokenSecret, tokenKey, []byte(canary))
	proxies := map[string]*corev1.Pod{}
	for namespace, labels := range map[string]map[string]string{"traced-1": labelled(), "traced-2": labelled(), "untraced": inMesh()} {
		e.namespace(t, namespace, labels)
		e.secret(t, namespace, tokenSecret, tokenKey, []byte(canary))
		pods := e.bookinfo(t, namespace)
		proxies[namespace] = &pods[slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Labels["app"] == "productpage" })]
	}
	objects, err := os.ReadFile(e.objects)
	check(t, err)
	check(t, e.istiod.Apply(t.Context(), "", objects))

	t.Run("Labelled", func(t *testing.T) {
		for _, namespace := range []string{"traced-1", "traced-2"} {
			eventually(t, func(ctx context.Context) error {
				return e.asked(ctx, proxies[namespace], traces)
			})
		}
	})
	t.Run("NotLabelled", func(t *testing.T) {
		check(t, e.asked(t.Context(), proxies["untraced"], tracesNothing))
	})
	t.Run("OptedOut", func(t *testing.T) {
		pod := e.pod(t, "traced-1", "testdata/opted-out.yaml", "opted-out")
		_, err := sidecar(pod, false)
		check(t, err)
		eventually(t, func(ctx context.Context) error { return e.asked(ctx, pod, tracesNoPod) })
	})
	t.Run("Beaten", func(t *testing.T) { testBeaten(t, e) })
	t.Run("Gateway", func(t *testing.T) {
		proxies["gateway"] = e.gateway(t, "traced-1")
		eventually(t, func(ctx context.Context) error {
			return e.asked(ctx, proxies["gateway"], traces)
		})
	})
	t.Run("NoToken", func(t *testing.T) { testNoToken(t, e, proxies) })
	t.Run("IstiosOwnValidation", func(t *testing.T) { testIstiosOwnValidation(t, e) })
}

// A pod's sampling has no effect where a Telemetry sets another, and the pod says so; its tag has.
func testBeaten(t *testing.T, e *environment) {
	eventually(t, func(ctx context.Context) error {
		pod, err := e.try(ctx, "traced-1", podCase{make: annotate("lightstep.com/sampling", "80")})
		if err == nil && !strings.Contains(pod.Annotations["lightstep.com/status"], "SettingNotApplied") {
			err = fmt.Errorf("the status is %s", pod.Annotations["lightstep.com/status"])
		}
		return err
	})
	pod := e.pod(t, "traced-1", "testdata/beaten.yaml", "beaten")
	eventually(t, func(ctx context.Context) error {
		return e.asked(ctx, pod, func(s *sent) error {
			if !strings.Contains(string(s.raw), `"checkout"`) {
				return errors.New("its tag is not in what it was sent")
			}
			return traces(s)
		})
	})
}

// gateway makes one, where every trace begins, and returns its pod.
func (e *environment) gateway(t *testing.T, namespace string) *corev1.Pod {
	t.Helper()
	pod := e.pod(t, namespace, "testdata/gateway.yaml", "ingress")
	check(t, podCase{classic: true, also: isGateway}.holds(pod))
	return pod
}

// pod applies manifests, and returns a pod of theirs when it runs.
func (e *environment) pod(t *testing.T, namespace, file, name string) *corev1.Pod {
	t.Helper()
	manifests, err := os.ReadFile(file)
	check(t, err)
	check(t, e.istiod.Apply(t.Context(), namespace, manifests))
	var pod *corev1.Pod
	eventually(t, func(ctx context.Context) error {
		if pod, err = e.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{}); err != nil {
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
func (e *environment) asked(ctx context.Context, pod *corev1.Pod, check func(*sent) error) error {
	answer, err := e.ask(ctx, pod)
	if err != nil {
		return err
	}
	if err := check(answer); err != nil {
		return fmt.Errorf("the proxy of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

func (e *environment) ask(ctx context.Context, pod *corev1.Pod) (*sent, error) {
	raw, err := e.istiod.Ask(ctx, pod)
	if err != nil {
		return nil, err
	}
	answer := &sent{raw: raw}
	if err := json.Unmarshal(raw, answer); err != nil {
		return nil, fmt.Errorf("read what istiod sent: %w", err)
	}
	if len(answer.Clusters) == 0 || len(answer.managers()) == 0 {
		return nil, errors.New("istiod sent no clusters, or no HTTP listeners")
	}
	return answer, nil
}

// managers are the HTTP connection managers of all listeners: what traces.
func (s *sent) managers() []map[string]any {
	return packed(s.Listeners, "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager")
}

// packed finds the messages of a type in what was unpacked.
func packed(in any, messageType string) []map[string]any {
	var found []map[string]any
	switch value := in.(type) {
	case map[string]any:
		if value["@type"] == "type.googleapis.com/"+messageType {
			found = append(found, value)
		}
		for _, member := range value {
			found = append(found, packed(member, messageType)...)
		}
	case []any:
		for _, element := range value {
			found = append(found, packed(element, messageType)...)
		}
	case []map[string]any:
		for _, element := range value {
			found = append(found, packed(element, messageType)...)
		}
	}
	return found
}

// at walks into nested objects; what is not there is nil.
func at(value any, names ...string) any {
	for _, name := range names {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	return value
}

// traces tells what is wrong with the tracing of a proxy in a labelled namespace.
func traces(s *sent) error {
	errs := []error{connectsOverTLS(s), leavesApplicationsAlone(s)}
	for _, manager := range s.managers() {
		tracing := manager["tracing"]
		provider := at(tracing, "provider", "name")
		cluster := at(tracing, "provider", "typedConfig", "grpcService", "envoyGrpc", "clusterName")
		percent := at(tracing, "randomSampling", "value")
		if provider != "envoy.tracers.opentelemetry" || cluster != satelliteCluster || percent != float64(sampling) {
			errs = append(errs, fmt.Errorf("listener %v traces with provider %v to cluster %v, %v %% of requests",
				manager["statPrefix"], provider, cluster, percent))
		}
	}
	return errors.Join(errs...)
}

func connectsOverTLS(s *sent) error {
	index := slices.IndexFunc(s.Clusters, func(c map[string]any) bool { return c["name"] == satelliteCluster })
	if index < 0 {
		return fmt.Errorf("there is no cluster %s", satelliteCluster)
	}
	cluster := s.Clusters[index]
	tls := at(cluster, "transportSocket", "typedConfig")
	validation := at(tls, "commonTlsContext", "combinedValidationContext")
	endpoint := fmt.Sprint(at(cluster, "loadAssignment", "endpoints"))
	names, err := json.Marshal(at(validation, "defaultValidationContext", "matchSubjectAltNames"))
	if err != nil {
		return err
	}
	switch {
	case at(tls, "@type") != "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext":
		return fmt.Errorf("cluster %s has no TLS: %v", satelliteCluster, cluster["transportSocket"])
	case !strings.Contains(endpoint, "address:"+satelliteHost+" portValue:"+satellitePort):
		return fmt.Errorf("the cluster's endpoint is %s", endpoint)
	case at(tls, "sni") != satelliteHost:
		return fmt.Errorf("the SNI is %v", at(tls, "sni"))
	case at(validation, "validationContextSdsSecretConfig", "name") != "file-root:"+mountPath+"/cacert.pem":
		return fmt.Errorf("the certificate is checked against %v", at(validation, "validationContextSdsSecretConfig", "name"))
	case !strings.Contains(string(names), satelliteHost):
		return fmt.Errorf("the name in the certificate is not checked: %s", names)
	}
	return nil
}

// leavesApplicationsAlone tells what a proxy does to what its application sends to the satellite's own name or port: it may
// open TLS to it by itself.
func leavesApplicationsAlone(s *sent) error {
	for _, listener := range s.Listeners {
		if name := fmt.Sprint(listener["name"]); strings.HasSuffix(name, "_"+satellitePort) {
			return fmt.Errorf("there is a listener %s", name)
		}
	}
	index := slices.IndexFunc(s.Clusters, func(c map[string]any) bool { return strings.HasSuffix(fmt.Sprint(c["name"]), "||"+satelliteHost) })
	if index >= 0 {
		return fmt.Errorf("there is a cluster %v", s.Clusters[index]["name"])
	}
	return nil
}

// tracesNoPod tells what a proxy without the satellite CA in a labelled namespace has of ours that it must not have: tracing,
// and a file that it would wait for.
func tracesNoPod(s *sent) error {
	for _, manager := range s.managers() {
		if provider := at(manager, "tracing", "provider"); provider != nil {
			return fmt.Errorf("listener %v has the provider %v", manager["statPrefix"], provider)
		}
	}
	if strings.Contains(string(s.raw), mountPath) {
		return errors.New("it is to read the satellite CA")
	}
	return nil
}

// tracesNothing tells what a proxy has of ours where it should have nothing.
func tracesNothing(s *sent) error {
	var errs []error
	for _, manager := range s.managers() {
		if provider := at(manager, "tracing", "provider"); provider != nil {
			errs = append(errs, fmt.Errorf("listener %v has the provider %v", manager["statPrefix"], provider))
		}
	}
	for _, ours := range []string{satelliteHost, meshHost, mountPath} {
		if strings.Contains(string(s.raw), ours) {
			errs = append(errs, fmt.Errorf("istiod sent something of %s", ours))
		}
	}
	return errors.Join(errs...)
}

// What is applied is right in Istio's own eyes, too: without a cluster, and beside everything that is in this one.
func testIstiosOwnValidation(t *testing.T, e *environment) {
	mesh := e.meshConfig(t)
	check(t, e.istiod.Validate(t.Context(), e.objects, mesh))
	said, err := e.istiod.Analyze(t.Context())
	check(t, err)
	for line := range strings.Lines(said) {
		if strings.HasPrefix(line, "Error ") || strings.HasPrefix(line, "Warning ") {
			t.Errorf("istioctl analyze says: %s", line)
		}
	}
	t.Run("WouldFail", func(t *testing.T) {
		objects, err := os.ReadFile(e.objects)
		check(t, err)
		wrong := filepath.Join(t.TempDir(), "wrong.yaml")
		check(t, os.WriteFile(wrong, []byte(strings.ReplaceAll(string(objects), "Percentage: 25", "Percentage: 250")), 0o600))
		if e.istiod.Validate(t.Context(), wrong, mesh) == nil {
			t.Error("a sampling of 250 % passes")
		}
	})
}

// meshConfig writes the MeshConfig in force to a file.
func (e *environment) meshConfig(t *testing.T) string {
	t.Helper()
	istio, err := e.client.CoreV1().ConfigMaps(istiod.Namespace).Get(t.Context(), "istio", metav1.GetOptions{})
	check(t, err)
	file := filepath.Join(t.TempDir(), "mesh.yaml")
	check(t, os.WriteFile(file, []byte(istio.Data["mesh"]), 0o600))
	return file
}
