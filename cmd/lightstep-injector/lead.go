package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/events"

	"github.com/lightstep-injector/lightstep-injector/webhook/leader"
	"github.com/lightstep-injector/lightstep-injector/webhook/panics"
)

// newLease makes what the replicas stand for. Outside a pod, where nothing says which namespace is the injector's own, it is
// in the namespace default.
func newLease(c *cluster, log *zap.Logger) *leader.Lease {
	host, _ := os.Hostname() // the rest tells processes apart, too
	return &leader.Lease{
		Client:    c.leases,
		Namespace: cmp.Or(ownNamespace(), "default"),
		Name:      objectName,
		Identity:  host + "_" + string(uuid.NewUUID()),
		Owners:    c.owners,
		Log:       log,
	}
}

// leading is what the one replica does that leads.
type leading struct {
	lease       *leader.Lease
	tell        events.EventBroadcaster
	controllers []func(context.Context)
	panics      prometheus.Counter
	log         *zap.Logger
}

// newLeading takes the controllers, and what counts their panics.
func newLeading(c *cluster, panics prometheus.Counter, log *zap.Logger, controllers ...func(context.Context)) *leading {
	return &leading{lease: newLease(c, log), tell: c.events, controllers: controllers, log: log, panics: panics}
}

// countPanics makes the counter of those that are nobody's request.
func countPanics(registry prometheus.Registerer) (prometheus.Counter, error) {
	panics := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "lightstep_injector_panics_total",
		Help: "How often a controller or a watch has panicked, and gone on.",
	})
	if err := registry.Register(panics); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return panics, nil
}

// run runs the controllers while this replica leads, and sends what they have to tell.
func (l *leading) run(ctx context.Context) error {
	if err := l.tell.StartRecordingToSinkWithContext(ctx); err != nil {
		return fmt.Errorf("record Events: %w", err)
	}
	defer l.tell.Shutdown()
	return l.lease.Lead(ctx, func(leading context.Context) {
		var running sync.WaitGroup
		for _, controller := range l.controllers {
			running.Go(func() { l.keep(leading, controller) })
		}
		running.Wait()
	})
}

// keep runs a controller until the context ends. One that panics begins anew, ever later: neither the others end with it,
// nor the process, which answers the API server.
func (l *leading) keep(ctx context.Context, controller func(context.Context)) {
	backoff := wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.1, Steps: 10, Cap: time.Minute}
	for {
		err := panics.Caught(func() error { controller(ctx); return nil })
		if err == nil {
			return
		}
		l.panics.Inc()
		again := backoff.Step()
		l.log.Error("a controller panicked; it begins anew", zap.Error(err), zap.Duration("after", again))
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return
		}
	}
}
