package attack

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lightstep-injector/lightstep-injector/e2e/node"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	// mostMemory is what a replica may take, limit is what the chart gives it: what takes more is killed.
	mostMemory = 230 << 20
	limit      = 256 << 20
	// sample is how often memory is read, probe how often readiness is.
	sample = 100 * time.Millisecond
	probe  = 250 * time.Millisecond
	// failures is how many probes in a row a kubelet takes for one that failed.
	failures = 3
)

// watch is what becomes of the replicas meanwhile.
type watch struct {
	e       *environment
	stop    context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	peak  int
	kills int
	// failing is how many probes of a replica have failed in a row since it was ready, unready the first error of one too many.
	failing map[string]int
	unready error
	logged  int64
}

// watch begins to watch them.
func (e *environment) watch(t *testing.T) *watch {
	t.Helper()
	for _, r := range e.node.Replicas() {
		// Has the kernel forget the most memory that there was. Where it may not, the peak is that of earlier rows, too.
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", r.PID), []byte("5"), 0)
	}
	ctx, stop := context.WithCancel(t.Context())
	w := &watch{e: e, stop: stop, failing: map[string]int{}, logged: e.logSize(t)}
	w.running.Go(func() { again(ctx, sample, w.memory) })
	w.running.Go(func() { again(ctx, probe, func() { w.readiness(ctx) }) })
	return w
}

func again(ctx context.Context, every time.Duration, do func()) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for ctx.Err() == nil {
		do()
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// end stops it.
func (w *watch) end(t *testing.T) {
	t.Helper()
	w.memory()
	w.stop()
	w.running.Wait()
	w.logged = w.e.logSize(t) - w.logged
}

// memory reads what each replica has in RAM, and had at most, and kills it where that is too much.
func (w *watch) memory() {
	for _, r := range w.e.node.Replicas() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.PID))
		if err != nil {
			continue // it has ended
		}
		now, most := kilobytes(status, "VmRSS:"), kilobytes(status, "VmHWM:")
		w.mu.Lock()
		w.peak = max(w.peak, now, most)
		if now > limit || most > limit {
			w.kills++
			_ = syscall.Kill(r.PID, syscall.SIGKILL)
		}
		w.mu.Unlock()
	}
}

func kilobytes(status []byte, field string) (size int) {
	_, rest, _ := bytes.Cut(status, []byte(field))
	_, _ = fmt.Sscan(string(rest), &size) // a process that ends has no memory
	return size << 10
}

// readiness asks each replica as a kubelet does.
func (w *watch) readiness(ctx context.Context) {
	for _, r := range w.e.node.Replicas() {
		if _, leaving := w.e.leaving.Load(r.Pod); leaving {
			continue
		}
		err := ready(ctx, r)
		w.mu.Lock()
		switch {
		case ctx.Err() != nil:
		case err == nil:
			w.failing[r.Pod] = 0
		default:
			failing, known := w.failing[r.Pod]
			if known {
				w.failing[r.Pod] = failing + 1
			}
			if failing+1 == failures && w.unready == nil {
				w.unready = fmt.Errorf("%s: %w", r.Pod, err)
			}
		}
		w.mu.Unlock()
	}
}

// healthPort and the others are the chart's.
const webhookPort, metricsPort, healthPort = "10250", "8080", "8081"

func ready(ctx context.Context, r node.Replica) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	response, err := get(ctx, "http://"+net.JoinHostPort(r.Address, healthPort)+"/readyz")
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /readyz: %s", response.Status)
	}
	return nil
}

// logSize is how much all replicas have logged.
func (e *environment) logSize(t *testing.T) (size int64) {
	t.Helper()
	files, err := e.node.Logs()
	stage.Check(t, err)
	for _, file := range files {
		info, err := os.Stat(file)
		stage.Check(t, err)
		size += info.Size()
	}
	return size
}

// outcome is what became of pods and replicas during an attack.
type outcome struct {
	kept, new tally
	slowest   time.Duration
	peak      int
	kills     int
	unready   error
	logged    int64
}

// during attacks, and returns what became of pods and replicas until attack has returned. The pods are created once ramp, where there
// is one, has returned.
func (e *environment) during(t *testing.T, ramp, attack func()) outcome {
	t.Helper()
	w := e.watch(t)
	if ramp != nil {
		ramp()
	}
	v := e.begin(t.Context())
	attack()
	stage.Check(t, v.end())
	w.end(t)
	return outcome{v.kept, v.new, v.slowest, w.peak, w.kills, w.unready, w.logged}
}

// holds sees that at least 99 % of pods were injected, and that the replicas kept within their memory, and ready.
func (o *outcome) holds(t *testing.T) {
	t.Helper()
	if !o.kept.held() || !o.new.held() {
		t.Errorf("%s pods were injected on kept connections, and %s on new ones", o.kept, o.new)
	}
	o.lives(t)
}

// lives sees that the replicas kept within their memory, and ready.
func (o *outcome) lives(t *testing.T) {
	t.Helper()
	if o.peak > mostMemory || o.kills > 0 {
		t.Errorf("a replica took %d MiB; %d were killed", o.peak>>20, o.kills)
	}
	if o.unready != nil {
		t.Errorf("a replica was not ready: %v", o.unready)
	}
}

// String is for the page.
func (o *outcome) String() string {
	text := fmt.Sprintf("%s pods injected on kept connections, %s on new ones; %d MiB", o.kept, o.new, o.peak>>20)
	if o.kills > 0 {
		text += fmt.Sprintf("; %d kills", o.kills)
	}
	return text
}
