package certificate

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lightstep-injector/lightstep-injector/e2e/load"
	"github.com/lightstep-injector/lightstep-injector/e2e/reliability"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// webhook is the name under which the API server counts the calls.
const webhook = "inject.lightstep.com"

// part is one of the test's, in which pods are created all the time.
type part struct {
	*load.Load
	*environment
	before load.Calls
	began  time.Time
}

// begin has several clients create pods, each as fast as it goes with a little rest: this machine has other things to do.
func (e *environment) begin(t *testing.T, name string) *part {
	t.Helper()
	p := &part{environment: e, before: e.calls(t), began: time.Now()}
	p.Load = load.Start(t.Context(), load.Options{Client: e.admin, Name: name, Workers: 4, Every: 20 * time.Millisecond, PerNamespace: 100})
	t.Cleanup(func() { _, _ = p.End() }) // where the test has failed before it did
	return p
}

// end stops creating pods, and notes what became of them. Whatever became of the webhook's calls, every pod was created.
func (p *part) end(t *testing.T, what string, times int) reliability.Part {
	t.Helper()
	took := time.Since(p.began)
	count, err := p.End()
	stage.Check(t, err)
	done := reliability.Part{What: what, Times: times, Took: took, Pods: count, Calls: p.calls(t).Since(p.before)}
	if times > 0 && count.Requested == 0 || count.Created != count.Requested {
		t.Errorf("%d pods were requested, and %d created: %v", count.Requested, count.Created, count.Refusal)
	}
	if done.Calls.All != count.Created {
		t.Errorf("%d calls for %d pods: the API server's counters are not what they were taken for", done.Calls.All, count.Created)
	}
	if len(count.Missed) != done.Calls.Failed {
		t.Errorf("%d pods were missed, and %d calls failed", len(count.Missed), done.Calls.Failed)
	}
	p.missed = append(p.missed, count.Missed...)
	p.figures.Parts = append(p.figures.Parts, done)
	t.Logf("%d %s: %d pods, %d calls, %d failed", times, what, count.Created, done.Calls.All, done.Calls.Failed)
	return done
}

// none sees that nothing failed and nothing was missed.
func (e *environment) none(t *testing.T, done reliability.Part) {
	t.Helper()
	if done.Calls.Failed != 0 || len(done.Pods.Missed) != 0 {
		t.Errorf("%s: of %d calls %d failed; of %d pods %d were missed", done.What, done.Calls.All, done.Calls.Failed, done.Pods.Created, len(done.Pods.Missed))
		t.Logf("of calls that failed, the API server said at last:\n%s", e.why(t))
	}
}

// why is what the API server has said of the last few calls that failed.
func (e *environment) why(t *testing.T) string {
	t.Helper()
	log, err := os.ReadFile(e.run.Log("kube-apiserver"))
	stage.Check(t, err)
	var said []string
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "Failed calling webhook, failing open "+webhook) {
			said = append(said, line)
		}
	}
	return strings.Join(said[max(0, len(said)-5):], "")
}

func (e *environment) calls(t *testing.T) load.Calls {
	t.Helper()
	calls, err := load.CallsOf(t.Context(), e.admin, webhook)
	stage.Check(t, err)
	return calls
}
