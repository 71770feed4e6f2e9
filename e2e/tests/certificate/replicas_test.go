package certificate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/lightstep-injector/lightstep-injector/e2e/balancer"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// replica is one that connections are given to.
type replica struct {
	*injector.Injector
	route *balancer.Replica
}

// newReplica makes one; it is told to start later.
func (e *environment) newReplica(t *testing.T) *replica {
	t.Helper()
	e.made++
	made, err := injector.NewUncalled(e.cluster, e.run, injector.Options{
		Binary: e.binary, Config: configuration, Kubeconfig: e.account, Name: fmt.Sprintf("replica-%d", e.made), Certificate: true,
		Flags: []string{"--self-signed", "--propagation-time", e.propagation.String()},
	})
	stage.Check(t, err)
	r := &replica{made, &balancer.Replica{Address: made.Address(), Ready: func() bool { return made.Ready(context.Background()) == nil }}}
	e.balancer.Add(r.route)
	return r
}

// rollOut replaces every replica, as a Deployment with maxUnavailable 0 and maxSurge 1 does: a new one is routed to before an
// old one is told to stop, and that one's end is not waited for. leaving is told of each old one, and has it stop.
func (e *environment) rollOut(t *testing.T, leaving func(*replica) error) {
	t.Helper()
	gone := make(chan error)
	for i, old := range e.replicas {
		e.replicas[i] = e.newReplica(t)
		stage.Check(t, e.replicas[i].Start(t.Context()))
		e.awaitRouted(t, e.replicas[i])
		go func() {
			err := leaving(old)
			e.balancer.Remove(old.route)
			gone <- err
		}()
	}
	for range e.replicas {
		if err := <-gone; err != nil {
			t.Error(err)
		}
	}
}

// awaitRouted waits until connections are given to a replica.
func (e *environment) awaitRouted(t *testing.T, r *replica) {
	t.Helper()
	e.await(t, r, true)
}

// awaitDropped waits until they no longer are.
func (e *environment) awaitDropped(t *testing.T, r *replica) {
	t.Helper()
	e.await(t, r, false)
}

func (e *environment) await(t *testing.T, r *replica, want bool) {
	t.Helper()
	stage.Eventually(t, func(context.Context) error {
		if e.balancer.Routes(r.route) != want {
			return errors.New("the balancer does not know yet")
		}
		return nil
	})
}

// leader is the replica that has last said that it leads.
func (e *environment) leader(t *testing.T) *replica {
	t.Helper()
	var leader *replica
	var since string
	for _, r := range e.replicas {
		log, err := os.ReadFile(r.LogFile())
		stage.Check(t, err)
		for line := range bytes.Lines(log) {
			if _, after, ok := bytes.Cut(line, []byte(`"ts":"`)); ok && bytes.Contains(line, []byte(`"certificate: leading"`)) && string(after[:30]) > since {
				leader, since = r, string(after[:30])
			}
		}
	}
	if leader == nil {
		t.Fatal("nobody leads")
	}
	return leader
}

// awaitLog waits until a replica says something.
func (e *environment) awaitLog(t *testing.T, r *replica, want string) {
	t.Helper()
	stage.Eventually(t, func(context.Context) error {
		log, err := os.ReadFile(r.LogFile())
		if err == nil && !strings.Contains(string(log), want) {
			err = fmt.Errorf("it has not said %q", want)
		}
		return err
	})
}

// processes are the replicas', by number; 0 is one that is not ready.
func (e *environment) processes() (numbers [3]int) {
	for i, r := range e.replicas {
		if r.Ready(context.Background()) == nil {
			numbers[i] = r.PID()
		}
	}
	return numbers
}
