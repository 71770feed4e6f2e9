package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
)

// A controller that panics begins anew, later each time, and is counted; it ends with its context.
func TestControllerPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leading{panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "panics_total", Help: "Panics."}), log: zap.NewNop()}
		ctx, stop := context.WithCancel(t.Context())
		var begun []time.Time
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.keep(ctx, func(ctx context.Context) {
				begun = append(begun, time.Now())
				if len(begun) < 3 {
					panic("x")
				}
				<-ctx.Done()
			})
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(begun) != 3 || testutil.ToFloat64(l.panics) != 2 || begun[2].Sub(begun[1]) < 3*begun[1].Sub(begun[0])/2 {
			t.Errorf("begun at %v, %v panics", begun, testutil.ToFloat64(l.panics))
		}
		stop()
		<-done
		l.keep(ctx, func(context.Context) { panic("x") }) // returns
	})
}
