package webhook

import (
	"encoding/json"
	"fmt"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

const testUID = "0df28fbd-5f5f-11e8-bc74-36e6bb280816"

// testReview is an AdmissionReview as the apiserver sends it for the creation of a pod.
func testReview(t testing.TB, object *corev1.Pod) []byte {
	t.Helper()
	object.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	dryRun := false
	pods := metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	return marshalReview(t, &admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID:             types.UID(testUID),
			Kind:            metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Resource:        pods,
			RequestKind:     &metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			RequestResource: &pods,
			Namespace:       "shop",
			Operation:       admissionv1.Create,
			UserInfo: authenticationv1.UserInfo{
				Username: "system:serviceaccount:kube-system:replicaset-controller",
				Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"},
			},
			Object:  runtime.RawExtension{Raw: raw},
			DryRun:  &dryRun,
			Options: runtime.RawExtension{Raw: []byte(`{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}`)},
		},
	})
}

func marshalReview(t testing.TB, review *admissionv1.AdmissionReview) []byte {
	t.Helper()
	body, err := json.Marshal(review)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// testPod is a Deployment's pod of two containers with some environment each, as an application has them.
func testPod(variables int) *corev1.Pod {
	controller := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "reviews-6f4b9c7d8-",
			Labels:       map[string]string{"app": "reviews", "version": "v1", "pod-template-hash": "6f4b9c7d8"},
			Annotations:  map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": "9080"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "reviews-6f4b9c7d8", UID: "a", Controller: &controller,
			}},
		},
		Spec: corev1.PodSpec{
			ServiceAccountName: "reviews",
			Containers:         []corev1.Container{testContainer("reviews", variables), testContainer("cache", variables)},
			Volumes: []corev1.Volume{{
				Name:         "tmp",
				VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}},
			}},
		},
	}
}

func testContainer(name string, variables int) corev1.Container {
	c := corev1.Container{
		Name:  name,
		Image: "docker.io/istio/examples-bookinfo-" + name + ":1.20.2",
		Ports: []corev1.ContainerPort{{ContainerPort: 9080}},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "tmp", MountPath: "/tmp"},
			{Name: "kube-api-access-x7x2p", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true},
		},
	}
	for i := range variables {
		c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_NUMBER_%03d", i), Value: fmt.Sprintf("value-%03d.of.this.setting.example.com", i)})
	}
	return c
}
