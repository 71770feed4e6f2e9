package missed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

const (
	// every is how often all namespaces are looked at, where there is time for that.
	every = 15 * time.Second
	// listsPerSecond bounds what is asked of the API server: a round through ten thousand namespaces takes 200 s.
	listsPerSecond = 50
	// patience is how long the pods of one namespace are counted. What has been counted by then is a lower bound.
	patience = 10 * time.Second
)

// The pods that may have been missed: without our label, not opted out, not at their end.
const (
	Labels = inject.InjectedLabel + "!=true," + inject.OptOutLabel + "!=false"
	Fields = "status.phase!=Succeeded,status.phase!=Failed"
)

// Snapshots is where the counter learns which namespaces are labelled, and what is in force there.
type Snapshots interface {
	// Current returns the snapshot in force.
	Current() *inject.Snapshot
}

// Counter counts the missed pods of labelled namespaces.
type Counter struct {
	Snapshots Snapshots
	Cluster   *clusterstate.Reader
	Log       *zap.Logger
	// Synced is closed once the snapshot has all that is in the cluster.
	Synced <-chan struct{}

	mu sync.Mutex
	// missed has a number for each namespace where it is above 0; nil while another process leads.
	missed map[string]int
	// looked is when the last round ended that reached every namespace.
	looked time.Time
	failed bool
	// patience is that of a test; 0 for the usual.
	patience time.Duration
}

// Lead counts until the context ends. One process does so at a time.
func (c *Counter) Lead(ctx context.Context) {
	select {
	case <-c.Synced:
	case <-ctx.Done():
		return
	}
	c.begin(map[string]int{})
	defer c.begin(nil)
	pace := flowcontrol.NewTokenBucketRateLimiter(listsPerSecond, 1)
	defer pace.Stop()
	wait.UntilWithContext(ctx, func(ctx context.Context) { c.note(ctx, c.round(ctx, pace)) }, every)
}

// begin forgets what an earlier term has counted.
func (c *Counter) begin(missed map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.missed, c.looked, c.failed = missed, time.Time{}, false
}

// round looks at each labelled namespace once. A namespace that could not be looked at keeps its number.
func (c *Counter) round(ctx context.Context, pace flowcontrol.RateLimiter) error {
	snap := c.Snapshots.Current()
	c.keep(snap)
	var failed error
	for name := range snap.Namespaces.All() {
		if err := pace.Wait(ctx); err != nil {
			return err
		}
		missed, err := c.count(ctx, snap, name)
		if err != nil {
			failed = fmt.Errorf("list the pods of namespace %s: %w", name, err)
			continue
		}
		c.set(name, missed)
	}
	return failed
}

// count reads what may have been missed in a namespace, page by page, and counts what was. Nothing of a page is kept. A
// namespace that takes too long has at least as many as were found until then.
func (c *Counter) count(ctx context.Context, snap *inject.Snapshot, namespace string) (missed int, err error) {
	inTime, cancel := context.WithTimeout(ctx, cmp.Or(c.patience, patience))
	defer cancel()
	pods := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	source := clusterstate.MetadataTo(c.Cluster, pods, namespace, func(pod *metav1.PartialObjectMetadata) (struct{}, bool) {
		return struct{}{}, isMissed(pod, snap)
	})
	var failed error
	source.Failed = func(err error) { failed = err }
	_, err = source.Each(inTime, metav1.ListOptions{LabelSelector: Labels, FieldSelector: Fields}, func(*clusterstate.Reduced[struct{}]) error {
		missed++
		return nil
	})
	if missed > 0 && inTime.Err() != nil && ctx.Err() == nil {
		return max(missed, c.known(namespace)), nil
	}
	return missed, errors.Join(err, failed)
}

// known is the number that was last counted.
func (c *Counter) known(namespace string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.missed[namespace]
}

// isMissed tells whether a pod that was listed is to be injected, as far as its metadata tells. One that is going is not.
func isMissed(pod *metav1.PartialObjectMetadata, snap *inject.Snapshot) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	request := &inject.Request{Namespace: pod.Namespace, Pod: inject.Pod{Metadata: &inject.Metadata{
		Name: pod.Name, Labels: pod.Labels, Annotations: pod.Annotations,
	}}}
	return inject.LeftAlone(request, snap) == ""
}

// keep forgets namespaces that are labelled no more.
func (c *Counter) keep(snap *inject.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.missed {
		if _, labelled := snap.Namespaces.Get(name); !labelled {
			delete(c.missed, name)
		}
	}
}

func (c *Counter) set(namespace string, missed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if missed == 0 {
		delete(c.missed, namespace)
		return
	}
	c.missed[namespace] = missed
}

// note says how a round has ended: a failure once, until one has succeeded.
func (c *Counter) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.looked, c.failed = time.Now(), false
		return
	}
	if !c.failed {
		c.failed = true
		c.Log.Error("missed: not every namespace could be looked at; it is tried again and again", zap.Error(err))
	}
}
