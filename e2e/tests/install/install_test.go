package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/chart"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/node"
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
	helm *chart.Helm
	node *node.Node
}

// setUp is a cluster that has a node for the injector's pods, and nothing of the injector's yet.
func setUp(t *testing.T) *environment {
	t.Helper()
	e := &environment{Stage: stage.New(t, root, node.Pods()), helm: buildHelm(t)}
	var err error
	e.node, err = node.Start(e.Cluster, e.Program, e.Run.Dir)
	stage.Check(t, err)
	t.Cleanup(func() { e.logs(t); stage.Check(t, e.node.Close()) })
	return e
}

// TestInstall is the life of a release, in this order.
func TestInstall(t *testing.T) {
	e := setUp(t)
	// What the API server itself enforces of our pods.
	e.Namespace(t, own, map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}, nil)
	t.Run("NothingSet", e.nothingSet)
	t.Run("Uninstalled", e.uninstalled)
	t.Run("AtOnce", e.atOnce)
	t.Run("Spread", e.spread)
	t.Run("Bookinfo", e.bookinfo)
	t.Run("Plugin", e.plugin)
	t.Run("CABundleStays", e.caBundleStays)
	t.Run("SameAgain", e.sameAgain)
	t.Run("Existing", e.existing)
	t.Run("Away", e.away)
	t.Run("GitOps", e.gitOps)
	t.Run("UninstalledAgain", e.uninstalled)
	t.Run("Elsewhere", e.elsewhere)
}

// logs shows the end of what each of the injector's pods has logged, where a test has failed.
func (e *environment) logs(t *testing.T) {
	t.Helper()
	files, err := e.node.Logs()
	stage.Check(t, err)
	for _, file := range files {
		stage.LogOnFailure(t, file)
	}
}

// nothingSet: an installation with no value at all works, leaves pods as they are, and says in every way which value is to be set.
func (e *environment) nothingSet(t *testing.T) {
	const value = "config.profiles.default.satellite.address"
	notes := e.upgrade(t, "--wait")
	for _, says := range []string{
		"--set " + value + "=HOST:PORT", "It makes its own certificate",
		"kubectl create secret generic lightstep.cacert -n lightstep-system", "Pods that already run are not touched", "kubectl rollout restart",
		"kubectl label namespace NAMESPACE lightstep.com/injection=enabled", "kubectl delete mutatingwebhookconfiguration " + webhook,
		"kubectl delete secret -A -l lightstep.com/managed=distribute", "helm test lightstep-injector -n lightstep-system",
	} {
		if !strings.Contains(notes, says) {
			t.Errorf("the notes do not say %q:\n%s", says, notes)
		}
	}
	for _, namespace := range []struct {
		name   string
		labels map[string]string
	}{{"unlabelled", nil}, {"unset", map[string]string{"lightstep.com/injection": "enabled"}}} {
		e.Namespace(t, namespace.name, namespace.labels, nil)
	}
	without, with := e.pod(t, "unlabelled", "pod"), e.pod(t, "unset", "pod")
	if diff := cmp.Diff(volumes(without), volumes(with)); diff != "" || with.Labels != nil || with.Annotations != nil {
		t.Errorf("the pod is changed: %v, %v, %s", with.Labels, with.Annotations, diff)
	}
	said, _ := e.tested(t)
	if !strings.Contains(said, value) {
		t.Errorf("helm test does not name the value: %s", said)
	}
	e.logged(t, "profiles.default.satellite.address is empty")
	e.counted(t, `lightstep_injector_admissions_total{outcome="unchanged",reason="NotConfigured"}`)
}

// counted sees that some replica has such a series in its metrics.
func (e *environment) counted(t *testing.T, series string) {
	t.Helper()
	pods, err := e.Client.CoreV1().Pods(own).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=lightstep-injector"})
	stage.Check(t, err)
	for i := range pods.Items {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+net.JoinHostPort(pods.Items[i].Status.PodIP, "8080")+"/metrics", http.NoBody)
		stage.Check(t, err)
		response, err := http.DefaultClient.Do(request)
		stage.Check(t, err)
		text, err := io.ReadAll(response.Body)
		stage.Check(t, errors.Join(err, response.Body.Close()))
		if strings.Contains(string(text), series+" ") {
			return
		}
	}
	t.Errorf("no replica has counted %s", series)
}

// volumes are how many a pod has, of which each has a token's of another name.
func volumes(pod *corev1.Pod) int {
	return len(pod.Spec.Volumes) + len(pod.Spec.Containers[0].VolumeMounts)
}

// tested runs helm test, and returns what the test has said. There is no kubelet to have the log from, so that it comes from
// the file that it is in.
func (e *environment) tested(t *testing.T, flags ...string) (said string, err error) {
	t.Helper()
	output, err := e.helm.Test(t.Context(), e.Cluster, append(flags, "--timeout=60s")...)
	log, notRead := os.ReadFile(e.node.Log(own, "lightstep-injector-check"))
	stage.Check(t, notRead)
	stage.Check(t, os.Remove(e.node.Log(own, "lightstep-injector-check")))
	t.Logf("helm test: %s%v: %s", output, err, log)
	return string(log), err
}

// logged sees that some replica has said something.
func (e *environment) logged(t *testing.T, text string) {
	t.Helper()
	files, err := e.node.Logs()
	stage.Check(t, err)
	for _, file := range files {
		log, err := os.ReadFile(file)
		stage.Check(t, err)
		if strings.Contains(string(log), text) {
			return
		}
	}
	t.Errorf("no replica has logged %q", text)
}

func (e *environment) upgrade(t *testing.T, flags ...string) string {
	t.Helper()
	notes, err := e.helm.Upgrade(t.Context(), e.Cluster, flags...)
	stage.Check(t, err)
	return notes
}

// atOnce: as soon as Helm says that it is installed, a pod is injected, in a namespace that has just been made.
func (e *environment) atOnce(t *testing.T) {
	notes := e.upgrade(t, "--set", address, "--wait")
	e.Namespace(t, "shop", map[string]string{"lightstep.com/injection": "enabled"}, nil)
	if pod := e.pod(t, "shop", "first"); pod.Labels["lightstep.com/injected"] != "true" || len(pod.Spec.Volumes) == 0 {
		t.Errorf("it was not injected: %v", pod.Labels)
	}
	if strings.Contains(notes, "address=HOST:PORT") {
		t.Errorf("with the address set the notes say:\n%s", notes)
	}
	if said, err := e.tested(t); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}

// spread: the pods are on both nodes, under the restricted Pod Security Standard.
func (e *environment) spread(t *testing.T) {
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

// bookinfo: it comes up, and every pod of it is injected.
func (e *environment) bookinfo(t *testing.T) {
	e.Namespace(t, "bookinfo", map[string]string{"lightstep.com/injection": "enabled"}, nil)
	e.kubectl(t, "apply", "-n", "bookinfo", "-f", root+"/examples/bookinfo.yaml")
	e.kubectl(t, "wait", "-n", "bookinfo", "--for=condition=Available", "deployment", "--all", "--timeout=60s")
	pods, err := e.Client.CoreV1().Pods("bookinfo").List(t.Context(), metav1.ListOptions{})
	stage.Check(t, err)
	if len(pods.Items) < 6 {
		t.Errorf("%d pods", len(pods.Items))
	}
	for i := range pods.Items {
		if pod := &pods.Items[i]; pod.Labels["lightstep.com/injected"] != "true" {
			t.Errorf("%s was not injected", pod.Name)
		}
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
		ObjectMeta: metav1.ObjectMeta{Name: name, GenerateName: "pod-"},
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
		{"lightstep status -n shop", "shop "},
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

// gitOps: rendered twice the chart is the same, and applied twice, as a GitOps controller does, it changes nothing: not even what was
// written into its objects. Helm comes no more after that, but to take it away.
func (e *environment) gitOps(t *testing.T) {
	caBundle := e.caBundle(t)
	text, err := e.helm.Render(t.Context(), "--set", address, "--no-hooks")
	stage.Check(t, err)
	again, err := e.helm.Render(t.Context(), "--set", address, "--no-hooks")
	stage.Check(t, err)
	if string(text) != string(again) {
		t.Error("rendered twice, it is not the same")
	}
	file := filepath.Join(t.TempDir(), "chart.yaml")
	stage.Check(t, os.WriteFile(file, text, 0o600))
	apply := func() {
		e.kubectl(t, "apply", "--server-side", "--field-manager=gitops", "--force-conflicts", "-f", file)
	}
	apply()
	before := e.versions(t)
	apply()
	if after := e.versions(t); before != after {
		t.Errorf("applied twice: before\n%s\nafter\n%s", before, after)
	}
	if now := e.caBundle(t); now != caBundle || now == "" {
		t.Errorf("the caBundle is %q", now)
	}
}

// versions are those of the chart's objects whose status is nobody's business here.
func (e *environment) versions(t *testing.T) string {
	t.Helper()
	return e.kubectl(t, "get", "mutatingwebhookconfigurations,validatingadmissionpolicybindings,clusterroles,clusterrolebindings,roles,rolebindings,services,serviceaccounts,configmaps",
		"-A", "-l", "app.kubernetes.io/name=lightstep-injector", "-o", "custom-columns=KIND:.kind,NAME:.metadata.name,VERSION:.metadata.resourceVersion")
}

// existing: with a certificate of somebody else's the notes say what that is to be, and what is in the values is what the API server
// is told.
func (e *environment) existing(t *testing.T) {
	notes := e.upgrade(t, "--set", address, "--set", "certificate.mode=existing", "--wait")
	for _, says := range []string{"--set-file certificate.caBundle=ca.pem", "from the Secret lightstep-injector-tls"} {
		if !strings.Contains(notes, says) {
			t.Errorf("the notes do not say %q:\n%s", says, notes)
		}
	}
	e.awaitLeader(t)
	ca, err := injector.NewCA("webhook CA")
	stage.Check(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	stage.Check(t, os.WriteFile(file, ca.PEM, 0o600))
	flags := []string{"--set", address, "--set", "certificate.mode=existing", "--set-file", "certificate.caBundle=" + file, "--set", "config.profiles.default.caCertificate.source=null"}
	notes = e.upgrade(t, append(flags, "--force-conflicts")...)
	if strings.Contains(notes, "--set-file") || !strings.Contains(notes, "lightstep.cacert there are your own work") {
		t.Errorf("with values set the notes say:\n%s", notes)
	}
	if got := e.caBundle(t); got != string(ca.PEM) {
		t.Errorf("the caBundle is %q", got)
	}
	e.upgrade(t, "--set", address, "--wait") // takes the caBundle out again, and has the injector make one that is good, whoever leads
	e.Namespace(t, "again", map[string]string{"lightstep.com/injection": "enabled"}, nil)
	stage.Eventually(t, func(ctx context.Context) error {
		pod, err := e.create(ctx, "again", "")
		if err == nil && pod.Labels["lightstep.com/injected"] != "true" {
			return errors.New("it is not injected")
		}
		return err
	})
}

// awaitLeader waits until those pods are gone that write the certificate themselves, and one of the others leads.
func (e *environment) awaitLeader(t *testing.T) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		pods, err := e.Client.CoreV1().Pods(own).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=lightstep-injector"})
		if err != nil {
			return err
		}
		for i := range pods.Items {
			if slices.Contains(pods.Items[i].Spec.Containers[0].Args, "--self-signed") {
				return fmt.Errorf("%s is still there", pods.Items[i].Name)
			}
		}
		lease, err := e.Client.CoordinationV1().Leases(own).Get(ctx, "lightstep-injector", metav1.GetOptions{})
		if err == nil && (lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "") {
			return errors.New("nobody leads")
		}
		return err
	})
}

// away: with every replica gone, the API server restarted, and the policy that refuses pods, the namespaces that the injector
// itself depends on still have theirs, labelled or not, so that it comes back; with the usual policy, every namespace has.
func (e *environment) away(t *testing.T) {
	e.kubectl(t, "label", "namespace", own, metav1.NamespaceSystem, "lightstep.com/injection=enabled")
	e.upgrade(t, "--set", address, "--set", "webhook.failurePolicy=Fail", "--wait")
	e.kubectl(t, "scale", "deployment/lightstep-injector", "-n", own, "--replicas=0")
	e.kubectl(t, "wait", "pod", "-n", own, "-l", "app.kubernetes.io/name=lightstep-injector", "--for=delete", "--timeout=60s")
	stage.Check(t, e.Cluster.RestartAPIServer(t.Context(), e.Run))
	stage.Eventually(t, func(ctx context.Context) error { // the API server learns of it by a watch
		pod, err := e.create(ctx, "shop", "")
		if err == nil {
			return errors.Join(errors.New("a pod was created"), e.Client.CoreV1().Pods("shop").Delete(ctx, pod.Name, metav1.DeleteOptions{}))
		}
		if !strings.Contains(err.Error(), "inject.lightstep.com") {
			return err
		}
		return nil
	})
	for _, namespace := range []string{own, metav1.NamespaceSystem} {
		pod, err := e.create(t.Context(), namespace, "needed")
		if err != nil {
			t.Errorf("a pod in %s: %v", namespace, err)
			continue
		}
		e.kubectl(t, "wait", "pod/"+pod.Name, "-n", namespace, "--for=condition=Ready", "--timeout=60s")
	}
	e.upgrade(t, "--set", address, "--set", "replicas=0")
	if pod := e.pod(t, "shop", "missed"); pod.Labels["lightstep.com/injected"] != "" {
		t.Errorf("it was injected: %v", pod.Labels)
	}
	e.upgrade(t, "--set", address, "--wait")
	if pod := e.pod(t, "shop", "back"); pod.Labels["lightstep.com/injected"] != "true" {
		t.Errorf("it was not injected: %v", pod.Labels)
	}
}

// elsewhere: in another namespace it is the same, here with the satellite CA from the values.
func (e *environment) elsewhere(t *testing.T) {
	at := []string{"--namespace", "tracing"}
	ca, err := injector.NewCA("satellite CA")
	stage.Check(t, err)
	file := filepath.Join(t.TempDir(), "cacert.pem")
	stage.Check(t, os.WriteFile(file, ca.PEM, 0o600))
	notes := e.upgrade(t, append(at, "--set", address, "--set-file", "satelliteCA.pem="+file, "--wait")...)
	if strings.Contains(notes, "kubectl create secret") || !strings.Contains(notes, "The satellite CA is copied") {
		t.Errorf("with the satellite CA in the values the notes say:\n%s", notes)
	}
	e.Namespace(t, "from-elsewhere", map[string]string{"lightstep.com/injection": "enabled"}, nil)
	if pod := e.pod(t, "from-elsewhere", "pod"); pod.Labels["lightstep.com/injected"] != "true" {
		t.Errorf("it was not injected: %v", pod.Labels)
	}
	stage.Eventually(t, func(ctx context.Context) error {
		copied, err := e.Client.CoreV1().Secrets("from-elsewhere").Get(ctx, "lightstep.cacert", metav1.GetOptions{})
		if err == nil && string(copied.Data["cacert.pem"]) != string(ca.PEM) {
			return fmt.Errorf("the copy is %q", copied.Data)
		}
		return err
	})
	stage.Check(t, e.helm.Uninstall(t.Context(), e.Cluster, at...))
}

// uninstalled: nothing of the chart's is left, nor of what the injector has made for itself.
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
	for _, kind := range []string{"secret/lightstep-injector-tls", "lease/lightstep-injector"} {
		stage.Eventually(t, func(context.Context) error { // the garbage collector's work
			if left := e.kubectl(t, "get", kind, "-n", own, "-o", "name", "--ignore-not-found"); left != "" {
				return fmt.Errorf("there is still %s", left)
			}
			return nil
		})
	}
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
