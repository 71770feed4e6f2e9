package certmanager

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// history is what the Secret and the webhook configuration have been. The API server keeps its connections for long, so that calls
// that succeed say little of whether a new connection would be trusted; what was stored, and in which order, says it exactly.
type history struct {
	mu     sync.Mutex
	states []state
}

// state is one of the two objects at one of the cluster's versions.
type state struct {
	version uint64
	seen    time.Time
	// leaf is what the Secret has, roots what the webhook configuration trusts; nil where it is the other object.
	leaf  *x509.Certificate
	roots *x509.CertPool
}

// follow begins a history.
func (e *environment) follow(t *testing.T) *history {
	t.Helper()
	h := &history{}
	secrets, err := e.Client.CoreV1().Secrets(own).Watch(t.Context(), named(secretName))
	stage.Check(t, err)
	configurations, err := e.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Watch(t.Context(), named(configurationName))
	stage.Check(t, err)
	for _, changes := range []watch.Interface{secrets, configurations} {
		t.Cleanup(changes.Stop)
		go h.keep(changes.ResultChan())
	}
	e.awaitWritten(t, h)
	return h
}

func named(name string) metav1.ListOptions {
	return metav1.ListOptions{FieldSelector: "metadata.name=" + name}
}

func (h *history) keep(changes <-chan watch.Event) {
	for change := range changes {
		now := state{seen: time.Now()}
		switch object := change.Object.(type) {
		case *corev1.Secret:
			chain, err := parse(object.Data[corev1.TLSCertKey])
			if change.Type == watch.Deleted || err != nil || len(chain) == 0 {
				continue // replicas serve the last one
			}
			now.version, now.leaf = version(object), chain[0]
		case *admissionv1.MutatingWebhookConfiguration:
			now.version, now.roots = version(object), x509.NewCertPool()
			now.roots.AppendCertsFromPEM(object.Webhooks[0].ClientConfig.CABundle)
		}
		h.mu.Lock()
		h.states = append(h.states, now)
		h.mu.Unlock()
	}
}

// version orders what is stored in one etcd.
func version(object metav1.Object) uint64 {
	number, _ := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
	return number
}

// awaitWritten waits until the history has both objects as they are.
func (e *environment) awaitWritten(t *testing.T, h *history) {
	t.Helper()
	for _, object := range []metav1.Object{e.secret(t, secretName), e.configuration(t)} {
		stage.Eventually(t, func(context.Context) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			if !slices.ContainsFunc(h.states, func(s state) bool { return s.version >= version(object) }) {
				return fmt.Errorf("%s has not been seen as it is", object.GetName())
			}
			return nil
		})
	}
}

// gaps returns how often the API server was told to trust what did not verify the certificate, and for how long in all.
func (e *environment) gaps(t *testing.T, h *history) (count int, long time.Duration) {
	t.Helper()
	e.awaitWritten(t, h)
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.SortFunc(h.states, func(a, b state) int { return cmp.Compare(a.version, b.version) })
	var now state
	var since time.Time
	for _, s := range h.states {
		now.leaf, now.roots = cmp.Or(s.leaf, now.leaf), cmp.Or(s.roots, now.roots)
		if now.leaf == nil || now.roots == nil {
			continue
		}
		_, err := now.leaf.Verify(x509.VerifyOptions{Roots: now.roots, DNSName: injector.Name + "." + own + ".svc"})
		switch {
		case err != nil && since.IsZero():
			count, since = count+1, s.seen
		case err == nil && !since.IsZero():
			long, since = long+max(0, s.seen.Sub(since)), time.Time{} // the two are told of by watches of their own
		}
	}
	if !since.IsZero() {
		long += time.Since(since)
	}
	return count, long
}
