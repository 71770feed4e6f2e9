package webhook

import (
	"context"
	"encoding/json"
	"net/http"
	"path"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject/injecttest"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// usual is the way that most webhooks go: controller-runtime decodes the review, and then the pod, into the types of
// k8s.io/api; the pod is changed in place and encoded again; and a generic diff of the two texts is the patch. It asks
// the real core what to do and does it in its own way: an oracle for decode.go and patch.go, and what the benchmarks
// compare with.
type usual struct {
	decoder  ctrladmission.Decoder
	snapshot *inject.Snapshot
}

func newUsual(t testing.TB, snapshot *inject.Snapshot) http.Handler {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	log.SetLogger(logr.Discard())
	return &ctrladmission.Webhook{Handler: &usual{ctrladmission.NewDecoder(scheme), snapshot}}
}

// Handle answers one request.
func (u *usual) Handle(_ context.Context, request ctrladmission.Request) ctrladmission.Response {
	pod := new(corev1.Pod)
	if err := u.decoder.Decode(request, pod); err != nil {
		return ctrladmission.Errored(http.StatusBadRequest, err)
	}
	if err := mutate(pod, request.Namespace, u.snapshot); err != nil {
		return ctrladmission.Errored(http.StatusInternalServerError, err)
	}
	changed, err := json.Marshal(pod)
	if err != nil {
		return ctrladmission.Errored(http.StatusInternalServerError, err)
	}
	return ctrladmission.PatchResponseFromRaw(request.Object.Raw, changed)
}

// mutate carries the plan out on the typed pod. Of the plan it reads what is to be there, and finds the places itself.
func mutate(pod *corev1.Pod, namespace string, snapshot *inject.Snapshot) error {
	request := inject.Request{Namespace: namespace, Pod: reduce(pod)}
	decision := inject.Decide(&request, snapshot)
	if !decision.Inject {
		return nil
	}
	plan := inject.MakePlan(&request, snapshot, &decision)
	if ca := decision.Settings.CACertificate; ca != nil {
		mountCA(pod, &plan, ca)
	}
	if err := askIstio(pod, &plan, &decision, snapshot.Offline); err != nil {
		return err
	}
	if err := setEnv(pod, &plan, &decision); err != nil {
		return err
	}
	return mark(pod, &plan, decision.Settings.Config, snapshot.Version)
}

func mountCA(pod *corev1.Pod, plan *inject.Plan, ca *settings.CACertificate) {
	optional := true
	if plan.Volume != nil {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: inject.VolumeName, VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: ca.SecretName, Optional: &optional},
		}})
	}
	for _, c := range longRunning(pod) {
		there := slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return path.Clean(m.MountPath) == ca.MountPath })
		if slices.Contains(plan.Containers, c.Name) && !there {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: inject.VolumeName, MountPath: ca.MountPath, ReadOnly: true})
		}
	}
}

// longRunning are the containers that run beside each other: all but plain init containers.
func longRunning(pod *corev1.Pod) []*corev1.Container {
	var all []*corev1.Container
	for i := range pod.Spec.Containers {
		all = append(all, &pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		if policy := pod.Spec.InitContainers[i].RestartPolicy; policy != nil && *policy == corev1.ContainerRestartPolicyAlways {
			all = append(all, &pod.Spec.InitContainers[i])
		}
	}
	return all
}

// askIstio sets the annotations by which Istio's injector does its part.
func askIstio(pod *corev1.Pod, plan *inject.Plan, d *inject.Decision, offline bool) error {
	if plan.AskedIstio {
		existing := pod.Annotations[istio.UserVolumeMountAnnotation]
		merged, err := istio.MergeUserVolumeMount(existing, inject.VolumeName, d.Settings.CACertificate.MountPath, settings.Collide)
		if err != nil {
			return err
		}
		annotate(pod, istio.UserVolumeMountAnnotation, merged)
	}
	existing := pod.Annotations[istio.ProxyConfigAnnotation]
	if plan.Tracer == istio.OpenTelemetry && (offline || d.Sidecar.State == istio.Present || d.Member.Outside) {
		return setExplicitly(pod, existing, d)
	}
	if plan.Tracer != istio.Lightstep || plan.MeshTraces || d.Settings.AccessToken.Delivery != settings.DeliverByAnnotation {
		return nil
	}
	block, err := tracing(&d.Settings, d.Settings.Token.Reveal()).Block()
	if err != nil {
		return err
	}
	merged, err := istio.MergeAnnotation(existing, block)
	annotate(pod, istio.ProxyConfigAnnotation, merged)
	return err
}

// setExplicitly adds what namespace and pod set of the mesh's own tracing, where that is known.
func setExplicitly(pod *corev1.Pod, existing string, d *inject.Decision) error {
	revision := d.Member.Revision
	if d.Settings.Explicit.Empty() || revision == nil || revision.Mesh == nil || revision.Mesh.Lightstep != nil || istio.HasNativeTracer(existing) {
		return nil
	}
	merged, _, err := istio.MergeExplicit(existing, revision.Mesh.Tracing, d.Settings.Explicit)
	if err == nil {
		annotate(pod, istio.ProxyConfigAnnotation, merged)
	}
	return nil // one that cannot be read stays
}

// setEnv gives the sidecar the token, ahead of the PROXY_CONFIG that refers to it.
func setEnv(pod *corev1.Pod, plan *inject.Plan, d *inject.Decision) error {
	if plan.Tracer != istio.Lightstep || plan.MeshTraces || d.Settings.AccessToken.Delivery != settings.DeliverBySecret || d.Sidecar.State != istio.Present {
		return nil
	}
	all := longRunning(pod)
	sidecar := all[slices.IndexFunc(all, func(c *corev1.Container) bool { return c.Name == istio.ProxyContainer })]
	block, err := tracing(&d.Settings, "$("+inject.TokenEnv+")").ForEnv().Block()
	if err != nil {
		return err
	}
	at := lastVariable(sidecar.Env, istio.ProxyConfigEnv)
	if at < 0 {
		at = len(sidecar.Env)
		sidecar.Env = append(sidecar.Env, corev1.EnvVar{Name: istio.ProxyConfigEnv})
	}
	if sidecar.Env[at].Value, err = istio.MergeEnv(sidecar.Env[at].Value, block); err != nil {
		return err
	}
	if lastVariable(sidecar.Env, inject.TokenEnv) < 0 {
		optional := true
		sidecar.Env = slices.Insert(sidecar.Env, at, corev1.EnvVar{Name: inject.TokenEnv, ValueFrom: &corev1.EnvVarSource{
			SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: d.Settings.AccessToken.SecretName},
				Key:                  d.Settings.AccessToken.Key,
				Optional:             &optional,
			},
		}})
	}
	return nil
}

func lastVariable(env []corev1.EnvVar, name string) int {
	for i, e := range slices.Backward(env) {
		if e.Name == name {
			return i
		}
	}
	return -1
}

func tracing(s *settings.Resolved, token string) istio.Tracing {
	t := istio.Tracing{
		Address: s.Satellite.Address, AccessToken: token, Sampling: s.Sampling, CustomTags: s.CustomTags,
		Secure: s.Satellite.Secure, CAFile: istio.SystemRoots, ServerName: s.Satellite.SNI(),
	}
	if s.CACertificate != nil {
		t.CAFile = s.CACertificate.MountPath + "/" + s.CACertificate.Key
	}
	return t
}

// mark says on the pod what was done to it.
func mark(pod *corev1.Pod, plan *inject.Plan, config, version string) error {
	effective := len(plan.Containers) > 0 || plan.Tracer != istio.NoTracer || plan.AskedIstio
	if !effective && len(plan.Warnings) == 0 {
		return nil
	}
	codes := make([]inject.Code, 0, len(plan.Warnings))
	for _, warning := range plan.Warnings {
		codes = append(codes, warning.Code)
	}
	slices.Sort(codes)
	status, err := json.Marshal(struct {
		Version    string        `json:"version"`
		Config     string        `json:"config"`
		Tracer     istio.Tracer  `json:"tracer"`
		Containers []string      `json:"containers"`
		Warnings   []inject.Code `json:"warnings,omitempty"`
	}{version, config, plan.Tracer, append([]string{}, plan.Containers...), slices.Compact(codes)})
	annotate(pod, inject.StatusAnnotation, string(status))
	if effective {
		if pod.Labels == nil {
			pod.Labels = map[string]string{}
		}
		pod.Labels[inject.InjectedLabel] = "true"
	}
	return err
}

func annotate(pod *corev1.Pod, key, value string) {
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[key] = value
}

// reduce takes from a typed pod what the core reads.
func reduce(pod *corev1.Pod) inject.Pod {
	spec := &inject.Spec{
		HostNetwork:    pod.Spec.HostNetwork,
		NodeSelector:   pod.Spec.NodeSelector,
		Volumes:        each(pod.Spec.Volumes, reduceVolume),
		Containers:     each(pod.Spec.Containers, reduceContainer),
		InitContainers: each(pod.Spec.InitContainers, reduceContainer),
	}
	if pod.Spec.OS != nil {
		spec.OS.Name = string(pod.Spec.OS.Name)
	}
	metadata := &inject.Metadata{Name: pod.Name, GenerateName: pod.GenerateName, Labels: pod.Labels, Annotations: pod.Annotations}
	return inject.Pod{Metadata: metadata, Spec: spec}
}

func each[In, Out any](list []In, reduce func(*In) Out) []Out {
	out := make([]Out, len(list))
	for i := range list {
		out[i] = reduce(&list[i])
	}
	return out
}

func reduceVolume(v *corev1.Volume) inject.Volume {
	if v.Secret == nil {
		return inject.Volume{Name: v.Name}
	}
	return inject.Volume{Name: v.Name, Secret: &inject.SecretVolume{SecretName: v.Secret.SecretName, Items: make([]struct{}, len(v.Secret.Items))}}
}

func reduceContainer(c *corev1.Container) inject.Container {
	out := inject.Container{Name: c.Name, Image: c.Image, Mounts: each(c.VolumeMounts, func(m *corev1.VolumeMount) inject.Mount {
		return inject.Mount{Name: m.Name, MountPath: m.MountPath}
	})}
	if c.RestartPolicy != nil {
		out.RestartPolicy = string(*c.RestartPolicy)
	}
	if c.Name == istio.ProxyContainer {
		out.Env, out.EnvFrom = each(c.Env, reduceVariable), len(c.EnvFrom) > 0
	}
	return out
}

func reduceVariable(e *corev1.EnvVar) inject.EnvVar {
	out := inject.EnvVar{Name: e.Name, Value: e.Value}
	if e.ValueFrom != nil {
		out.ValueFrom = new(inject.EnvVarSource)
		if key := e.ValueFrom.SecretKeyRef; key != nil {
			out.ValueFrom.SecretKeyRef = &inject.SecretKeyRef{Name: key.Name, Key: key.Key}
		}
	}
	return out
}

// Every pod of the golden cases, in the world of every golden case, comes out of our patch as the usual way makes it.
func TestUsualWayAgrees(t *testing.T) {
	files, err := filepath.Glob("inject/testdata/*.in.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d golden cases: %v", len(files), err)
	}
	cases := make([]injecttest.Case, 0, len(files))
	for _, file := range files {
		cases = append(cases, injecttest.ReadCase(t, file))
	}
	injected := 0
	for _, world := range cases {
		for _, pod := range cases {
			if agree(t, &world, &pod) {
				injected++
			}
		}
	}
	if injected < len(cases) {
		t.Errorf("of %d pods in %d worlds only %d were injected", len(cases), len(cases), injected)
	}
}

// agree compares one pod, and tells whether it was injected.
func agree(t *testing.T, world, pod *injecttest.Case) bool {
	t.Helper()
	decoded, err := DecodePod(pod.Pod)
	if err != nil {
		t.Fatalf("%s: %v", pod.Name, err)
	}
	result := inject.Run(&inject.Request{Namespace: world.Namespace, Pod: decoded}, world.Snapshot)
	ours := typed(t, patched(t, pod.Pod, result.Patch))
	theirs := typed(t, pod.Pod)
	if err := mutate(theirs, world.Namespace, world.Snapshot); err != nil {
		t.Fatalf("%s in the world of %s: %v", pod.Name, world.Name, err)
	}
	if !equality.Semantic.DeepEqual(ours, theirs) {
		t.Errorf("%s in the world of %s (-usual +ours):\n%s", pod.Name, world.Name, cmp.Diff(theirs, ours))
	}
	return result.Injected
}

func typed(t testing.TB, raw []byte) *corev1.Pod {
	t.Helper()
	pod := new(corev1.Pod)
	if err := json.Unmarshal(raw, pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// patched applies operations with the library that the apiserver uses.
func patched(t testing.TB, raw []byte, operations []inject.Operation) []byte {
	t.Helper()
	if len(operations) == 0 {
		return raw
	}
	text, err := json.Marshal(operations)
	if err != nil {
		t.Fatal(err)
	}
	return applied(t, raw, text)
}

func applied(t testing.TB, raw, patch []byte) []byte {
	t.Helper()
	decoded, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatal(err)
	}
	out, err := decoded.Apply(raw)
	if err != nil {
		t.Fatalf("%v\n%s", err, patch)
	}
	return out
}
