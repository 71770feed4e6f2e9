package certmanager

import (
	"strconv"
	"testing"
	"time"

	"github.com/lightstep-injector/lightstep-injector/e2e/load"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// webhook is the name under which the API server counts the calls.
const webhook = "inject.lightstep.com"

// loss is what was lost while something was done.
type loss struct {
	// failed is how many calls failed. gaps is how often the caBundle did not verify the certificate, and long for how long in all.
	failed, gaps int
	long         time.Duration
}

// nothingLost creates pods all the time while something is done: none is missed, no call fails, and the caBundle verifies the
// certificate all along.
func (e *environment) nothingLost(t *testing.T, done func()) {
	t.Helper()
	if lost := e.during(t, done); lost != (loss{}) {
		t.Errorf("%d calls failed; %d times, for %s in all, the caBundle did not verify the certificate", lost.failed, lost.gaps, lost.long)
	}
}

// during creates pods all the time while something is done. Every one is created, and missed only where a call failed.
func (e *environment) during(t *testing.T, done func()) loss {
	t.Helper()
	e.loads++
	before, written := e.calls(t), e.follow(t)
	pods := load.Start(t.Context(), load.Options{
		Client: e.Client, Name: "load-" + strconv.Itoa(e.loads), Workers: 4, Every: 20 * time.Millisecond, PerNamespace: 50,
	})
	t.Cleanup(func() { _, _ = pods.End() }) // where the test has failed before it did
	done()
	count, err := pods.End()
	stage.Check(t, err)
	calls := e.calls(t).Since(before)
	if count.Requested == 0 || count.Created != count.Requested {
		t.Errorf("%d pods were requested, and %d created: %v", count.Requested, count.Created, count.Refusal)
	}
	if calls.All < count.Created {
		t.Errorf("%d calls for %d pods: the API server's counters are not what they were taken for", calls.All, count.Created)
	}
	if len(count.Missed) != calls.Failed {
		t.Errorf("%d pods were missed, and %d calls failed", len(count.Missed), calls.Failed)
	}
	lost := loss{failed: calls.Failed}
	lost.gaps, lost.long = e.gaps(t, written)
	t.Logf("%d pods, %d calls, %d of them failed; not trusted %d times, for %s in all", count.Created, calls.All, lost.failed, lost.gaps, lost.long)
	return lost
}

func (e *environment) calls(t *testing.T) load.Calls {
	t.Helper()
	calls, err := load.CallsOf(t.Context(), e.Client, webhook)
	stage.Check(t, err)
	return calls
}
