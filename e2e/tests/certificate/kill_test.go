package certificate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/e2e/load"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// killLeader kills the leader in the midst of a rotation. The next leader brings the rotation to its end.
func (e *environment) killLeader(t *testing.T) {
	l := e.begin(t, "leader-killed")
	points := []string{"proposed", "published", "switched"}
	for i := range *crashes {
		e.rotateOnce(t, func(now string) {
			if now == points[i%len(points)] {
				e.kill(t, e.leader(t))
			}
		})
	}
	l.end(t, "kills (SIGKILL) of the leader in the midst of a rotation", *crashes)
}

// killAny kills each replica in its turn.
func (e *environment) killAny(t *testing.T) {
	l := e.begin(t, "killed")
	for i := range *kills {
		e.kill(t, e.replicas[i%len(e.replicas)])
	}
	l.end(t, fmt.Sprintf("kills (SIGKILL) of one of %d replicas", len(e.replicas)), *kills)
}

// kill kills a replica, and starts it again, as a kubelet would. The calls that it has, or is given until its endpoint is
// dropped, fail; no other does, and the balancer has seen each of them.
func (e *environment) kill(t *testing.T, r *replica) {
	t.Helper()
	before, seen := e.calls(t), e.balancer.Lost()
	r.Kill()
	e.awaitDropped(t, r)
	dropped, lost := e.settled(t), e.balancer.Lost().Since(seen)
	stage.Check(t, r.Start(t.Context()))
	e.awaitRouted(t, r)
	e.figures.Refused += lost.Refused
	e.figures.Cut += lost.Cut
	failed := dropped.Since(before).Failed
	e.figures.MostLost = max(e.figures.MostLost, failed)
	if failed > lost.All() {
		t.Errorf("%d calls failed, but of the connections to the replica %d were refused, and %d cut with an answer owed; of calls that failed, the API server said at last:\n%s", failed, lost.Refused, lost.Cut, e.why(t))
	}
	if late := e.calls(t).Since(dropped).Failed; late != 0 {
		e.figures.Late += late
		t.Errorf("%d calls failed after the endpoint was dropped; of calls that failed, the API server said at last:\n%s", late, e.why(t))
	}
}

// settled reads the API server's counters until it has counted what had failed by now: until two readings agree.
func (e *environment) settled(t *testing.T) load.Calls {
	t.Helper()
	last := e.calls(t)
	stage.Eventually(t, func(context.Context) error {
		before := last
		if last = e.calls(t); last.Failed != before.Failed {
			return errors.New("the API server still counts")
		}
		return nil
	})
	return last
}

// nameMissed compares who was missed by the API server's list, by the gauge, and by `status`.
func (e *environment) nameMissed(t *testing.T) {
	listed := e.listMissed(t)
	slices.SortFunc(e.missed, byName)
	if !slices.Equal(listed, e.missed) {
		t.Errorf("the API server lists %v as missed, and %v were missed", listed, e.missed)
	}
	if named := e.status(t); !slices.Equal(named, listed) {
		t.Errorf("status names %v, not %v", named, listed)
	}
	stage.Eventually(t, func(ctx context.Context) error { return e.gauge(ctx, len(listed)) })
	e.figures.Missed = len(listed)
}

func byName(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) }

// listMissed lists what is in labelled namespaces and was not injected.
func (e *environment) listMissed(t *testing.T) (missed []types.NamespacedName) {
	t.Helper()
	namespaces, err := e.admin.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{LabelSelector: "lightstep.com/injection=enabled"})
	stage.Check(t, err)
	for i := range namespaces.Items {
		pods, err := e.admin.CoreV1().Pods(namespaces.Items[i].Name).List(t.Context(), metav1.ListOptions{LabelSelector: "!lightstep.com/injected"})
		stage.Check(t, err)
		for j := range pods.Items {
			missed = append(missed, types.NamespacedName{Namespace: pods.Items[j].Namespace, Name: pods.Items[j].Name})
		}
	}
	slices.SortFunc(missed, byName)
	return missed
}

// status returns whom `lightstep-injector status` names, to an administrator.
func (e *environment) status(t *testing.T) (missed []types.NamespacedName) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.binary, "status", "--config", configuration, "-o", "json")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.cluster.Kubeconfig)
	output, err := cmd.Output()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited { // it exits with 1 where pods were missed
		t.Fatal(err)
	}
	var said struct {
		Owners []struct {
			Namespace string
			Missed    []string
		}
	}
	stage.Check(t, json.Unmarshal(output, &said))
	for _, owner := range said.Owners {
		for _, pod := range owner.Missed {
			missed = append(missed, types.NamespacedName{Namespace: owner.Namespace, Name: pod})
		}
	}
	slices.SortFunc(missed, byName)
	return missed
}

// gauge sees that the replica that leads has counted so many.
func (e *environment) gauge(ctx context.Context, want int) error {
	var counted []float64
	for _, r := range e.replicas {
		if _, err := r.Metric(ctx, "lightstep_injector_missed_pods_last_look_timestamp_seconds", nil); err != nil {
			continue // it does not lead
		}
		missed, err := r.Metric(ctx, "lightstep_injector_missed_pods", nil)
		if err != nil && want == 0 {
			missed, err = 0, nil // nobody was, so there is no series
		}
		if err != nil {
			return err
		}
		counted = append(counted, missed)
	}
	if !slices.Equal(counted, []float64{float64(want)}) {
		return fmt.Errorf("the gauge says %v, not %d", counted, want)
	}
	return nil
}
