package serving

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	space  = "lightstep-system"
	name   = "lightstep-injector-tls"
	host   = "lightstep-injector.lightstep-system.svc"
	minute = time.Minute
)

// world is an API server with the two objects, all their versions, and a clock that its tests set.
type world struct {
	t       *testing.T
	client  *kubernetes.Clientset
	now     time.Time
	version int
	secrets []secretVersion
	configs []configVersion
	// switches counts how often another certificate has come to be served.
	switches int
	// before is called before each request is looked at.
	before func()
	// changed is called after each change.
	changed func()
}

type secretVersion struct {
	at     time.Time
	secret *corev1.Secret
	// served is what a replica that has seen this version serves: what it has, or else what the one before had.
	served *tls.Certificate
}

type configVersion struct {
	at     time.Time
	config *admissionv1.MutatingWebhookConfiguration
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC), before: func() {}, changed: func() {}}
	config := &rest.Config{Host: "http://world", QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
	client, err := kubernetes.NewForConfigAndClient(config, &http.Client{Transport: w})
	if err != nil {
		t.Fatal(err)
	}
	w.client = client
	w.setSecret(nil)
	path := "/inject"
	service := &admissionv1.ServiceReference{Namespace: space, Name: "lightstep-injector", Path: &path}
	w.setConfig(&admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: Configuration, UID: "c", Generation: 1},
		Webhooks: []admissionv1.MutatingWebhook{
			{Name: "inject.lightstep.com", ClientConfig: admissionv1.WebhookClientConfig{Service: service}},
			{Name: "second.lightstep.com", ClientConfig: admissionv1.WebhookClientConfig{Service: service}},
		},
	})
	return w
}

// writer makes a writer whose clock is wrong by the skew.
func (w *world) writer(skew time.Duration) *Writer {
	return &Writer{
		Secrets: w.client.CoreV1(), Configurations: w.client.AdmissionregistrationV1(), Namespace: space, Name: name, Host: host,
		Propagation: minute, Owners: func(context.Context) []metav1.OwnerReference { return nil }, Log: quiet(), Now: func() time.Time { return w.now.Add(skew) },
	}
}

func (w *world) secret() *corev1.Secret { return w.secrets[len(w.secrets)-1].secret }

func (w *world) config() *admissionv1.MutatingWebhookConfiguration {
	return w.configs[len(w.configs)-1].config
}

func (w *world) nextVersion() string {
	w.version++
	return strconv.Itoa(w.version)
}

func (w *world) setSecret(s *corev1.Secret) {
	if s != nil {
		s.ResourceVersion = w.nextVersion()
	}
	v := secretVersion{at: w.now, secret: s}
	if len(w.secrets) > 0 {
		v.served = w.secrets[len(w.secrets)-1].served
	}
	if s != nil {
		if certificate, err := certificateOf(s); err == nil {
			if v.served == nil || !v.served.Leaf.Equal(certificate.Leaf) {
				w.switches++
			}
			v.served = certificate
		}
	}
	w.secrets = append(w.secrets, v)
	w.changed()
}

func (w *world) setConfig(c *admissionv1.MutatingWebhookConfiguration) {
	c.ResourceVersion = w.nextVersion()
	w.configs = append(w.configs, configVersion{w.now, c})
	w.changed()
}

// RoundTrip answers as the API server does.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.before()
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	answer, err := w.handle(r, body)
	code := http.StatusOK
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		s := status.Status()
		s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		answer, code = &s, int(s.Code)
	} else if err != nil {
		w.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		return nil, err
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: code, Body: io.NopCloser(bytes.NewReader(text)), Request: r,
		Header: http.Header{"Content-Type": {"application/json"}},
	}, nil
}

func (w *world) handle(r *http.Request, body []byte) (any, error) {
	how := types.PatchType(r.Header.Get("Content-Type"))
	switch {
	case strings.HasSuffix(r.URL.Path, "/secrets/"+name):
		return w.handleSecret(r.Method, how, r.URL.Query().Get("fieldManager"), body)
	case strings.HasSuffix(r.URL.Path, "/mutatingwebhookconfigurations/"+Configuration):
		return w.handleConfig(r.Method, how, body)
	}
	return nil, errors.New("nothing is there")
}

func (w *world) handleSecret(method string, how types.PatchType, manager string, body []byte) (any, error) {
	now := w.secret()
	resource := schema.GroupResource{Resource: "secrets"}
	if how == types.ApplyYAMLPatchType {
		if now != nil { // of another manager, with other values
			return nil, apierrors.NewConflict(resource, name, errors.New("conflict with another manager"))
		}
		made := &corev1.Secret{}
		if err := json.Unmarshal(body, made); err != nil {
			return nil, err
		}
		if !strings.HasPrefix(manager, "lightstep-injector-") {
			return nil, errors.New("an apply by a manager that others may be, too")
		}
		made.UID = types.UID(w.nextVersion())
		w.setSecret(made)
		return made, nil
	}
	if now == nil {
		return nil, apierrors.NewNotFound(resource, name)
	}
	if method == http.MethodGet {
		return now, nil
	}
	after := &corev1.Secret{}
	err := patched(resource, now, now.ResourceVersion, body, after, func(old []byte) ([]byte, error) { return jsonpatch.MergePatch(old, body) })
	if err != nil {
		return nil, err
	}
	w.setSecret(after)
	return after, nil
}

func (w *world) handleConfig(method string, _ types.PatchType, body []byte) (any, error) {
	now := w.config()
	resource := schema.GroupResource{Resource: "mutatingwebhookconfigurations"}
	if method == http.MethodGet {
		return now, nil
	}
	after := &admissionv1.MutatingWebhookConfiguration{}
	err := patched(resource, now, now.ResourceVersion, body, after, func(old []byte) ([]byte, error) {
		return strategicpatch.StrategicMergePatch(old, body, now)
	})
	if err != nil {
		return nil, err
	}
	after.Generation++
	w.setConfig(after)
	return after, nil
}

// patched patches an object, where the patch is for the version that it has.
func patched(resource schema.GroupResource, before any, version string, patch []byte, after any, apply func([]byte) ([]byte, error)) error {
	var seen metav1.PartialObjectMetadata
	if err := json.Unmarshal(patch, &seen); err != nil {
		return err
	}
	if seen.ResourceVersion == "" {
		return errors.New("a patch of whatever version there is")
	}
	if seen.ResourceVersion != version {
		return apierrors.NewConflict(resource, name, errors.New("the object has been modified"))
	}
	old, err := json.Marshal(before)
	if err != nil {
		return err
	}
	text, err := apply(old)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, after)
}
