package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// strangerConfiguration has a word of its own, CANARY and a name, in every field that can hold one.
const strangerConfiguration = `
apiVersion: injector.lightstep.com/v1alpha1
kind: InjectorConfiguration
profiles:
  default:
    satellite: {address: "canary-default-address:443", serverName: canary-default-sni}
    caCertificate: {secretName: canary-default-ca, key: canary-default-cakey, mountPath: /etc/canary-default-path, source: {name: canary-default-source}}
    accessToken: {secretName: canary-default-token, key: canary-default-tokenkey, source: {name: canary-default-tokensource}, allowedNamespaces: ["canary-default-allowed-*", pay]}
    customTags: {canary-default-tag: canary-default-value}
    mesh: {istioVersion: "1.7.8"}
  canary-pay-profile:
    namespaces: [pay, "canary-pay-glob-*"]
    sampling: 77
    satellite: {address: "canary-pay-address:443"}
    caCertificate: {secretName: canary-pay-ca, mountPath: /etc/canary-pay-path, source: {name: canary-pay-source}}
    accessToken: {secretName: canary-pay-token, source: {name: canary-pay-tokensource}, allowedNamespaces: [pay, "canary-pay-allowed-*"]}
    customTags: {canary-pay-tag: canary-pay-value}
    mesh: {istioVersion: "1.14.1"}
  canary-new-profile:
    namespaces: [new, "canary-new-glob-*"]
    satellite: {address: "canary-new-address:443"}
    caCertificate: {secretName: canary-new-ca, source: null}
    accessToken: {secretName: canary-new-token}
    customTags: {canary-new-tag: canary-new-value}
exemptNamespaces: ["canary-exempt-*"]
istio: {namespaces: [canary-istio-namespace], provider: canary-mesh-provider}
`

// strangerSnapshot knows four labelled namespaces, with annotations of their own and Secrets that are there or not.
func strangerSnapshot(t *testing.T) *inject.Snapshot {
	t.Helper()
	config, err := settings.Parse([]byte(strangerConfiguration))
	if err != nil {
		t.Fatal(err)
	}
	newest, err := istio.Of("1.26.0")
	if err != nil {
		t.Fatal(err)
	}
	plane := &istio.Revision{Name: "canary-mesh-revision", Namespace: "canary-istio-namespace", Capabilities: newest, Mesh: &istio.MeshConfig{}, InjectsUnlabelled: true}
	mesh := &istio.Mesh{Revisions: map[string]*istio.Revision{plane.Name: plane}, Tags: map[string]string{"default": plane.Name}, Telemetry: map[string][]istio.Telemetry{}}
	namespaces := inject.Namespaces{}
	for name, namespace := range map[string]inject.Namespace{
		"shop": {},
		"bare": {Missing: map[string]bool{"canary-default-ca": true, "canary-default-token": true}},
		"pay": {Annotations: map[string]string{
			settings.ProfileAnnotation: "canary-pay-profile", settings.CustomTagsAnnotation: "canary-payspace-tag=x", "lightstep.com/note": "canary-hidden-annotation",
		}},
		"new":   {Annotations: map[string]string{settings.ProfileAnnotation: "canary-new-profile", settings.SamplingAnnotation: "33"}, IstioInjection: "enabled"},
		"wrong": {Annotations: map[string]string{settings.ProfileAnnotation: "canary-pay-profile"}}, // which it may not select
	} {
		namespaces = namespaces.With(name, namespace)
	}
	return &inject.Snapshot{Settings: config, OwnNamespace: "canary-own-namespace", Namespaces: namespaces, Mesh: mesh, Version: "v1"}
}

// strangerShapes are the pods that are asked about: each with something else that a rule reads.
func strangerShapes() map[string]*corev1.Pod {
	shapes := map[string]*corev1.Pod{}
	add := func(name string, change func(*corev1.Pod)) {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{}, Annotations: map[string]string{}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
		}
		change(pod)
		shapes[name] = pod
	}
	proxy := func(image string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Annotations["sidecar.istio.io/status"] = "{}"
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "istio-proxy", Image: image, Env: []corev1.EnvVar{{Name: "PROXY_CONFIG", Value: "{}"}}})
		}
	}
	add("plain", func(*corev1.Pod) {})
	for _, version := range []string{"1.7.8", "1.14.1", "1.15.0", "1.26.0", "latest"} {
		add("with proxy "+version, proxy("docker.io/istio/proxyv2:"+version))
	}
	add("opted out", func(p *corev1.Pod) { p.Labels["lightstep.com/inject"] = "false" })
	add("no opt-out", func(p *corev1.Pod) { p.Labels["lightstep.com/inject"] = "no" })
	add("no sidecar", func(p *corev1.Pod) { p.Labels["sidecar.istio.io/inject"] = "false" })
	add("a revision", func(p *corev1.Pod) { p.Labels["istio.io/rev"] = "other" })
	add("ambient", func(p *corev1.Pod) { p.Labels["istio.io/dataplane-mode"] = "ambient" })
	add("host network", func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	add("Windows", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"kubernetes.io/os": "windows"} })
	add("istiod", func(p *corev1.Pod) { p.Labels["app"] = "istiod" })
	add("settings", func(p *corev1.Pod) {
		p.Annotations["lightstep.com/profile"], p.Annotations["lightstep.com/sampling"], p.Annotations["lightstep.com/custom-tags"] = "x", "0x1p3", "a=b"
	})
	add("unknown setting", func(p *corev1.Pod) { p.Annotations["lightstep.com/x"] = "y" })
	add("a volume of our name", func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "lightstep-cacert"}} })
	add("a mount at /etc", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v"}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/etc"}}
	})
	add("user mounts", func(p *corev1.Pod) { p.Annotations["sidecar.istio.io/userVolumeMount"] = "[" })
	add("tracing of its own", func(p *corev1.Pod) { p.Annotations["proxy.istio.io/config"] = "tracing: {zipkin: {}}" })
	add("no containers", func(p *corev1.Pod) { p.Spec.Containers = nil })
	return shapes
}

// TestStranger asks about every namespace and shape of pod, as anybody who reaches the port can. Of the configuration and
// the cluster an answer may hold what docs/security.md lists under "What a stranger who reaches the port learns": what
// follows from the profile of the namespace that is asked about, and Istio's names. It never holds a pattern of
// namespaces, a source's name, another namespace's profile, annotation or tag, or the injector's own namespace.
func TestStranger(t *testing.T) {
	synctest.Test(t, stranger) // no namespace is in the Store: the wait for it takes no time here
}

func stranger(t *testing.T) {
	e, known := newEdge(t), strangerSnapshot(t)
	e.Run = func(request *inject.Request, _ *inject.Snapshot) inject.Result { return inject.Run(request, known) }
	told := map[string][]string{
		"shop":                   {"canary-default-"},
		"bare":                   {"canary-default-"},
		"pay":                    {"canary-pay-", "canary-payspace-"},
		"new":                    {"canary-new-"},
		"wrong":                  {"canary-pay-profile"}, // the namespace's own annotation has it
		"canary-exempt-1":        {},
		"canary-own-namespace":   {},
		"canary-istio-namespace": {"canary-default-", "canary-istio-namespace"},
		"kube-system":            {},
		"canary-pay-glob-1":      {"canary-default-", "canary-pay-glob-1"}, // it is asked for by that name
	}
	never := []string{"source", "-glob-*", "-allowed-", "-exempt-*", "canary-hidden-", "canary-own-"}
	always := []string{"canary-mesh-"} // Istio's revision and provider
	seen := map[string]bool{}
	for _, namespace := range slices.Sorted(maps.Keys(told)) {
		for shape, pod := range strangerShapes() {
			text := e.asked(t, namespace, pod)
			for _, word := range canaries(text) {
				seen[word] = true
				has := func(allowed string) bool { return strings.HasPrefix(word, allowed) }
				forbidden := slices.ContainsFunc(never, func(part string) bool { return strings.Contains(word, part) }) && !slices.Contains(told[namespace], word)
				if forbidden || !slices.ContainsFunc(append(always, told[namespace]...), has) {
					t.Errorf("a pod in %s, %s, is told %s: %s", namespace, shape, word, text)
				}
			}
		}
	}
	for _, word := range []string{
		"canary-default-address", "canary-default-sni", "canary-default-ca", "canary-default-path", "canary-default-tag", "canary-pay-profile",
		"canary-pay-tag", "canary-payspace-tag", "canary-new-ca",
	} {
		if !seen[word] {
			t.Errorf("nothing was told of %s: the test sees less than it should; it has seen %v", word, slices.Sorted(maps.Keys(seen)))
		}
	}
}

// asked returns all that an answer holds, with its patch as text.
func (e edge) asked(t *testing.T, namespace string, pod *corev1.Pod) string {
	t.Helper()
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(testReview(t, pod), &review); err != nil {
		t.Fatal(err)
	}
	review.Request.Namespace, review.Request.UID = namespace, types.UID("u")
	recorder := e.call(marshalReview(t, &review))
	body := bytes.Clone(recorder.Body.Bytes())
	return fmt.Sprintf("%s %s %s", recorder.Header(), body, admitted(t, recorder).Patch)
}

// canaries returns the words that begin with canary-.
func canaries(text string) []string {
	var words []string
	for rest := text; ; {
		_, after, found := strings.Cut(rest, "canary-")
		if !found {
			return words
		}
		end := strings.IndexFunc(after, func(r rune) bool {
			return r != '-' && r != '*' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
		})
		if end < 0 {
			end = len(after)
		}
		words, rest = append(words, "canary-"+after[:end]), after[end:]
	}
}
