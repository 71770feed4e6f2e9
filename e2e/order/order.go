// Package order holds two webhooks to one property: over generated pods, the order in which they are called, and how often,
// makes no difference to what a pod comes to have. It calls both past the API server, which would keep to one order.
package order

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
)

// Property is what is compared.
type Property struct {
	// Ours and Istio are the webhooks' URLs.
	Ours, Istio string
	// Namespaces are those that the pods are created in, by turns.
	Namespaces []string
	// Proxy tells what a pod's proxy would be told. It is asked only of pods that have one.
	Proxy func(context.Context, *corev1.Pod) (any, error)
	// Counts tells whether a pod shows anything of the property: at least a quarter of them must.
	Counts func(proxy any) bool

	client *http.Client
}

// effect is what matters of a pod, whatever the order of its lists.
type effect struct {
	volumes map[string]corev1.Volume
	mounts  map[string]corev1.VolumeMount
	proxy   any
	refused bool
}

// Check compares so many generated pods. A failure names its seed.
func (p *Property) Check(t *testing.T, pods int) {
	t.Helper()
	p.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // this run's own, on loopback
	defer p.client.CloseIdleConnections()
	var counted, refused atomic.Int64
	var group sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		group.Go(func() {
			for seed := w; seed < pods && !t.Failed(); seed += workers {
				switch found := p.compare(t, uint64(seed)); {
				case found.refused:
					refused.Add(1)
				case p.Counts(found.proxy):
					counted.Add(1)
				}
			}
		})
	}
	group.Wait()
	t.Logf("of %d pods %d show something, and Istio refuses %d", pods, counted.Load(), refused.Load())
	if counted.Load() < int64(pods/4) {
		t.Errorf("only %d of %d pods show anything", counted.Load(), pods)
	}
}

func (p *Property) compare(t *testing.T, seed uint64) *effect {
	t.Helper()
	var first *effect
	var firstName string
	for name, urls := range map[string][]string{
		"as the API server calls": {p.Ours, p.Istio, p.Ours},
		"ours last":               {p.Istio, p.Ours},
		"ours twice at each end":  {p.Ours, p.Ours, p.Istio, p.Ours, p.Ours},
		"ours last, twice":        {p.Istio, p.Ours, p.Ours},
	} {
		found, err := p.effectOf(t.Context(), seed, urls)
		if err != nil {
			t.Errorf("seed %d, %s: %v", seed, name, err)
			return &effect{}
		}
		if first == nil {
			first, firstName = found, name
		} else if !reflect.DeepEqual(first, found) {
			t.Errorf("seed %d: %s:\n%+v\n%s:\n%+v", seed, firstName, first, name, found)
		}
	}
	return first
}

// effectOf calls the webhooks in turn. A pod that Istio refuses it has to refuse in every order.
func (p *Property) effectOf(ctx context.Context, seed uint64, urls []string) (*effect, error) {
	g := rand.New(rand.NewPCG(seed, 17))
	namespace := one(g, p.Namespaces...)
	raw, err := json.Marshal(generate(g))
	if err != nil {
		return nil, err
	}
	for _, url := range urls {
		if raw, err = p.call(ctx, url, namespace, raw); err != nil {
			if url == p.Istio {
				return &effect{refused: true}, nil
			}
			return nil, fmt.Errorf("ours: %w", err)
		}
	}
	var pod corev1.Pod
	if err := json.Unmarshal(raw, &pod); err != nil {
		return nil, err
	}
	return p.look(ctx, &pod)
}

func (p *Property) look(ctx context.Context, pod *corev1.Pod) (found *effect, err error) {
	found = &effect{volumes: map[string]corev1.Volume{}, mounts: map[string]corev1.VolumeMount{}}
	for _, volume := range pod.Spec.Volumes {
		found.volumes[volume.Name] = volume
	}
	proxied := false
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		proxied = proxied || c.Name == "istio-proxy"
		for _, mount := range c.VolumeMounts {
			key := c.Name + ":" + mount.MountPath
			if _, twice := found.mounts[key]; twice {
				return nil, fmt.Errorf("container %s has two mounts at %s", c.Name, mount.MountPath)
			}
			found.mounts[key] = mount
		}
	}
	if proxied {
		found.proxy, err = p.Proxy(ctx, pod)
	}
	return found, err
}

// call asks a webhook about a pod, and returns the pod as it answers.
func (p *Property) call(ctx context.Context, url, namespace string, pod []byte) ([]byte, error) {
	body, err := json.Marshal(&admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "generated", Namespace: namespace, Operation: admissionv1.Create,
			Kind:     metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Object:   apiruntime.RawExtension{Raw: pod},
		},
	})
	if err != nil {
		return nil, err
	}
	review, err := p.post(ctx, url, body)
	if err != nil {
		return nil, err
	}
	if !review.Response.Allowed {
		return nil, fmt.Errorf("refused: %v", review.Response.Result)
	}
	if len(review.Response.Patch) == 0 {
		return pod, nil
	}
	patch, err := jsonpatch.DecodePatch(review.Response.Patch)
	if err != nil {
		return nil, err
	}
	return patch.Apply(pod)
}

func (p *Property) post(ctx context.Context, url string, body []byte) (*admissionv1.AdmissionReview, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := p.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	review := new(admissionv1.AdmissionReview)
	if err := json.Unmarshal(text, review); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", response.Status, text, err)
	}
	if review.Response == nil {
		return nil, fmt.Errorf("%s: no response: %s", response.Status, text)
	}
	return review, nil
}
