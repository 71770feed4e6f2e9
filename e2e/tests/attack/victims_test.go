package attack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// every is how often a pod is created.
	every = 50 * time.Millisecond
	// patience is how long the API server may take, which itself waits 3 s for the webhook.
	patience = 15 * time.Second
	// largePod is what every other pod has of annotations: its review does not fit into the memory that each request has of its own.
	largePod = 150 << 10
)

// tally is what became of pods.
type tally struct{ Created, Injected int }

func (t tally) String() string { return fmt.Sprintf("%d of %d", t.Injected, t.Created) }

// held reports whether at least 99 % were injected.
func (t tally) held() bool { return t.Created > 0 && t.Injected*100 >= t.Created*99 }

// victims are pods of a namespace that is not the attacker's. They are created all the time, by turns with the connection that the
// API server has to a replica, and with a new one.
type victims struct {
	e       *environment
	stop    context.CancelFunc
	running sync.WaitGroup

	mu        sync.Mutex
	kept, new tally
	slowest   time.Duration
	failed    error
}

// begin begins to create pods.
func (e *environment) begin(ctx context.Context) *victims {
	ctx, stop := context.WithCancel(ctx)
	v := &victims{e: e, stop: stop}
	v.running.Go(func() { v.work(ctx) })
	return v
}

// end stops it.
func (v *victims) end() error {
	v.stop()
	v.running.Wait()
	return v.failed
}

func (v *victims) work(ctx context.Context) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		of, annotations := &v.kept, map[string]string(nil)
		if n%2 == 1 {
			of = &v.new
		}
		if n%4 > 1 {
			annotations = map[string]string{"example.com/large": strings.Repeat("x", largePod)}
		}
		if err := v.one(context.WithoutCancel(ctx), of, annotations); err != nil {
			v.failed = errors.Join(v.failed, err)
			return
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// one creates a pod. What the API server rejects ends all: that is no matter of the injector's.
func (v *victims) one(ctx context.Context, of *tally, annotations map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if of == &v.new {
		if err := v.e.service.Reconnect(ctx); err != nil {
			return err
		}
	}
	start := time.Now()
	injected, err := v.e.create(ctx, annotations)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.slowest = max(v.slowest, time.Since(start))
	of.Created++
	if injected {
		of.Injected++
	}
	return nil
}

// create has the API server go through all of a pod's creation, and store nothing. It reports whether the pod was injected.
func (e *environment) create(ctx context.Context, annotations map[string]string) (injected bool, err error) {
	made := pod("", annotations)
	made.GenerateName = "victim-"
	made, err = e.Client.CoreV1().Pods(shop).Create(ctx, made, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return false, fmt.Errorf("create a pod: %w", err)
	}
	return made.Labels["lightstep.com/injected"] == "true", nil
}
