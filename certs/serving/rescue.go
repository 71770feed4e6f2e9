package serving

import (
	"context"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/lightstep-injector/lightstep-injector/webhook/panics"
)

// rescueAfter is how long a replica that cannot be called leaves it to the one that leads: longer than it takes to be elected,
// and to hold the first certificate back.
const rescueAfter = 25 * time.Second

// Rescue has a replica that cannot be called for too long see to that itself, which any number may. The one that leads may not
// do so: in a roll-out by which the injector comes to manage its certificate, it is one of those that do not manage it, and it
// goes on leading until this replica is ready.
func (w *Writer) Rescue(ctx context.Context) error {
	own := *w // what a Writer remembers is one goroutine's
	pause(ctx, nil, rescueAfter)
	if ctx.Err() != nil || own.Published.Check() == nil {
		return nil
	}
	w.Log.Info("certificate: nobody has made it one that the API server can call by; this replica does, too", zap.Duration("after", rescueAfter))
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var keeping wait.Group
	defer keeping.Wait()
	keeping.Start(func() {
		if err := panics.Caught(func() error { own.keep(ctx); return nil }); err != nil {
			w.Log.Error("certificate: failed", zap.Error(err))
		}
	})
	_ = wait.PollUntilContextCancel(ctx, time.Second, true, func(context.Context) (bool, error) { // ends with the context at the latest
		return own.Published.Check() == nil, nil
	})
	stop()
	return nil
}
