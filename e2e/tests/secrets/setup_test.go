package secrets

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/lightstep-injector/lightstep-injector/e2e/chart"
	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root = "../../.."
	// own is the injector's namespace, accountName its service account.
	own         = chart.Namespace
	accountName = "lightstep-injector"
	username    = "system:serviceaccount:" + own + ":" + accountName
	istioSpace  = "istio-system"
)

// environment is what all tests share.
type environment struct {
	run     *cluster.Run
	cluster *cluster.Cluster
	helm    *chart.Helm
	admin   *kubernetes.Clientset
	// account has the rights of the injector's service account.
	account *kubernetes.Clientset
	// adminObjects and accountObjects reach objects of any kind.
	adminObjects, accountObjects *dynamic.DynamicClient
}

// setUp brings up a cluster with the chart installed, and has it taken down when the test has ended.
func setUp(t *testing.T) *environment {
	t.Helper()
	ctx := t.Context()
	run, err := cluster.NewRun(root)
	stage.Check(t, err)
	t.Cleanup(func() { stage.Check(t, run.Remove()) })
	control, err := cluster.Build(ctx, root, report.New(os.Stdout).Progress)
	stage.Check(t, err)
	helm := buildHelm(t)
	c, err := cluster.Start(ctx, control, run, cluster.WithAuditLog)
	stage.Check(t, err)
	t.Cleanup(func() { stage.Check(t, c.Stop()) })
	e := &environment{run: run, cluster: c, helm: helm, admin: client(t, c.Config), adminObjects: objects(t, c.Config)}
	e.namespace(t, istioSpace, nil)
	e.installIstioKinds(t)
	stage.Check(t, e.helm.Install(ctx, c, "--values", "testdata/values.yaml"))
	config, err := c.As(ctx, own, accountName)
	stage.Check(t, err)
	e.account, e.accountObjects = client(t, config), objects(t, config)
	stage.Check(t, e.admin.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(ctx, webhookName, metav1.DeleteOptions{}))
	e.register(t, webhookName, "inject.lightstep.com", "second.lightstep.com")
	e.register(t, "1-other", "other.example.com")
	e.awaitPolicies(t)
	return e
}

func buildHelm(t *testing.T) *chart.Helm {
	t.Helper()
	helm, err := chart.Build(t.Context(), root, t.TempDir(), func() { report.New(os.Stdout).Linef("Helm is built from source the first time: a minute.") })
	stage.Check(t, err)
	return helm
}

// client asks as much as it likes, and says no warnings.
func client(t *testing.T, config *rest.Config) *kubernetes.Clientset {
	t.Helper()
	config = rest.CopyConfig(config)
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	made, err := kubernetes.NewForConfig(config)
	stage.Check(t, err)
	return made
}

// objects reaches objects of any kind.
func objects(t *testing.T, config *rest.Config) *dynamic.DynamicClient {
	t.Helper()
	config = rest.CopyConfig(config)
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	made, err := dynamic.NewForConfig(config)
	stage.Check(t, err)
	return made
}

// installIstioKinds has the API server know Istio's kinds, with the schemas of Istio's own chart.
func (e *environment) installIstioKinds(t *testing.T) {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "istio.io/istio")
	list.Dir = filepath.Join(root, "e2e", "istio", "istiod")
	dir, err := list.Output()
	stage.Check(t, err)
	file := filepath.Join(strings.TrimSpace(string(dir)), "manifests", "charts", "base", "files", "crd-all.gen.yaml")
	e.kubectl(t, "apply", "--server-side", "--filename", file)
	e.kubectl(t, "wait", "--for=condition=Established", "--timeout=60s",
		"crd/serviceentries.networking.istio.io", "crd/destinationrules.networking.istio.io", "crd/telemetries.telemetry.istio.io")
}

func (e *environment) kubectl(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.cluster.Kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.cluster.Kubeconfig, "KUBECACHEDIR="+e.run.Dir)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, output)
	}
}

// namespace makes one and returns its name.
func (e *environment) namespace(t *testing.T, name string, labels map[string]string) string {
	t.Helper()
	made := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	_, err := e.admin.CoreV1().Namespaces().Create(t.Context(), made, metav1.CreateOptions{})
	stage.Check(t, err)
	return name
}

// ordinary reaches the cluster as a service account that every namespace has.
func (e *environment) ordinary(t *testing.T, namespace string) *kubernetes.Clientset {
	t.Helper()
	var config *rest.Config
	stage.Eventually(t, func(ctx context.Context) (err error) { // a controller makes the account
		config, err = e.cluster.As(ctx, namespace, "default")
		return err
	})
	return client(t, config)
}

// labelled are the labels of a namespace that has opted in.
func labelled() map[string]string { return map[string]string{"lightstep.com/injection": "enabled"} }

// webhookName is the webhook configuration that the account may tell its CA.
const webhookName = "0-lightstep-injector"

// register makes a webhook configuration that calls nobody; one with several webhooks stands in for the chart's.
func (e *environment) register(t *testing.T, name string, webhooks ...string) {
	t.Helper()
	made := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: map[string]string{"app": "lightstep"}, Annotations: map[string]string{"note": "x"},
	}}
	for _, webhook := range webhooks {
		made.Webhooks = append(made.Webhooks, admissionv1.MutatingWebhook{
			Name: webhook,
			ClientConfig: admissionv1.WebhookClientConfig{
				Service: &admissionv1.ServiceReference{Namespace: own, Name: "lightstep-injector", Path: new("/inject")},
			},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"nobody": "has-this"}},
			SideEffects:             new(admissionv1.SideEffectClassNone),
			FailurePolicy:           new(admissionv1.Ignore),
			AdmissionReviewVersions: []string{"v1"},
			MatchConditions:         []admissionv1.MatchCondition{{Name: "never", Expression: "false"}},
		})
	}
	_, err := e.admin.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), made, metav1.CreateOptions{})
	stage.Check(t, err)
}

// awaitPolicies waits until the API server, which learns of them by a watch, has every policy in force. What it tries is
// against more than one clause of each.
func (e *environment) awaitPolicies(t *testing.T) {
	t.Helper()
	e.namespace(t, "waiting", nil)
	for policy, try := range map[string]func(context.Context) error{
		secretsPolicy: func(ctx context.Context) error {
			return e.apply(ctx, tokenOf("waiting", satelliteCA, "default"), dryRun)
		},
		webhookPolicy: func(ctx context.Context) error {
			return e.patchWebhook(ctx, webhookName, `{"metadata":{"labels":{"waiting":"x"}},"webhooks":null}`, dryRun)
		},
		istioPolicy: func(ctx context.Context) error {
			return e.applyObject(ctx, telemetryOf("waiting", setField("spec", map[string]any{})), dryRun)
		},
		leasePolicy: func(ctx context.Context) error {
			_, err := e.account.CoordinationV1().Leases(own).Create(ctx, leaseOf("waiting"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err
		},
		eventsPolicy: func(ctx context.Context) error {
			event := eventOf("waiting")
			event.Reason = "Waiting"
			_, err := e.account.EventsV1().Events("waiting").Create(ctx, event, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err
		},
	} {
		stage.Eventually(t, func(ctx context.Context) error { return refused(try(ctx), policy) })
	}
}

// allowEverything has RBAC allow the account everything, and waits until it does.
func (e *environment) allowEverything(t *testing.T) {
	t.Helper()
	bindings := e.admin.RbacV1().ClusterRoleBindings()
	_, err := bindings.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "everything"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: own, Name: accountName}},
	}, metav1.CreateOptions{})
	stage.Check(t, err)
	stage.Eventually(t, func(ctx context.Context) error {
		_, err := e.account.CoreV1().Secrets(own).List(ctx, metav1.ListOptions{})
		return err
	})
}

// The words by which it is told who refused.
const (
	byRBAC        = `User "` + username + `" cannot `
	secretsPolicy = "ValidatingAdmissionPolicy 'lightstep-injector-secrets'"
	webhookPolicy = "ValidatingAdmissionPolicy 'lightstep-injector-webhook'"
	istioPolicy   = "ValidatingAdmissionPolicy 'lightstep-injector-istio'"
	leasePolicy   = "ValidatingAdmissionPolicy 'lightstep-injector-lease'"
	eventsPolicy  = "ValidatingAdmissionPolicy 'lightstep-injector-events'"
)

// policies are their names.
func policies() []string {
	return []string{
		"lightstep-injector-events", "lightstep-injector-istio", "lightstep-injector-lease", "lightstep-injector-secrets", "lightstep-injector-webhook",
	}
}

// What the clauses of each policy say when they refuse, before their messages.
const (
	bySecrets = secretsPolicy + " with binding 'lightstep-injector-secrets' denied request: "
	byIstio   = istioPolicy + " with binding 'lightstep-injector-istio' denied request: "
	byLease   = leasePolicy + " with binding 'lightstep-injector-lease' denied request: "
	byEvents  = eventsPolicy + " with binding 'lightstep-injector-events' denied request: "
)

// refused returns an error unless another one is a refusal, in these words.
func refused(err error, words string) error {
	if err == nil {
		return errors.New("it was allowed")
	}
	if !strings.Contains(err.Error(), words) {
		return fmt.Errorf("it was not refused by %q: %w", words, err)
	}
	return nil
}
