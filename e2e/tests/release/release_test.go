package release

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiwatch "k8s.io/apimachinery/pkg/watch"

	"github.com/lightstep-injector/lightstep-injector/e2e/load"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	// workers create a pod each as often as this: 50 pods a second in all.
	workers, every = 5, 100 * time.Millisecond
	satelliteCA    = "lightstep.cacert"
)

// TestRelease upgrades, and rolls back.
func TestRelease(t *testing.T) {
	e := setUp(t)
	deleted := e.followCopies(t)
	pods := load.Start(t.Context(), load.Options{Client: e.Client, Name: "load", Workers: workers, Every: every, PerNamespace: 100})
	began := time.Now()
	steps := []struct {
		name string
		do   func(*testing.T)
	}{
		{"upgraded", func(t *testing.T) { e.install(t, e.helm, "after") }},
		{"rolled back", func(t *testing.T) { stage.Check(t, e.helm.Rollback(t.Context(), e.Cluster, "--wait")) }},
		{"old replicas, new policies", func(t *testing.T) { e.policies(t, e.helm, "after") }},
		{"new replicas, old policies", func(t *testing.T) {
			e.install(t, e.helm, "after", "--force-conflicts") // with what the step before has applied
			e.policies(t, e.old, "before")
		}},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			step.do(t)
			e.works(t)
		})
	}
	count, err := pods.End()
	stage.Check(t, err)
	took := time.Since(began)
	t.Logf("%d pods in %.0f s, %d of them injected", count.Created, took.Seconds(), count.Injected)
	if count.Requested == 0 || count.Created != count.Requested || len(count.Missed) > 0 {
		t.Errorf("%d pods were requested and %d created; %d were missed, such as %v; %v", count.Requested, count.Created, len(count.Missed), count.Missed[:min(3, len(count.Missed))], count.Refusal)
		t.Logf("of calls that failed, the API server said:\n%s", e.why(t))
	}
	if gone := deleted(); len(gone) > 0 {
		t.Errorf("copies were deleted in %v", gone)
	}
}

// works sees that a new namespace gets its copy, and loses it with the label.
func (e *environment) works(t *testing.T) {
	t.Helper()
	e.made++
	name := fmt.Sprintf("works-%d", e.made)
	stage.Check(t, load.Labelled(t.Context(), e.Client, name))
	stage.Eventually(t, func(ctx context.Context) error { return e.copied(ctx, name) })
	pod, err := e.Client.CoreV1().Pods(name).Create(t.Context(), load.Pod(0), metav1.CreateOptions{})
	stage.Check(t, err)
	if !load.Injected(pod) {
		t.Errorf("a pod of %s was not injected", name)
	}
	stage.Check(t, e.Client.CoreV1().Pods(name).Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
	_, err = e.Client.CoreV1().Namespaces().Patch(t.Context(), name, "application/merge-patch+json",
		[]byte(`{"metadata":{"labels":{"lightstep.com/injection":null}}}`), metav1.PatchOptions{})
	stage.Check(t, err)
	stage.Eventually(t, func(ctx context.Context) error {
		err := e.copied(ctx, name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("the copy is still there"))
	})
}

func (e *environment) copied(ctx context.Context, namespace string) error {
	_, err := e.Client.CoreV1().Secrets(namespace).Get(ctx, satelliteCA, metav1.GetOptions{})
	return err
}

// followCopies watches the copies of the namespaces that stay, and returns those that were deleted up to then.
func (e *environment) followCopies(t *testing.T) (deleted func() []string) {
	t.Helper()
	var mu sync.Mutex
	var gone []string
	for _, namespace := range staying() {
		watch, err := e.Client.CoreV1().Secrets(namespace).Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + satelliteCA})
		stage.Check(t, err)
		t.Cleanup(watch.Stop)
		go func() {
			for event := range watch.ResultChan() {
				if event.Type == apiwatch.Deleted {
					mu.Lock()
					gone = append(gone, namespace)
					mu.Unlock()
				}
			}
		}()
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return gone
	}
}
