package istio126

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
)

const (
	volumeName = "lightstep-cacert"
	mountPath  = "/etc/lightstep"
	proxyName  = "istio-proxy"
)

// holds tells what of a pod is not as it has to be. Istio's own mark comes first: without it nothing else counts.
func (e *environment) holds(ctx context.Context, pod *corev1.Pod) error {
	if err := marked(pod); err != nil {
		return err
	}
	_, err := e.proxyOf(ctx, pod)
	errs := []error{oneVolume(pod), err}
	for _, c := range pod.Spec.Containers {
		errs = append(errs, oneMount(&c))
	}
	return errors.Join(errs...)
}

// marked checks the real injector's own marks: its status annotation, and its release's image, in a plain container.
func marked(pod *corev1.Pod) error {
	var status struct{ Revision string }
	if err := json.Unmarshal([]byte(pod.Annotations["sidecar.istio.io/status"]), &status); err != nil {
		return fmt.Errorf("annotation sidecar.istio.io/status: %w", err)
	}
	proxy := container(pod, proxyName)
	if status.Revision != "default" || proxy == nil {
		return fmt.Errorf("the revision is %q, and there is a plain container %s: %t", status.Revision, proxyName, proxy != nil)
	}
	if want := "docker.io/istio/proxyv2:" + istiod.Middle; proxy.Image != want {
		return fmt.Errorf("the image of %s is %s, not %s", proxyName, proxy.Image, want)
	}
	return nil
}

func container(pod *corev1.Pod, name string) *corev1.Container {
	index := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == name })
	if index < 0 {
		return nil
	}
	return &pod.Spec.Containers[index]
}

func oneVolume(pod *corev1.Pod) error {
	var found []string
	for _, volume := range pod.Spec.Volumes {
		if volume.Name == volumeName || volume.Secret != nil && volume.Secret.SecretName == "lightstep.cacert" {
			found = append(found, volume.Name)
		}
	}
	if len(found) != 1 || found[0] != volumeName {
		return fmt.Errorf("the volumes of the satellite CA are %q", found)
	}
	return nil
}

func oneMount(c *corev1.Container) error {
	var found []corev1.VolumeMount
	for _, mount := range c.VolumeMounts {
		if path.Clean(mount.MountPath) == mountPath || mount.Name == volumeName {
			found = append(found, mount)
		}
	}
	if len(found) != 1 || found[0].Name != volumeName || found[0].MountPath != mountPath || !found[0].ReadOnly {
		return fmt.Errorf("container %s: want one mount of %s at %s, read-only; it has %+v", c.Name, volumeName, mountPath, found)
	}
	return nil
}

// proxy is what a pod's would be told, as far as tracing goes.
type proxy struct {
	// config is the effective ProxyConfig.
	config map[string]any
	// tracer is the bootstrap's.
	tracer string
}

// proxyOf reads what Istio itself makes of a pod. A tracer of Lightstep's, with which no proxy of the release starts, is an
// error, and so is a cluster or a token of one.
func (e *environment) proxyOf(ctx context.Context, pod *corev1.Pod) (*proxy, error) {
	made, err := e.agent.Bootstrap(ctx, pod, map[string]string{"lightstep-access-token/token": token})
	if err != nil {
		return nil, err
	}
	p := &proxy{}
	var envoy struct {
		Tracing   struct{ HTTP struct{ Name string } }
		Resources struct{ Clusters []struct{ Name string } } `json:"static_resources"`
	}
	if err := errors.Join(json.Unmarshal(made.ProxyConfig, &p.config), json.Unmarshal(made.Bootstrap, &envoy)); err != nil {
		return nil, err
	}
	p.tracer = envoy.Tracing.HTTP.Name
	for _, cluster := range envoy.Resources.Clusters {
		if cluster.Name == "lightstep" {
			return nil, errors.New("the bootstrap has a cluster of Lightstep's tracer")
		}
	}
	if strings.Contains(p.tracer, "lightstep") || made.Token != "" {
		return nil, fmt.Errorf("the bootstrap's tracer is %s, its token's file holds %q", p.tracer, made.Token)
	}
	return p, nil
}
