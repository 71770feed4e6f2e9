package certificate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	probed = "probe"
	// probes is how often it is measured how long a caBundle takes to be in force.
	probes = 40
	// margin is how many times the slowest of these is waited for, and leastWait how long in any case: this machine does other
	// things, too, and may stand still for longer than it did while it was measured.
	margin    = 5
	leastWait = time.Second
)

// propagate measures how long a changed caBundle takes to be in force, while pods are created, and rolls out replicas that wait
// for no more than that takes.
func (e *environment) propagate(t *testing.T) {
	l := e.begin(t, "propagated")
	p := e.newProbe(t)
	took := make([]time.Duration, probes)
	for i := range took {
		took[i] = p.change(t)
	}
	slices.Sort(took)
	e.propagation = max(margin*took[probes-1], leastWait).Round(time.Millisecond)
	e.figures.Propagation.Times, e.figures.Propagation.Median, e.figures.Propagation.Slowest, e.figures.Propagation.Used = probes, took[probes/2], took[probes-1], e.propagation
	t.Logf("a changed caBundle is in force after %s, at most %s; it is waited for %s", took[probes/2], took[probes-1], e.propagation)
	e.rollOut(t, func(old *replica) error { return old.Stop() })
	e.none(t, l.end(t, "roll-out with the propagation time that was measured", 1))
}

// probe is a webhook of its own, which is called for the ConfigMaps of one namespace and cannot be done without: whether its
// caBundle is in force is seen in whether a ConfigMap can be created.
type probe struct {
	*environment
	// bundles are one that verifies the probe's certificate and one that does not; now is the one that it has.
	bundles [2][]byte
	now     int
}

func (e *environment) newProbe(t *testing.T) *probe {
	t.Helper()
	good, err := injector.NewCA("probe's CA")
	stage.Check(t, err)
	bad, err := injector.NewCA("another CA")
	stage.Check(t, err)
	url := answerAll(t, good)
	_, err = e.admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: probed}}, metav1.CreateOptions{})
	stage.Check(t, err)
	_, err = e.admin.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), &registrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: probed},
		Webhooks: []registrationv1.ValidatingWebhook{{
			Name:         "probe.lightstep.com",
			ClientConfig: registrationv1.WebhookClientConfig{URL: &url, CABundle: good.PEM},
			Rules: []registrationv1.RuleWithOperations{{
				Operations: []registrationv1.OperationType{registrationv1.Create},
				Rule:       registrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
			}},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: probed}},
			SideEffects:             new(registrationv1.SideEffectClassNone),
			AdmissionReviewVersions: []string{"v1"},
		}},
	}, metav1.CreateOptions{})
	stage.Check(t, err)
	p := &probe{environment: e, bundles: [2][]byte{good.PEM, bad.PEM}}
	p.change(t) // by when the webhook itself is surely known
	return p
}

// answerAll serves a webhook that has nothing against anything.
func answerAll(t *testing.T, ca *injector.CA) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	stage.Check(t, err)
	certFile, keyFile, err := ca.WriteServing(t.TempDir(), "127.0.0.1")
	stage.Check(t, err)
	quiet := log.New(io.Discard, "", 0) // that it is not trusted is meant
	server := &http.Server{ReadHeaderTimeout: stage.Deadline, ErrorLog: quiet, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		_ = json.NewEncoder(w).Encode(&review)
	})}
	go func() { _ = server.ServeTLS(listener, certFile, keyFile) }()
	t.Cleanup(func() { _ = server.Close() })
	return "https://" + listener.Addr().String()
}

// change gives the webhook the other caBundle, and returns how long it took from the answer until that was in force.
func (p *probe) change(t *testing.T) time.Duration {
	t.Helper()
	p.now = 1 - p.now
	patch, err := json.Marshal([]map[string]any{{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": p.bundles[p.now]}})
	stage.Check(t, err)
	_, err = p.admin.AdmissionregistrationV1().ValidatingWebhookConfigurations().Patch(t.Context(), probed, types.JSONPatchType, patch, metav1.PatchOptions{})
	stage.Check(t, err)
	began := time.Now()
	stage.Eventually(t, func(ctx context.Context) error {
		made := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "probe"}}
		_, err := p.admin.CoreV1().ConfigMaps(probed).Create(ctx, made, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if trusted := err == nil; trusted != (p.now == 0) {
			return errors.Join(fmt.Errorf("the caBundle %d is not in force", p.now), err)
		}
		return nil
	})
	return time.Since(began)
}
