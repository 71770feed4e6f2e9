package certificate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/lightstep-injector/lightstep-injector/e2e/balancer"
	"github.com/lightstep-injector/lightstep-injector/e2e/chart"
	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
)

const (
	root    = "../../.."
	own     = chart.Namespace
	account = "lightstep-injector"
	// deadline bounds every wait for the cluster: longer than a lease that nobody handed back lasts, and a rotation.
	deadline = 90 * time.Second
	// propagation is what one API server, and replicas on its machine, need many times over.
	propagation = 2 * time.Second
	// lag is how long endpoints take to follow.
	lag = 500 * time.Millisecond
)

// environment is a cluster with the chart installed, and three replicas that the API server reaches through a balancer.
type environment struct {
	cluster  *cluster.Cluster
	run      *cluster.Run
	admin    *kubernetes.Clientset
	replicas []*injector.Injector
	balancer *balancer.Balancer
}

func setUp(t *testing.T) *environment {
	t.Helper()
	ctx := t.Context()
	run, err := cluster.NewRun(root)
	check(t, err)
	t.Cleanup(func() { check(t, run.Remove()) })
	control, err := cluster.Build(ctx, root, report.New(os.Stdout).Progress)
	check(t, err)
	binary, err := injector.Build(ctx, root, run)
	check(t, err)
	helm, err := chart.Build(ctx, root, t.TempDir(), func() { report.New(os.Stdout).Linef("Helm is built from source the first time: a minute.") })
	check(t, err)
	c, err := cluster.Start(ctx, control, run)
	check(t, err)
	t.Cleanup(func() { check(t, c.Stop()) })
	check(t, helm.Install(ctx, c, "--values", "testdata/values.yaml"))
	e := &environment{cluster: c, run: run, admin: client(t, c.Config)}
	as, err := c.As(ctx, own, account)
	check(t, err)
	kubeconfig := filepath.Join(run.Dir, "kubeconfig-account")
	check(t, cluster.WriteKubeconfig(kubeconfig, as))
	for _, name := range []string{"one", "two", "three"} {
		e.replicas = append(e.replicas, e.replica(t, injector.Options{
			Binary: binary, Config: "testdata/config.yaml", Kubeconfig: kubeconfig, Name: name, Certificate: true,
			Flags: []string{"--self-signed", "--propagation-time", propagation.String()},
		}))
	}
	e.balance(t)
	return e
}

// replica makes one; it is told to start later.
func (e *environment) replica(t *testing.T, options injector.Options) *injector.Injector {
	t.Helper()
	made, err := injector.NewUncalled(e.cluster, e.run, options)
	check(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of %s's log:\n%s", options.Name, process.Tail(made.LogFile(), 40))
		}
		made.Kill()
	})
	return made
}

// balance starts the balancer, on the address of the chart's Service.
func (e *environment) balance(t *testing.T) {
	t.Helper()
	var routes []*balancer.Replica
	for _, r := range e.replicas {
		routes = append(routes, &balancer.Replica{Address: r.Address(), Ready: func() bool { return r.Ready(context.Background()) == nil }})
	}
	service, err := e.admin.CoreV1().Services(own).Get(t.Context(), injector.Name, metav1.GetOptions{})
	check(t, err)
	address := net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port)))
	e.balancer, err = balancer.Start(address, lag, routes...)
	check(t, err)
	t.Cleanup(func() { check(t, e.balancer.Close()) })
}

// awaitRouted waits until connections are given to so many replicas.
func (e *environment) awaitRouted(t *testing.T, want int) {
	t.Helper()
	eventually(t, func(context.Context) error {
		if got := e.balancer.Routed(); got != want {
			return fmt.Errorf("%d replicas are routed to, not %d", got, want)
		}
		return nil
	})
}

// client asks as much as it likes, and says no warnings.
func client(t *testing.T, config *rest.Config) *kubernetes.Clientset {
	t.Helper()
	config = rest.CopyConfig(config)
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	made, err := kubernetes.NewForConfig(config)
	check(t, err)
	return made
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
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, deadline, true, func(ctx context.Context) (bool, error) {
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
