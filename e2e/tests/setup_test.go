package tests

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
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
	"github.com/lightstep-injector/lightstep-injector/e2e/relay"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
)

const (
	root = "../.."
	// canary is the access token of the profile native: it may stand in one annotation, and nowhere else.
	canary = "canary-c2f5a0d9e4"
	// deadline bounds every wait for the cluster.
	deadline = time.Minute
)

// environment is what all tests share.
type environment struct {
	client   *kubernetes.Clientset
	cluster  *cluster.Cluster
	injector *injector.Injector
	// relay lies between the injector and the API server.
	relay *relay.Relay
	// config is the file of the configuration in force, as it was at the beginning in testdata/config.yaml.
	config string
	// dir is a folder for files.
	dir string
}

// setUp brings up the cluster and the injector, and has both taken down when the test has ended.
func setUp(t *testing.T) *environment {
	t.Helper()
	ctx := t.Context()
	run, err := cluster.NewRun(root)
	check(t, err)
	t.Cleanup(func() { check(t, run.Remove()) })
	binary, err := injector.Build(ctx, root, run)
	check(t, err)
	c, authenticated := connect(t, run)
	quiet := rest.CopyConfig(c.Config)
	quiet.WarningHandler = rest.NoWarnings{} // the one test that wants them has a client of its own
	client, err := kubernetes.NewForConfig(quiet)
	check(t, err)
	e := &environment{client: client, cluster: c, config: filepath.Join(run.Dir, "config", "config.yaml"), dir: run.Dir}
	check(t, os.Mkdir(filepath.Dir(e.config), 0o755))
	config, err := os.ReadFile("testdata/config.yaml")
	check(t, err)
	check(t, injector.WriteConfig(e.config, config))
	token := filepath.Join(run.Dir, "token")
	check(t, os.WriteFile(token, []byte(canary), 0o600))
	e.relay, err = relay.Start(c.Kubeconfig)
	check(t, err)
	t.Cleanup(func() { check(t, e.relay.Close()) })
	relayed := filepath.Join(run.Dir, "kubeconfig-relayed")
	check(t, e.relay.WriteKubeconfig(relayed))
	e.injector, err = injector.New(ctx, c, run, injector.Options{
		Binary:      binary,
		Kubeconfig:  relayed,
		Config:      e.config,
		Flags:       append(authenticated, "--expose-token-in-annotations", "--access-token-file", "native="+token),
		WebhookHost: os.Getenv("E2E_WEBHOOK_HOST"),
	})
	check(t, err)
	t.Cleanup(func() { e.takeDown(t) })
	check(t, e.injector.Start(ctx))
	return e
}

// connect starts a control plane, or uses the one that the environment names, and returns the flags by which the injector knows
// its API server: the profile native delivers the token by annotation, which takes that.
func connect(t *testing.T, run *cluster.Run) (c *cluster.Cluster, authenticated []string) {
	t.Helper()
	if kubeconfig := os.Getenv("E2E_KUBECONFIG"); kubeconfig != "" {
		if os.Getenv("E2E_WEBHOOK_HOST") == "" {
			t.Fatal("E2E_KUBECONFIG is set: set E2E_WEBHOOK_HOST, too, to a name or address of this machine that the cluster's API server can reach")
		}
		ca, name := os.Getenv("E2E_CLIENT_CA"), os.Getenv("E2E_CLIENT_NAME")
		if ca == "" || name == "" {
			t.Fatal("E2E_KUBECONFIG is set: set E2E_CLIENT_CA to a file with the CA of the client certificate that its API server shows to webhooks, and E2E_CLIENT_NAME to its name (docs/client-certificates.md)")
		}
		c, err := cluster.Connect(kubeconfig)
		check(t, err)
		return c, []string{"--client-ca-file", ca, "--client-name", name}
	}
	binary, err := cluster.Build(t.Context(), root, report.New(os.Stdout).Progress)
	check(t, err)
	caller, err := injector.NewCaller()
	check(t, err)
	c, err = cluster.Start(t.Context(), binary, run, cluster.WithClientCertificate("*", caller.Issue))
	check(t, err)
	t.Cleanup(func() { check(t, c.Stop()) })
	return c, caller.Flags()
}

func (e *environment) takeDown(t *testing.T) {
	if t.Failed() {
		t.Logf("the end of the injector's log:\n%s", process.Tail(e.injector.LogFile(), 20))
	}
	e.injector.Kill()
	if e.cluster.Existing {
		check(t, e.injector.Unregister(context.Background()))
	}
}

// labelled are the labels of a namespace whose pods are injected.
func labelled() map[string]string { return map[string]string{"lightstep.com/injection": "enabled"} }

// profile are the annotations of a namespace that picks a profile.
func profile(name string) map[string]string { return map[string]string{"lightstep.com/profile": name} }

// namespace makes a namespace in which pods can be created.
func (e *environment) namespace(t *testing.T, labels, annotations map[string]string) string {
	t.Helper()
	made, err := e.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-", Labels: labels, Annotations: annotations},
	}, metav1.CreateOptions{})
	check(t, err)
	e.removeAfter(t, made.Name)
	eventually(t, func(ctx context.Context) error {
		_, err := e.client.CoreV1().ServiceAccounts(made.Name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return made.Name
}

// nativeNamespace makes a namespace of the profile native, with the satellite CA that its tracer needs, and waits until
// the injector has seen it.
func (e *environment) nativeNamespace(t *testing.T) string {
	t.Helper()
	name := e.namespace(t, labelled(), profile("native"))
	e.addSatelliteCA(t, name)
	eventually(t, func(ctx context.Context) error {
		_, err := e.triedTracing(ctx, name)
		return err
	})
	return name
}

func (e *environment) addSatelliteCA(t *testing.T, namespace string) {
	t.Helper()
	ca, err := injector.NewCA("satellite CA")
	check(t, err)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "lightstep.cacert"}, Data: map[string][]byte{"cacert.pem": ca.PEM}}
	_, err = e.client.CoreV1().Secrets(namespace).Create(t.Context(), secret, metav1.CreateOptions{})
	check(t, err)
}

// removeAfter has a namespace removed where it would outlive the test.
func (e *environment) removeAfter(t *testing.T, namespace string) {
	if !e.cluster.Existing {
		return
	}
	t.Cleanup(func() {
		check(t, e.client.CoreV1().Namespaces().Delete(context.Background(), namespace, metav1.DeleteOptions{}))
	})
}

// check ends the test if there is an error.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until a condition holds: until it returns nil.
func eventually(t *testing.T, condition func(context.Context) error) {
	t.Helper()
	last := errors.New("never checked")
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, deadline, true, func(ctx context.Context) (bool, error) {
		last = condition(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%v: %v", err, last)
	}
}
