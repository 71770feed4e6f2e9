package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
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
	// shop is labelled; plain is not.
	shop, plain = "shop", "plain"
)

type environment struct {
	*stage.Stage
	helm     *chart.Helm
	injector *injector.Injector
	// account is the kubeconfig of the injector's own account.
	account string
}

func setUp(t *testing.T) *environment {
	t.Helper()
	e := &environment{Stage: stage.New(t, root)}
	var err error
	e.helm, err = chart.Build(t.Context(), root, t.TempDir(), func() { report.New(os.Stdout).Linef("Helm is built from source the first time: a minute.") })
	stage.Check(t, err)
	e.account = filepath.Join(e.Run.Dir, "account.kubeconfig")
	e.configure(t, "sampling: 50")
	e.injector, err = injector.NewInstalled(t.Context(), e.Cluster, e.Run, injector.Options{Binary: e.Program, Config: e.Config, Kubeconfig: e.account})
	stage.Check(t, err)
	t.Cleanup(func() { stage.LogOnFailure(t, e.injector.LogFile()); e.injector.Kill() })
	as, err := e.Cluster.As(t.Context(), own, "lightstep-injector")
	stage.Check(t, err)
	stage.Check(t, cluster.WriteKubeconfig(e.account, as))
	ca, err := injector.NewCA("satellite CA")
	stage.Check(t, err)
	e.Secret(t, own, "lightstep.cacert", "cacert.pem", string(ca.PEM))
	e.start(t)
	labelled := map[string]string{"lightstep.com/injection": "enabled"}
	e.Namespace(t, shop, labelled, nil)
	e.Namespace(t, "quiet", labelled, nil)
	e.Namespace(t, plain, nil, nil)
	return e
}

func (e *environment) start(t *testing.T) {
	t.Helper()
	stage.Check(t, e.injector.Start(t.Context()))
}

// configure gives the injector and, by an upgrade of the chart, its ConfigMap a configuration with another line about sampling.
func (e *environment) configure(t *testing.T, sampling string) {
	t.Helper()
	content, err := os.ReadFile("testdata/config.yaml")
	stage.Check(t, err)
	content = []byte(strings.Replace(string(content), "sampling: 50", sampling, 1))
	stage.Check(t, injector.WriteConfig(e.Config, content))
	stage.Check(t, e.helm.Install(t.Context(), e.Cluster, "--set-file", "config="+e.Config))
}

// found is what status says.
type found struct {
	Config     struct{ From, Hash string }
	Namespaces []foundNamespace
	Owners     []owner
	Unread     []string

	code           int
	stdout, stderr string
}

type foundNamespace struct {
	Name, Profile, Reason             string
	Injected, Stale, OptedOut, Missed int
	Copies                            []struct{ Secret, State, Hash, SourceHash string }
	Problems                          []string
}

type owner struct {
	Namespace, Kind, Name, Restart, Says string
	Missed, Stale                        []string
}

// status runs it as an administrator.
func (e *environment) status(t *testing.T, args ...string) *found {
	t.Helper()
	return e.statusAs(t, e.Cluster.Kubeconfig, args...)
}

func (e *environment) statusAs(t *testing.T, kubeconfig string, args ...string) *found {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.Program, append([]string{"status"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	f := &found{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	if slices.Contains(args, "json") && f.stdout != "" {
		stage.Check(t, json.Unmarshal([]byte(f.stdout), f))
	}
	return f
}

// namespace is what is said of one.
func (f *found) namespace(t *testing.T, name string) foundNamespace {
	t.Helper()
	at := slices.IndexFunc(f.Namespaces, func(n foundNamespace) bool { return n.Name == name })
	if at < 0 {
		t.Fatalf("nothing is said of %s: %s%s", name, f.stdout, f.stderr)
	}
	return f.Namespaces[at]
}

// owner is what is said of one of the shop's.
func (f *found) owner(kind, name string) owner {
	at := slices.IndexFunc(f.Owners, func(o owner) bool { return o.Namespace == shop && o.Kind == kind && o.Name == name })
	if at < 0 {
		return owner{}
	}
	return f.Owners[at]
}

// kubectl runs it, and returns what it prints.
func (e *environment) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.Cluster.Kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.Cluster.Kubeconfig)
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, output)
	}
	return string(output)
}

// restarts are the commands among what status prints for a user to run, without what stands behind them as a comment.
func restarts(printed string) [][]string {
	var commands [][]string
	for line := range strings.Lines(printed) {
		command, _, _ := strings.Cut(strings.TrimSpace(line), "#")
		if arguments := strings.Fields(command); len(arguments) > 0 && arguments[0] == "kubectl" {
			commands = append(commands, arguments[1:])
		}
	}
	return commands
}

// mend runs the commands that status prints, and waits until each workload has its pods anew.
func (e *environment) mend(t *testing.T) {
	t.Helper()
	commands := restarts(e.status(t).stdout)
	if len(commands) == 0 {
		t.Fatal("status prints no command")
	}
	for _, arguments := range commands {
		e.kubectl(t, arguments...)
	}
	for _, arguments := range commands {
		arguments = slices.Clone(arguments)
		arguments[1] = "status"
		e.kubectl(t, append(arguments, "--timeout=60s")...)
	}
}

// running waits until so many pods of a namespace run, and no others are there but those that have ended.
func (e *environment) running(t *testing.T, namespace string, want int) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		pods, err := e.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{FieldSelector: "status.phase!=Succeeded"})
		if err != nil {
			return err
		}
		running := 0
		for _, pod := range pods.Items {
			if pod.Status.Phase == corev1.PodRunning {
				running++
			}
		}
		if running != want || len(pods.Items) != want {
			return fmt.Errorf("%d of %d pods run in %s, not %d", running, len(pods.Items), namespace, want)
		}
		return nil
	})
}

// gauge waits until the leader has counted so many.
func (e *environment) gauge(t *testing.T, namespace string, want float64) {
	t.Helper()
	const series = "lightstep_injector_missed_pods"
	stage.Eventually(t, func(ctx context.Context) error {
		text, err := e.injector.Metrics(ctx)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s{namespace=%q} %v\n", series, namespace, want)
		there := strings.Contains(string(text), fmt.Sprintf("%s{namespace=%q}", series, namespace))
		if want == 0 && (there || !strings.Contains(string(text), series+"_last_look_timestamp_seconds ")) || want > 0 && !strings.Contains(string(text), line) {
			return fmt.Errorf("the gauge does not say %v of %s", want, namespace)
		}
		return nil
	})
}

// inForce returns an error unless the injector has read a configuration of that hash.
func (e *environment) inForce(hash string) error {
	log, err := os.ReadFile(e.injector.LogFile())
	if err == nil && !strings.Contains(string(log), `"configuration reloaded","config":"`+hash) {
		err = errors.New("the injector has not read the configuration yet")
	}
	return err
}
