package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// image is one that runs on real clusters, too.
const image = "registry.k8s.io/pause:3.10"

const (
	defaultPath = "/etc/lightstep" // of the profiles default and native
	secondPath  = "/etc/second"    // of the profile second
)

// podSpec is a pod of two containers, one of which has mounts already.
func podSpec() corev1.PodSpec {
	return corev1.PodSpec{
		Containers: []corev1.Container{
			{Name: "app", Image: image, VolumeMounts: []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}}},
			{Name: "helper", Image: image},
		},
		Volumes: []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
	}
}

func template() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}, Spec: podSpec()}
}

// pod is one to create.
func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "web"}}, Spec: podSpec()}
}

// create creates a pod and returns it as the API server has it.
func (e *environment) create(t *testing.T, namespace string, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	created, err := e.client.CoreV1().Pods(namespace).Create(t.Context(), p, metav1.CreateOptions{})
	check(t, err)
	return created
}

// tryPod returns what a pod created now would be, and creates none.
func (e *environment) tryPod(ctx context.Context, namespace string) (*corev1.Pod, error) {
	return e.client.CoreV1().Pods(namespace).Create(ctx, pod("tried"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

// triedTracing returns the tracing block that a pod created now would have.
func (e *environment) triedTracing(ctx context.Context, namespace string) (tracing, error) {
	tried, err := e.tryPod(ctx, namespace)
	if err != nil {
		return tracing{}, err
	}
	return tracingOf(tried)
}

// pods waits until a namespace has at least so many pods that run, or have run, and returns them.
func (e *environment) pods(t *testing.T, namespace string, least int) []corev1.Pod {
	t.Helper()
	var found []corev1.Pod
	eventually(t, func(ctx context.Context) error {
		list, err := e.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		found = slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
			return p.Status.Phase != corev1.PodRunning && p.Status.Phase != corev1.PodSucceeded
		})
		if len(found) < least {
			return fmt.Errorf("namespace %s has %d pods running of %d", namespace, len(found), least)
		}
		return nil
	})
	return found
}

// injected tells what a pod lacks of an injected one whose profile mounts at path.
func injected(p *corev1.Pod, path string) error {
	if p.Labels["lightstep.com/injected"] != "true" {
		return fmt.Errorf("pod %s/%s lacks the label lightstep.com/injected=true", p.Namespace, p.Name)
	}
	if !slices.ContainsFunc(p.Spec.Volumes, isSatelliteCA) {
		return fmt.Errorf("pod %s/%s lacks the volume lightstep-cacert of the optional Secret lightstep.cacert", p.Namespace, p.Name)
	}
	want := corev1.VolumeMount{Name: "lightstep-cacert", MountPath: path, ReadOnly: true}
	for _, container := range p.Spec.Containers {
		if !hasMount(&container, want) {
			return fmt.Errorf("pod %s/%s: container %s lacks the mount at %s; it has %v", p.Namespace, p.Name, container.Name, path, container.VolumeMounts)
		}
	}
	return nil
}

func hasMount(container *corev1.Container, want corev1.VolumeMount) bool {
	return slices.ContainsFunc(container.VolumeMounts, func(got corev1.VolumeMount) bool {
		return got.Name == want.Name && got.MountPath == want.MountPath && got.ReadOnly == want.ReadOnly && got.SubPath == want.SubPath
	})
}

func isSatelliteCA(v corev1.Volume) bool {
	return v.Name == "lightstep-cacert" && v.Secret != nil && v.Secret.SecretName == "lightstep.cacert" &&
		v.Secret.Optional != nil && *v.Secret.Optional
}

// untouched tells what of ours a pod has, where it should have nothing.
func untouched(p *corev1.Pod) error {
	for key := range p.Labels {
		if strings.HasPrefix(key, "lightstep.com/injected") {
			return fmt.Errorf("pod %s/%s has the label %s", p.Namespace, p.Name, key)
		}
	}
	for key := range p.Annotations {
		if key == "lightstep.com/status" || strings.Contains(key, "istio.io/") {
			return fmt.Errorf("pod %s/%s has the annotation %s", p.Namespace, p.Name, key)
		}
	}
	spec, err := json.Marshal(p.Spec)
	if err != nil {
		return err
	}
	if strings.Contains(string(spec), "lightstep") {
		return fmt.Errorf("pod %s/%s has something of ours in its spec: %s", p.Namespace, p.Name, spec)
	}
	return nil
}

// eachPod applies a check to every pod.
func eachPod(t *testing.T, pods []corev1.Pod, check func(*corev1.Pod) error) {
	t.Helper()
	for i := range pods {
		if err := check(&pods[i]); err != nil {
			t.Error(err)
		}
	}
}

func injectedAt(path string) func(*corev1.Pod) error {
	return func(p *corev1.Pod) error { return injected(p, path) }
}

// warningsOf returns the codes in a pod's status annotation.
func warningsOf(p *corev1.Pod) ([]string, error) {
	var status struct {
		Warnings []string `json:"warnings"`
	}
	err := json.Unmarshal([]byte(p.Annotations["lightstep.com/status"]), &status)
	return status.Warnings, err
}

// tracing is the part of the annotation proxy.istio.io/config that is ours.
type tracing struct {
	Lightstep   struct{ Address, AccessToken string }
	Sampling    float64
	TLSSettings struct{ Mode, CaCertificates string }
}

func tracingOf(p *corev1.Pod) (tracing, error) {
	var config struct{ Tracing *tracing }
	if err := json.Unmarshal([]byte(p.Annotations["proxy.istio.io/config"]), &config); err != nil {
		return tracing{}, fmt.Errorf("pod %s/%s: annotation proxy.istio.io/config: %w", p.Namespace, p.Name, err)
	}
	if config.Tracing == nil {
		return tracing{}, fmt.Errorf("pod %s/%s: annotation proxy.istio.io/config has no tracing block", p.Namespace, p.Name)
	}
	return *config.Tracing, nil
}
