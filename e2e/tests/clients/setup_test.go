package clients

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/chart"
	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root = "../../.."
	own  = chart.Namespace
	// clientCA is the Secret with the client CA, host is what the kubeconfig of the AdmissionConfiguration calls the webhook.
	clientCA = "api-server-client-ca"
	host     = "lightstep-injector." + own + ".svc"
)

type environment struct {
	*stage.Stage
	caller   *injector.Caller
	injector *injector.Injector
	account  string
}

// setUp brings up the control plane, installs the chart, and runs the injector, which has no client CA yet.
func setUp(t *testing.T) *environment {
	t.Helper()
	caller, err := injector.NewCaller()
	stage.Check(t, err)
	e := &environment{Stage: stage.New(t, root, cluster.WithClientCertificate(host, caller.Issue)), caller: caller}
	helm, err := chart.Build(t.Context(), root, t.TempDir(), func() { report.New(os.Stdout).Linef("Helm is built from source the first time: a minute.") })
	stage.Check(t, err)
	config, err := os.ReadFile("testdata/config.yaml")
	stage.Check(t, err)
	stage.Check(t, injector.WriteConfig(e.Config, config))
	stage.Check(t, helm.Install(t.Context(), e.Cluster, "--set-file", "config="+e.Config,
		"--set", "webhook.clientCA.secretName="+clientCA+",webhook.clientNames={"+injector.CallerName+"}"))
	e.account = filepath.Join(e.Run.Dir, "account.kubeconfig")
	as, err := e.Cluster.As(t.Context(), own, "lightstep-injector")
	stage.Check(t, err)
	stage.Check(t, cluster.WriteKubeconfig(e.account, as))
	e.injector, err = injector.NewInstalled(t.Context(), e.Cluster, e.Run, injector.Options{Binary: e.Program, Config: e.Config, Kubeconfig: e.account})
	stage.Check(t, err)
	t.Cleanup(func() { stage.LogOnFailure(t, e.injector.LogFile()); e.injector.Kill() })
	stage.Check(t, e.injector.Launch())
	e.Namespace(t, "shop", map[string]string{"lightstep.com/injection": "enabled"}, nil)
	return e
}

// trust gives the Secret with the client CA a content.
func (e *environment) trust(t *testing.T, cas ...*injector.CA) {
	t.Helper()
	var bundle []byte
	for _, ca := range cas {
		bundle = append(bundle, ca.PEM...)
	}
	e.put(t, bundle)
}

func (e *environment) put(t *testing.T, bundle []byte) {
	t.Helper()
	secrets, secret := e.Client.CoreV1().Secrets(own), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: clientCA}, Data: map[string][]byte{"ca.crt": bundle}}
	_, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = secrets.Create(t.Context(), secret, metav1.CreateOptions{})
	}
	stage.Check(t, err)
}

// injected waits until a pod that the API server creates is injected, or is not.
func (e *environment) injected(t *testing.T, want bool) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error { return e.creates(ctx, want) })
}

// creates has the API server create a pod, and tells whether the webhook has had a say in it. Nothing is made.
func (e *environment) creates(ctx context.Context, want bool) error {
	pod, err := e.Client.CoreV1().Pods("shop").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return err
	}
	if got := pod.Labels["lightstep.com/injected"] == "true"; got != want {
		return fmt.Errorf("the API server creates a pod with the annotations %v", pod.Annotations)
	}
	return nil
}

// accepts waits until certificates of a CA are accepted.
func (e *environment) accepts(t *testing.T, ca *injector.CA) { e.until(t, ca, true) }

// rejects waits until they are not.
func (e *environment) rejects(t *testing.T, ca *injector.CA) { e.until(t, ca, false) }

func (e *environment) until(t *testing.T, ca *injector.CA, accepted bool) {
	t.Helper()
	certFile, keyFile, err := ca.WriteClient(t.TempDir(), injector.CallerName, time.Now().Add(time.Hour))
	stage.Check(t, err)
	stage.Eventually(t, func(context.Context) error {
		if status, err := e.call(t, certFile, keyFile); (err == nil) != accepted {
			return fmt.Errorf("a certificate of the CA: %d, %v", status, err) //nolint:errorlint // it may be nil
		}
		return nil
	})
}

// logged waits until the injector's log has a text.
func (e *environment) logged(t *testing.T, text string) {
	t.Helper()
	stage.Eventually(t, func(context.Context) error {
		log, err := os.ReadFile(e.injector.LogFile())
		if err == nil && !strings.Contains(string(log), text) {
			err = fmt.Errorf("the log does not have %q", text)
		}
		return err
	})
}

// notReady waits until the injector says that this keeps it from being ready.
func (e *environment) notReady(t *testing.T, why string) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		if err := e.injector.Ready(ctx); err == nil || !strings.Contains(err.Error(), why) {
			return fmt.Errorf("it is not ready because of %v, and not of %q", err, why) //nolint:errorlint // it may be nil
		}
		return nil
	})
}

func (e *environment) ready(t *testing.T) {
	t.Helper()
	stage.Eventually(t, e.injector.Ready)
}

// rejections is how many client certificates were rejected for a cause.
func (e *environment) rejections(t *testing.T, cause string) float64 {
	t.Helper()
	count, err := e.injector.Metric(t.Context(), "lightstep_injector_client_certificates_rejected_total", map[string]string{"cause": cause})
	stage.Check(t, err)
	return count
}

// call calls the webhook with a client certificate, or none, and returns the status.
func (e *environment) call(t *testing.T, certFile, keyFile string) (int, error) {
	t.Helper()
	secured := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // this run's own, on loopback
	if certFile != "" {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		stage.Check(t, err)
		secured.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: secured}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.injector.URL(), strings.NewReader("{}"))
	stage.Check(t, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}
