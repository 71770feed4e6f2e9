package istio17

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

var pods = flag.Int("pods", 1000, "how many pods to generate")

// effect is what matters of a pod, whatever the order of its lists: and what its proxy is told.
type effect struct {
	volumes map[string]corev1.Volume
	mounts  map[string]corev1.VolumeMount
	proxy   any
	refused bool
}

// Ours before Istio's, after it, before and again after it, or twice at each end: the same volumes, mounts and effective
// ProxyConfig, over generated pods.
func testOrder(t *testing.T, e *environment) {
	ours, theirs := e.injector.URL(), e.istio.URL()
	orders := map[string][]string{
		"as the API server calls": {ours, theirs, ours},
		"ours last":               {theirs, ours},
		"ours twice at each end":  {ours, ours, theirs, ours, ours},
		"ours last, twice":        {theirs, ours, ours},
	}
	traced, refused := 0, 0
	var mu sync.Mutex
	var group sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		group.Go(func() {
			for seed := w; seed < *pods && !t.Failed(); seed += workers {
				first := e.compare(t, uint64(seed), orders)
				mu.Lock()
				if first.refused {
					refused++
				} else if text, err := json.Marshal(first.proxy); err == nil && bytes.Contains(text, []byte(`"lightstep"`)) {
					traced++
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	t.Logf("of %d pods %d have our tracer, and Istio refuses %d", *pods, traced, refused)
	if traced < *pods/4 {
		t.Errorf("only %d of %d pods have our tracer: the comparison shows little", traced, *pods)
	}
}

func (e *environment) compare(t *testing.T, seed uint64, orders map[string][]string) *effect {
	var first *effect
	var firstName string
	for name, urls := range orders {
		found, err := e.effectOf(t.Context(), seed, urls)
		if err != nil {
			t.Errorf("seed %d, %s: %v", seed, name, err)
			return &effect{}
		}
		if first == nil {
			first, firstName = found, name
			continue
		}
		if !reflect.DeepEqual(first, found) {
			t.Errorf("seed %d: %s:\n%+v\n%s:\n%+v", seed, firstName, first, name, found)
		}
	}
	return first
}

// effectOf calls the webhooks in turn. A pod that Istio refuses it has to refuse in every order.
func (e *environment) effectOf(ctx context.Context, seed uint64, urls []string) (*effect, error) {
	g := rand.New(rand.NewPCG(seed, 17))
	namespace := one(g, "by-secret", "by-annotation")
	raw, err := json.Marshal(generate(g))
	if err != nil {
		return nil, err
	}
	for _, url := range urls {
		if raw, err = e.call(ctx, url, namespace, raw); err != nil {
			if url == e.istio.URL() {
				return &effect{refused: true}, nil
			}
			return nil, fmt.Errorf("ours: %w", err)
		}
	}
	var pod corev1.Pod
	if err := json.Unmarshal(raw, &pod); err != nil {
		return nil, err
	}
	return e.look(ctx, &pod)
}

func (e *environment) look(ctx context.Context, pod *corev1.Pod) (*effect, error) {
	found := &effect{volumes: map[string]corev1.Volume{}, mounts: map[string]corev1.VolumeMount{}}
	for _, volume := range pod.Spec.Volumes {
		found.volumes[volume.Name] = volume
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, mount := range c.VolumeMounts {
			key := c.Name + ":" + mount.MountPath
			if _, twice := found.mounts[key]; twice {
				return nil, fmt.Errorf("container %s has two mounts at %s", c.Name, mount.MountPath)
			}
			found.mounts[key] = mount
		}
	}
	if !slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == proxyName }) {
		return found, nil
	}
	made, err := e.istio.Bootstrap(ctx, pod, map[string]string{"lightstep-access-token/token": canary})
	if err != nil {
		return nil, err
	}
	return found, json.Unmarshal(made.ProxyConfig, &found.proxy)
}

func one[T any](g *rand.Rand, of ...T) T { return of[g.IntN(len(of))] }

// generate makes a pod with some of what touches either webhook.
func generate(g *rand.Rand) *corev1.Pod {
	pod := plain()
	pod.TypeMeta.APIVersion, pod.TypeMeta.Kind = "v1", "Pod"
	some := func(percent int, change func()) {
		if g.IntN(100) < percent {
			change()
		}
	}
	some(30, func() { withVolumes(pod) })
	some(20, func() {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "second", Image: "b"})
	})
	some(20, func() { pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "c"}} })
	some(5, func() { pod.Spec.HostNetwork = true })
	some(8, func() { pod.Annotations["sidecar.istio.io/inject"] = one(g, "false", "true", "yes", "no") })
	some(5, func() { pod.Labels["lightstep.com/inject"] = "false" })
	some(20, func() { pod.Annotations["lightstep.com/sampling"] = one(g, "1", "12.5", "0", "ten") })
	some(20, func() { pod.Annotations["lightstep.com/custom-tags"] = one(g, "a=b", "price=$(TOKEN)", "quote=\"") })
	some(40, func() {
		pod.Annotations["proxy.istio.io/config"] = one(g, "concurrency: 2", `{"drainDuration":"9s"}`, "drain_duration: 9s",
			"proxyMetadata:\n  A: \"b$(C)\"\n", "tracing: {sampling: 10}", `{"tracing":{"zipkin":{"address":"z:9411"}}}`)
	})
	some(30, func() {
		pod.Annotations["sidecar.istio.io/userVolume"] = one(g, `{"extra":{"emptyDir":{}}}`, `[{"name":"extra","emptyDir":{}}]`)
		pod.Annotations["sidecar.istio.io/userVolumeMount"] = one(g, `{"extra":{"mountPath":"/extra"}}`, `[{"name":"extra","mountPath":"/extra"}]`)
	})
	return pod
}
