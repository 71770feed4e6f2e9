package managed

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// explained is what explain says of a pod.
type explained struct {
	Reason   string
	Injected bool
	Tracer   string
	Rules    []struct {
		Reason  string
		Applies bool
	}
	Warnings []struct{ Code, Message string }
	Patch    []struct{ Op, Path string }
	Done     *struct {
		Version, Config, Tracer string
		Containers, Warnings    []string
	}
	Mesh     struct{ Revision, Namespace, Version, Lacks string }
	Unread   []string
	Problems []string

	code           int
	stdout, stderr string
}

func (e *environment) explain(t *testing.T, args ...string) *explained {
	t.Helper()
	return e.explainAs(t, e.Cluster.Kubeconfig, args...)
}

// explainAs runs explain with a kubeconfig.
func (e *environment) explainAs(t *testing.T, kubeconfig string, args ...string) *explained {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.Program, append([]string{"explain", "--config", "testdata/config.yaml"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	x := &explained{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	if slices.Contains(args, "json") && x.stdout != "" {
		stage.Check(t, json.Unmarshal([]byte(x.stdout), x))
	}
	return x
}

func testExplain(t *testing.T, e *environment) {
	t.Run("Fine", func(t *testing.T) { testExplainFine(t, e) })
	t.Run("Missed", func(t *testing.T) { testExplainMissed(t, e) })
	t.Run("OptedOut", func(t *testing.T) { testExplainOptedOut(t, e) })
	t.Run("Errors", func(t *testing.T) { testExplainErrors(t, e) })
	t.Run("Rights", func(t *testing.T) { testExplainRights(t, e) })
}

// A pod that has all that it should: what was done, and that nothing is left to do, in each format; the namespace may be
// that of the kubeconfig's context.
func testExplainFine(t *testing.T, e *environment) {
	e.pod(t, kept, "fine", asItIs)
	fine := e.explain(t, "fine", "-n", kept, "-o", "json")
	if fine.code != 0 || fine.stderr != "" || fine.Reason != "UpToDate" || len(fine.Patch)+len(fine.Problems)+len(fine.Unread) > 0 {
		t.Errorf("it says %+v", fine)
	}
	if fine.Done == nil || fine.Done.Tracer != "opentelemetry" || strings.Join(fine.Done.Containers, " ") != "app istio-proxy" {
		t.Errorf("what was done is %+v", fine.Done)
	}
	if fine.Mesh.Revision != "default" || fine.Mesh.Namespace != "istio-system" || fine.Mesh.Version != "1.31.0" || fine.Mesh.Lacks != "" {
		t.Errorf("the mesh is %+v", fine.Mesh)
	}
	if last := fine.Rules[len(fine.Rules)-2]; last.Reason != "SidecarPresent" || !last.Applies {
		t.Errorf("the rules are %+v", fine.Rules)
	}
	config, err := clientcmd.LoadFromFile(e.Cluster.Kubeconfig)
	stage.Check(t, err)
	config.Contexts[config.CurrentContext].Namespace = kept
	inKept := filepath.Join(e.Run.Dir, "kept.kubeconfig")
	stage.Check(t, clientcmd.WriteToFile(*config, inKept))
	for _, format := range []string{"table", "yaml"} {
		x := e.explainAs(t, inKept, "pod/fine", "-o", format)
		if x.code != 0 || !strings.Contains(x.stdout, "SidecarPresent") || !strings.Contains(x.stdout, "1.31.0") {
			t.Errorf("%s: exit %d: %s%s", format, x.code, x.stdout, x.stderr)
		}
	}
	t.Logf("\n%s", e.explainAs(t, inKept, "fine").stdout)
}

// A pod that is older than its namespace's label: nothing was done, and what a restart would do is there.
func testExplainMissed(t *testing.T, e *environment) {
	e.Namespace(t, "late", map[string]string{"istio-injection": "enabled"}, nil)
	e.pod(t, "late", "web", asItIs)
	before := e.explain(t, "web", "-n", "late", "-o", "json")
	if before.code != 0 || before.Reason != "NamespaceNotLabelled" || before.Done != nil || len(before.Patch) > 0 {
		t.Errorf("without the label it says %+v", before)
	}
	patch := []byte(`{"metadata":{"labels":{"lightstep.com/injection":"enabled"}}}`)
	_, err := e.Client.CoreV1().Namespaces().Patch(t.Context(), "late", types.MergePatchType, patch, metav1.PatchOptions{})
	stage.Check(t, err)
	after := e.explain(t, "web", "-n", "late", "-o", "json")
	if after.code != 1 || after.Reason != "SidecarPresent" || after.Done != nil || len(after.Patch) < 4 || !strings.Contains(after.stderr, "restart its workload") {
		t.Errorf("with the label it says %+v", after)
	}
	table := e.explain(t, "web", "-n", "late")
	if !strings.Contains(table.stdout, "nothing was done") || !strings.Contains(table.stdout, "add /spec/volumes/-") {
		t.Errorf("it says %s", table.stdout)
	}
}

func testExplainOptedOut(t *testing.T, e *environment) {
	e.pod(t, kept, "out", func(pod *corev1.Pod) { pod.Labels["lightstep.com/inject"] = "false" })
	out := e.explain(t, "out", "-n", kept, "-o", "json")
	if out.code != 0 || out.Reason != "OptedOut" || out.Done != nil {
		t.Errorf("it says %+v", out)
	}
}

func testExplainErrors(t *testing.T, e *environment) {
	none := e.explain(t, "nobody", "-n", kept)
	if none.code != 1 || none.stdout != "" || !strings.Contains(none.stderr, "`kubectl get pods -n kept` lists") {
		t.Errorf("of a pod that is not there it says %+v", none)
	}
	nowhere := e.explainAs(t, "/dev/null", "web", "-n", kept)
	if nowhere.code != 1 || !strings.Contains(nowhere.stderr, "KUBECONFIG") {
		t.Errorf("without a cluster it says %+v", nowhere)
	}
}

// Whoever may not read all that the injector reads is told what, and nothing is claimed of it; the pod and its namespace
// are the least.
func testExplainRights(t *testing.T, e *environment) {
	kubeconfig := e.account(t, "reader")
	refused := e.explainAs(t, kubeconfig, "fine", "-n", kept)
	if refused.code != 1 || !strings.Contains(refused.stderr, `cannot get resource "pods" in API group "" in the namespace "kept"`) {
		t.Errorf("without any right it says %+v", refused)
	}
	_, err := e.Client.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods", "namespaces"}, Verbs: []string{"get"}}},
	}, metav1.CreateOptions{})
	stage.Check(t, err)
	_, err = e.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "reader"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "default", Name: "reader"}},
	}, metav1.CreateOptions{})
	stage.Check(t, err)
	var least *explained
	stage.Eventually(t, func(context.Context) error {
		if least = e.explainAs(t, kubeconfig, "fine", "-n", kept, "-o", "json"); least.stdout == "" {
			return errors.New(least.stderr)
		}
		return nil
	})
	if least.code != 1 || len(least.Unread) != 5 || least.Mesh.Revision != "" || least.Done == nil {
		t.Errorf("with the least rights it says %+v", least)
	}
	for _, right := range []string{
		`cannot list resource "secrets" in API group "" in the namespace "kept"`,
		`cannot list resource "configmaps" in API group "" in the namespace "istio-system"`,
		`cannot list resource "telemetries" in API group "telemetry.istio.io" at the cluster scope`,
	} {
		if !strings.Contains(strings.Join(least.Unread, "\n"), right) {
			t.Errorf("it does not say that it %s: %q", right, least.Unread)
		}
	}
}

// account makes a service account without any right, and returns its kubeconfig.
func (e *environment) account(t *testing.T, name string) string {
	t.Helper()
	accounts := e.Client.CoreV1().ServiceAccounts("default")
	_, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	stage.Check(t, err)
	request, err := accounts.CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	stage.Check(t, err)
	config, err := clientcmd.LoadFromFile(e.Cluster.Kubeconfig)
	stage.Check(t, err)
	for user := range config.AuthInfos {
		config.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: request.Status.Token}
	}
	file := filepath.Join(e.Run.Dir, name+".kubeconfig")
	stage.Check(t, clientcmd.WriteToFile(*config, file))
	return file
}
