package meshes

import (
	"context"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// statefulSet makes one with volumes of its own, and returns the first pod that its controller creates, with these in it.
func (e *environment) statefulSet(t *testing.T, namespace string) *corev1.Pod {
	t.Helper()
	labels := map[string]string{"app": "db"}
	template := plain()
	template.Labels = labels
	template.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	template.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}, {Name: "scratch", MountPath: "/scratch"}}
	_, err := e.client.AppsV1().StatefulSets(namespace).Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			ServiceName: "db",
			Selector:    &metav1.LabelSelector{MatchLabels: labels},
			Template:    corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: template.Spec},
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: "data"},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
				},
			}},
		},
	}, metav1.CreateOptions{})
	check(t, err)
	var pod *corev1.Pod
	eventually(t, func(ctx context.Context) error {
		pod, err = e.client.CoreV1().Pods(namespace).Get(ctx, "db-0", metav1.GetOptions{})
		return err
	})
	check(t, keeps(template, pod))
	claimed := ""
	for _, volume := range pod.Spec.Volumes {
		if volume.Name == "data" && volume.PersistentVolumeClaim != nil {
			claimed = volume.PersistentVolumeClaim.ClaimName
		}
	}
	if claimed != "data-db-0" {
		t.Errorf("the pod's claim is %q", claimed)
	}
	return pod
}
