package attack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/node"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

func tenantRows() []row {
	return []row{
		{"400 pending pods with 250 KiB of annotations", "leader 40 → 340 MiB; with two replicas 9 kills in 4 min; 97 of 240 pods of another namespace missed", pendingPods},
		// Before there are many namespaces, since status goes through all that are labelled.
		{"Owners, annotations and paths with shell commands, escapes and line feeds", "`status` prints the tenant's commands to paste; escapes and forged lines in `explain`; a GET of a path of the tenant's choice", printed},
		{"200 Telemetries of 1 MB in a namespace that is not labelled", "every replica killed 9 s after each start", written{telemetries(), plain, 200, 200, true}.run},
		{"200 Telemetries of 1 MB in a labelled namespace", "-", written{telemetries(), tenant, 200, 50, false}.run},
		{"900 ServiceEntries of 1 MB with the injector's labels", "every replica killed 9 s after each start", written{serviceEntries(), tenant, 900, 50, false}.run},
		{"200 DestinationRules of 1 MB with the injector's labels", "-", written{destinationRules(), tenant, 200, 50, false}.run},
		{"200 Secrets of 1 MB with the satellite CA's name", "-", written{secrets(), "", 200, 50, false}.run},
		{"200 labelled namespaces with 250 KiB of annotations", "-", written{namespaces(), "", 200, 50, false}.run},
		{"200 ConfigMaps of 1 MB", "-", written{configMaps(), tenant, 200, 50, false}.run},
		{"200 ReplicaSets of 1 MB", "-", written{replicaSets(), tenant, 200, 50, true}.run},
		{"4,000 changes of Telemetries", "a core per replica", changes},
	}
}

// pendingPods is the attack by pods. What is said of other namespaces stays right.
func pendingPods(t *testing.T, e *environment) string {
	const count = 400
	e.recovers(t)
	e.Namespace(t, crowd, nil, nil)
	e.awaitAccount(t, crowd)
	o := e.during(t, nil, func() {
		e.write(t, pods(), crowd, "pending", count, annotations)
		e.label(t, crowd) // so that none of them was injected
		wait(t, sized(5*time.Second, 4*time.Minute))
	})
	o.holds(t)
	e.gauge(t)
	said, size := e.status(t, "-n", missed)
	if !strings.Contains(said, "missed") || !strings.Contains(said, "nothing makes it anew") && !strings.Contains(said, "create it again") {
		t.Errorf("status says of the other namespace:\n%s", said)
	}
	_, all := e.status(t)
	e.clear(t, pods(), crowd, "pending", count)
	return fmt.Sprintf("%v; status takes %d MiB, with the tenant's namespace %d MiB", &o, size>>20, all>>20)
}

func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// gauge waits until the leader says of the other namespace that one pod was missed.
func (e *environment) gauge(t *testing.T) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		for _, r := range e.node.Replicas() {
			text, err := metrics(ctx, r)
			if err != nil {
				return err
			}
			if strings.Contains(text, `lightstep_injector_missed_pods{namespace="`+missed+`"} 1`) {
				return nil
			}
		}
		return errors.New("no replica says that a pod was missed")
	})
}

// status runs it as an administrator, and returns what it prints, and the memory that it took. It ends with 1 where pods were missed.
func (e *environment) status(t *testing.T, args ...string) (said string, memory int) {
	t.Helper()
	var output bytes.Buffer
	cmd := e.command(t, append([]string{"status"}, args...)...)
	cmd.Stdout, cmd.Stderr = &output, &output
	stage.Check(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	look := time.NewTicker(5 * time.Millisecond) // the usage that a process leaves behind also counts what the test had when it started it
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
				t.Fatal(err)
			}
			return output.String(), memory
		case <-look.C:
			if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)); err == nil {
				memory = max(memory, kilobytes(status, "VmHWM:"))
			}
		}
	}
}

// command is the program, run as an administrator.
func (e *environment) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.Program, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.Cluster.Kubeconfig)
	return cmd
}

// written is an attack by objects of a kind.
type written struct {
	kind      kind
	namespace string
	// count and short are how many, in either form.
	count, short int
	// starts has a replica start meanwhile, in the short form, too.
	starts bool
}

// run writes them, and has a replica start while they are there. In the short form there are fewer; they stay for the rows that
// follow, so that one start sees those of several.
func (w written) run(t *testing.T, e *environment) string {
	e.recovers(t)
	count, prefix := sized(w.short, w.count), "w"+kindPrefix(w.kind)
	var started time.Duration
	o := e.during(t, nil, func() {
		e.write(t, w.kind, w.namespace, prefix, count, large)
		if w.starts || *full {
			started = e.restart(t)
		}
		wait(t, sized(time.Second, 10*time.Second))
	})
	o.holds(t)
	if *full {
		e.clear(t, w.kind, w.namespace, prefix, count)
		stage.Check(t, e.Cluster.Compact(t.Context()))
	}
	text := o.String()
	if started > 0 {
		text += fmt.Sprintf("; a replica was ready %.0f s after its start", started.Seconds())
	}
	return text
}

// kindPrefix tells the names of one kind from another's.
func kindPrefix(k kind) string { return k.path[strings.LastIndexByte(k.path, '/')+1:][:3] }

// restart deletes a replica, and returns how long it took until the one in its place was ready.
func (e *environment) restart(t *testing.T) time.Duration {
	t.Helper()
	before := e.node.Replicas()
	start := time.Now()
	e.leaving.Store(before[0].Pod, true)
	stage.Check(t, e.Client.CoreV1().Pods(own).Delete(t.Context(), before[0].Pod, metav1.DeleteOptions{}))
	stage.Eventually(t, func(ctx context.Context) error {
		for _, r := range e.node.Replicas() {
			known := slices.ContainsFunc(before, func(b node.Replica) bool { return b.Pod == r.Pod })
			if !known && ready(ctx, r) == nil {
				return nil
			}
		}
		return errors.New("no new replica is ready")
	})
	return time.Since(start)
}

// staying are the replicas but those that were told to stop, which may end at any time.
func (e *environment) staying() []node.Replica {
	return slices.DeleteFunc(slices.Clone(e.node.Replicas()), func(r node.Replica) bool {
		_, leaving := e.leaving.Load(r.Pod)
		return leaving
	})
}

// changes has a Telemetry change all the time.
func changes(t *testing.T, e *environment) string {
	e.recovers(t)
	there, count := sized(300, 2000), sized(400, 4000)
	e.write(t, telemetries(), tenant, "changing", there, small)
	var used, took time.Duration
	o := e.during(t, nil, func() {
		replicas := e.staying()
		before, start := cpu(t, replicas), time.Now()
		for n := range count {
			patch := fmt.Sprintf(`{"spec":{"tracing":[{"randomSamplingPercentage":%d}]}}`, n%100)
			err := e.Client.RESTClient().Patch("application/merge-patch+json").AbsPath(fmt.Sprintf(telemetries().path, tenant), fmt.Sprintf("changing-%d", n%there)).
				Body([]byte(patch)).Do(t.Context()).Error()
			stage.Check(t, err)
		}
		used, took = (cpu(t, replicas)-before)/time.Duration(len(replicas)), time.Since(start)
	})
	o.holds(t)
	each := used / time.Duration(count)
	if most := 2 * time.Millisecond; each > most {
		t.Errorf("a change cost a replica %v of a core", each)
	}
	return fmt.Sprintf("%v; %d changes in %.0f s cost a replica %.1f ms each", &o, count, took.Seconds(), float64(each.Microseconds())/1000)
}

// cpu is the time that these replicas have spent on processors.
func cpu(t *testing.T, replicas []node.Replica) (all time.Duration) {
	t.Helper()
	for _, r := range replicas {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.PID))
		stage.Check(t, err)
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		var user, system int
		_, err = fmt.Sscan(fields[11]+" "+fields[12], &user, &system) // utime and stime of proc_pid_stat(5)
		stage.Check(t, err)
		all += time.Duration(user+system) * 10 * time.Millisecond // in ticks of which there are 100 a second
	}
	return all
}

// metricsURL is where a replica's metrics are.
func metricsURL(r node.Replica) string {
	return "http://" + net.JoinHostPort(r.Address, metricsPort) + "/metrics"
}
