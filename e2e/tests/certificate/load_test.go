package certificate

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// load creates pods all the time, some of them in namespaces that have just been made.
type load struct {
	*environment
	name    string
	created atomic.Int64
	failed  chan error
	stop    context.CancelFunc
	running sync.WaitGroup
}

// Several clients, each as fast as it goes with a little rest: this machine has other things to do.
const (
	clients    = 4
	breath     = 20 * time.Millisecond
	freshEvery = 50
)

func (e *environment) startLoad(t *testing.T, name string) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{environment: e, name: name, failed: make(chan error, clients), stop: stop}
	for i := range clients {
		l.running.Go(func() {
			if err := l.create(ctx, i); err != nil && ctx.Err() == nil {
				l.failed <- err
			}
		})
	}
	t.Cleanup(func() { stop(); l.running.Wait() })
	return l
}

func (l *load) create(ctx context.Context, client int) error {
	ticker := time.NewTicker(breath)
	defer ticker.Stop()
	namespace := ""
	for i := 0; ; i++ {
		if i%freshEvery == 0 {
			namespace = fmt.Sprintf("%s-%d-%d", l.name, client, i/freshEvery)
			if err := l.labelled(ctx, namespace); err != nil {
				return err
			}
		}
		if _, err := l.admin.CoreV1().Pods(namespace).Create(context.WithoutCancel(ctx), pod(l.name, i), metav1.CreateOptions{}); err != nil {
			return err
		}
		l.created.Add(1)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// pod is one that nobody schedules.
func pod(load string, i int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pod-%d", i), Labels: map[string]string{"load": load}},
		Spec:       corev1.PodSpec{SchedulerName: "nobody", Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
}

// end stops it, and returns how many pods there are, and how many of them were missed.
func (l *load) end(t *testing.T) (created, missed int) {
	t.Helper()
	l.stop()
	l.running.Wait()
	select {
	case err := <-l.failed:
		t.Errorf("a pod was not created: %v", err)
	default:
	}
	list := func(selector string) int {
		pods, err := l.admin.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{LabelSelector: selector})
		check(t, err)
		return len(pods.Items)
	}
	created, missed = list("load="+l.name), list("load="+l.name+",!lightstep.com/injected")
	if requested := int(l.created.Load()); created != requested {
		t.Errorf("%d pods were requested, and %d created", requested, created)
	}
	return created, missed
}

// calls is what the API server has counted of the webhook: calls, and those of them that failed.
type calls struct{ all, failed int }

func (e *environment) calls(t *testing.T) (c calls) {
	t.Helper()
	text, err := e.admin.RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	check(t, err)
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, `name="inject.lightstep.com"`) {
			continue
		}
		var value float64
		_, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &value)
		check(t, err)
		switch metric, _, _ := strings.Cut(line, "{"); metric {
		case "apiserver_admission_webhook_admission_duration_seconds_count":
			c.all += int(value)
		case "apiserver_admission_webhook_fail_open_count", "apiserver_admission_webhook_rejection_count":
			c.failed += int(value)
		}
	}
	return c
}
