package distribute

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"

	"github.com/lightstep-injector/lightstep-injector/internal/ssa"
	"github.com/lightstep-injector/lightstep-injector/webhook/panics"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

const (
	// workers is how many requests are under way at the same time. The client's own limit is what bounds them.
	workers = 16
	// patience is how long pods that run, and an object that is not ours, are left before another look.
	patience = 10 * time.Second
	// lookAgain is how often everything is looked at: no watch tells that a source has begun, or ceased, to be valid.
	lookAgain = time.Minute
	// lost is when a write that no watch has told of is taken to be lost.
	lost = time.Minute
)

// Controller keeps the copies.
type Controller struct {
	World    World
	Metadata metadata.Interface
	Events   events.EventRecorder
	Log      *zap.Logger
	// Synced is closed once the world has all that is in the cluster: before that, a namespace that it does not have may
	// be labelled all the same.
	Synced <-chan struct{}

	mu sync.Mutex
	// leading says that this process speaks for the cluster.
	leading bool
	// written are the writes of which no watch has told yet.
	written map[types.NamespacedName]write
	// said are the states that somebody has been told of, saidOfSources what they have been told of the sources.
	said          map[types.NamespacedName]State
	saidOfSources map[settings.Secret]string
}

// write is one that has been done: from which version of the Secret, and to which content.
type write struct {
	from ssa.Version
	hash string
	at   time.Time
}

type queue = workqueue.TypedRateLimitingInterface[types.NamespacedName]

// Lead keeps the copies until the context ends. One process does so at a time.
func (c *Controller) Lead(ctx context.Context) {
	select {
	case <-c.Synced:
	case <-ctx.Done():
		return
	}
	c.Log.Info("distribute: leading")
	defer c.Log.Info("distribute: no longer leading")
	c.begin(true)
	defer c.begin(false)
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[types.NamespacedName]())
	defer c.World.Listen(func(namespace string) { queue.Add(types.NamespacedName{Namespace: namespace}) })()
	var running sync.WaitGroup
	defer running.Wait()
	defer queue.ShutDown()
	for range workers {
		running.Go(func() { c.work(ctx, queue) })
	}
	wait.UntilWithContext(ctx, func(context.Context) { queue.Add(everything()) }, lookAgain)
}

// begin forgets what an earlier term has left.
func (c *Controller) begin(leading bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leading = leading
	c.written = map[types.NamespacedName]write{}
	c.said = map[types.NamespacedName]State{}
	c.saidOfSources = map[settings.Secret]string{}
}

// everything asks for a look at all Secrets; a key without a name, for one at all of its namespace.
func everything() types.NamespacedName { return types.NamespacedName{} }

// expand asks for a look at each Secret that such a key stands for.
func (c *Controller) expand(queue queue, key types.NamespacedName) {
	if key == everything() {
		c.tellOfSources()
	}
	snap, _ := c.World.Now()
	names := snap.Settings.SecretNames()
	add := func(namespace string) {
		for _, name := range names {
			queue.Add(types.NamespacedName{Namespace: namespace, Name: name})
		}
	}
	if key != everything() {
		add(key.Namespace)
		return
	}
	for namespace := range snap.Namespaces.All() {
		add(namespace)
	}
	c.World.Copies(func(key types.NamespacedName) { queue.Add(key) })
}

func (c *Controller) work(ctx context.Context, queue queue) {
	for {
		key, stopping := queue.Get()
		if stopping {
			return
		}
		if ctx.Err() == nil {
			c.process(ctx, queue, key)
		}
		queue.Done(key)
	}
}

func (c *Controller) process(ctx context.Context, queue queue, key types.NamespacedName) {
	var again time.Duration
	err := panics.Caught(func() (err error) { // which is then one Secret's affair, and not all of the process's
		if key.Name == "" {
			c.expand(queue, key)
			return nil
		}
		again, err = c.reconcile(ctx, key)
		return err
	})
	if err != nil {
		if !errors.Is(err, ssa.ErrOvertaken) && !quiet(err, queue.NumRequeues(key)) && ctx.Err() == nil {
			c.Log.Error("distribute: failed; it is tried again", zap.String("namespace", key.Namespace), zap.String("secret", key.Name), zap.String("error", bounded(err.Error())))
		}
		queue.AddRateLimited(key)
		return
	}
	queue.Forget(key)
	if again > 0 {
		queue.AddAfter(key, again)
	}
}

// quiet tells whether nobody need be told of a failure: of a refusal, that is, but once. It may be over in a moment, since
// the policies that fence the injector's rights go by the API server's own watch of namespaces, which may be later than
// ours; or it may last, where the rights are given in some namespaces alone.
func quiet(err error, tried int) bool {
	const patient = 8 // the queue waits twice as long each time, a second and a half in all
	return apierrors.IsForbidden(err) && tried != patient
}

// reconcile does what is to be done about one Secret. It returns when another look is needed that no watch will ask for.
func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (again time.Duration, err error) {
	snap, _ := c.World.Now()
	a := assess(c.World, snap, key, time.Now())
	c.tell(key, &a)
	if c.awaits(key, &a) {
		return lost, nil
	}
	switch a.state {
	case Missing, Behind:
		return 0, c.apply(ctx, key, &a, snap.OwnNamespace)
	case Edited:
		return 0, c.mend(ctx, key, &a, snap.OwnNamespace)
	case Revoked:
		return 0, c.remove(ctx, key, a.found)
	case Leaving:
		return c.leave(ctx, snap, key, a.found)
	}
	return 0, nil
}

// awaits tells whether what is to be done has been, and the watch is only to tell of it.
func (c *Controller) awaits(key types.NamespacedName, a *assessment) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	done, ok := c.written[key]
	if !ok {
		return false
	}
	if done.from == a.found.seen() && done.hash == wantedHash(a) && time.Since(done.at) < lost {
		return true
	}
	delete(c.written, key)
	return false
}

// wrote remembers a write.
func (c *Controller) wrote(key types.NamespacedName, a *assessment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written[key] = write{a.found.seen(), wantedHash(a), time.Now()}
}

// wantedHash is the content that is to be there; empty where the Secret is to go.
func wantedHash(a *assessment) string {
	if a.source == nil {
		return ""
	}
	return a.source.Hash
}
