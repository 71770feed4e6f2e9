package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/chart"
	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root    = "../../.."
	own     = chart.Namespace
	address = "config.profiles.default.satellite.address=lightstep-satellite.lightstep:9292"
	webhook = "0-lightstep-injector"
)

type environment struct {
	*stage.Stage
	helm     *chart.Helm
	injector *injector.Injector
}

// TestInstall is the life of a release, in this order.
func TestInstall(t *testing.T) {
	e := &environment{Stage: stage.New(t, root), helm: buildHelm(t)}
	// What the API server itself enforces of our pods.
	e.Namespace(t, own, map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}, nil)
	t.Run("Accepted", e.accepted)
	t.Run("NothingSet", e.nothingSet)
	t.Run("Available", e.available)
	t.Run("Injects", e.injects)
	t.Run("Plugin", e.plugin)
	t.Run("CABundleStays", e.caBundleStays)
	t.Run("SameAgain", e.sameAgain)
	t.Run("Away", e.away)
	t.Run("Uninstalled", e.uninstalled)
}

// accepted: the API server takes each combination, and knows every field.
func (e *environment) accepted(t *testing.T) {
	for name, flags := range map[string][]string{
		"defaults": nil,
		"much": {
			"--set", address, "--set", "hostNetwork=true,priorityClassName=p,image.pullSecrets={a},podLabels.a=b,podAnnotations.c=d,nodeSelector.e=f",
			"--set", "networkPolicy.enabled=true,networkPolicy.apiServerCIDRs={10.0.0.0/28},tolerations[0].operator=Exists,goMemoryLimit=",
			"--set", "certificate.selfManaged=true,webhook.failurePolicy=Fail,config.istio.manage=true",
		},
	} {
		text, err := e.helm.Render(t.Context(), flags...)
		stage.Check(t, err)
		file := filepath.Join(t.TempDir(), name+".yaml")
		stage.Check(t, os.WriteFile(file, text, 0o600))
		e.kubectl(t, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", file)
	}
}

// nothingSet: an installation with no value at all says which are to be set.
func (e *environment) nothingSet(t *testing.T) {
	notes := e.upgrade(t)
	for _, says := range []string{
		"--set config.profiles.default.satellite.address=HOST:PORT", "--set-file certificate.caBundle=ca.pem", "from the Secret lightstep-injector-tls",
		"kubectl create secret generic lightstep.cacert -n lightstep-system", "Pods that already run are not touched", "kubectl rollout restart",
		"kubectl label namespace NAMESPACE lightstep.com/injection=enabled", "kubectl delete mutatingwebhookconfiguration " + webhook,
		"kubectl delete secret -A -l lightstep.com/managed=distribute",
	} {
		if !strings.Contains(notes, says) {
			t.Errorf("the notes do not say %q:\n%s", says, notes)
		}
	}
	ca, err := injector.NewCA("webhook CA")
	stage.Check(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	stage.Check(t, os.WriteFile(file, ca.PEM, 0o600))
	notes = e.upgrade(t, "--set", address, "--set-file", "certificate.caBundle="+file, "--set", "config.profiles.default.caCertificate.source=null")
	if strings.Contains(notes, "address=HOST:PORT") || strings.Contains(notes, "--set-file") || !strings.Contains(notes, "lightstep.cacert there are your own work") {
		t.Errorf("with values set the notes say:\n%s", notes)
	}
	e.upgrade(t, "--set", address) // takes the caBundle out again, which was the chart's
	if got := e.caBundle(t); got != "" {
		t.Errorf("a caBundle that the chart no longer has is still there: %s", got)
	}
}

func (e *environment) upgrade(t *testing.T, flags ...string) string {
	t.Helper()
	notes, err := e.helm.Upgrade(t.Context(), e.Cluster, flags...)
	stage.Check(t, err)
	return notes
}

// available: the pods come up, under the restricted Pod Security Standard.
func (e *environment) available(t *testing.T) {
	e.kubectl(t, "rollout", "status", "deployment/lightstep-injector", "-n", own, "--timeout=60s")
	pods, err := e.Client.CoreV1().Pods(own).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=lightstep-injector"})
	stage.Check(t, err)
	nodes := map[string]bool{}
	for i := range pods.Items {
		nodes[pods.Items[i].Spec.NodeName] = true
	}
	if len(pods.Items) < 2 || len(nodes) != 2 {
		t.Errorf("%d pods on %d nodes", len(pods.Items), len(nodes))
	}
}

// injects: the program runs with the Deployment's arguments and the chart's account and configuration, and the API server calls it
// through the chart's Service.
func (e *environment) injects(t *testing.T) {
	config, err := e.Client.CoreV1().ConfigMaps(own).Get(t.Context(), "lightstep-injector", metav1.GetOptions{})
	stage.Check(t, err)
	stage.Check(t, injector.WriteConfig(e.Config, []byte(config.Data["config.yaml"])))
	as, err := e.Cluster.As(t.Context(), own, "lightstep-injector")
	stage.Check(t, err)
	account := filepath.Join(e.Run.Dir, "account.kubeconfig")
	stage.Check(t, cluster.WriteKubeconfig(account, as))
	e.injector, err = injector.NewInstalled(t.Context(), e.Cluster, e.Run, injector.Options{Binary: e.Program, Config: e.Config, Kubeconfig: account})
	stage.Check(t, err)
	t.Cleanup(e.injector.Kill)
	stage.Check(t, e.injector.Start(t.Context()))
	e.Namespace(t, "shop", map[string]string{"lightstep.com/injection": "enabled"}, nil)
	if pod := e.pod(t, "shop", "first"); pod.Labels["lightstep.com/injected"] != "true" || len(pod.Spec.Volumes) == 0 {
		t.Errorf("it was not injected: %v", pod.Labels)
	}
}

// pod creates one, once the namespace has its service account.
func (e *environment) pod(t *testing.T, namespace, name string) (made *corev1.Pod) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) (err error) {
		made, err = e.create(ctx, namespace, name)
		return err
	})
	return made
}

func (e *environment) create(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return e.Client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{Name: "app", Image: "app", SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			}}},
		},
	}, metav1.CreateOptions{})
}

// plugin: kubectl finds the program under a name of its own, has it tell of the cluster, and completes for it.
func (e *environment) plugin(t *testing.T) {
	program, err := filepath.Abs(e.Program)
	stage.Check(t, err)
	folder := t.TempDir()
	for _, name := range []string{"kubectl-lightstep", "kubectl_complete-lightstep"} {
		stage.Check(t, os.Symlink(program, filepath.Join(folder, name)))
	}
	t.Setenv("PATH", folder+string(filepath.ListSeparator)+os.Getenv("PATH"))
	for _, test := range []struct{ args, says string }{
		{"lightstep status -n shop --config " + e.Config, "shop "},
		{"lightstep status --help", "  kubectl lightstep status -n shop -o json\n"},
		{"__complete lightstep stat", "status\tTell"},
		{"plugin list", "kubectl-lightstep"},
	} {
		cmd := exec.CommandContext(t.Context(), e.Cluster.Kubectl, strings.Fields(test.args)...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+e.Cluster.Kubeconfig)
		if got, err := cmd.CombinedOutput(); !strings.Contains(string(got), test.says) { // status ends with 1 where something is amiss
			t.Errorf("kubectl %s: %v\n%s", test.args, err, got)
		}
	}
}

func (e *environment) caBundle(t *testing.T) string {
	t.Helper()
	found, err := e.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), webhook, metav1.GetOptions{})
	stage.Check(t, err)
	return string(found.Webhooks[0].ClientConfig.CABundle)
}

// caBundleStays: what was written into the webhook configuration survives upgrades that change it, and roll-backs, in both of
// Helm's ways.
func (e *environment) caBundleStays(t *testing.T) {
	before := e.caBundle(t)
	if before == "" {
		t.Fatal("there is no caBundle")
	}
	for _, way := range []string{"--server-side=true", "--server-side=false"} {
		for i, timeout := range []string{"4", "5"} {
			e.upgrade(t, "--set", address, "--set", "webhook.timeoutSeconds="+timeout, way)
			if got := e.caBundle(t); got != before {
				t.Errorf("upgrade %d, %s: the caBundle is %q", i, way, got)
			}
		}
		stage.Check(t, e.helm.Rollback(t.Context(), e.Cluster, way))
		if got := e.caBundle(t); got != before {
			t.Errorf("roll-back, %s: the caBundle is %q", way, got)
		}
	}
}

// sameAgain: an upgrade with the same values writes nothing that the API server sees as a change.
func (e *environment) sameAgain(t *testing.T) {
	flags := []string{"--set", address, "--server-side=true"}
	e.upgrade(t, flags...)
	before := e.versions(t)
	e.upgrade(t, flags...)
	if after := e.versions(t); before != after {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

// versions are those of the chart's objects whose status is nobody's business here.
func (e *environment) versions(t *testing.T) string {
	t.Helper()
	return e.kubectl(t, "get", "mutatingwebhookconfigurations,validatingadmissionpolicybindings,clusterroles,clusterrolebindings,roles,rolebindings,services,serviceaccounts,configmaps",
		"-A", "-l", "app.kubernetes.io/name=lightstep-injector", "-o", "custom-columns=KIND:.kind,NAME:.metadata.name,VERSION:.metadata.resourceVersion")
}

// away: with every replica gone and the policy that refuses pods, the namespaces that the injector itself depends on still have
// theirs, labelled or not; with the usual policy, every namespace has.
func (e *environment) away(t *testing.T) {
	e.kubectl(t, "label", "namespace", own, metav1.NamespaceSystem, "lightstep.com/injection=enabled")
	e.upgrade(t, "--set", address, "--set", "webhook.failurePolicy=Fail")
	e.injector.Kill()
	stage.Eventually(t, func(ctx context.Context) error { // the API server learns of it by a watch
		_, err := e.create(ctx, "shop", "refused")
		if err == nil {
			return errors.Join(errors.New("a pod was created"), e.Client.CoreV1().Pods("shop").Delete(ctx, "refused", metav1.DeleteOptions{}))
		}
		if !strings.Contains(err.Error(), "inject.lightstep.com") {
			return err
		}
		return nil
	})
	for _, namespace := range []string{own, metav1.NamespaceSystem} {
		if _, err := e.create(t.Context(), namespace, "needed"); err != nil {
			t.Errorf("a pod in %s: %v", namespace, err)
		}
	}
	e.upgrade(t, "--set", address)
	if pod := e.pod(t, "shop", "missed"); pod.Labels["lightstep.com/injected"] != "" {
		t.Errorf("it was injected: %v", pod.Labels)
	}
}

// uninstalled: nothing of the chart's is left.
func (e *environment) uninstalled(t *testing.T) {
	stage.Check(t, e.helm.Uninstall(t.Context(), e.Cluster))
	kinds := strings.Fields(e.kubectl(t, "api-resources", "--verbs=list", "-o", "name"))
	kinds = slices.DeleteFunc(kinds, func(kind string) bool { return strings.HasPrefix(kind, "pods") || strings.HasPrefix(kind, "endpoints") })
	stage.Eventually(t, func(context.Context) error {
		if left := e.kubectl(t, "get", strings.Join(kinds, ","), "-A", "-l", "app.kubernetes.io/name=lightstep-injector", "-o", "name", "--ignore-not-found"); strings.TrimSpace(left) != "" {
			return fmt.Errorf("there is still %s", left)
		}
		return nil
	})
	_, err := e.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), webhook, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("the webhook configuration: %v", err)
	}
}

// kubectl runs it, and returns what it prints.
func (e *environment) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.Cluster.Kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.Cluster.Kubeconfig)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v: %s%s", strings.Join(args, " "), err, output, complaint.String())
	}
	return string(output)
}
