package certificate

import (
	"flag"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/load"
	"github.com/lightstep-injector/lightstep-injector/e2e/reliability"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

var (
	rotations = flag.Int("rotations", 5, "how many rotations at least; each is one of the webhook CA and of the certificate")
	pods      = flag.Int("pods", 1000, "how many pods are created at least while it is rotated")
	soak      = flag.Duration("soak", 2*time.Minute, "how long it is rotated at least, and the replicas are looked at")
	rollOuts  = flag.Int("roll-outs", 1, "how many roll-outs, each of all replicas")
	crashes   = flag.Int("crashes", 1, "how many times the leader is killed in a rotation")
	kills     = flag.Int("kills", 5, "how many times any replica is killed")
	page      = flag.String("page", "", "the Markdown `FILE` that takes the figures")
)

func TestCertificate(t *testing.T) {
	run, err := reliability.Begin(t.Context(), root)
	stage.Check(t, err)
	e := setUp(t)
	e.figures = run
	for _, part := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"FreshInstall", e.freshInstall},
		{"Propagation", e.propagate},
		{"Rotations", e.rotate},
		{"RollOuts", e.rollOutAll},
		{"LeaseLost", e.loseLease},
		{"LeaderKilled", e.killLeader},
		{"Killed", e.killAny},
		{"Missed", e.nameMissed},
	} {
		if !t.Run(part.name, part.run) {
			t.Fatal("the parts that follow were not run")
		}
	}
	run.End()
	text, err := run.Markdown()
	stage.Check(t, err)
	t.Logf("\n%s", text)
	if *page != "" {
		stage.Check(t, run.Write(*page))
	}
}

// freshInstall has nothing but what the chart and its webhook configuration bring. The first pod after a replica has become
// ready is injected.
func (e *environment) freshInstall(t *testing.T) {
	stage.Check(t, load.Labelled(t.Context(), e.admin, "first"))
	started := make(chan error)
	for range 3 {
		r := e.newReplica(t)
		e.replicas = append(e.replicas, r)
		go func() { started <- r.Start(t.Context()) }()
	}
	for range e.replicas {
		stage.Check(t, <-started)
	}
	for _, r := range e.replicas {
		e.awaitRouted(t, r)
	}
	made, err := e.admin.CoreV1().Pods("first").Create(t.Context(), load.Pod(0), metav1.CreateOptions{})
	stage.Check(t, err)
	if !load.Injected(made) {
		t.Errorf("the first pod was missed: %v", made.Labels)
	}
	for i, r := range e.replicas {
		left, err := r.Metric(t.Context(), "lightstep_injector_webhook_certificate_expiry_seconds", nil)
		stage.Check(t, err)
		if year := (365 * 24 * time.Hour).Seconds(); left > year || left < year-600 {
			t.Errorf("replica %d: the certificate expires in %g s, not in a year", i, left)
		}
	}
}

// rotate rotates while pods are created, evenly over the time: no call fails, no pod is missed, and no replica grows.
func (e *environment) rotate(t *testing.T) {
	watched, shaken := e.watch(t), e.shakeHands(t)
	l := e.begin(t, "rotated")
	pace := time.NewTicker(max(*soak/time.Duration(*rotations), time.Millisecond))
	defer pace.Stop()
	done := 0
	for end := time.Now().Add(*soak); done < *rotations || l.Requested() < *pods || time.Now().Before(end); done++ {
		e.rotateOnce(t, func(string) {})
		<-pace.C
	}
	samples := watched.end()
	e.figures.Handshakes = shaken.end(t)
	e.none(t, l.end(t, "rotations of the webhook CA and the certificate", done))
	e.figures.Soak = judge(t, samples)
}

// rollOutAll rolls out new replicas, as a Deployment does: one more comes before an old one goes. No call fails, and what was
// under way when a replica was told to stop is answered.
func (e *environment) rollOutAll(t *testing.T) {
	l := e.begin(t, "rolled-out")
	for range *rollOuts {
		e.rollOut(t, e.answered)
	}
	e.none(t, l.end(t, fmt.Sprintf("roll-outs of all %d replicas (SIGTERM, drained)", len(e.replicas)), *rollOuts))
	e.figures.Held = int(e.held.Load())
}

// loseLease gives the leader's lease to somebody who is not there. Nobody leads until it has run out; no process ends, and none
// stops serving.
func (e *environment) loseLease(t *testing.T) {
	l := e.begin(t, "lease-lost")
	leader, processes := e.leader(t), e.processes()
	e.takeLease(t)
	e.awaitLog(t, leader, "certificate: no longer leading")
	e.rotateOnce(t, func(string) {}) // by whoever leads next
	if now := e.processes(); now != processes {
		t.Errorf("processes have ended: they were %v, and are %v", processes, now)
	}
	e.none(t, l.end(t, "losses of the lease", 1))
}
