// Package upgrade tests a canary upgrade from Istio 1.7.8 to the newest, both real, by revision labels.
package upgrade

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/istio17"
	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
)

const (
	root     = "../../.."
	deadline = time.Minute
	revision = "v1-7"
	shop     = "shop"
	// each is how many pods are wanted of each side, created without a pause.
	each = 30
)

// Pods are created all the while that their namespace goes from the old revision to the new: each gets what its own needs.
func TestUpgrade(t *testing.T) {
	client := setUp(t)
	count := map[string]int{}
	relabelled := false
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for count[istiod.Version] < each {
		check(t, ctx.Err())
		pod, err := create(ctx, client)
		check(t, err)
		version, err := holds(pod)
		if err != nil {
			t.Fatalf("after %v: %v\n%v", count, err, pod.Annotations)
		}
		count[version]++
		if count[istio17.Version] == each && !relabelled {
			relabelled = true
			change := []byte(`{"metadata":{"labels":{"istio.io/rev":null,"istio-injection":"enabled"}}}`)
			_, err := client.CoreV1().Namespaces().Patch(ctx, shop, types.MergePatchType, change, metav1.PatchOptions{})
			check(t, err)
		}
	}
	t.Logf("pods by the version of their sidecar: %v", count)
}

// holds tells the version of a pod's sidecar, by the real injectors' own marks, and whether the pod has what that needs.
func holds(pod *corev1.Pod) (version string, err error) {
	if pod.Annotations["sidecar.istio.io/status"] == "" {
		return "", fmt.Errorf("no injector of Istio's was there")
	}
	var proxy *corev1.Container
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == "istio-proxy" {
				proxy = &list[i]
			}
		}
	}
	if proxy == nil {
		return "", fmt.Errorf("there is no sidecar")
	}
	_, version, _ = strings.Cut(proxy.Image, ":")
	var config string
	for _, variable := range proxy.Env {
		if variable.Name == "PROXY_CONFIG" {
			config = variable.Value
		}
	}
	mounts := 0
	for _, mount := range proxy.VolumeMounts {
		if strings.TrimSuffix(mount.MountPath, "/") == "/etc/lightstep" {
			mounts++
		}
	}
	native := strings.Contains(config+pod.Annotations["proxy.istio.io/config"], `"lightstep"`)
	if mounts != 1 || native != (version == istio17.Version) {
		return "", fmt.Errorf("the sidecar of %s has %d mounts at /etc/lightstep, and the native tracer: %t", version, mounts, native)
	}
	return version, nil
}

func create(ctx context.Context, client kubernetes.Interface) (*corev1.Pod, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "web-"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.k8s.io/pause:3.10"}}},
	}
	return client.CoreV1().Pods(shop).Create(ctx, pod, metav1.CreateOptions{})
}

// setUp brings up the cluster with both control planes and the injector, and a namespace with the old revision.
func setUp(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	ctx := t.Context()
	run, err := cluster.NewRun(root)
	check(t, err)
	t.Cleanup(func() { check(t, run.Remove()) })
	progress := report.New(os.Stdout)
	compiling := func() { progress.Linef("Istio is built from source the first time: some minutes.") }
	control, err := cluster.Build(ctx, root, progress.Progress)
	check(t, err)
	older, err := istio17.Build(ctx, root, compiling)
	check(t, err)
	newest, err := istiod.Build(ctx, root, compiling)
	check(t, err)
	ours, err := injector.Build(ctx, root, run)
	check(t, err)
	c, err := cluster.Start(ctx, control, run)
	check(t, err)
	t.Cleanup(func() { check(t, c.Stop()) })
	quiet := rest.CopyConfig(c.Config)
	quiet.WarningHandler = rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(quiet)
	check(t, err)
	second, err := istiod.Start(ctx, c, run, newest, "testdata/values.yaml")
	check(t, err)
	t.Cleanup(func() { check(t, second.Stop()) })
	first, err := istio17.Start(ctx, root, c, run, older, istio17.Options{Revision: revision})
	check(t, err)
	t.Cleanup(func() { check(t, first.Stop()) })
	config := filepath.Join(run.Dir, "config.yaml")
	content, err := os.ReadFile("testdata/config.yaml")
	check(t, err)
	check(t, injector.WriteConfig(config, content))
	i, err := injector.New(ctx, c, run, injector.Options{Binary: ours, Config: config})
	check(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(process.Tail(i.LogFile(), 20))
		}
		i.Kill()
	})
	check(t, i.Start(ctx))
	makeNamespace(t, client)
	return client
}

// makeNamespace makes the namespace with its Secrets, and waits until pods there have the old revision's tracer.
func makeNamespace(t *testing.T, client *kubernetes.Clientset) {
	t.Helper()
	_, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: shop, Labels: map[string]string{"lightstep.com/injection": "enabled", "istio.io/rev": revision},
	}}, metav1.CreateOptions{})
	check(t, err)
	for secret, key := range map[string]string{"lightstep.cacert": "cacert.pem", "lightstep-access-token": "token"} {
		_, err := client.CoreV1().Secrets(shop).Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: secret}, StringData: map[string]string{key: "x"},
		}, metav1.CreateOptions{})
		check(t, err)
	}
	last := ""
	err = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, deadline, true, func(ctx context.Context) (bool, error) {
		pod, err := create(ctx, client)
		if pod == nil {
			last = fmt.Sprint(err)
			return false, nil
		}
		var status struct{ Tracer string }
		last = pod.Annotations["lightstep.com/status"]
		return json.Unmarshal([]byte(last), &status) == nil && status.Tracer == "lightstep", nil
	})
	if err != nil {
		t.Fatalf("no pod got the old revision's tracer: %v: %s", err, last)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
