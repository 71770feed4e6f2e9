package meshes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/order"
)

const (
	newest      = "newest"
	newestAlone = "newest-alone"
)

// newMeshes are those of the newest Istio: none of its own tracing; a zipkin with all there is to set; a tracer in the
// values that makes Istio mount the satellite CA by itself, at our path and at another; and what an upgrade from 1.7 may have left behind, which no
// proxy of that release starts with, with us or without.
func newMeshes() []mesh {
	return []mesh{
		{name: "none", tracer: "none", tracing: `{maxPathTagLength: 71}`},
		{
			name: "zipkin-all", tracer: "zipkin", own: "zipkin", kept: []string{"mesh-tag", "/etc/certs/zipkin.pem"},
			tracing: `{maxPathTagLength: 72, zipkin: {address: "zipkin.istio-system:9411"}, sampling: 7, customTags: {mesh-tag: {literal: {value: x}}},
				tlsSettings: {mode: SIMPLE, caCertificates: /etc/certs/zipkin.pem, sni: zipkin}}`,
		},
		{
			name: "mounts-itself", tracer: "lightstep", own: "zipkin",
			tracing: `{maxPathTagLength: 73, zipkin: {address: "zipkin.istio-system:9411"},
				tlsSettings: {mode: SIMPLE, caCertificates: /etc/lightstep/cacert.pem, sni: zipkin}}`,
		},
		{
			name: "mounts-elsewhere", tracer: "lightstep", own: "zipkin", kept: []string{"/etc/satellite/zipkin.pem"},
			tracing: `{maxPathTagLength: 75, zipkin: {address: "zipkin.istio-system:9411"},
				tlsSettings: {mode: SIMPLE, caCertificates: /etc/satellite/zipkin.pem, sni: zipkin}}`,
		},
		{
			name: "left-behind", tracer: "lightstep", own: "lightstep", kept: []string{meshToken},
			tracing: `{maxPathTagLength: 74, lightstep: {address: "lightstep-satellite.lightstep:9292", accessToken: "` + meshToken + `"},
				tlsSettings: {mode: SIMPLE, caCertificates: /etc/lightstep/cacert.pem, sni: lightstep-satellite.lightstep}}`,
		},
	}
}

// newestProfiles are those that differ to a newest Istio, beside the default one.
func newestProfiles() []string { return []string{"elsewhere", "another", "roots"} }

func testNewest(t *testing.T, e *environment) {
	asks := map[string]string{"istio-injection": "enabled"}
	e.namespace(t, newestAlone, asks, nil)
	e.namespace(t, newest, map[string]string{"istio-injection": "enabled", "lightstep.com/injection": "enabled"}, nil)
	for _, profile := range newestProfiles() {
		e.namespace(t, newest+"-"+profile, map[string]string{"istio-injection": "enabled", "lightstep.com/injection": "enabled"},
			map[string]string{"lightstep.com/profile": profile})
	}
	t.Run("StatefulSet", func(t *testing.T) {
		pod := e.statefulSet(t, newest)
		check(t, errors.Join(marked(pod, istiod.Version), mounted(pod)))
		_, err := e.newestProxy(t.Context(), pod)
		check(t, err)
	})
	for _, m := range newMeshes() {
		t.Run(m.name, func(t *testing.T) {
			e.changeMesh(t, &m)
			t.Run("Alone", func(t *testing.T) { testNewestAlone(t, e, &m) })
			t.Run("Ours", func(t *testing.T) { testNewestOurs(t, e) })
			t.Run("Explicit", func(t *testing.T) { testExplicit(t, e, &m) })
			t.Run("Order", func(t *testing.T) { testNewestOrder(t, e) })
		})
	}
	t.Run("Policy", func(t *testing.T) { testPolicy(t, e) }) // changes what the others need
}

// changeMesh edits Istio's two ConfigMaps, as an administrator would, and waits until istiod and the injector have seen it.
func (e *environment) changeMesh(t *testing.T, m *mesh) {
	t.Helper()
	e.edit(t, "istio-sidecar-injector", "values", func(values map[string]any) {
		values["global"].(map[string]any)["proxy"].(map[string]any)["tracer"] = m.tracer
	})
	var tracing map[string]any
	check(t, yaml.Unmarshal([]byte(m.tracing), &tracing))
	e.edit(t, "istio", "mesh", func(mesh map[string]any) { mesh["defaultConfig"].(map[string]any)["tracing"] = tracing })
	mark := fmt.Sprint(tracing["maxPathTagLength"])
	eventually(t, func(ctx context.Context) error {
		pod, err := e.try(ctx, newestAlone, plain())
		if err != nil {
			return err
		}
		if !strings.Contains(environmentOf(pod, "PROXY_CONFIG"), mark) {
			return errors.New("istiod has not seen the new mesh")
		}
		explicit := plain()
		explicit.Annotations["lightstep.com/sampling"] = "12.5"
		if pod, err = e.try(ctx, newest, explicit); err != nil {
			return err
		}
		left := m.own == "lightstep" && strings.Contains(fmt.Sprint(statusOf(pod).Warnings), "SettingNotApplied")
		if !left && !strings.Contains(pod.Annotations["proxy.istio.io/config"], mark) {
			return fmt.Errorf("the injector has not seen the new mesh: %+v", statusOf(pod))
		}
		return nil
	})
}

func (e *environment) edit(t *testing.T, name, key string, change func(map[string]any)) {
	t.Helper()
	configMaps := e.client.CoreV1().ConfigMaps(istiod.Namespace)
	found, err := configMaps.Get(t.Context(), name, metav1.GetOptions{})
	check(t, err)
	var content map[string]any
	check(t, yaml.Unmarshal([]byte(found.Data[key]), &content))
	change(content)
	text, err := json.Marshal(content) // which is YAML, too
	check(t, err)
	found.Data[key] = string(text)
	_, err = configMaps.Update(t.Context(), found, metav1.UpdateOptions{})
	check(t, err)
}

func environmentOf(pod *corev1.Pod, name string) string {
	for _, c := range containers(pod) {
		for _, variable := range c.Env {
			if c.Name == proxyName && variable.Name == name {
				return variable.Value
			}
		}
	}
	return ""
}

func (e *environment) newestProxy(ctx context.Context, pod *corev1.Pod) (*proxy, error) {
	made, err := e.agent.Bootstrap(ctx, pod, map[string]string{"lightstep-access-token/token": canary})
	if err != nil {
		return nil, err
	}
	return readProxy(made)
}

func testNewestAlone(t *testing.T, e *environment, m *mesh) {
	pod, err := e.try(t.Context(), newestAlone, plain())
	check(t, err)
	check(t, marked(pod, istiod.Version))
	made, err := e.newestProxy(t.Context(), pod)
	check(t, err)
	check(t, made.isMeshs(m))
}

// Whatever the mesh has, and whatever the pod: the mounts, and otherwise the proxy that it would be without us, with no
// tracer of ours in its bootstrap.
func testNewestOurs(t *testing.T, e *environment) {
	ours, theirs := users()
	delete(ours, "sampling") // which is meant to change the proxy
	native, gateway := plain(), plain()
	native.Annotations["sidecar.istio.io/nativeSidecar"] = "true"
	gateway.Annotations["inject.istio.io/templates"] = "gateway"
	gateway.Spec.Containers = []corev1.Container{{Name: proxyName, Image: "auto"}}
	ours["native"], ours["gateway"] = native, gateway
	for name, sent := range ours {
		pod, err := e.try(t.Context(), newest, sent)
		check(t, err)
		check(t, marked(pod, istiod.Version))
		if err := errors.Join(mounted(pod), keeps(sent, pod)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		theirs[name] = sent
	}
	for name, sent := range theirs {
		with, err := e.newestOf(t.Context(), newest, sent)
		check(t, err)
		without, err := e.newestOf(t.Context(), newestAlone, sent)
		check(t, err)
		if !reflect.DeepEqual(with, without) || with.token == canary {
			t.Errorf("%s: with us %+v, without %+v", name, with, without)
		}
	}
}

func (e *environment) newestOf(ctx context.Context, namespace string, sent *corev1.Pod) (*proxy, error) {
	pod, err := e.try(ctx, namespace, sent)
	if err != nil {
		return nil, err
	}
	return e.newestProxy(ctx, pod)
}

// A pod's own sampling is over the mesh's tracing, and loses nothing of it; over what was left behind it is not, and says so.
func testExplicit(t *testing.T, e *environment, m *mesh) {
	explicit := plain()
	explicit.Annotations["lightstep.com/sampling"] = "12.5"
	with, err := e.newestOf(t.Context(), newest, explicit)
	check(t, err)
	without, err := e.newestOf(t.Context(), newestAlone, plain())
	check(t, err)
	if m.own != "lightstep" {
		without.tracing["sampling"], without.config["tracing"] = 12.5, without.tracing
	}
	if !reflect.DeepEqual(with, without) {
		t.Errorf("with us %+v, wanted %+v", with, without)
	}
}

func testNewestOrder(t *testing.T, e *environment) {
	namespaces := []string{newest}
	for _, profile := range newestProfiles() {
		namespaces = append(namespaces, newest+"-"+profile)
	}
	property := order.Property{
		Ours: e.injector.URL(), Istio: e.istiod.URL(), Namespaces: namespaces, Placeholders: true,
		Answered: e.Answered, Certificate: e.ClientCertificate(t),
		Proxy:  func(ctx context.Context, pod *corev1.Pod) (any, error) { return e.newestProxy(ctx, pod) },
		Counts: func(found any) bool { p, ok := found.(*proxy); return ok && p.tracing != nil },
	}
	property.Check(t, 2**pods)
}
