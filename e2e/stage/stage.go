// Package stage is what tests beside Istio stand on: a control plane of their own, what runs beside it, and how they wait.
// All of it is taken down with the test.
package stage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/lightstep-injector/lightstep-injector/e2e/canary"
	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/istio/agent"
	"github.com/lightstep-injector/lightstep-injector/e2e/istio17"
	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
)

// Deadline bounds every wait for the cluster: longer than the injector leaves a cluster without Istio before it looks again, than a
// lease lasts that nobody handed back, and with that a rotation.
const Deadline = 90 * time.Second

// Stage is one that is set up.
type Stage struct {
	Run     *cluster.Run
	Cluster *cluster.Cluster
	// Client is an administrator's, without the API server's warnings.
	Client *kubernetes.Clientset
	// Program is the injector's binary.
	Program string
	// Config is the file of the injector's configuration.
	Config string

	root   string
	canary *canary.Canary
	scene  canary.Scene
}

// New builds the program and starts the control plane, with these options too. root is the repository's root.
func New(t *testing.T, root string, options ...cluster.Option) *Stage {
	t.Helper()
	ctx := t.Context()
	run, err := cluster.NewRun(root)
	Check(t, err)
	t.Cleanup(func() { Check(t, run.Remove()) })
	s := &Stage{Run: run, root: root, Config: filepath.Join(run.Dir, "config", "config.yaml")}
	Check(t, os.Mkdir(filepath.Dir(s.Config), 0o755))
	s.Program, err = injector.Build(ctx, root, run)
	Check(t, err)
	control, err := cluster.Build(ctx, root, report.New(os.Stdout).Progress)
	Check(t, err)
	s.Cluster, err = cluster.Start(ctx, control, run, append([]cluster.Option{cluster.WithAuditedBodies}, options...)...)
	Check(t, err)
	t.Cleanup(func() { Check(t, s.Cluster.Stop()) })
	quiet := rest.CopyConfig(s.Cluster.Config)
	quiet.WarningHandler = rest.NoWarnings{}
	quiet.QPS = -1
	s.Client, err = kubernetes.NewForConfig(quiet)
	Check(t, err)
	s.scene = canary.Scene{Run: run, Cluster: s.Cluster, Metrics: map[string]func(context.Context) ([]byte, error){}}
	return s
}

// TokenSecret is the name of the Secret of the access token, in every namespace.
const TokenSecret = "lightstep-access-token"

// Guard says what the access token is, before anything of Istio's or of ours is started. NoToken then looks for it in all of
// the run, but for the pods of the namespaces that are published: those whose profile has delivery: annotation.
func (s *Stage) Guard(token string, published ...string) {
	s.canary = canary.New(token)
	s.scene.Secrets, s.scene.Published = []string{TokenSecret}, published
	s.Run.Seen = s.canary.Seen
}

// Answered is shown a webhook's patch for a pod of a namespace, by a test that calls webhooks itself.
func (s *Stage) Answered(namespace string, patch []byte) {
	if !slices.Contains(s.scene.Published, namespace) {
		s.Run.Show(canary.Patches, patch)
	}
}

// NoToken fails the test where the token is anywhere but in its Secrets. Of each of the kinds something must have been seen.
func (s *Stage) NoToken(t *testing.T, kinds ...string) {
	t.Helper()
	Check(t, s.canary.Sweep(t.Context(), &s.scene))
	s.canary.Check(t, append(kinds, canary.Objects, canary.Audit, canary.Patches, canary.Logs, canary.Metrics)...)
}

// Oldest starts the injection of Istio 1.7.8.
func (s *Stage) Oldest(t *testing.T, o istio17.Options) *istio17.Istio {
	t.Helper()
	binary, err := istio17.Build(t.Context(), s.root, Compiling)
	Check(t, err)
	i, err := istio17.Start(t.Context(), s.root, s.Cluster, s.Run, binary, o)
	Check(t, err)
	t.Cleanup(func() { LogOnFailure(t, i.LogFile()); Check(t, i.Stop()) })
	return i
}

// Agent starts the agent of a release of Istio.
func (s *Stage) Agent(t *testing.T, version string) *agent.Agent {
	t.Helper()
	a, err := agent.Start(t.Context(), s.root, s.Run, version, Compiling)
	Check(t, err)
	t.Cleanup(func() { LogOnFailure(t, a.LogFile()); Check(t, a.Stop()) })
	return a
}

// Istiod starts the istiod of a release, with a file of values for its charts.
func (s *Stage) Istiod(t *testing.T, version, values string) *istiod.Istiod {
	t.Helper()
	binary, err := istiod.Build(t.Context(), s.root, version, Compiling)
	Check(t, err)
	i, err := istiod.Start(t.Context(), s.Cluster, s.Run, binary, values)
	Check(t, err)
	t.Cleanup(func() { LogOnFailure(t, i.LogFile()); Check(t, i.Stop()) })
	s.scene.Metrics["istiod"] = i.Metrics
	return i
}

// Injector starts the injector, with the configuration in a file.
func (s *Stage) Injector(t *testing.T, config string, o injector.Options) *injector.Injector {
	t.Helper()
	content, err := os.ReadFile(config)
	Check(t, err)
	Check(t, injector.WriteConfig(s.Config, content))
	o.Binary, o.Config = s.Program, s.Config
	i, err := injector.New(t.Context(), s.Cluster, s.Run, o)
	Check(t, err)
	t.Cleanup(func() { LogOnFailure(t, i.LogFile()); i.Kill() })
	Check(t, i.Start(t.Context()))
	s.scene.Metrics["the injector"] = i.Metrics
	return i
}

// Publishing are the flags by which the injector delivers a token by annotation in these profiles.
func (s *Stage) Publishing(t *testing.T, token string, profiles ...string) []string {
	t.Helper()
	file := filepath.Join(s.Run.Dir, "token")
	Check(t, os.WriteFile(file, []byte(token), 0o600))
	flags := []string{"--expose-token-in-annotations"}
	for _, profile := range profiles {
		flags = append(flags, "--access-token-file", profile+"="+file)
	}
	return flags
}

// Namespace makes one.
func (s *Stage) Namespace(t *testing.T, name string, labels, annotations map[string]string) {
	t.Helper()
	_, err := s.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: annotations},
	}, metav1.CreateOptions{})
	Check(t, err)
}

// Secret makes a Secret with one key.
func (s *Stage) Secret(t *testing.T, namespace, name, key, value string) {
	t.Helper()
	_, err := s.Client.CoreV1().Secrets(namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "lightstep"}}, StringData: map[string]string{key: value},
	}, metav1.CreateOptions{})
	Check(t, err)
}

// Compiling says that Istio is being compiled.
func Compiling() {
	report.New(os.Stdout).Linef("Istio is built from source the first time: some minutes.")
}

// LogOnFailure shows the end of a log where the test has failed.
func LogOnFailure(t *testing.T, log string) {
	t.Helper()
	if t.Failed() {
		t.Logf("the end of %s:\n%s", filepath.Base(log), process.Tail(log, 20))
	}
}

// Check ends the test if there is an error.
func Check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually waits until a condition holds: until it returns nil.
func Eventually(t *testing.T, condition func(context.Context) error) {
	t.Helper()
	last := errors.New("never checked")
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, Deadline, true, func(ctx context.Context) (bool, error) {
		now := condition(ctx)
		if ctx.Err() == nil { // what failed for want of time says nothing
			last = now
		}
		return now == nil, nil
	})
	if err != nil {
		t.Fatalf("%v: %v", err, last)
	}
}
