// Package stage is what tests beside Istio stand on: a control plane of their own, what runs beside it, and how they wait.
// All of it is taken down with the test.
package stage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
)

// deadline bounds every wait for the cluster.
const deadline = time.Minute

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

	root string
}

// New builds the program and starts the control plane. root is the repository's root.
func New(t *testing.T, root string) *Stage {
	t.Helper()
	ctx := t.Context()
	run, err := cluster.NewRun(root)
	Check(t, err)
	t.Cleanup(func() { Check(t, run.Remove()) })
	s := &Stage{Run: run, root: root, Config: filepath.Join(run.Dir, "config.yaml")}
	s.Program, err = injector.Build(ctx, root, run)
	Check(t, err)
	control, err := cluster.Build(ctx, root, report.New(os.Stdout).Progress)
	Check(t, err)
	s.Cluster, err = cluster.Start(ctx, control, run)
	Check(t, err)
	t.Cleanup(func() { Check(t, s.Cluster.Stop()) })
	quiet := rest.CopyConfig(s.Cluster.Config)
	quiet.WarningHandler = rest.NoWarnings{}
	quiet.QPS = -1
	s.Client, err = kubernetes.NewForConfig(quiet)
	Check(t, err)
	return s
}

// Istiod starts the newest istiod, with a file of values for its charts.
func (s *Stage) Istiod(t *testing.T, values string) *istiod.Istiod {
	t.Helper()
	binary, err := istiod.Build(t.Context(), s.root, Compiling)
	Check(t, err)
	i, err := istiod.Start(t.Context(), s.Cluster, s.Run, binary, values)
	Check(t, err)
	t.Cleanup(func() { LogOnFailure(t, i.LogFile()); Check(t, i.Stop()) })
	return i
}

// Injector starts the injector, with a configuration.
func (s *Stage) Injector(t *testing.T, config []byte, flags ...string) *injector.Injector {
	t.Helper()
	Check(t, injector.WriteConfig(s.Config, config))
	i, err := injector.New(t.Context(), s.Cluster, s.Run, injector.Options{Binary: s.Program, Config: s.Config, Flags: flags})
	Check(t, err)
	t.Cleanup(func() { LogOnFailure(t, i.LogFile()); i.Kill() })
	Check(t, i.Start(t.Context()))
	return i
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
func Compiling() { report.New(os.Stdout).Linef("Istio is built from source the first time: some minutes.") }

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
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, deadline, true, func(ctx context.Context) (bool, error) {
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
