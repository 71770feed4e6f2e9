package serving

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	fcache "k8s.io/client-go/tools/cache/testing"
)

// source is the API server's side of a watch.
type source struct{ *fcache.FakeControllerSource }

func (s source) List(_ context.Context, o metav1.ListOptions) (runtime.Object, error) {
	return s.FakeControllerSource.List(o)
}

func (s source) Watch(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
	return s.FakeControllerSource.Watch(o)
}

func secretOf(chain, key []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{chainKey: chain, keyKey: key},
	}
}

// The reader serves what its Secret has; where that is nothing of use, it goes on serving what it has.
func TestReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logged := observer.New(zap.InfoLevel)
		from := source{fcache.NewFakeControllerSource()}
		defer from.Shutdown()
		r := &Reader{name: name, log: zap.New(core)}
		r.secret = follow(from, &corev1.Secret{}, name, r.log)
		registry := prometheus.NewRegistry()
		if err := Register(registry, r.GetCertificate); err != nil {
			t.Fatal(err)
		}
		lacks(t, r, "not been read yet")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		lacks(t, r, "there is no Secret "+name)

		now := time.Now()
		a, b, gone := pairFor(t, now, host), pairFor(t, now, host), pairFor(t, now.Add(-2*life), host)
		coming := pairFor(t, now.Add(backdated+time.Hour), host)
		from.Add(secretOf(nil, nil))
		synctest.Wait()
		lacks(t, r, "has no serving certificate")
		if families, err := registry.Gather(); err != nil || len(families) != 0 {
			t.Errorf("the time until a certificate expires is told without one: %v, %v", families, err)
		}
		for _, step := range []struct {
			name   string
			secret *corev1.Secret
			want   *Pair
			says   string
		}{
			{"the first", secretOf(a.chain, a.key), a, "serving"},
			{"no PEM", secretOf([]byte("x"), a.key), a, "refused"},
			{"another's key", secretOf(b.chain, a.key), a, "refused"},
			{"nothing", secretOf(nil, nil), a, "refused"},
			{"past its time", secretOf(gone.chain, gone.key), a, "it is valid from"},
			{"ahead of its time", secretOf(coming.chain, coming.key), a, "it is valid from"},
			{"another", secretOf(b.chain, b.key), b, "serving"},
		} {
			logged.TakeAll()
			from.Modify(step.secret)
			synctest.Wait()
			serves(t, r, step.want, step.name)
			lines := logged.All()
			if len(lines) != 1 {
				t.Fatalf("%s: the log says %v", step.name, lines)
			}
			failure, _ := lines[0].ContextMap()["error"].(string)
			if said := lines[0].Message + ": " + failure; !strings.Contains(said, step.says) {
				t.Errorf("%s: the log says %q, not %q", step.name, said, step.says)
			}
		}
		from.Modify(secretOf(coming.chain, coming.key))
		time.Sleep(time.Hour)
		synctest.Wait()
		serves(t, r, coming, "its time has come")
		from.Modify(secretOf(b.chain, b.key))
		synctest.Wait()
		from.Delete(secretOf(nil, nil))
		synctest.Wait()
		serves(t, r, b, "deleted")
		families, err := registry.Gather()
		if err != nil || len(families) != 1 || families[0].GetMetric()[0].GetGauge().GetValue() != time.Until(b.certificate.Leaf.NotAfter).Seconds() {
			t.Errorf("the gauge: %v, %v", families, err)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func lacks(t *testing.T, r *Reader, says string) {
	t.Helper()
	if _, err := r.GetCertificate(nil); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("it says %v, not %q", err, says)
	}
}

func serves(t *testing.T, r *Reader, want *Pair, when string) {
	t.Helper()
	if got, err := r.GetCertificate(nil); err != nil || !got.Leaf.Equal(want.certificate.Leaf) {
		t.Errorf("%s: another certificate is served: %v", when, err)
	}
}

// A replica is ready once the API server could call it, and stays so.
func TestPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := source{fcache.NewFakeControllerSource()}
		defer from.Shutdown()
		a, b, other := pairFor(t, time.Now(), host), pairFor(t, time.Now(), host), pairFor(t, time.Now(), "other.svc")
		served := a
		p := &Published{served: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return served.certificate, nil }}
		p.configuration = follow(from, &admissionv1.MutatingWebhookConfiguration{}, Configuration, quiet())
		unpublished(t, p, "not been read yet")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		unpublished(t, p, "there is no webhook configuration")
		configuration := newWorld(t).config()
		from.Add(configuration)
		synctest.Wait()
		unpublished(t, p, "inject.lightstep.com: the caBundle does not verify the certificate that is served: it has no certificate")
		trust := func(bundles ...[]byte) {
			configuration = configuration.DeepCopy()
			for i := range bundles {
				configuration.Webhooks[i].ClientConfig.CABundle = bundles[i]
			}
			from.Modify(configuration)
			synctest.Wait()
		}
		trust(b.ca, b.ca)
		unpublished(t, p, "unknown authority")
		trust(a.ca, b.ca)
		unpublished(t, p, "second.lightstep.com")
		trust(other.ca, other.ca)
		served = other
		unpublished(t, p, host)
		served = a
		trust([]byte(string(b.ca)+string(a.ca)), a.ca)
		if err := p.Check(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		trust(b.ca, b.ca)
		if err := p.Check(); err != nil {
			t.Errorf("no longer ready, and so would be every replica: %v", err)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func unpublished(t *testing.T, p *Published, says string) {
	t.Helper()
	if err := p.Check(); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("it says %v, not %q", err, says)
	}
}
