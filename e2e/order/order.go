// Package order holds two webhooks to one property: over generated pods, the order in which they are called, and how often,
// makes no difference to what a pod comes to have; and beside what it has from Istio alone that is nothing but ours. It
// calls both past the API server, which would keep to one order.
package order

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path"
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
	// Placeholders says that some pods ship a container istio-proxy for Istio to fill in, which 1.7 does not know yet.
	Placeholders bool
	// Proxy tells what a pod's proxy would be told. It is asked only of pods that have one.
	Proxy func(context.Context, *corev1.Pod) (any, error)
	// Answered is shown each patch, ours and Istio's: no audit log has them. Several goroutines call it.
	Answered func(namespace string, patch []byte)
	// Counts tells whether a pod shows anything of the property: at least a quarter of them must.
	Counts func(proxy any) bool
	// Certificate is the client certificate that is shown to a webhook that asks for one; nil for none.
	Certificate *tls.Certificate

	client *http.Client
}

// volumeName is the volume that we add.
const volumeName = "lightstep-cacert"

// errRefused says that Istio refused a pod, or made of it what the API server would refuse.
var errRefused = errors.New("refused")

// effect is what matters of a pod, whatever the order of its lists.
type effect struct {
	volumes map[string]corev1.Volume
	// mounts are by container and path.
	mounts map[string]corev1.VolumeMount
	proxy  any
}

// Check compares so many generated pods. A failure names its seed.
func (p *Property) Check(t *testing.T, pods int) {
	t.Helper()
	secured := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // this run's own, on loopback
	if p.Certificate != nil {
		secured.Certificates = []tls.Certificate{*p.Certificate}
	}
	p.client = &http.Client{Transport: &http.Transport{TLSClientConfig: secured}}
	defer p.client.CloseIdleConnections()
	var counted, refused atomic.Int64
	var group sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		group.Go(func() {
			for seed := w; seed < pods && !t.Failed(); seed += workers {
				switch found, err := p.compare(t.Context(), uint64(seed)); {
				case errors.Is(err, errRefused):
					refused.Add(1)
				case err != nil:
					t.Errorf("seed %d: %v", seed, err)
				case p.Counts(found.proxy):
					counted.Add(1)
				}
			}
		})
	}
	group.Wait()
	t.Logf("of %d pods %d show something, and Istio alone refuses %d", pods, counted.Load(), refused.Load())
	if counted.Load() < int64(pods/4) {
		t.Errorf("only %d of %d pods show anything", counted.Load(), pods)
	}
}

// compare returns what one pod comes to have. The error is errRefused for a pod that Istio refuses without us: of such a
// pod nothing is asked.
func (p *Property) compare(ctx context.Context, seed uint64) (*effect, error) {
	alone, err := p.effectOf(ctx, seed, []string{p.Istio})
	if err != nil {
		return nil, err
	}
	var first *effect
	var firstName string
	for name, urls := range map[string][]string{
		"as the API server calls": {p.Ours, p.Istio, p.Ours},
		"ours last":               {p.Istio, p.Ours},
		"ours twice at each end":  {p.Ours, p.Ours, p.Istio, p.Ours, p.Ours},
		"ours last, twice":        {p.Istio, p.Ours, p.Ours},
	} {
		found, err := p.effectOf(ctx, seed, urls)
		if err != nil {
			return nil, fmt.Errorf("%s, and not without us: %v", name, err) //nolint:errorlint // what Istio alone does not refuse is no errRefused
		}
		if first == nil {
			first, firstName = found, name
		} else if !reflect.DeepEqual(first, found) {
			return nil, fmt.Errorf("%s:\n%+v\n%s:\n%+v", firstName, first, name, found)
		}
	}
	return first, first.addsOurs(alone)
}

// addsOurs tells what an effect lacks of another, or has beside it that is not of our volume.
func (e *effect) addsOurs(to *effect) error {
	for name, volume := range to.volumes {
		if !reflect.DeepEqual(e.volumes[name], volume) {
			return fmt.Errorf("volume %s is %+v, and %+v without us", name, e.volumes[name], volume)
		}
	}
	for key, mount := range to.mounts {
		if !reflect.DeepEqual(e.mounts[key], mount) {
			return fmt.Errorf("mount %s is %+v, and %+v without us", key, e.mounts[key], mount)
		}
	}
	for name := range e.volumes {
		if _, theirs := to.volumes[name]; !theirs && name != volumeName {
			return fmt.Errorf("volume %s is not there without us", name)
		}
	}
	for key, mount := range e.mounts {
		if _, theirs := to.mounts[key]; !theirs && mount.Name != volumeName {
			return fmt.Errorf("mount %s of volume %s is not there without us", key, mount.Name)
		}
	}
	return nil
}

// effectOf calls the webhooks in turn.
func (p *Property) effectOf(ctx context.Context, seed uint64, urls []string) (*effect, error) {
	g := rand.New(rand.NewPCG(seed, 17))
	namespace := one(g, p.Namespaces...)
	raw, err := json.Marshal(generate(g, p.Placeholders))
	if err != nil {
		return nil, err
	}
	for _, url := range urls {
		if raw, err = p.call(ctx, url, namespace, raw); err != nil {
			return nil, err
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
			key := c.Name + ":" + path.Clean(mount.MountPath)
			if _, twice := found.mounts[key]; twice {
				return nil, fmt.Errorf("%w: container %s has two mounts at %s", errRefused, c.Name, mount.MountPath)
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
		return nil, fmt.Errorf("%w: %v", errRefused, review.Response.Result)
	}
	if len(review.Response.Patch) == 0 {
		return pod, nil
	}
	p.Answered(namespace, review.Response.Patch)
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
