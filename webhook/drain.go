package webhook

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// How serving ends: it goes on for least, since the API server goes on choosing this replica until the Service's endpoints
// have followed; then until nothing has come for quiet; and no longer than most, after which a kubelet would kill it.
const (
	leastDrain = 5 * time.Second
	quietDrain = 3 * time.Second
	mostDrain  = 25 * time.Second
)

// Drain has clients turn away before serving ends.
type Drain struct {
	begun atomic.Bool
	// last is when something last came since; whoever sets the clock does not change how long ago that was.
	last atomic.Pointer[time.Time]
}

// Wrap has each answer, once draining has begun, tell its client to close the connection: the API server keeps its own,
// and would go on using them.
func (d *Drain) Wrap(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.begun.Load() {
			d.last.Store(new(time.Now()))
			w.Header().Set("Connection", "close")
		}
		handler.ServeHTTP(w, r)
	})
}

// Wait begins to drain, and returns when serving may end: once no more comes, or it has taken too long.
func (d *Drain) Wait(ctx context.Context) {
	d.begun.Store(true)
	ctx, cancel := context.WithTimeout(ctx, mostDrain)
	defer cancel()
	for end := time.Now().Add(leastDrain); ; {
		if last := d.last.Load(); last != nil && last.Add(quietDrain).After(end) {
			end = last.Add(quietDrain)
		}
		left := time.Until(end)
		if left <= 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(left):
		}
	}
}
