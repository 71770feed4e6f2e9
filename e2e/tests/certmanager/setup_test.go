package certmanager

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"

	"github.com/lightstep-injector/lightstep-injector/e2e/balancer"
	"github.com/lightstep-injector/lightstep-injector/e2e/chart"
	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/issuer"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root    = "../../.."
	own     = chart.Namespace
	account = "lightstep-injector"
	// replicas is how many run at a time; in a roll-out there are twice as many.
	replicas = 3
	// lag is how long endpoints take to follow.
	lag = 500 * time.Millisecond
	// propagation is what one API server, and replicas on its machine, need many times over.
	propagation = 2 * time.Second
)

// environment is a cluster with cert-manager and the chart, and replicas that the API server reaches through a balancer.
type environment struct {
	*stage.Stage
	helm     *chart.Helm
	manager  *issuer.CertManager
	objects  dynamic.Interface
	balancer *balancer.Balancer
	// running are the replicas that are up, next those that take their place in a roll-out.
	running, next []*injector.Injector
	// loads is how many there have been.
	loads int
}

// setUp has cert-manager run, and the chart not installed yet.
func setUp(t *testing.T) *environment {
	t.Helper()
	ctx := t.Context()
	e := &environment{Stage: stage.New(t, root)}
	progress := report.New(os.Stdout)
	var err error
	e.helm, err = chart.Build(ctx, root, t.TempDir(), func() { progress.Linef("Helm is built from source the first time: a minute.") })
	stage.Check(t, err)
	e.manager, err = issuer.Build(ctx, root, func() { progress.Linef("cert-manager is built from source the first time: a minute or two.") })
	stage.Check(t, err)
	e.objects, err = dynamic.NewForConfig(e.Cluster.Config)
	stage.Check(t, err)
	stage.Check(t, e.manager.Install(e.Cluster))
	stage.Check(t, e.manager.Start(e.Cluster, e.Run))
	t.Cleanup(func() { stage.LogOnFailure(t, e.manager.LogFile()); stage.Check(t, e.manager.Stop()) })
	return e
}

// upgrade installs the chart, or upgrades it.
func (e *environment) upgrade(t *testing.T, flags ...string) {
	t.Helper()
	stage.Check(t, e.helm.Install(t.Context(), e.Cluster, append([]string{"--values", "testdata/values.yaml"}, flags...)...))
}

// balance makes the replicas, with the chart's account and configuration, and starts the balancer on the address of its Service.
func (e *environment) balance(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	config, err := e.Client.CoreV1().ConfigMaps(own).Get(ctx, injector.Name, metav1.GetOptions{})
	stage.Check(t, err)
	stage.Check(t, injector.WriteConfig(e.Config, []byte(config.Data["config.yaml"])))
	as, err := e.Cluster.As(ctx, own, account)
	stage.Check(t, err)
	kubeconfig := filepath.Join(e.Run.Dir, "account.kubeconfig")
	stage.Check(t, cluster.WriteKubeconfig(kubeconfig, as))
	var routes []*balancer.Replica
	for i := range 2 * replicas {
		made, err := injector.NewUncalled(e.Cluster, e.Run, injector.Options{
			Binary: e.Program, Config: e.Config, Kubeconfig: kubeconfig, Name: fmt.Sprintf("replica-%d", i), Certificate: true,
			Flags: []string{"--propagation-time", propagation.String()}, // the chart's would take minutes
		})
		stage.Check(t, err)
		t.Cleanup(func() { stage.LogOnFailure(t, made.LogFile()); made.Kill() })
		routes = append(routes, &balancer.Replica{Address: made.Address(), Ready: func() bool { return made.Ready(context.Background()) == nil }})
		e.next = append(e.next, made)
	}
	e.next, e.running = e.next[:replicas], e.next[replicas:]
	service, err := e.Client.CoreV1().Services(own).Get(ctx, injector.Name, metav1.GetOptions{})
	stage.Check(t, err)
	e.balancer, err = balancer.Start(net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port))), lag, routes...)
	stage.Check(t, err)
	t.Cleanup(func() { stage.Check(t, e.balancer.Close()) })
}

// rollOut starts replicas with the arguments that the Deployment has by now, and once connections are given to them, stops the
// others, if there are any: all at once, where a Deployment takes one after the other.
func (e *environment) rollOut(t *testing.T) {
	t.Helper()
	before := e.balancer.Routed()
	done := make(chan error, replicas)
	for _, r := range e.next {
		stage.Check(t, r.TakeArguments(t.Context()))
		go func() { done <- r.Start(t.Context()) }()
	}
	for range e.next {
		stage.Check(t, <-done)
	}
	e.awaitRouted(t, before+replicas)
	for _, r := range e.running {
		go func() { done <- r.Stop() }()
	}
	for range e.running {
		stage.Check(t, <-done)
	}
	e.awaitRouted(t, replicas)
	e.running, e.next = e.next, e.running
}

// awaitRouted waits until connections are given to so many replicas.
func (e *environment) awaitRouted(t *testing.T, want int) {
	t.Helper()
	stage.Eventually(t, func(context.Context) error {
		if got := e.balancer.Routed(); got != want {
			return fmt.Errorf("%d replicas are routed to, not %d", got, want)
		}
		return nil
	})
}
