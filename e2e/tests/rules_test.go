package tests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

const optOut = "lightstep.com/inject"

func testOptOut(t *testing.T, e *environment) {
	namespace := e.namespace(t, labelled(), nil)
	out := pod("out")
	out.Labels[optOut] = "false"
	check(t, untouched(e.create(t, namespace, out)))
}

// As an annotation it does nothing, and the user is told.
func testOptOutAsAnnotation(t *testing.T, e *environment) {
	namespace := e.namespace(t, labelled(), nil)
	client, warnings := e.clientWithWarnings(t)
	in := pod("in")
	in.Annotations = map[string]string{optOut: "false"}
	created, err := client.CoreV1().Pods(namespace).Create(t.Context(), in, metav1.CreateOptions{})
	check(t, err)
	check(t, injected(created, defaultPath))
	if !slices.ContainsFunc(warnings.all(), func(w string) bool { return strings.Contains(w, optOut) }) {
		t.Errorf("no warning names %s; there are %q", optOut, warnings.all())
	}
}

// warningRecorder keeps what the API server tells kubectl's users.
type warningRecorder struct {
	mutex sync.Mutex
	texts []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (r *warningRecorder) HandleWarningHeader(_ int, _, text string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.texts = append(r.texts, text)
}

func (r *warningRecorder) all() []string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return slices.Clone(r.texts)
}

func (e *environment) clientWithWarnings(t *testing.T) (*kubernetes.Clientset, *warningRecorder) {
	t.Helper()
	config, recorder := rest.CopyConfig(e.cluster.Config), &warningRecorder{}
	config.WarningHandler = recorder
	client, err := kubernetes.NewForConfig(config)
	check(t, err)
	return client, recorder
}

// A pod that leaves no room for what is to be added is created all the same, with all that is the user's as it was.
func testConflicts(t *testing.T, e *environment) {
	for name, test := range map[string]struct {
		change  func(*corev1.Pod)
		warning string
	}{
		"VolumeOfOurName": {func(p *corev1.Pod) {
			p.Spec.Volumes = append(p.Spec.Volumes, emptyDir("lightstep-cacert"))
		}, "VolumeConflict"},
		"MountAtOurPath": {func(p *corev1.Pod) {
			p.Spec.Containers[0].VolumeMounts[0].MountPath = defaultPath
		}, "MountConflict"},
		"MountAboveOurPath": {func(p *corev1.Pod) {
			p.Spec.Containers[0].VolumeMounts[0].MountPath = "/etc"
		}, "MountConflict"},
		"BrokenUserVolumeMount": {func(p *corev1.Pod) {
			p.Annotations = map[string]string{"sidecar.istio.io/userVolumeMount": "{"}
		}, "UserVolumeMountInvalid"},
		"BrokenProxyConfig": {func(p *corev1.Pod) {
			p.Annotations = map[string]string{"proxy.istio.io/config": "tracing: ["}
		}, "ProxyConfigInvalid"},
		"TracingOfTheirOwn": {func(p *corev1.Pod) {
			p.Annotations = map[string]string{"proxy.istio.io/config": "tracing: {zipkin: {address: 'zipkin:9411'}}"}
		}, "UserTracing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sent := pod("conflict")
			test.change(sent)
			got := e.create(t, e.nativeNamespace(t), sent)
			check(t, keeps(got, sent))
			if codes, err := warningsOf(got); err != nil || !slices.Contains(codes, test.warning) {
				t.Errorf("the status has the warnings %q (%v), not %s", codes, err, test.warning)
			}
		})
	}
}

func emptyDir(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
}

// keeps tells what of a pod's annotations, volumes and mounts, as sent, is missing from what it became.
func keeps(got, sent *corev1.Pod) error {
	var errs []error
	for key, value := range sent.Annotations {
		if got.Annotations[key] != value {
			errs = append(errs, fmt.Errorf("annotation %s became %q", key, got.Annotations[key]))
		}
	}
	for _, want := range sent.Spec.Volumes {
		if !slices.ContainsFunc(got.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == want.Name && v.EmptyDir != nil }) {
			errs = append(errs, fmt.Errorf("volume %s is gone or has another source", want.Name))
		}
	}
	for i, container := range sent.Spec.Containers {
		for _, want := range container.VolumeMounts {
			if !hasMount(&got.Spec.Containers[i], want) {
				errs = append(errs, fmt.Errorf("container %s lost the mount at %s", container.Name, want.MountPath))
			}
		}
	}
	return errors.Join(errs...)
}

// Each namespace's pods get its own profile, also while others are being asked for.
func testProfiles(t *testing.T, e *environment) {
	first, second := e.namespace(t, labelled(), nil), e.namespace(t, labelled(), profile("second"))
	for i := range 10 {
		name := fmt.Sprintf("web-%d", i)
		check(t, injected(e.create(t, first, pod(name)), defaultPath))
		check(t, injected(e.create(t, second, pod(name)), secondPath))
	}
}

// A pod of a mesh of Istio 1.7 carries the whole tracing block, and its owner's sampling where that is allowed.
func testNativeTracer(t *testing.T, e *environment) {
	namespace := e.nativeNamespace(t)
	plain, own := pod("plain"), pod("own")
	own.Annotations = map[string]string{"lightstep.com/sampling": "5"}
	for p, sampling := range map[*corev1.Pod]float64{plain: 25, own: 5} {
		created := e.create(t, namespace, p)
		check(t, injected(created, defaultPath))
		got, err := tracingOf(created)
		check(t, err)
		want := tracing{Sampling: sampling}
		want.Lightstep.Address, want.Lightstep.AccessToken = "native.example.com:9292", canary
		want.TLSSettings.Mode, want.TLSSettings.CaCertificates = "SIMPLE", defaultPath+"/cacert.pem"
		if got != want {
			t.Errorf("pod %s has the tracing block %+v, not %+v", p.Name, got, want)
		}
	}
}

// Without the satellite CA there is no tracer, since it would have to do without TLS: the pod is created, and says so.
func testCAMissing(t *testing.T, e *environment) {
	namespace := e.namespace(t, labelled(), profile("native"))
	created := e.create(t, namespace, pod("web"))
	check(t, injected(created, defaultPath))
	if got, err := tracingOf(created); err == nil {
		t.Errorf("there is a tracing block: %+v", got)
	}
	if codes, err := warningsOf(created); err != nil || !slices.Contains(codes, "CAMissing") {
		t.Errorf("the status has the warnings %q (%v), not CAMissing", codes, err)
	}

	e.addSatelliteCA(t, namespace)
	eventually(t, func(ctx context.Context) error {
		_, err := e.triedTracing(ctx, namespace)
		return err
	})
}

// kubectl --dry-run=server answers with the pod as it would be, and nothing changes anywhere.
func testDryRun(t *testing.T, e *environment) {
	namespace := e.namespace(t, labelled(), nil)
	// Whatever else a new namespace is given comes by itself: wait for it, so that it is not taken for a change.
	eventually(t, func(ctx context.Context) error {
		_, err := e.client.CoreV1().ConfigMaps(namespace).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		return err
	})
	before := e.contents(t, namespace)

	dry := pod("dry")
	dry.APIVersion, dry.Kind = "v1", "Pod"
	manifest, err := yaml.Marshal(dry)
	check(t, err)
	output := e.kubectl(t, string(manifest), "create", "--namespace", namespace, "--dry-run=server", "--output=yaml", "--filename=-")
	var answered corev1.Pod
	check(t, yaml.Unmarshal(output, &answered))
	check(t, injected(&answered, defaultPath))

	if after := e.contents(t, namespace); !slices.Equal(before, after) {
		t.Errorf("a dry run changed the cluster:\nbefore %q\nafter  %q", before, after)
	}
}

// contents lists, with their versions, the objects that a webhook might have a hand in: those of the namespace and of
// the injector's own, the namespace itself, and the webhook configuration.
func (e *environment) contents(t *testing.T, namespace string) []string {
	t.Helper()
	resources := "pods,secrets,configmaps,serviceaccounts,services,events,roles,rolebindings,leases"
	var all []string
	for _, args := range [][]string{
		{resources, "--namespace", namespace},
		{"configmaps,serviceaccounts,services,roles,rolebindings", "--namespace", "lightstep-system"}, // the Lease is renewed in any case
		{"mutatingwebhookconfigurations"},
		{"namespace", namespace},
	} {
		columns := "--output=custom-columns=:.kind,:.metadata.name,:.metadata.resourceVersion"
		output := e.kubectl(t, "", append([]string{"get", "--no-headers", "--ignore-not-found", columns}, args...)...)
		all = append(all, strings.Split(string(output), "\n")...)
	}
	return all
}

// kubectl runs the real one and returns what it writes.
func (e *environment) kubectl(t *testing.T, input string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.cluster.Kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.cluster.Kubeconfig, "KUBECACHEDIR="+filepath.Join(e.dir, "kube-cache"))
	cmd.Stdin = strings.NewReader(input)
	var problems strings.Builder
	cmd.Stderr = &problems
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, problems.String())
	}
	return output
}

// A namespace that is labelled later: pods that are there stay as they are, new ones are injected.
func testLabelledLater(t *testing.T, e *environment) {
	namespace := e.namespace(t, nil, nil)
	check(t, createDeployment(t.Context(), e.client, namespace))
	old := e.pods(t, namespace, 2)
	eachPod(t, old, untouched)

	label := []byte(`{"metadata":{"labels":{"lightstep.com/injection":"enabled"}}}`)
	_, err := e.client.CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, label, metav1.PatchOptions{})
	check(t, err)
	eventually(t, func(ctx context.Context) error { // the API server sees the label by a watch of its own
		tried, err := e.tryPod(ctx, namespace)
		if err != nil {
			return err
		}
		return injected(tried, defaultPath)
	})
	scale := []byte(`{"spec":{"replicas":4}}`)
	_, err = e.client.AppsV1().Deployments(namespace).Patch(t.Context(), "web", types.MergePatchType, scale, metav1.PatchOptions{})
	check(t, err)

	wasThere := map[types.UID]bool{}
	for _, p := range old {
		wasThere[p.UID] = true
	}
	eachPod(t, e.pods(t, namespace, 4), func(p *corev1.Pod) error {
		if wasThere[p.UID] {
			return untouched(p)
		}
		return injected(p, defaultPath)
	})
}
