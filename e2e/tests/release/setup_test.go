package release

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/e2e/chart"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/load"
	"github.com/lightstep-injector/lightstep-injector/e2e/node"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root = "../../.."
	own  = chart.Namespace
	// earlier is the commit that is upgraded from.
	earlier = "17f5390af6c38f81e6b5648c741b6a196e41bb96"
	image   = "ghcr.io/lightstep-injector/lightstep-injector"
)

type environment struct {
	*stage.Stage
	// helm has the chart of the present, old that of the earlier release.
	helm, old *chart.Helm
	node      *node.Node
	made      int
}

// staying are the namespaces that are there all the time.
func staying() []string { return []string{"stays-1", "stays-2", "stays-3", "stays-4", "stays-5"} }

// setUp is a cluster with the earlier release, which has made its copies.
func setUp(t *testing.T) *environment {
	t.Helper()
	sources := checkOut(t)
	e := &environment{Stage: stage.New(t, root, node.Pods())}
	program := filepath.Join(e.Run.Dir, "earlier")
	stage.Check(t, injector.BuildAs(t.Context(), sources, program))
	var err error
	e.helm, err = chart.Build(t.Context(), root, t.TempDir(), func() { report.New(os.Stdout).Linef("Helm is built from source the first time: a minute.") })
	stage.Check(t, err)
	e.old = e.helm.Of(sources)
	e.node, err = node.Start(e.Cluster, e.Program, e.Run.Dir)
	stage.Check(t, err)
	t.Cleanup(func() { e.logs(t); stage.Check(t, e.node.Close()) })
	e.node.Use(image+":before", program)
	e.Namespace(t, own, nil, nil)
	ca, err := injector.NewCA("satellite CA")
	stage.Check(t, err)
	e.Secret(t, own, satelliteCA, "cacert.pem", string(ca.PEM))
	e.install(t, e.old, "before")
	for _, name := range staying() {
		stage.Check(t, load.Labelled(t.Context(), e.Client, name))
		stage.Eventually(t, func(ctx context.Context) error { return e.copied(ctx, name) })
	}
	return e
}

// checkOut writes the earlier release's files into a folder, and returns it. Without the history the test cannot run.
func checkOut(t *testing.T) string {
	t.Helper()
	dir, index := t.TempDir(), filepath.Join(t.TempDir(), "index")
	for _, args := range [][]string{{"read-tree", earlier}, {"checkout-index", "--all", "--prefix=" + dir + "/"}} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "GIT_INDEX_FILE="+index)
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("not run: commit %s is not in this clone (git fetch --unshallow): git %s: %v: %s", earlier, args[0], err, output)
		}
	}
	return dir
}

// install installs a chart with the program of its own release, or upgrades to it, and waits until the replicas are its own.
func (e *environment) install(t *testing.T, helm *chart.Helm, tag string, flags ...string) {
	t.Helper()
	stage.Check(t, helm.Install(t.Context(), e.Cluster, e.flags(tag, append(flags, "--wait")...)...))
}

// why is what the API server has said of calls that failed.
func (e *environment) why(t *testing.T) (said string) {
	t.Helper()
	log, err := os.ReadFile(e.Run.Log("kube-apiserver"))
	stage.Check(t, err)
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "Failed calling webhook, failing open") {
			said += line
		}
	}
	return said
}

func (e *environment) flags(tag string, more ...string) []string {
	return append([]string{"--set-file", "config=testdata/config.yaml", "--set", "image.repository=" + image, "--set", "image.tag=" + tag}, more...)
}

// policies has the cluster have a chart's policies and their bindings, and no others, as Helm would leave them: with its marks of the
// release, without which it does not take over at the next upgrade what the release before did not have. Nothing else of the chart
// is applied.
func (e *environment) policies(t *testing.T, helm *chart.Helm, tag string) {
	t.Helper()
	objects, err := helm.Template(t.Context(), e.flags(tag, "--kube-version=v1.36.0", "--api-versions=admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy")...)
	stage.Check(t, err)
	var text bytes.Buffer
	var names []string
	for _, object := range objects {
		if !strings.HasPrefix(object.GetKind(), "ValidatingAdmissionPolicy") {
			continue
		}
		marks := map[string]string{"meta.helm.sh/release-name": "lightstep-injector", "meta.helm.sh/release-namespace": own}
		maps.Copy(marks, object.GetAnnotations())
		object.SetAnnotations(marks)
		one, err := yaml.Marshal(object.Object)
		stage.Check(t, err)
		fmt.Fprintf(&text, "---\n%s", one)
		names = append(names, strings.ToLower(object.GetKind())+".admissionregistration.k8s.io/"+object.GetName())
	}
	if len(names) == 0 {
		t.Fatal("the chart has no policies")
	}
	e.kubectl(t, &text, "apply", "--server-side", "--field-manager=helm", "--force-conflicts", "-f", "-")
	there := e.kubectl(t, nil, "get", "validatingadmissionpolicybindings,validatingadmissionpolicies", "-l", "app.kubernetes.io/managed-by=Helm", "-o", "name")
	others := slices.DeleteFunc(strings.Fields(there), func(name string) bool { return slices.Contains(names, name) })
	if len(others) > 0 {
		e.kubectl(t, nil, append([]string{"delete"}, others...)...)
	}
	t.Logf("policies of %s: %d applied, others deleted: %v", tag, len(names), others)
	const reread = 2 * time.Second // the API server reads what has changed of policies once a second
	time.Sleep(reread)
}

// kubectl returns what it prints.
func (e *environment) kubectl(t *testing.T, input io.Reader, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.Cluster.Kubectl, args...)
	cmd.Env, cmd.Stdin = append(os.Environ(), "KUBECONFIG="+e.Cluster.Kubeconfig), input
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, complaint.String())
	}
	return string(output)
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
