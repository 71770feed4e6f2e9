package alerts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// TestAlerts runs every test against one control plane and one injector, in this order. Before each, nothing is amiss.
func TestAlerts(t *testing.T) {
	e := setUp(t)
	t.Run("Scraped", e.scrapes)
	for _, c := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"DownAndMissed", e.downAndMissed},
		{"ConfigRefused", e.configRefused},
		{"SourceProblem", e.sourceProblem},
		{"SatelliteCAExpiring", e.satelliteCAExpiring},
		{"CopiesMissing", e.copiesMissing},
		{"CopiesForeignAndNobodyLeads", e.copiesForeign},
		{"Mesh", e.mesh},
		{"Errors", e.errors},
		{"Shedding", e.shedding},
		{"CertificateExpiring", e.certificateExpiring},
		{"ClientCertificateExpiring", e.clientCertificateExpiring},
		{"NoCertificate", e.noCertificate},
		{"MayNotLook", e.mayNotLook},
	} {
		t.Run(c.name, func(t *testing.T) {
			e.quiet(t)
			c.run(t)
		})
	}
	t.Run("Complete", e.complete)
	t.Run("Named", e.named)
	t.Run("Shown", e.shown)
	t.Run("Documented", e.documented)
}

// downAndMissed: while nobody answers, it is known that nobody does; and when somebody does again, what was missed.
func (e *environment) downAndMissed(t *testing.T) {
	stage.Check(t, e.injector.Stop())
	e.fires(t, "Down critical")
	e.pod(t, "shop", "missed")
	stage.Check(t, e.injector.Start(t.Context()))
	e.until(t, "lightstep_injector_missed_pods", map[string]string{"namespace": "shop"}, 1)
	e.fires(t, "MissedPods warning shop")
	stage.Check(t, e.Client.CoreV1().Pods("shop").Delete(t.Context(), "missed", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
	e.gone(t, "lightstep_injector_missed_pods{")
	e.resolved(t)
}

func (e *environment) configRefused(t *testing.T) {
	e.configure(t, "lightstep-satellite.lightstep:9292", "nowhere")
	e.until(t, "lightstep_injector_config_loaded", nil, 0)
	e.fires(t, "ConfigRefused warning")
	e.configure(t, "", "")
	e.until(t, "lightstep_injector_config_loaded", nil, 1)
	e.resolved(t)
}

func (e *environment) sourceProblem(t *testing.T) {
	e.source(t, []byte("hello"))
	e.until(t, "lightstep_injector_source_problem", map[string]string{"fault": "NotPEM"}, 1)
	e.fires(t, "SourceProblem warning "+caSecret+" NotPEM")
	e.replaced(t)
}

// replaced gives the source a good satellite CA again.
func (e *environment) replaced(t *testing.T) {
	t.Helper()
	e.source(t, satelliteCA(t, year))
	e.until(t, "lightstep_injector_copies", map[string]string{"state": "current"}, 1)
	e.gone(t, "lightstep_injector_source_problem{")
	e.resolved(t)
}

func (e *environment) satelliteCAExpiring(t *testing.T) {
	e.source(t, satelliteCA(t, 20*day))
	e.left(t, 20*day)
	e.fires(t, "SatelliteCAExpiring warning "+caSecret)
	e.source(t, satelliteCA(t, 5*day))
	e.left(t, 5*day)
	e.begin(t)
	e.fires(t, "SatelliteCAExpiring critical "+caSecret, "SatelliteCAExpiring warning "+caSecret)
	e.replaced(t)
}

// left waits until the satellite CA has no more than that left, and has been copied.
func (e *environment) left(t *testing.T, most time.Duration) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		got, err := e.injector.Metric(ctx, "lightstep_injector_satellite_ca_expiry_seconds", nil)
		if err == nil && got > most.Seconds() {
			err = fmt.Errorf("%v seconds are left", got)
		}
		return err
	})
	e.until(t, "lightstep_injector_copies", map[string]string{"state": "current"}, 1)
}

// copiesMissing: a namespace that is full, as its ResourceQuota says, cannot be given the copy.
func (e *environment) copiesMissing(t *testing.T) {
	e.Namespace(t, "full", nil, nil)
	e.kubectl(t, "apply", "-f", "testdata/quota.yaml")
	stage.Eventually(t, func(ctx context.Context) error {
		quota, err := e.Client.CoreV1().ResourceQuotas("full").Get(ctx, "none", metav1.GetOptions{})
		if err == nil && len(quota.Status.Hard) == 0 {
			err = errors.New("the quota has not been looked at")
		}
		return err
	})
	e.kubectl(t, "label", "namespace", "full", "lightstep.com/injection=enabled")
	e.until(t, "lightstep_injector_copies", map[string]string{"state": "missing"}, 1)
	e.fires(t, "CopiesBehind warning "+caSecret+" missing")
	e.unlabel(t, "full")
	e.until(t, "lightstep_injector_copies", map[string]string{"state": "missing"}, 0)
	e.resolved(t)
}

// copiesForeign: somebody else's Secret is in the way. Then somebody holds the lease who is no replica, so that nobody has the
// gauge: for as long as a change of leader takes the alert stays, and after that another says that nobody leads.
func (e *environment) copiesForeign(t *testing.T) {
	e.Namespace(t, "theirs", nil, nil)
	e.Secret(t, "theirs", caSecret, caKey, "theirs")
	e.kubectl(t, "label", "namespace", "theirs", "lightstep.com/injection=enabled")
	e.until(t, "lightstep_injector_copies", map[string]string{"state": "foreign"}, 1)
	const want = "CopiesBehind warning " + caSecret + " foreign"
	e.fires(t, want)
	e.stealLease(t)
	for range 4 {
		if active := e.advance(t, step); strings.Join(firing(active), ", ") != want {
			t.Errorf("while nobody leads there is %v", names(active))
		}
	}
	e.begin(t)
	e.fires(t, "NotLooking warning")
	e.unlabel(t, "theirs")
	e.returnLease(t)
	e.until(t, "lightstep_injector_copies", map[string]string{"state": "current"}, 1)
	e.resolved(t)
}

// stealLease has somebody else lead who does not.
func (e *environment) stealLease(t *testing.T) {
	t.Helper()
	stolen := fmt.Sprintf(`{"spec":{"holderIdentity":"somebody","leaseDurationSeconds":3600,"renewTime":%q}}`, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"))
	_, err := e.Client.CoordinationV1().Leases(own).Patch(t.Context(), "lightstep-injector", types.MergePatchType, []byte(stolen), metav1.PatchOptions{})
	stage.Check(t, err)
	e.gone(t, "lightstep_injector_copies{")
	e.gone(t, "lightstep_injector_missed_pods_last_look_timestamp_seconds ")
}

// returnLease has the injector lead again.
func (e *environment) returnLease(t *testing.T) {
	t.Helper()
	_, err := e.Client.CoordinationV1().Leases(own).Patch(t.Context(), "lightstep-injector", types.MergePatchType, []byte(`{"spec":{"holderIdentity":""}}`), metav1.PatchOptions{})
	stage.Check(t, err)
	e.until(t, "lightstep_injector_missed_pods_last_look_timestamp_seconds", nil, anything)
}

// mesh: an Istio whose MeshConfig has no provider; then one that has it, and a Telemetry of somebody else's in the place of ours.
func (e *environment) mesh(t *testing.T) {
	e.istio(t, "{}")
	e.Namespace(t, "meshed", meshed(), nil)
	e.until(t, "lightstep_injector_mesh_provider_missing", map[string]string{"namespace": "meshed"}, 1)
	e.until(t, "lightstep_injector_copies", map[string]string{"state": "current"}, 2)
	e.fires(t, "MeshProviderMissing warning")
	e.istio(t, "extensionProviders: [{name: lightstep, opentelemetry: {service: otel.shop.svc.cluster.local, port: 4317}}]")
	e.gone(t, "lightstep_injector_mesh_provider_missing{")
	e.gone(t, "lightstep_injector_mesh_telemetry_missing{") // the injector has made one
	e.resolved(t)

	e.Namespace(t, "stubborn", nil, nil)
	e.kubectl(t, "apply", "-f", "testdata/telemetry.yaml")
	e.kubectl(t, "label", "namespace", "stubborn", "lightstep.com/injection=enabled", "istio-injection=enabled")
	e.until(t, "lightstep_injector_mesh_telemetry_missing", map[string]string{"namespace": "stubborn"}, 1)
	e.until(t, "lightstep_injector_mesh_namespaces", map[string]string{"state": "Foreign"}, 1)
	e.until(t, "lightstep_injector_copies", map[string]string{"state": "current"}, 3)
	e.fires(t, "MeshObjectsBehind warning Foreign", "MeshTelemetryMissing warning")
	e.unlabel(t, "stubborn")
	e.gone(t, "lightstep_injector_mesh_telemetry_missing{")
	e.until(t, "lightstep_injector_mesh_namespaces", map[string]string{"state": "Foreign"}, 0)
	e.resolved(t)
}

// errors: the webhook configuration has been changed to ask about what the injector does not answer.
func (e *environment) errors(t *testing.T) {
	e.pod(t, "shop", "changed")
	configurations := e.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	patch := func(operation string) {
		_, err := configurations.Patch(t.Context(), "0-lightstep-injector", types.JSONPatchType, []byte(operation), metav1.PatchOptions{})
		stage.Check(t, err)
	}
	patch(`[{"op":"add","path":"/webhooks/0/rules/0/operations/-","value":"UPDATE"}]`)
	stage.Eventually(t, func(ctx context.Context) error { // the API server learns of it by a watch
		change := fmt.Sprintf(`{"metadata":{"annotations":{"changed":%q}}}`, time.Now())
		if _, err := e.Client.CoreV1().Pods("shop").Patch(ctx, "changed", types.MergePatchType, []byte(change), metav1.PatchOptions{}); err != nil {
			return err
		}
		got, err := e.injector.Metric(ctx, "lightstep_injector_admissions_total", map[string]string{"reason": "BadRequest"})
		if err == nil && got == 0 {
			err = errors.New("the injector was not asked")
		}
		return err
	})
	e.fires(t, "Errors warning BadRequest")
	patch(`[{"op":"remove","path":"/webhooks/0/rules/0/operations/1"}]`)
	e.resolved(t)
}

// shedding: bodies that do not come to an end take more memory than all may have. They are of one address, so that a part of them
// is answered undecided. What comes of the others is not looked at.
func (e *environment) shedding(t *testing.T) {
	e.besides = "Errors warning BadRequest"
	defer func() { e.besides = "" }()
	const requests, size = 32, 2 << 20
	hold := make(chan struct{})
	var sent sync.WaitGroup
	for range requests {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
		sent.Go(func() {
			body := io.MultiReader(strings.NewReader(strings.Repeat(" ", size)), held{hold})
			if response, err := client.Do(review(t.Context(), e.injector.URL(), body)); err == nil { // a request that is not read to its end may fail
				_ = response.Body.Close()
			}
		})
	}
	stage.Eventually(t, func(ctx context.Context) error {
		shed, err := e.injector.Metric(ctx, "lightstep_injector_shed_total", nil)
		if err == nil && shed == 0 {
			err = errors.New("no request is shed")
		}
		return err
	})
	close(hold)
	sent.Wait()
	e.fires(t, "Shedding warning")
	e.resolved(t)
}

// discard reads to the end, after which the connection is free.
func discard(from io.Reader) error {
	_, err := io.Copy(io.Discard, from)
	return err
}

// review is an admission request whose body ends when an end does.
func review(ctx context.Context, url string, end io.Reader) *http.Request {
	const body = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","operation":"CREATE","namespace":"shop",` +
		`"resource":{"group":"","version":"v1","resource":"pods"},"object":{"metadata":{"name":"p"},"spec":{"containers":[{"name":"app"}]}}}}`
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.MultiReader(strings.NewReader(body), end))
	if err != nil {
		panic(err) // the URL is ours
	}
	request.Header.Set("Content-Type", "application/json")
	return request
}

// held is an end that is held back.
type held struct{ until <-chan struct{} }

// Read waits for the end.
func (h held) Read([]byte) (int, error) {
	<-h.until
	return 0, io.EOF
}

// certificateExpiring: a replica that serves from files, which nobody has replaced in time.
func (e *environment) certificateExpiring(t *testing.T) {
	replica := e.replica(t, injector.Options{Name: "files"})
	e.serveUntil(t, 10*day)
	stage.Check(t, replica.Start(t.Context()))
	e.scraped["files"] = replica
	defer delete(e.scraped, "files")
	e.fires(t, "CertificateExpiring warning")
	e.serveUntil(t, 2*day)
	stage.Eventually(t, func(ctx context.Context) error {
		got, err := replica.Metric(ctx, "lightstep_injector_webhook_certificate_expiry_seconds", nil)
		if err == nil && got > 2*day.Seconds() {
			err = fmt.Errorf("it has %v seconds left", got)
		}
		return err
	})
	e.begin(t)
	e.fires(t, "CertificateExpiring critical", "CertificateExpiring warning")
	e.serveUntil(t, year)
	stage.Eventually(t, func(ctx context.Context) error {
		got, err := replica.Metric(ctx, "lightstep_injector_webhook_certificate_expiry_seconds", nil)
		if err == nil && got < 300*day.Seconds() {
			err = fmt.Errorf("it has %v seconds left", got)
		}
		return err
	})
	e.resolved(t)
	replica.Kill()
}

// clientCertificateExpiring: a client calls a replica with a certificate that nobody has replaced in time.
func (e *environment) clientCertificateExpiring(t *testing.T) {
	caller, err := injector.NewCaller()
	stage.Check(t, err)
	dir := t.TempDir()
	_, _, err = caller.Issue(dir)
	stage.Check(t, err)
	replica := e.replica(t, injector.Options{Name: "guarded", Flags: caller.Flags()})
	e.serveUntil(t, year)
	stage.Check(t, replica.Start(t.Context()))
	e.scraped["guarded"] = replica
	defer delete(e.scraped, "guarded")
	call := func(left time.Duration) {
		t.Helper()
		_, _, err := caller.CA.WriteClient(dir, injector.CallerName, time.Now().Add(left))
		stage.Check(t, err)
		pair, err := tls.LoadX509KeyPair(caller.CertFile, caller.KeyFile)
		stage.Check(t, err)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}, //nolint:gosec // this run's own, on loopback
		}}}
		defer client.CloseIdleConnections()
		response, err := client.Do(review(t.Context(), replica.URL(), strings.NewReader("")))
		stage.Check(t, err)
		stage.Check(t, errors.Join(discard(response.Body), response.Body.Close()))
		got, err := replica.Metric(t.Context(), "lightstep_injector_client_certificate_expiry_seconds", nil)
		stage.Check(t, err)
		if got > left.Seconds() || got < left.Seconds()-3600 {
			t.Errorf("it has %v seconds left, not %s", got, left)
		}
	}
	call(10 * day)
	e.begin(t)
	e.fires(t, "ClientCertificateExpiring warning")
	call(2 * day)
	e.begin(t)
	e.fires(t, "ClientCertificateExpiring critical", "ClientCertificateExpiring warning")
	call(year)
	e.resolved(t)
	replica.Kill()
}

// replica makes one that the API server does not call.
func (e *environment) replica(t *testing.T, o injector.Options) *injector.Injector {
	t.Helper()
	o.Binary, o.Config, o.Kubeconfig = e.Program, e.Config, e.account
	made, err := injector.NewUncalled(e.Cluster, e.Run, o)
	stage.Check(t, err)
	t.Cleanup(func() { stage.LogOnFailure(t, made.LogFile()); made.Kill() })
	return made
}

// serveUntil gives the files of a replica a certificate that has so long left.
func (e *environment) serveUntil(t *testing.T, left time.Duration) {
	t.Helper()
	chain, key := certificate(t, left)
	for name, content := range map[string][]byte{"webhook.crt": chain, "webhook.key": key} {
		stage.Check(t, os.WriteFile(filepath.Join(e.Run.Dir, name), content, 0o600))
	}
}

// noCertificate: a replica that is to serve from a Secret that is not there.
func (e *environment) noCertificate(t *testing.T) {
	replica := e.replica(t, injector.Options{Name: "bare", Certificate: true, Flags: []string{"--tls-secret", "nowhere"}})
	ctx, stop := context.WithCancel(t.Context())
	ready := make(chan error, 1)
	go func() { ready <- replica.Start(ctx) }()
	stage.Eventually(t, func(ctx context.Context) error {
		_, err := replica.Metric(ctx, "lightstep_injector_config_loaded", nil)
		return err
	})
	e.scraped["bare"] = replica
	defer delete(e.scraped, "bare")
	e.fires(t, "NoCertificate critical "+own+" bare")
	stop()
	if err := <-ready; err == nil {
		t.Error("it was ready")
	}
	replica.Kill()
	delete(e.scraped, "bare")
	e.resolved(t)
}

// mayNotLook: the account has lost a right, so the leader cannot look, and its last look grows old.
func (e *environment) mayNotLook(t *testing.T) {
	roles := e.Client.RbacV1().ClusterRoles()
	role, err := roles.Get(t.Context(), "lightstep-injector", metav1.GetOptions{})
	stage.Check(t, err)
	for i := range role.Rules {
		if strings.Join(role.Rules[i].Resources, ",") == string(corev1.ResourcePods) {
			role.Rules[i].Resources = []string{"nodes"}
		}
	}
	_, err = roles.Update(t.Context(), role, metav1.UpdateOptions{})
	stage.Check(t, err)
	stage.Eventually(t, func(context.Context) error {
		log, err := os.ReadFile(e.injector.LogFile())
		if err == nil && !strings.Contains(string(log), "missed: not every namespace could be looked at") {
			err = errors.New("it can still look")
		}
		return err
	})
	e.begin(t)
	if active := e.advance(t, earlier+5*time.Minute); len(active) > 0 {
		t.Errorf("while the last look is no older than ten minutes there is %v", names(active))
	}
	e.advance(t, 5*time.Minute)
	e.fires(t, "NotLooking warning")
}
