package tests

import (
	"context"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// workload creates one object in a namespace, which makes at least so many pods.
type workload struct {
	name   string
	pods   int
	create func(context.Context, kubernetes.Interface, string) error
}

func workloads() []workload {
	return []workload{
		{"Pod", 1, createPod},
		{"Deployment", 2, createDeployment},
		{"StatefulSet", 2, createStatefulSet},
		{"DaemonSet", 1, createDaemonSet},
		{"Job", 1, createJob},
	}
}

// Whatever makes the pods: those of a labelled namespace are injected, those of another are not touched.
func testKinds(t *testing.T, e *environment) {
	for _, w := range workloads() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			testWorkload(t, e, w)
		})
	}
}

// The controller makes a CronJob's first Job when the next minute begins.
func testCronJob(t *testing.T, e *environment) {
	testWorkload(t, e, workload{"CronJob", 1, createCronJob})
}

func testWorkload(t *testing.T, e *environment, w workload) {
	with, without := e.namespace(t, labelled(), nil), e.namespace(t, nil, nil)
	for _, namespace := range []string{with, without} {
		check(t, w.create(t.Context(), e.client, namespace))
	}
	eachPod(t, e.pods(t, with, w.pods), injectedAt(defaultPath))
	eachPod(t, e.pods(t, without, w.pods), untouched)
}

func createPod(ctx context.Context, client kubernetes.Interface, namespace string) error {
	_, err := client.CoreV1().Pods(namespace).Create(ctx, pod("web"), metav1.CreateOptions{})
	return err
}

func createDeployment(ctx context.Context, client kubernetes.Interface, namespace string) error {
	_, err := client.AppsV1().Deployments(namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.DeploymentSpec{Replicas: new(int32(2)), Selector: selector(), Template: template()},
	}, metav1.CreateOptions{})
	return err
}

func createStatefulSet(ctx context.Context, client kubernetes.Interface, namespace string) error {
	_, err := client.AppsV1().StatefulSets(namespace).Create(ctx, &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.StatefulSetSpec{Replicas: new(int32(2)), Selector: selector(), Template: template(), ServiceName: "web"},
	}, metav1.CreateOptions{})
	return err
}

func createDaemonSet(ctx context.Context, client kubernetes.Interface, namespace string) error {
	_, err := client.AppsV1().DaemonSets(namespace).Create(ctx, &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.DaemonSetSpec{Selector: selector(), Template: template()},
	}, metav1.CreateOptions{})
	return err
}

func createJob(ctx context.Context, client kubernetes.Interface, namespace string) error {
	_, err := client.BatchV1().Jobs(namespace).Create(ctx, &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       jobSpec(),
	}, metav1.CreateOptions{})
	return err
}

func createCronJob(ctx context.Context, client kubernetes.Interface, namespace string) error {
	_, err := client.BatchV1().CronJobs(namespace).Create(ctx, &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       batchv1.CronJobSpec{Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: jobSpec()}},
	}, metav1.CreateOptions{})
	return err
}

func jobSpec() batchv1.JobSpec {
	job := batchv1.JobSpec{Template: template()}
	job.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	return job
}

func selector() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
}

// The API server makes up such a pod's name after the webhook has seen it.
func testGenerateName(t *testing.T, e *environment) {
	namespace := e.namespace(t, labelled(), nil)
	unnamed := pod("")
	unnamed.GenerateName = "web-"
	check(t, injected(e.create(t, namespace, unnamed), defaultPath))
}
