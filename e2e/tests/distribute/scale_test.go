package distribute

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	applyv1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/load"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

var (
	namespaces = flag.Int("namespaces", 1000, "how many namespaces TestScale labels")
	holdRate   = flag.Bool("hold-rate", false, "have TestScale fail where the injector writes at less than 0.8 of a bare client's rate")
)

// The limits of the injector's own client, which the bare one is given, too.
const (
	requestsPerSecond = 200
	writers           = 16
	// mostMemory is how much more the injector may hold than when idle.
	mostMemory = 64 << 20
	// patience bounds each phase.
	patience = 15 * time.Minute
)

// TestScale labels many namespaces, gives them the satellite CA, and then another; and has a pod be missed in each.
func TestScale(t *testing.T) {
	e := setUp(t)
	i := e.replica(t, "one")
	stage.Check(t, i.Start(t.Context()))
	idle := memory(t, i, "VmRSS")
	e.inNamespaces(t, func(ctx context.Context, name string) error {
		_, err := e.admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labelled()}}, metav1.CreateOptions{})
		return err
	})
	await(t, i, "withheld", *namespaces)

	first := e.spread(t, i, goodCA(t))
	before := len(e.writes(t))
	second := e.spread(t, i, goodCA(t))
	if wrote := len(e.writes(t)) - before; wrote != *namespaces {
		t.Errorf("%d writes for a rotation in %d namespaces", wrote, *namespaces)
	}
	e.onlyNamed(t)
	counted := e.countMissed(t, i)
	now, peak := memory(t, i, "VmRSS"), memory(t, i, "VmHWM") // before the bare client's Secrets, which the injector sees, too
	bare := e.bareClient(t)
	bareFirst, bareSecond := e.bareRate(t, bare, goodCA(t)), e.bareRate(t, bare, goodCA(t))
	t.Logf("%d namespaces: copied at %.0f/s, a bare client %.0f/s, ratio %.2f; rotated at %.0f/s, a bare client %.0f/s, ratio %.2f; missed pods counted within %s; memory %d MiB idle, %d MiB now, %d MiB at most",
		*namespaces, first, bareFirst, first/bareFirst, second, bareSecond, second/bareSecond, counted.Round(time.Second), idle>>20, now>>20, peak>>20)
	if now-idle > mostMemory {
		t.Errorf("it holds %d MiB more than when idle", (now-idle)>>20)
	}
	if *holdRate && min(first/bareFirst, second/bareSecond) < 0.8 {
		t.Errorf("it writes at %.2f and %.2f of a bare client's rate", first/bareFirst, second/bareSecond)
	}
}

func spaceName(n int) string { return fmt.Sprintf("scale-%d", n) }

// inNamespaces does the same for every namespace, some at a time.
func (e *environment) inNamespaces(t *testing.T, do func(ctx context.Context, name string) error) {
	t.Helper()
	var next atomic.Int64
	var group sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		group.Go(func() {
			for errs[w] == nil {
				n := int(next.Add(1)) - 1
				if n >= *namespaces {
					return
				}
				errs[w] = do(t.Context(), spaceName(n))
			}
		})
	}
	group.Wait()
	stage.Check(t, errors.Join(errs...))
}

// bareClient has the limits, and the rights, that the injector's has: the API server looks at each of its writes as closely.
func (e *environment) bareClient(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	config, err := e.cluster.As(t.Context(), own, account)
	stage.Check(t, err)
	config.QPS, config.Burst = requestsPerSecond, 2*requestsPerSecond
	bare, err := kubernetes.NewForConfig(config)
	stage.Check(t, err)
	return bare
}

// bareRate is how many Secrets a second it applies, in every namespace, when it does nothing else: new ones at first, and
// then changes of them. They are such as the policies let through, under another manager's name: the injector takes them
// for somebody else's.
func (e *environment) bareRate(t *testing.T, bare *kubernetes.Clientset, value []byte) float64 {
	t.Helper()
	start := time.Now()
	e.inNamespaces(t, func(ctx context.Context, name string) error {
		secret := applyv1.Secret(otherName, name).WithLabels(map[string]string{"app": "lightstep", "lightstep.com/managed": "distribute"}).WithType(corev1.SecretTypeOpaque).WithData(map[string][]byte{otherKey: value})
		_, err := bare.CoreV1().Secrets(name).Apply(ctx, secret, metav1.ApplyOptions{FieldManager: "bare"})
		return err
	})
	return float64(*namespaces) / time.Since(start).Seconds()
}

// spread changes the source, waits until every namespace has it, and returns how many a second were written.
func (e *environment) spread(t *testing.T, i *injector.Injector, value []byte) float64 {
	t.Helper()
	start := time.Now()
	stage.Check(t, e.put(t.Context(), own, caSource, map[string][]byte{caKey: value}))
	await(t, i, "current", *namespaces)
	took := time.Since(start)
	list, err := e.admin.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + caName, LabelSelector: "lightstep.com/managed=distribute"})
	stage.Check(t, err)
	for _, secret := range list.Items {
		if !bytes.Equal(secret.Data[caKey], value) {
			t.Errorf("namespace %s has another value", secret.Namespace)
		}
	}
	if len(list.Items) != *namespaces {
		t.Errorf("%d copies", len(list.Items))
	}
	return float64(*namespaces) / took.Seconds()
}

// mostSeries is how many series the gauge of missed pods has at most: one for each of the worst namespaces, and one for the others.
const mostSeries = 1001

// countMissed creates a pod in every namespace, of which nobody tells the injector, and waits until the gauge has all of them.
func (e *environment) countMissed(t *testing.T, i *injector.Injector) time.Duration {
	t.Helper()
	e.inNamespaces(t, func(ctx context.Context, name string) error {
		return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
			_, err := e.admin.CoreV1().Pods(name).Create(ctx, load.Pod(0), metav1.CreateOptions{})
			if apierrors.IsForbidden(err) { // it is, until the namespace has its service account
				return false, nil
			}
			return true, err
		})
	})
	start := time.Now()
	last := 0.0
	err := wait.PollUntilContextTimeout(t.Context(), 500*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		now, err := i.Metric(ctx, "lightstep_injector_missed_pods", nil)
		last = now
		return err == nil && now == float64(*namespaces), nil
	})
	if err != nil {
		t.Fatalf("%v: %v of %d pods are counted as missed", err, last, *namespaces)
	}
	took := time.Since(start)
	text, err := i.Metrics(t.Context())
	stage.Check(t, err)
	if series := bytes.Count(text, []byte("\nlightstep_injector_missed_pods{")); series != min(*namespaces, mostSeries) {
		t.Errorf("the gauge has %d series for %d namespaces", series, *namespaces)
	}
	return took
}

// writes are the copies that the injector has written.
func (e *environment) writes(t *testing.T) []request {
	t.Helper()
	var wrote []request
	for _, r := range e.requests(t) {
		if r.Verb == "patch" && r.ObjectRef.Name == caName {
			wrote = append(wrote, r)
		}
	}
	return wrote
}

// await waits until so many Secrets of the satellite CA are in a state, as the injector's own gauge has it.
func await(t *testing.T, i *injector.Injector, state string, count int) {
	t.Helper()
	last := 0.0
	err := wait.PollUntilContextTimeout(t.Context(), 500*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		now, err := i.Metric(ctx, "lightstep_injector_copies", map[string]string{"secret": caName, "state": state})
		last = now
		return err == nil && now == float64(count), nil
	})
	if err != nil {
		t.Fatalf("%v: %v of %d Secrets are %s", err, last, count, state)
	}
}

// memory is what the kernel says of the process, in bytes.
func memory(t *testing.T, i *injector.Injector, field string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", i.PID()))
	stage.Check(t, err)
	_, rest, found := bytes.Cut(status, []byte(field+":"))
	if !found {
		t.Fatalf("no %s in the process's status", field)
	}
	kib, err := strconv.Atoi(string(bytes.Fields(rest)[0]))
	stage.Check(t, err)
	return kib << 10
}
