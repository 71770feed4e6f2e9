package order

import (
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func one[T any](g *rand.Rand, of ...T) T { return of[g.IntN(len(of))] }

// generate makes a pod with some of what touches either webhook.
func generate(g *rand.Rand, placeholders bool) *corev1.Pod {
	pod := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"app": "web"}, Annotations: map[string]string{}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.k8s.io/pause:3.10"}}},
	}
	for _, some := range []struct {
		percent int
		change  func()
	}{
		{30, func() {
			claim := &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data-web-0"}
			pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: claim}}}
			pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
		}},
		{20, func() {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "second", Image: "b"})
		}},
		{20, func() { pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "c"}} }},
		{5, func() { pod.Spec.HostNetwork = true }},
		{8, func() { pod.Annotations["sidecar.istio.io/inject"] = one(g, "false", "true", "yes", "no") }},
		{5, func() { pod.Labels["lightstep.com/inject"] = "false" }},
		{5, func() { pod.Labels["never"] = "" }}, // which an Istio may be told to leave alone
		{20, func() { pod.Annotations["lightstep.com/sampling"] = one(g, "1", "12.5", "0", "ten") }},
		{20, func() { pod.Annotations["lightstep.com/custom-tags"] = one(g, "a=b", "price=$(TOKEN)", "quote=\"") }},
		{40, func() {
			pod.Annotations["proxy.istio.io/config"] = one(g, "concurrency: 2", `{"drainDuration":"9s"}`, "drain_duration: 9s",
				"proxyMetadata:\n  A: \"b$(C)\"\n", "tracing: {sampling: 10}", `{"tracing":{"zipkin":{"address":"z:9411"}}}`,
				`{"tracing":{"zipkin":{"address":"z:9411"},"tlsSettings":{"mode":"SIMPLE","caCertificates":"/etc/lightstep/own.pem"}}}`,
				"tracing: {zipkin: {address: 'z:9411'}, tls_settings: {mode: SIMPLE, ca_certificates: /etc/own/ca.pem}}")
		}},
		{30, func() {
			pod.Annotations["sidecar.istio.io/userVolume"] = one(g, `{"extra":{"emptyDir":{}}}`, `[{"name":"extra","emptyDir":{}}]`)
			pod.Annotations["sidecar.istio.io/userVolumeMount"] = one(g, `{"extra":{"mountPath":"/extra"}}`, `[{"name":"extra","mountPath":"/extra"}]`)
		}},
		{10, func() { pod.Annotations["sidecar.istio.io/nativeSidecar"] = one(g, "true", "false") }},
	} {
		if g.IntN(100) < some.percent {
			some.change()
		}
	}
	if placeholders && g.IntN(100) < 20 {
		addPlaceholder(g, pod)
	}
	return pod
}

// addPlaceholder makes a pod a gateway, or gives it a sidecar of its own making.
func addPlaceholder(g *rand.Rand, pod *corev1.Pod) {
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "istio-proxy", Image: "auto"})
	if g.IntN(2) == 0 {
		pod.Annotations["inject.istio.io/templates"] = "gateway"
		return
	}
	pod.Annotations["sidecar.istio.io/nativeSidecar"] = "false" // a native one would stand elsewhere
}
