package certificate

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lightstep-injector/lightstep-injector/e2e/reliability"
)

// measure is one of what must not grow. Each may by a tenth, or by allowed where that is more: connections come and go, and so
// does garbage.
type measure struct {
	what, metric  string
	unit, allowed float64
}

func measures() []measure {
	const mebibyte = 1 << 20
	return []measure{
		{"goroutines", "go_goroutines", 1, 16},
		{"file descriptors", "process_open_fds", 1, 16},
		{"heap in use, MiB", "go_memstats_heap_inuse_bytes", mebibyte, 4},
		{"resident memory, MiB", "process_resident_memory_bytes", mebibyte, 8},
	}
}

// sample is what each replica has of each measure at one time.
type sample [3][4]float64

// watch is one of all replicas, which goes on until its end.
type watch struct {
	stop    context.CancelFunc
	running sync.WaitGroup
	samples []sample
}

// watch begins to look at each replica, a few hundred times in all and once a second at most.
func (e *environment) watch(t *testing.T) *watch {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := &watch{stop: stop}
	every := max(time.Second, *soak/300)
	w.running.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			now, err := e.sample(ctx)
			if err == nil {
				w.samples = append(w.samples, now)
			} else if ctx.Err() == nil {
				t.Errorf("a replica does not tell: %v", err)
			}
		}
	})
	t.Cleanup(func() { w.end() })
	return w
}

func (w *watch) end() []sample {
	w.stop()
	w.running.Wait()
	return w.samples
}

func (e *environment) sample(ctx context.Context) (now sample, err error) {
	for i, r := range e.replicas {
		for j, m := range measures() {
			value, err := r.Metric(ctx, m.metric, nil)
			if err != nil {
				return now, fmt.Errorf("replica %d: %w", i, err)
			}
			now[i][j] = value / m.unit
		}
	}
	return now, nil
}

// judge leaves out the first quarter, in which a replica warms up, and compares the median of the last third of what is left
// with that of the first.
func judge(t *testing.T, samples []sample) (soak reliability.Soak) {
	t.Helper()
	soak.Samples = len(samples)
	samples = samples[len(samples)/4:]
	third := len(samples) / 3
	if third < 3 {
		t.Fatalf("there are only %d samples: soak for longer", soak.Samples)
	}
	for j, m := range measures() {
		grown := reliability.Measure{What: m.what, Allowed: m.allowed}
		for i := range 3 {
			first, last := median(samples[:third], i, j), median(samples[len(samples)-third:], i, j)
			grown.Replicas = append(grown.Replicas, reliability.Change{First: first, Last: last})
			if last > first+max(first/10, m.allowed) {
				t.Errorf("replica %d: %s have grown from %g to %g", i, m.what, first, last)
			}
		}
		soak.Measures = append(soak.Measures, grown)
	}
	return soak
}

func median(samples []sample, replica, measure int) float64 {
	var values []float64
	for i := range samples {
		values = append(values, samples[i][replica][measure])
	}
	slices.Sort(values)
	return values[len(values)/2]
}
