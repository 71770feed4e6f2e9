package main

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The demo ends well, on the very files that it shows.
func TestDemo(t *testing.T) {
	if code := run([]string{"--root", "../../.."}); code != 0 {
		t.Errorf("the demo ends with %d", code)
	}
}

func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{
		{"--no-such-flag"},
		{"--kubeconfig", "config"},
		{"--webhook-host", "192.0.2.10"},
	} {
		if code := run(args); code != 2 {
			t.Errorf("demo %q ends with %d, not 2", args, code)
		}
	}
}

const token = "a-token"

// A pod that is as it should be passes, and each thing that could be wrong with it is seen.
func TestChecksSeeWhatIsWrong(t *testing.T) {
	d := &demo{token: token}
	if errs := d.wantsTracer(goodPod()); len(errs) > 0 {
		t.Fatalf("a good pod is refused: %v", errs)
	}
	for name, spoil := range map[string]func(*corev1.Pod){
		"no label":            func(p *corev1.Pod) { p.Labels = nil },
		"no status":           func(p *corev1.Pod) { delete(p.Annotations, statusAnnotation) },
		"no mount for Istio":  func(p *corev1.Pod) { delete(p.Annotations, userVolumeMount) },
		"no volume":           func(p *corev1.Pod) { p.Spec.Volumes = nil },
		"volume not optional": func(p *corev1.Pod) { p.Spec.Volumes[0].Secret.Optional = new(false) },
		"one mount missing":   func(p *corev1.Pod) { p.Spec.Containers[1].VolumeMounts = nil },
		"mount elsewhere":     func(p *corev1.Pod) { p.Spec.Containers[0].VolumeMounts[0].MountPath = "/etc" },
		"no tracing":          func(p *corev1.Pod) { delete(p.Annotations, proxyConfig) },
		"another token":       func(p *corev1.Pod) { p.Annotations[proxyConfig] = tracingBlock("x", "100", "SIMPLE") },
		"another sampling":    func(p *corev1.Pod) { p.Annotations[proxyConfig] = tracingBlock(token, "1", "SIMPLE") },
		"no TLS":              func(p *corev1.Pod) { p.Annotations[proxyConfig] = tracingBlock(token, "100", "DISABLE") },
	} {
		p := goodPod()
		spoil(p)
		if errs := d.wantsTracer(p); len(errs) == 0 {
			t.Errorf("%s: nothing is found wrong", name)
		}
	}
}

func TestUntouchedHasNothingOfOurs(t *testing.T) {
	d := &demo{}
	if errs := d.wantsUntouched(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}}); len(errs) > 0 {
		t.Errorf("an untouched pod is refused: %v", errs)
	}
	if errs := d.wantsUntouched(goodPod()); len(errs) == 0 {
		t.Error("an injected pod is taken for an untouched one")
	}
}

func goodPod() *corev1.Pod {
	mount := corev1.VolumeMount{Name: volumeName, MountPath: mountPath, ReadOnly: true}
	secret := &corev1.SecretVolumeSource{SecretName: secretName, Optional: new(true)}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Labels: map[string]string{injectedLabel: "true"},
			Annotations: map[string]string{
				statusAnnotation: `{"tracer": "lightstep"}`,
				userVolumeMount:  `{"lightstep-cacert": {"mountPath": "/etc/lightstep"}}`,
				proxyConfig:      tracingBlock(token, "100", "SIMPLE"),
			},
		},
		Spec: corev1.PodSpec{
			Volumes: []corev1.Volume{{Name: volumeName, VolumeSource: corev1.VolumeSource{Secret: secret}}},
			Containers: []corev1.Container{
				{Name: "app", VolumeMounts: []corev1.VolumeMount{mount}},
				{Name: "helper", VolumeMounts: []corev1.VolumeMount{mount}},
			},
		},
	}
}

func tracingBlock(token, sampling, tls string) string {
	return `{"tracing": {"lightstep": {"address": "` + satellite + `", "accessToken": "` + token + `"}, "sampling": ` + sampling +
		`, "tlsSettings": {"mode": "` + tls + `", "caCertificates": "` + caFile + `"}}}`
}
