package istiod

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/order"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

var pods = flag.Int("pods", 1000, "how many pods to generate")

const (
	firstName = "0-lightstep-injector"
	lastName  = "zz-lightstep-injector"
)

// effect is what matters of a pod, whatever the order of its lists.
type effect struct {
	volumes map[string]corev1.Volume
	mounts  map[string]corev1.VolumeMount
	// settings are the two layers of the effective ProxyConfig that a pod has.
	settings [2]string
}

// Called before Istio's webhook or after it, ours has the same effect.
func testOrder(t *testing.T, e *environment) {
	if firstName >= istiod.InjectorConfiguration || lastName <= istiod.InjectorConfiguration {
		t.Fatal("the names do not sort around Istio's")
	}
	e.namespace(t, "order", labelled())
	e.namespace(t, "order-no-mesh", map[string]string{"lightstep.com/injection": "enabled"})
	e.wantsCalledFirst(t, true)
	before := e.effects(t, "order")
	e.renameOurs(t)
	e.wantsCalledFirst(t, false)
	after := e.effects(t, "order")
	t.Run("Generated", func(t *testing.T) { testGenerated(t, e) })
	for name := range before {
		if !reflect.DeepEqual(before[name], after[name]) {
			t.Errorf("%s: called before Istio's webhook:\n%+v\nand after it:\n%+v", name, before[name], after[name])
		}
	}
}

// wantsCalledFirst: called first, ours asks Istio for the sidecar's mount, by an annotation; called after it, it makes it.
func (e *environment) wantsCalledFirst(t *testing.T, want bool) {
	t.Helper()
	pod, err := e.try(t.Context(), "order", podCase{})
	stage.Check(t, err)
	if _, asked := pod.Annotations[mountsAnnotation]; asked != want {
		t.Errorf("our webhook is called before Istio's: %t", asked)
	}
}

func (e *environment) effects(t *testing.T, namespace string) map[string]effect {
	t.Helper()
	effects := map[string]effect{}
	for _, c := range podCases() {
		pod, err := e.try(t.Context(), namespace, c)
		stage.Check(t, err)
		if err := c.holds(pod); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		effects[c.name] = effectOf(pod)
	}
	return effects
}

func effectOf(pod *corev1.Pod) effect {
	found := effect{volumes: map[string]corev1.Volume{}, mounts: map[string]corev1.VolumeMount{}}
	for _, volume := range pod.Spec.Volumes {
		if !random(volume.Name) {
			found.volumes[volume.Name] = volume
		}
	}
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, mount := range container.VolumeMounts {
			if !random(mount.Name) {
				found.mounts[container.Name+":"+mount.MountPath] = mount
			}
		}
		if container.Name == proxyName {
			found.settings = [2]string{env(&container, "PROXY_CONFIG"), pod.Annotations[configAnnotation]}
		}
	}
	return found
}

// The same over generated pods, called in every order past the API server: ours and Istio's once, and twice.
func testGenerated(t *testing.T, e *environment) {
	property := order.Property{
		Ours: e.injector.URL(), Istio: e.istiod.URL(), Namespaces: []string{"order"}, Placeholders: true,
		Answered: e.Answered,
		Proxy:    func(_ context.Context, pod *corev1.Pod) (any, error) { return effective(pod) },
		Counts:   func(proxy any) bool { return proxy != nil },
	}
	property.Check(t, *pods)
}

// effective is the ProxyConfig that the two layers of a pod give: the annotation's fields take the place of those in
// PROXY_CONFIG (istio@1.31.0 pkg/config/mesh ApplyProxyConfig).
func effective(pod *corev1.Pod) (map[string]any, error) {
	merged := map[string]any{}
	for _, layer := range effectOf(pod).settings {
		var fields map[string]any
		if err := yaml.Unmarshal([]byte(layer), &fields); err != nil {
			return nil, fmt.Errorf("read %q: %w", layer, err)
		}
		if old, ok := fields["drain_duration"]; ok { // the one name that the generated pods write in snake case
			delete(fields, "drain_duration")
			fields["drainDuration"] = old
		}
		maps.Copy(merged, fields)
	}
	return merged, nil
}

// random tells the volume that the API server makes up for the service account's token.
func random(volume string) bool { return strings.HasPrefix(volume, "kube-api-access-") }

// renameOurs registers our webhook under the name that sorts last, and returns when only that is in force.
func (e *environment) renameOurs(t *testing.T) {
	t.Helper()
	configurations := e.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	first, err := configurations.Get(t.Context(), firstName, metav1.GetOptions{})
	stage.Check(t, err)
	stage.Check(t, configurations.Delete(t.Context(), firstName, metav1.DeleteOptions{}))
	e.waitForOurs(t, false)
	last := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: lastName}, Webhooks: first.Webhooks}
	_, err = configurations.Create(t.Context(), last, metav1.CreateOptions{})
	stage.Check(t, err)
	e.waitForOurs(t, true)
}

// waitForOurs waits until the API server calls our webhook, or no longer does.
func (e *environment) waitForOurs(t *testing.T, want bool) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		pod, err := e.try(ctx, "order-no-mesh", podCase{})
		if err != nil {
			return err
		}
		if called := pod.Labels["lightstep.com/injected"] == "true"; called != want {
			return fmt.Errorf("our webhook is called: %t", called)
		}
		return nil
	})
}
