package faults

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/balancer"
	"github.com/lightstep-injector/lightstep-injector/e2e/chart"
	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/load"
	"github.com/lightstep-injector/lightstep-injector/e2e/relay"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	root = "../../.."
	own  = chart.Namespace
	// servingSecret has the serving certificate, sourceSecret the satellite CA.
	servingSecret, sourceSecret = "lightstep-injector-tls", "lightstep.cacert"
	// lag is how long endpoints take to follow readiness.
	lag = 100 * time.Millisecond
)

// environment is a cluster with the chart installed, and one injector, which the API server reaches through a balancer, as it
// would through kube-proxy, and which reaches the API server through a relay.
type environment struct {
	*stage.Stage
	relay *relay.Relay
	// kubeconfig has the account's credentials, and leads through the relay.
	kubeconfig string
	// panicking is a binary that panics where it is told to; shifted is one whose clock is set by the file clock.
	panicking, shifted, clock string

	injector *injector.Injector
	balancer *balancer.Balancer
	// logged is how much of the log was there before the injector was started.
	logged int
	made   int
}

func setUp(t *testing.T) *environment {
	t.Helper()
	e := &environment{Stage: stage.New(t, root)}
	helm, err := chart.Build(t.Context(), root, t.TempDir(), func() { report.New(os.Stdout).Linef("Helm is built from source the first time: a minute.") })
	stage.Check(t, err)
	e.configure(t)
	stage.Check(t, helm.Install(t.Context(), e.Cluster, "--set-file", "config="+e.Config))
	as, err := e.Cluster.As(t.Context(), own, injector.Name)
	stage.Check(t, err)
	direct := filepath.Join(e.Run.Dir, "account.kubeconfig")
	stage.Check(t, cluster.WriteKubeconfig(direct, as))
	e.relay, err = relay.Start(direct)
	stage.Check(t, err)
	t.Cleanup(func() { stage.Check(t, e.relay.Close()) })
	e.kubeconfig = filepath.Join(e.Run.Dir, "relayed.kubeconfig")
	stage.Check(t, e.relay.WriteKubeconfig(e.kubeconfig))
	e.addSource(t)
	e.panicking = e.buildPanicking(t)
	e.shifted = e.buildShifted(t)
	e.run(t, injector.Options{}, true) // which makes the serving Secret
	e.recover(t)
	e.stop(t)
	return e
}

// configure writes the configuration of testdata.
func (e *environment) configure(t *testing.T) {
	t.Helper()
	content, err := os.ReadFile("testdata/config.yaml")
	stage.Check(t, err)
	stage.Check(t, injector.WriteConfig(e.Config, content))
}

func (e *environment) addSource(t *testing.T) {
	t.Helper()
	ca, err := injector.NewCA("satellite CA")
	stage.Check(t, err)
	e.Secret(t, own, sourceSecret, "cacert.pem", string(ca.PEM))
}

// run starts an injector, and waits until it is ready where it can be.
func (e *environment) run(t *testing.T, options injector.Options, ready bool) {
	t.Helper()
	options.Binary, options.Config, options.Kubeconfig = cmp.Or(options.Binary, e.Program), e.Config, e.kubeconfig
	options.Certificate = true
	if options.Flags == nil {
		options.Flags = []string{"--self-signed", "--propagation-time", "1s"}
	}
	i, err := injector.NewUncalled(e.Cluster, e.Run, options)
	stage.Check(t, err)
	before, _ := os.ReadFile(i.LogFile()) // not there before the first
	e.injector, e.logged = i, len(before)
	stage.Check(t, i.Launch())
	e.balance(t)
	if ready {
		e.awaitRouted(t)
	}
}

// stop ends what run has started.
func (e *environment) stop(t *testing.T) {
	t.Helper()
	stage.LogOnFailure(t, e.injector.LogFile())
	e.injector.Kill()
	stage.Check(t, e.balancer.Close())
	e.freeLease(t)
}

// balance starts the balancer, on the address of the chart's Service.
func (e *environment) balance(t *testing.T) {
	t.Helper()
	service, err := e.Client.CoreV1().Services(own).Get(t.Context(), injector.Name, metav1.GetOptions{})
	stage.Check(t, err)
	address := net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port)))
	i := e.injector
	e.balancer, err = balancer.Start(address, lag, &balancer.Replica{Address: i.Address(), Ready: func() bool { return i.Ready(context.Background()) == nil }})
	stage.Check(t, err)
}

// freeLease hands back the lease of an injector that was killed, so that the next one need not wait for it to expire.
func (e *environment) freeLease(t *testing.T) {
	t.Helper()
	err := e.Client.CoordinationV1().Leases(own).DeleteCollection(context.Background(), metav1.DeleteOptions{}, metav1.ListOptions{})
	stage.Check(t, err)
}

// awaitRouted waits until connections are given to the injector.
func (e *environment) awaitRouted(t *testing.T) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		if err := e.injector.Ended(); err != nil {
			return err
		}
		if e.balancer.Routed() == 0 {
			return fmt.Errorf("it is not routed to: %w", e.injector.Ready(ctx))
		}
		return nil
	})
}

// labelled makes a labelled namespace in which pods can be created.
func (e *environment) labelled(ctx context.Context, annotations map[string]string) (string, error) {
	e.made++
	name := fmt.Sprintf("fault-%d", e.made)
	_, err := e.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: map[string]string{"lightstep.com/injection": "enabled"}, Annotations: annotations,
	}}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	for {
		_, err := e.Client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		if err == nil {
			return name, nil
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// creation is pods that are created all the time.
type creation struct {
	*load.Load
	e      *environment
	before load.Calls
}

const (
	webhook = "inject.lightstep.com"
	// least is how many pods are created while a fault lasts.
	least = 20
)

func (e *environment) create(t *testing.T) *creation {
	t.Helper()
	before, err := load.CallsOf(t.Context(), e.Client, webhook)
	stage.Check(t, err)
	e.made++
	return &creation{e: e, before: before, Load: load.Start(t.Context(), load.Options{
		Client: e.Client, Name: fmt.Sprintf("load-%d", e.made), Workers: 2, Every: 50 * time.Millisecond, PerNamespace: 10,
	})}
}

// await waits until some more pods have been created.
func (c *creation) await(t *testing.T) {
	t.Helper()
	goal := c.Requested() + least
	stage.Eventually(t, func(context.Context) error {
		if now := c.Requested(); now < goal {
			return fmt.Errorf("%d pods of %d were created", now, goal)
		}
		return nil
	})
}

// end stops it, and sees that no pod was refused, and that all of them were injected, or none.
func (c *creation) end(t *testing.T, row *row) {
	t.Helper()
	count, err := c.End()
	stage.Check(t, err)
	now, err := load.CallsOf(t.Context(), c.e.Client, webhook)
	stage.Check(t, err)
	calls := now.Since(c.before)
	t.Logf("%d pods, %d injected; %d calls, %d failed", count.Created, count.Injected, calls.All, calls.Failed)
	if count.Refused != 0 || count.Created != count.Requested {
		t.Errorf("of %d pods %d were refused, the first with %v; %d were created", count.Requested, count.Refused, count.Refusal, count.Created)
	}
	switch {
	case row.injected && (len(count.Missed) != 0 || calls.Failed != 0):
		t.Errorf("%d pods were missed (%v), and %d calls failed", len(count.Missed), count.Missed[:min(3, len(count.Missed))], calls.Failed)
	case !row.injected && (count.Injected != 0 || calls.Failed < count.Created):
		t.Errorf("%d pods were injected; %d calls failed for %d", count.Injected, calls.Failed, count.Created)
	}
}

// remove deletes a Secret of the own namespace, and returns what puts it back.
func (e *environment) remove(t *testing.T, name string) func() {
	t.Helper()
	secrets := e.Client.CoreV1().Secrets(own)
	secret, err := secrets.Get(t.Context(), name, metav1.GetOptions{})
	stage.Check(t, err)
	stage.Check(t, secrets.Delete(t.Context(), name, metav1.DeleteOptions{}))
	secret.ResourceVersion, secret.UID = "", ""
	return func() {
		_, err := secrets.Create(t.Context(), secret, metav1.CreateOptions{})
		stage.Check(t, err)
	}
}
