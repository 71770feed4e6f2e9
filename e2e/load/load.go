package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// patience bounds the wait for a namespace's service account, without which no pod can be created in it.
const patience = time.Minute

// Options says what is created.
type Options struct {
	// Client is an administrator's, which asks as much as it likes.
	Client kubernetes.Interface
	// Name begins the name of each namespace, and tells the loads of a cluster apart.
	Name string
	// Workers is how many create pods at once. Each creates one, and rests until Every is over.
	Workers int
	Every   time.Duration
	// PerNamespace is how many pods a worker creates in a namespace before it makes the next one.
	PerNamespace int
}

// Load is one that runs. The pods of a namespace are counted once it has all of them, and those that were injected are then
// deleted, so that any number can be created. Those that were missed stay.
type Load struct {
	options Options
	stop    context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	count  Count
	failed error
}

// Count is what became of the pods.
type Count struct {
	// Requested is how many were asked for.
	Requested int
	// Refused is how many requests were answered with an error, and Refusal the first of those.
	Refused int
	Refusal error
	// Created and Injected are how many there were, by the API server's list.
	Created, Injected int
	// Missed names those that were created and not injected.
	Missed []types.NamespacedName
}

// Start begins to create pods, until End or the end of the context.
func Start(ctx context.Context, options Options) *Load {
	creating, stop := context.WithCancel(ctx)
	l := &Load{options: options, stop: stop}
	for worker := range options.Workers {
		l.running.Go(func() {
			if err := l.work(creating, worker); err != nil {
				l.note(func(*Count) { l.failed = errors.Join(l.failed, err) })
			}
		})
	}
	return l
}

// Requested is how many pods have been asked for up to now.
func (l *Load) Requested() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count.Requested
}

// End stops it, and returns what became of all pods. An error says that this is not known of all.
func (l *Load) End() (Count, error) {
	l.stop()
	l.running.Wait()
	return l.count, l.failed
}

// note changes what is known.
func (l *Load) note(change func(*Count)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.count)
}

// work fills one namespace after the other, and counts each. What has been begun is not cut short by the end.
func (l *Load) work(creating context.Context, worker int) error {
	ctx := context.WithoutCancel(creating)
	ticker := time.NewTicker(l.options.Every)
	defer ticker.Stop()
	for i := 0; creating.Err() == nil; i++ {
		namespace := fmt.Sprintf("%s-%d-%d", l.options.Name, worker, i)
		if err := Labelled(ctx, l.options.Client, namespace); err != nil {
			return err
		}
		for pod := 0; pod < l.options.PerNamespace && creating.Err() == nil; pod++ {
			l.create(ctx, namespace, pod)
			select {
			case <-creating.Done():
			case <-ticker.C:
			}
		}
		if err := l.settle(ctx, namespace); err != nil {
			return err
		}
	}
	return nil
}

// Labelled makes a labelled namespace, and returns once pods can be created in it.
func Labelled(ctx context.Context, client kubernetes.Interface, name string) error {
	made := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"lightstep.com/injection": "enabled"}}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, made, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("make namespace %s: %w", name, err)
	}
	err := wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the service account of namespace %s: %w", name, err)
	}
	return nil
}

// create asks for one pod.
func (l *Load) create(ctx context.Context, namespace string, i int) {
	_, err := l.options.Client.CoreV1().Pods(namespace).Create(ctx, Pod(i), metav1.CreateOptions{})
	l.note(func(c *Count) {
		c.Requested++
		if err == nil {
			return
		}
		c.Refused++
		if c.Refusal == nil {
			c.Refusal = fmt.Errorf("create pod %d in namespace %s: %w", i, namespace, err)
		}
	})
}

// Pod is one that nobody schedules.
func Pod(i int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pod-%d", i)},
		Spec:       corev1.PodSpec{SchedulerName: "nobody", Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
}

// settle counts the pods of a namespace, and then makes room.
func (l *Load) settle(ctx context.Context, namespace string) error {
	pods, err := l.options.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the pods of namespace %s: %w", namespace, err)
	}
	var missed []types.NamespacedName
	for i := range pods.Items {
		if !Injected(&pods.Items[i]) {
			missed = append(missed, types.NamespacedName{Namespace: namespace, Name: pods.Items[i].Name})
		}
	}
	l.note(func(c *Count) {
		c.Created += len(pods.Items)
		c.Injected += len(pods.Items) - len(missed)
		c.Missed = append(c.Missed, missed...)
	})
	if err := l.clear(ctx, namespace, len(missed) == 0); err != nil {
		return fmt.Errorf("clear namespace %s: %w", namespace, err)
	}
	return nil
}

// Injected tells whether a pod was.
func Injected(pod *corev1.Pod) bool { return pod.Labels["lightstep.com/injected"] == "true" }

// clear deletes what was injected, and with it, where nothing else is there, the namespace.
func (l *Load) clear(ctx context.Context, namespace string, whole bool) error {
	err := l.options.Client.CoreV1().Pods(namespace).DeleteCollection(ctx,
		metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{LabelSelector: "lightstep.com/injected=true"})
	if err != nil || !whole {
		return err
	}
	return l.options.Client.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{})
}
