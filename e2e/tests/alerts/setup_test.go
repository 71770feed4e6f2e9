package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/chart"
	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/compile"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/operator"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root       = "../../.."
	own        = chart.Namespace
	istioSpace = "istio-system"
	// caSecret is the satellite CA's, in every namespace.
	caSecret, caKey = "lightstep.cacert", "cacert.pem"
)

type environment struct {
	*stage.Stage
	helm     *chart.Helm
	injector *injector.Injector
	// account is the kubeconfig of the injector's own account.
	account string
	// prometheus is the address of Prometheus.
	prometheus string
	// rules are the PrometheusRule's.
	rules json.RawMessage
	// honorLabels is the PodMonitor's.
	honorLabels bool
	// scraped are the replicas that Prometheus scrapes, by their names.
	scraped map[string]*injector.Injector
	// fired are the alerts that have been seen to fire, with their severities.
	fired map[string]bool
	// besides is an alert that is not looked at.
	besides string
	// panels has how many series each expression of the dashboard has shown.
	panels map[string]int
}

func setUp(t *testing.T) *environment {
	t.Helper()
	e := &environment{Stage: stage.New(t, root), fired: map[string]bool{}, panels: map[string]int{}}
	var err error
	e.helm, err = chart.Build(t.Context(), root, t.TempDir(), func() { report.New(os.Stdout).Linef("Helm is built from source the first time: a minute.") })
	stage.Check(t, err)
	e.startPrometheus(t)
	e.installKinds(t)
	e.Namespace(t, istioSpace, nil, nil)
	e.configure(t, "", "")
	e.install(t)
	e.account = filepath.Join(e.Run.Dir, "account.kubeconfig")
	as, err := e.Cluster.As(t.Context(), own, "lightstep-injector")
	stage.Check(t, err)
	stage.Check(t, cluster.WriteKubeconfig(e.account, as))
	e.source(t, satelliteCA(t, year))
	e.injector, err = injector.NewInstalled(t.Context(), e.Cluster, e.Run, injector.Options{Binary: e.Program, Config: e.Config, Kubeconfig: e.account})
	stage.Check(t, err)
	t.Cleanup(func() { stage.LogOnFailure(t, e.injector.LogFile()); e.injector.Kill() })
	stage.Check(t, e.injector.Start(t.Context()))
	e.scraped = map[string]*injector.Injector{"one": e.injector}
	e.Namespace(t, "shop", labelled(), nil)
	e.until(t, "lightstep_injector_copies", map[string]string{"state": "current"}, 1)
	e.until(t, "lightstep_injector_missed_pods_last_look_timestamp_seconds", nil, anything)
	return e
}

func labelled() map[string]string { return map[string]string{"lightstep.com/injection": "enabled"} }

// installKinds has the API server know the kinds of prometheus-operator, and Istio's.
func (e *environment) installKinds(t *testing.T) {
	t.Helper()
	stage.Check(t, operator.Install(t.Context(), e.Cluster))
	list, err := compile.Command(t.Context(), filepath.Join(root, "e2e", "istio", "istiod"), "list", "-m", "-f", "{{.Dir}}", "istio.io/istio").Output()
	stage.Check(t, err)
	e.kubectl(t, "apply", "--server-side", "-f", filepath.Join(strings.TrimSpace(string(list)), "manifests", "charts", "base", "files", "crd-all.gen.yaml"))
	stage.Eventually(t, func(ctx context.Context) error { // they are served a moment later
		_, err := e.try(ctx, "get", "telemetries.telemetry.istio.io,serviceentries.networking.istio.io,destinationrules.networking.istio.io", "-A")
		return err
	})
}

// install installs the chart with all that is for monitoring, and reads it back.
func (e *environment) install(t *testing.T) {
	t.Helper()
	flags := []string{
		"--set", "monitoring.podMonitor.enabled=true,monitoring.prometheusRule.enabled=true,monitoring.dashboard.enabled=true", "--set-file", "config=" + e.Config,
	}
	text, err := e.helm.Render(t.Context(), append([]string{"--no-hooks"}, flags...)...) // a pod takes an account that is there
	stage.Check(t, err)
	file := filepath.Join(t.TempDir(), "rendered.yaml")
	stage.Check(t, os.WriteFile(file, text, 0o600))
	e.kubectl(t, "create", "namespace", own)
	e.kubectl(t, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", file) // every field is known
	stage.Check(t, e.helm.Install(t.Context(), e.Cluster, flags...))
	var rule struct{ Spec json.RawMessage }
	stage.Check(t, json.Unmarshal([]byte(e.kubectl(t, "get", "prometheusrule", "lightstep-injector", "-n", own, "-o", "json")), &rule))
	e.rules = rule.Spec
}

// configure gives the injector a configuration, with a text replaced.
func (e *environment) configure(t *testing.T, old, replacement string) {
	t.Helper()
	content, err := os.ReadFile("testdata/config.yaml")
	stage.Check(t, err)
	stage.Check(t, injector.WriteConfig(e.Config, []byte(strings.Replace(string(content), old, replacement, 1))))
}

// source gives the satellite CA's source another content.
func (e *environment) source(t *testing.T, content []byte) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: caSecret}, Data: map[string][]byte{caKey: content}}
	_, err := e.Client.CoreV1().Secrets(own).Update(t.Context(), secret, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = e.Client.CoreV1().Secrets(own).Create(t.Context(), secret, metav1.CreateOptions{})
	}
	stage.Check(t, err)
}

// meshed labels, with those of the injector's, a namespace that is in the mesh.
func meshed() map[string]string {
	return map[string]string{"lightstep.com/injection": "enabled", "istio-injection": "enabled"}
}

// istio writes what the injector reads of a control plane, as Istio 1.26's charts have it, with this MeshConfig.
func (e *environment) istio(t *testing.T, mesh string) {
	t.Helper()
	maps := e.Client.CoreV1().ConfigMaps(istioSpace)
	for name, data := range map[string]map[string]string{
		"istio":                  {"mesh": mesh},
		"istio-sidecar-injector": {"values": `{"global":{"tag":"1.26.0"}}`},
	} {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
		_, err := maps.Update(t.Context(), object, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			_, err = maps.Create(t.Context(), object, metav1.CreateOptions{})
		}
		stage.Check(t, err)
	}
}

// unlabel takes the injector's label off a namespace.
func (e *environment) unlabel(t *testing.T, namespace string) {
	t.Helper()
	e.kubectl(t, "label", "namespace", namespace, "lightstep.com/injection-")
}

// pod creates one, once its namespace has its service account.
func (e *environment) pod(t *testing.T, namespace, name string) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		_, err := e.Client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
		}, metav1.CreateOptions{})
		return err
	})
}

// anything is a value that until does not look at.
const anything = -1

// until waits until the injector's series with these labels have a value, taken together.
func (e *environment) until(t *testing.T, metric string, labels map[string]string, want float64) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		got, err := e.injector.Metric(ctx, metric, labels)
		if err == nil && got != want && want != anything {
			err = fmt.Errorf("%s%v is %v, not %v", metric, labels, got, want)
		}
		return err
	})
}

// gone waits until a metric has no series.
func (e *environment) gone(t *testing.T, metric string) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		text, err := e.injector.Metrics(ctx)
		if err == nil && strings.Contains(string(text), "\n"+metric) {
			err = errors.New("there still is " + metric)
		}
		return err
	})
}

// kubectl runs it, and returns what it prints.
func (e *environment) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	output, err := e.try(t.Context(), args...)
	stage.Check(t, err)
	return output
}

func (e *environment) try(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, e.Cluster.Kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.Cluster.Kubeconfig, "KUBECACHEDIR="+filepath.Dir(e.Config))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	output, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w: %s%s", strings.Join(args, " "), err, output, complaint.String())
	}
	return string(output), err
}

const (
	day  = 24 * time.Hour
	year = 365 * day
)
