package attack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/balancer"
	"github.com/lightstep-injector/lightstep-injector/e2e/chart"
	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/node"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root = "../../.."
	own  = chart.Namespace
	// shop is where the other pods are created; missed is labelled, too, and has one pod that was not injected.
	shop, missed = "shop", "missed"
	// paid has the access token; the others are the attacker's, of which plain is not labelled.
	paid, tenant, plain, crowd = "paid", "tenant", "plain", "crowd"
	istioSpace                 = "istio-system"
	// token is the access token.
	token = "canary-7f3d90b4c2a1"
)

type environment struct {
	*stage.Stage
	helm *chart.Helm
	node *node.Node
	// service is the Service of the webhook.
	service *balancer.Balancer
	// leaving has the replicas that were told to stop, which are no longer ready.
	leaving sync.Map
}

func setUp(t *testing.T) *environment {
	t.Helper()
	e := &environment{Stage: stage.New(t, root, node.Pods(), cluster.WithAuditLog, cluster.WithLargeStore, cluster.WithoutGarbageCollection)}
	var err error
	e.helm, err = chart.Build(t.Context(), root, t.TempDir(), func() { report.New(os.Stdout).Linef("Helm is built from source the first time: a minute.") })
	stage.Check(t, err)
	e.node, err = node.Start(e.Cluster, e.Program, e.Run.Dir)
	stage.Check(t, err)
	t.Cleanup(func() { e.logs(t); stage.Check(t, e.node.Close()) })
	e.Namespace(t, own, nil, nil)
	ca, err := injector.NewCA("satellite CA")
	stage.Check(t, err)
	e.Secret(t, own, "lightstep.cacert", "cacert.pem", string(ca.PEM))
	e.Secret(t, own, stage.TokenSecret, "token", token)
	e.installIstio(t)
	stage.Check(t, e.helm.Install(t.Context(), e.Cluster, "--set-file", "config=testdata/config.yaml", "--wait"))
	balancers := e.node.Balancers()
	if len(balancers) != 1 || len(e.node.Replicas()) != 2 {
		t.Fatalf("there are %d Services, and the replicas %v", len(balancers), e.node.Replicas())
	}
	e.service = balancers[0]
	e.namespaces(t)
	return e
}

// namespaces makes them, each with a service account.
func (e *environment) namespaces(t *testing.T) {
	t.Helper()
	labels := map[string]string{"lightstep.com/injection": "enabled"}
	e.Namespace(t, missed, nil, nil)
	e.Namespace(t, plain, nil, nil)
	for _, name := range []string{shop, tenant} {
		e.Namespace(t, name, labels, nil)
	}
	e.Namespace(t, paid, labels, map[string]string{"lightstep.com/profile": "paid"})
	for _, name := range []string{missed, plain, shop, tenant, paid} {
		e.awaitAccount(t, name)
	}
	_, err := e.Client.CoreV1().Pods(missed).Create(t.Context(), pod("before", nil), metav1.CreateOptions{})
	stage.Check(t, err)
	e.label(t, missed)
}

// awaitAccount waits for a namespace's service account, without which no pod can be created.
func (e *environment) awaitAccount(t *testing.T, namespace string) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		_, err := e.Client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// label labels a namespace that is there already.
func (e *environment) label(t *testing.T, namespace string) {
	t.Helper()
	_, err := e.Client.CoreV1().Namespaces().Patch(t.Context(), namespace, "application/merge-patch+json",
		[]byte(`{"metadata":{"labels":{"lightstep.com/injection":"enabled"}}}`), metav1.PatchOptions{})
	stage.Check(t, err)
}

// pod is one that no scheduler takes: it stays pending.
func pod(name string, annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations},
		Spec:       corev1.PodSpec{SchedulerName: "none", Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
}

// installIstio has the API server know Istio's kinds, and makes what the injector reads of a control plane.
func (e *environment) installIstio(t *testing.T) {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "istio.io/istio")
	list.Dir = filepath.Join(root, "e2e", "istio", "istiod")
	dir, err := list.Output()
	stage.Check(t, err)
	e.kubectl(t, "apply", "--server-side", "--filename", filepath.Join(strings.TrimSpace(string(dir)), "manifests", "charts", "base", "files", "crd-all.gen.yaml"))
	e.kubectl(t, "wait", "--for=condition=Established", "--timeout=60s",
		"crd/serviceentries.networking.istio.io", "crd/destinationrules.networking.istio.io", "crd/telemetries.telemetry.istio.io")
	e.Namespace(t, istioSpace, nil, nil)
	for name, data := range map[string]map[string]string{
		"istio":                  {"mesh": `{extensionProviders: [{name: lightstep, opentelemetry: {service: otel.shop.svc.cluster.local, port: 4317}}]}`},
		"istio-sidecar-injector": {"values": `{"global":{"tag":"1.31.0"}}`},
	} {
		_, err := e.Client.CoreV1().ConfigMaps(istioSpace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, metav1.CreateOptions{})
		stage.Check(t, err)
	}
}

func (e *environment) kubectl(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.Cluster.Kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.Cluster.Kubeconfig, "KUBECACHEDIR="+filepath.Dir(e.Config))
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, output)
	}
}

// logs shows the end of what each replica has logged, where a test has failed.
func (e *environment) logs(t *testing.T) {
	t.Helper()
	files, err := e.node.Logs()
	stage.Check(t, err)
	for _, file := range files {
		stage.LogOnFailure(t, file)
	}
}

// recovers waits until every replica is ready, and a pod is injected.
func (e *environment) recovers(t *testing.T) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		if e.service.Routed() != 2 {
			return fmt.Errorf("%d replicas of 2 are ready", e.service.Routed())
		}
		if err := e.service.Reconnect(ctx); err != nil {
			return err
		}
		if injected, err := e.create(ctx, nil); err != nil || !injected {
			return errors.Join(err, errors.New("a pod is not injected"))
		}
		return nil
	})
}

// get reads from a replica over plain HTTP.
func get(ctx context.Context, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(request)
}
