package certificate

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/lightstep-injector/lightstep-injector/e2e/balancer"
	"github.com/lightstep-injector/lightstep-injector/e2e/chart"
	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
	"github.com/lightstep-injector/lightstep-injector/e2e/reliability"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root    = "../../.."
	own     = chart.Namespace
	account = "lightstep-injector"
	// configurationName is the webhook configuration's.
	configurationName = "0-lightstep-injector"
	// configuration is the replicas'.
	configuration = "testdata/config.yaml"
	// patient is the propagation time until it has been measured: what one API server needs many times over.
	patient = 2 * time.Second
	// lag is how long endpoints take to follow.
	lag = 500 * time.Millisecond
)

// environment is a cluster with the chart installed, and replicas that the API server reaches through a balancer.
type environment struct {
	cluster  *cluster.Cluster
	run      *cluster.Run
	admin    *kubernetes.Clientset
	balancer *balancer.Balancer
	// service is the address of the chart's Service.
	service string
	// binary is the program, account the kubeconfig of its account.
	binary, account string
	propagation     time.Duration

	made     int
	replicas []*replica
	// missed are the pods of all parts that were.
	missed []types.NamespacedName
	// held counts the requests that were under way when a replica was told to stop, and that were answered.
	held    atomic.Int64
	figures *reliability.Run
}

func setUp(t *testing.T) *environment {
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
	c, err := cluster.Start(ctx, control, run)
	stage.Check(t, err)
	t.Cleanup(func() { stage.Check(t, c.Stop()) })
	stage.Check(t, helm.Install(ctx, c, "--values", "testdata/values.yaml"))
	e := &environment{
		cluster: c, run: run, admin: client(t, c.Config), binary: binary, account: filepath.Join(run.Dir, "kubeconfig-account"), propagation: patient,
	}
	as, err := c.As(ctx, own, account)
	stage.Check(t, err)
	stage.Check(t, cluster.WriteKubeconfig(e.account, as))
	e.balance(t)
	t.Cleanup(func() { e.endReplicas(t) })
	return e
}

// balance starts the balancer, on the address of the chart's Service.
func (e *environment) balance(t *testing.T) {
	t.Helper()
	service, err := e.admin.CoreV1().Services(own).Get(t.Context(), injector.Name, metav1.GetOptions{})
	stage.Check(t, err)
	e.service = net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port)))
	e.balancer, err = balancer.Start(e.service, lag)
	stage.Check(t, err)
	t.Cleanup(func() { stage.Check(t, e.balancer.Close()) })
}

// endReplicas ends them, and shows what they said where the test has failed.
func (e *environment) endReplicas(t *testing.T) {
	t.Helper()
	for _, r := range e.replicas {
		if t.Failed() {
			t.Logf("the end of a replica's log:\n%s", process.Tail(r.LogFile(), 10))
		}
		r.Kill()
	}
}

// client asks as much as it likes, and says no warnings.
func client(t *testing.T, config *rest.Config) *kubernetes.Clientset {
	t.Helper()
	config = rest.CopyConfig(config)
	config.QPS, config.WarningHandler, config.ContentType = -1, rest.NoWarnings{}, runtime.ContentTypeProtobuf
	made, err := kubernetes.NewForConfig(config)
	stage.Check(t, err)
	return made
}
