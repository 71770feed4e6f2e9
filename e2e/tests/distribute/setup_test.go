package distribute

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/lightstep-injector/lightstep-injector/e2e/chart"
	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root     = "../../.."
	own      = chart.Namespace
	account  = "lightstep-injector"
	username = "system:serviceaccount:" + own + ":" + account
)

// The Secrets: in labelled namespaces, and in the injector's own.
const (
	caName, caKey, caSource          = "lightstep.cacert", "cacert.pem", "lightstep.cacert"
	otherName, otherKey, otherSource = "other.cacert", "ca.crt", "other-ca"
	tokenName, tokenKey, tokenSource = "lightstep-access-token", "token", "the-token"
)

// environment is a cluster with the chart installed.
type environment struct {
	cluster *cluster.Cluster
	run     *cluster.Run
	helm    *chart.Helm
	admin   *kubernetes.Clientset
	binary  string
	// kubeconfig has the credentials of the injector's account.
	kubeconfig string
	config     string
}

// setUp brings up a cluster with the chart installed.
func setUp(t *testing.T) *environment {
	t.Helper()
	e := bringUp(t)
	e.install(t)
	return e
}

// bringUp brings up a cluster, and what it takes to install the chart there.
func bringUp(t *testing.T) *environment {
	t.Helper()
	ctx := t.Context()
	run, err := cluster.NewRun(root)
	stage.Check(t, err)
	t.Cleanup(func() { stage.Check(t, run.Remove()) })
	control, err := cluster.Build(ctx, root, report.New(os.Stdout).Progress)
	stage.Check(t, err)
	binary, err := injector.Build(ctx, root, run)
	stage.Check(t, err)
	helm, err := chart.Build(ctx, root, t.TempDir(), func() { report.New(os.Stdout).Linef("Helm is built from source the first time: a minute.") })
	stage.Check(t, err)
	c, err := cluster.Start(ctx, control, run, cluster.WithAuditLog)
	stage.Check(t, err)
	t.Cleanup(func() { stage.Check(t, c.Stop()) })
	e := &environment{cluster: c, run: run, helm: helm, admin: client(t, c.Config), binary: binary, kubeconfig: filepath.Join(run.Dir, "kubeconfig-account")}
	return e
}

// install installs the chart, with these flags of Helm's, and has the injector run under the account that it makes.
func (e *environment) install(t *testing.T, flags ...string) {
	t.Helper()
	ctx := t.Context()
	stage.Check(t, e.helm.Install(ctx, e.cluster, append([]string{"--values", "testdata/values.yaml"}, flags...)...))
	as, err := e.cluster.As(ctx, own, account)
	stage.Check(t, err)
	stage.Check(t, cluster.WriteKubeconfig(e.kubeconfig, as))
	e.config = filepath.Join(e.run.Dir, "config", "config.yaml")
	stage.Check(t, os.Mkdir(filepath.Dir(e.config), 0o755))
	config, err := os.ReadFile("testdata/config.yaml")
	stage.Check(t, err)
	stage.Check(t, injector.WriteConfig(e.config, config))
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

// replica makes a replica of the injector, under its own account. Nobody calls it; its controllers are what is looked at.
func (e *environment) replica(t *testing.T, name string) *injector.Injector {
	t.Helper()
	made, err := injector.NewUncalled(e.cluster, e.run, injector.Options{Binary: e.binary, Config: e.config, Kubeconfig: e.kubeconfig, Name: name})
	stage.Check(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of %s's log:\n%s", name, process.Tail(made.LogFile(), 40))
		}
		made.Kill()
	})
	return made
}

// namespace makes a namespace; labelled if it is to be.
func (e *environment) namespace(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	_, err := e.admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
	stage.Check(t, err)
}

func labelled() map[string]string { return map[string]string{"lightstep.com/injection": "enabled"} }

// put makes a Secret, or gives it this data and no other.
func (e *environment) put(ctx context.Context, namespace, name string, data map[string][]byte) error {
	secrets := e.admin.CoreV1().Secrets(namespace)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
	if _, err := secrets.Create(ctx, secret, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		return err
	}
	_, err := secrets.Update(ctx, secret, metav1.UpdateOptions{})
	return err
}

// request is a line of the audit log.
type request struct {
	Verb           string
	RequestURI     string
	User           struct{ Username string }
	ObjectRef      struct{ Resource, Namespace, Name string }
	ResponseStatus struct{ Code int }
}

// requests returns what the injector's account has asked of Secrets.
func (e *environment) requests(t *testing.T) []request {
	t.Helper()
	file, err := os.Open(e.cluster.AuditLog)
	stage.Check(t, err)
	defer func() { _ = file.Close() }()
	var found []request
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if !strings.Contains(lines.Text(), username) {
			continue
		}
		var r request
		stage.Check(t, json.Unmarshal(lines.Bytes(), &r))
		if r.User.Username == username && r.ObjectRef.Resource == "secrets" {
			found = append(found, r)
		}
	}
	stage.Check(t, lines.Err())
	return found
}

// onlyNamed sees that no Secret but those of the configured names was ever asked for, and none made but by an apply.
func (e *environment) onlyNamed(t *testing.T) {
	t.Helper()
	names := map[string]bool{caName: true, otherName: true, tokenName: true}
	sources := map[string]bool{caSource: true, otherSource: true, tokenSource: true}
	all := e.requests(t)
	if len(all) == 0 {
		t.Error("the audit log has no request of the injector's")
	}
	for _, r := range all {
		switch r.Verb {
		case "list", "watch":
			named := false
			for name := range names {
				named = named || strings.Contains(r.RequestURI, "fieldSelector=metadata.name%3D"+name)
			}
			for name := range sources {
				named = named || r.ObjectRef.Namespace == own && strings.Contains(r.RequestURI, "fieldSelector=metadata.name%3D"+name)
			}
			if !named {
				t.Errorf("more than a name was asked for: %+v", r)
			}
		case "get", "patch", "delete":
			if !names[r.ObjectRef.Name] || r.ObjectRef.Namespace == own {
				t.Errorf("another Secret was asked for: %+v", r)
			}
		default:
			t.Errorf("this verb is never needed: %+v", r)
		}
	}
}

// problems joins what is wrong.
type problems []error

func (p *problems) addf(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }
