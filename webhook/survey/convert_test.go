package survey

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/webhook"
)

// A pod that came as protobuf is to the rules what it is to the webhook, which is sent JSON.
func TestPodOf(t *testing.T) {
	secret := &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "k"}}
	container := func(name string) corev1.Container {
		return corev1.Container{
			Name: name, Image: "image:1", RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
			Env: []corev1.EnvVar{
				{Name: "A", Value: "1"}, {Name: "B", ValueFrom: secret}, {Name: "C", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
			},
			EnvFrom:      []corev1.EnvFromSource{{Prefix: "P"}},
			VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/m", SubPath: "s"}},
		}
	}
	for name, pod := range map[string]*corev1.Pod{
		"empty": {},
		"full": {
			ObjectMeta: metav1.ObjectMeta{
				Name: "p", GenerateName: "g-", Namespace: "shop", Labels: map[string]string{"l": "1"}, Annotations: map[string]string{"a": "1"},
				OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "r", Controller: new(true)}, {Kind: "Job", Name: "j"}},
			},
			Spec: corev1.PodSpec{
				HostNetwork: true, OS: &corev1.PodOS{Name: "windows"}, NodeSelector: map[string]string{"n": "1"},
				Volumes: []corev1.Volume{
					{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", Items: []corev1.KeyToPath{{Key: "k", Path: "p"}}}}},
					{Name: "w", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}},
					{Name: "e"},
				},
				Containers: []corev1.Container{container("app"), container("istio-proxy"), {Name: "bare"}}, InitContainers: []corev1.Container{container("istio-proxy")},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := json.Marshal(pod)
			if err != nil {
				t.Fatal(err)
			}
			want, err := webhook.DecodePod(raw)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, podOf(pod), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("as JSON (-), as protobuf (+):\n%s", diff)
			}
		})
	}
}
