package certificate

import (
	"testing"
	"time"

	"github.com/lightstep-injector/lightstep-injector/e2e/load"
)

// webhook is the name under which the API server counts the calls.
const webhook = "inject.lightstep.com"

// startLoad has several clients create pods, each as fast as it goes with a little rest: this machine has other things to do.
func (e *environment) startLoad(t *testing.T, name string) *load.Load {
	t.Helper()
	l := load.Start(t.Context(), load.Options{Client: e.admin, Name: name, Workers: 4, Every: 20 * time.Millisecond, PerNamespace: 50})
	t.Cleanup(func() { _, _ = l.End() }) // where the test has failed before it did
	return l
}

// end stops a load. Whatever became of the webhook's calls, every pod was created.
func end(t *testing.T, l *load.Load) load.Count {
	t.Helper()
	count, err := l.End()
	check(t, err)
	if count.Requested == 0 || count.Created != count.Requested {
		t.Errorf("%d pods were requested, and %d created: %v", count.Requested, count.Created, count.Refusal)
	}
	return count
}

func (e *environment) calls(t *testing.T) load.Calls {
	t.Helper()
	calls, err := load.CallsOf(t.Context(), e.admin, webhook)
	check(t, err)
	return calls
}
