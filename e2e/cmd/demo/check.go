package main

import (
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const (
	injectedLabel    = "lightstep.com/injected"
	statusAnnotation = "lightstep.com/status"
	proxyConfig      = "proxy.istio.io/config"
	userVolumeMount  = "sidecar.istio.io/userVolumeMount"

	volumeName = "lightstep-cacert"
	mountPath  = "/etc/lightstep"
	caFile     = mountPath + "/" + secretKey
	satellite  = "lightstep-satellite.lightstep:9292"
)

// status is the annotation lightstep.com/status.
type status struct {
	Tracer   string   `json:"tracer"`
	Warnings []string `json:"warnings"`
}

func statusOf(pod *corev1.Pod) (status, error) {
	var s status
	err := json.Unmarshal([]byte(pod.Annotations[statusAnnotation]), &s)
	return s, err
}

// tracing is the part of Istio's ProxyConfig that is written for 1.7.
type tracing struct {
	Lightstep struct {
		Address     string `json:"address"`
		AccessToken string `json:"accessToken"`
	} `json:"lightstep"`
	Sampling    float64 `json:"sampling"`
	TLSSettings struct {
		Mode           string `json:"mode"`
		CACertificates string `json:"caCertificates"`
	} `json:"tlsSettings"`
}

func tracingOf(pod *corev1.Pod) (*tracing, error) {
	var config struct {
		Tracing *tracing `json:"tracing"`
	}
	err := yaml.Unmarshal([]byte(pod.Annotations[proxyConfig]), &config)
	return config.Tracing, err
}

// hasMount tells whether a container has the satellite CA.
func hasMount(container *corev1.Container) bool {
	for _, mount := range container.VolumeMounts {
		if mount.Name == volumeName && mount.MountPath == mountPath && mount.ReadOnly {
			return true
		}
	}
	return false
}

// mounted counts the containers that have the satellite CA.
func mounted(pod *corev1.Pod) int {
	count := 0
	for i := range pod.Spec.Containers {
		if hasMount(&pod.Spec.Containers[i]) {
			count++
		}
	}
	return count
}

// wantsUntouched: a pod of an unlabelled namespace has nothing of ours.
func (d *demo) wantsUntouched(pod *corev1.Pod) []error {
	text, err := json.Marshal(pod)
	if err != nil {
		return []error{err}
	}
	var errs []error
	for _, ours := range []string{"lightstep.com/", "istio.io/", volumeName, mountPath} {
		if strings.Contains(string(text), ours) {
			errs = append(errs, fmt.Errorf("has %q in it", ours))
		}
	}
	return errs
}

// wantsMount: an injected pod has the satellite CA in every container.
func (d *demo) wantsMount(pod *corev1.Pod) []error {
	var errs []error
	if pod.Labels[injectedLabel] != "true" {
		errs = append(errs, fmt.Errorf("lacks the label %s=true", injectedLabel))
	}
	if n := mounted(pod); n != len(pod.Spec.Containers) {
		errs = append(errs, fmt.Errorf("has the satellite CA in %d of %d containers", n, len(pod.Spec.Containers)))
	}
	if !hasVolume(pod) {
		errs = append(errs, fmt.Errorf("lacks the volume %s of the Secret %s, optional", volumeName, secretName))
	}
	if _, err := statusOf(pod); err != nil {
		errs = append(errs, fmt.Errorf("annotation %s: %w", statusAnnotation, err))
	}
	return errs
}

func hasVolume(pod *corev1.Pod) bool {
	for _, volume := range pod.Spec.Volumes {
		if volume.Name == volumeName && volume.Secret != nil {
			return volume.Secret.SecretName == secretName && volume.Secret.Optional != nil && *volume.Secret.Optional
		}
	}
	return false
}

// wantsTracer: for Istio 1.7 there is the whole tracing block beside the mount, which is offered to the sidecar to come.
func (d *demo) wantsTracer(pod *corev1.Pod) []error {
	errs := d.wantsMount(pod)
	if !strings.Contains(pod.Annotations[userVolumeMount], volumeName) {
		errs = append(errs, fmt.Errorf("lacks the annotation %s", userVolumeMount))
	}
	block, err := tracingOf(pod)
	if err != nil || block == nil {
		return append(errs, fmt.Errorf("annotation %s has no tracing block (%w)", proxyConfig, err))
	}
	for _, field := range []struct {
		name      string
		got, want any
	}{
		{"lightstep.address", block.Lightstep.Address, satellite},
		{"lightstep.accessToken", block.Lightstep.AccessToken, d.token},
		{"sampling", block.Sampling, 100.0},
		{"tlsSettings.mode", block.TLSSettings.Mode, "SIMPLE"},
		{"tlsSettings.caCertificates", block.TLSSettings.CACertificates, caFile},
	} {
		if field.got != field.want {
			errs = append(errs, fmt.Errorf("annotation %s: tracing.%s is %v, not %v", proxyConfig, field.name, field.got, field.want))
		}
	}
	return errs
}
