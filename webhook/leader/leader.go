package leader

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// How long a leader that is gone is waited for, how long one goes on trying to stay, and how often it does.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// MaxDuration bounds how long this process waits for the holder of a Lease, whatever duration the Lease has. The chart's policy
// has the same bound.
const MaxDuration = time.Minute

// Lease is what the replicas of the injector stand for.
type Lease struct {
	Client          coordination.LeasesGetter
	Namespace, Name string
	// Identity tells this process from the others.
	Identity string
	// Owners are those with whose end the lease is to go.
	Owners func(context.Context) []metav1.OwnerReference
	Log    *zap.Logger
}

// Lead runs the task while this process leads, until the context ends. A lease that is lost ends the task, and the process
// stands again; when it ends by itself, the lease is handed back.
func (l *Lease) Lead(ctx context.Context, task func(context.Context)) error {
	for ctx.Err() == nil {
		l.create(ctx)
		if err := l.term(ctx, task); err != nil {
			return fmt.Errorf("stand for lease %s/%s: %w", l.Namespace, l.Name, err)
		}
	}
	return nil
}

// create makes the lease where there is none, since client-go would make it without owners. Where that fails, client-go tries, and
// says why.
func (l *Lease) create(ctx context.Context) {
	if owners := l.Owners(ctx); len(owners) > 0 {
		_, _ = l.Client.Leases(l.Namespace).Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: l.Namespace, Name: l.Name, OwnerReferences: owners},
		}, metav1.CreateOptions{})
	}
}

// term stands once. It returns when the task has, so that there is never more than one of it.
func (l *Lease) term(ctx context.Context, task func(context.Context)) error {
	standing, resign := context.WithCancel(klog.NewContext(context.WithoutCancel(ctx), logr.New(&onceSink{log: l.Log})))
	defer resign()
	started, done := make(chan context.Context), make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: boundedLock{&resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: l.Namespace, Name: l.Name},
			Client:     l.Client,
			LockConfig: resourcelock.ResourceLockConfig{Identity: l.Identity},
		}},
		LeaseDuration:   leaseDuration,
		RenewDeadline:   renewDeadline,
		RetryPeriod:     retryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				select {
				case started <- leading:
				case <-leading.Done():
				}
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	go func() {
		defer close(done)
		elector.Run(standing)
	}()
	select {
	case leading := <-started:
		working, stop := context.WithCancel(context.WithValue(ctx, heldKey{}, func() bool {
			return elector.IsLeader() && elector.Check(renewDeadline-leaseDuration) == nil
		}))
		defer context.AfterFunc(leading, stop)()
		task(working)
		stop()
	case <-ctx.Done():
	case <-done:
	}
	resign()
	<-done
	return nil
}

// heldKey is the context's key of a function that reports whether the lease is still held.
type heldKey struct{}

// Holds reports whether this process still holds the lease that the context's task was started with; true where the context
// is no such task's. A process that was suspended learns of its lost lease up to renewDeadline later: a task
// calls Holds right before each write.
func Holds(ctx context.Context) bool {
	held, ok := ctx.Value(heldKey{}).(func() bool)
	return !ok || held()
}

// onceSink logs errors alone, and one that repeats itself once: client-go says with every attempt why a lease is not to be had.
type onceSink struct {
	log  *zap.Logger
	mu   sync.Mutex
	last string
}

// Init has nothing to do.
func (*onceSink) Init(logr.RuntimeInfo) {}

// Enabled tells that no line but an error is wanted.
func (*onceSink) Enabled(int) bool { return false }

// Info drops the line.
func (*onceSink) Info(int, string, ...any) {}

// Error logs an error that is not the last one.
func (s *onceSink) Error(err error, _ string, _ ...any) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err.Error() != s.last {
		s.last = err.Error()
		s.log.Error("leader: the lease is not to be had; it is tried again and again", zap.Error(err))
	}
}

// WithValues adds nothing.
func (s *onceSink) WithValues(...any) logr.LogSink { return s }

// WithName adds nothing.
func (s *onceSink) WithName(string) logr.LogSink { return s }
