package istiod

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
)

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
	check(t, err)
	if _, asked := pod.Annotations[mountsAnnotation]; asked != want {
		t.Errorf("our webhook is called before Istio's: %t", asked)
	}
}

func (e *environment) effects(t *testing.T, namespace string) map[string]effect {
	t.Helper()
	effects := map[string]effect{}
	for _, c := range podCases() {
		pod, err := e.try(t.Context(), namespace, c)
		check(t, err)
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

// random tells the volume that the API server makes up for the service account's token.
func random(volume string) bool { return strings.HasPrefix(volume, "kube-api-access-") }

// renameOurs registers our webhook under the name that sorts last, and returns when only that is in force.
func (e *environment) renameOurs(t *testing.T) {
	t.Helper()
	configurations := e.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	first, err := configurations.Get(t.Context(), firstName, metav1.GetOptions{})
	check(t, err)
	check(t, configurations.Delete(t.Context(), firstName, metav1.DeleteOptions{}))
	e.waitForOurs(t, false)
	last := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: lastName}, Webhooks: first.Webhooks}
	_, err = configurations.Create(t.Context(), last, metav1.CreateOptions{})
	check(t, err)
	e.waitForOurs(t, true)
}

// waitForOurs waits until the API server calls our webhook, or no longer does.
func (e *environment) waitForOurs(t *testing.T, want bool) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
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
