package cluster_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
)

// crashVariable makes the test binary play the process that starts a cluster and is then killed.
const crashVariable = "CLUSTER_TEST_CRASH"

const root = "../.."

func TestMain(m *testing.M) {
	if os.Getenv(crashVariable) != "" {
		os.Exit(startAndHang())
	}
	os.Exit(m.Run())
}

func TestPodsRunAndNothingIsLeft(t *testing.T) {
	run, c := start(t)
	createDeployment(t, c)
	eventually(t, func() error {
		d, err := c.Client.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil || d.Status.AvailableReplicas != 3 {
			return errors.Join(err, fmt.Errorf("%d of 3 replicas available", d.Status.AvailableReplicas))
		}
		return nil
	})
	nodesAreKeptReady(t, c)
	if len(processesOf(t, run.Dir)) == 0 {
		t.Fatal("found no process of a running cluster: this test could not see one that is left")
	}

	if err := errors.Join(c.Stop(), run.Remove()); err != nil {
		t.Fatal(err)
	}
	if left := processesOf(t, run.Dir); len(left) > 0 {
		t.Errorf("left running:\n%s", strings.Join(left, "\n"))
	}
	if _, err := os.Stat(run.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %s", run.Dir)
	}
}

// nodesAreKeptReady sees that each node's lease is renewed: where it is not, the controller manager takes the node for dead after 50 s,
// and its pods are not ready any more, for good.
func nodesAreKeptReady(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	nodes, err := c.Client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	for _, node := range nodes.Items {
		eventually(t, func() error {
			lease, err := c.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(t.Context(), node.Name, metav1.GetOptions{})
			if err == nil && lease.Spec.RenewTime.Time.Before(since) {
				err = fmt.Errorf("the lease of %s has not been renewed since %v", node.Name, lease.Spec.RenewTime)
			}
			return err
		})
	}
}

// Two claims are never of one address.
func TestClaimServiceIP(t *testing.T) {
	var claims [2]*cluster.ServiceIP
	for n := range claims {
		claim, err := cluster.ClaimServiceIP()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = claim.Close() })
		claims[n] = claim
	}
	if claims[0].Address == claims[1].Address {
		t.Errorf("%s was claimed twice", claims[0].Address)
	}
}

func TestKilledParentLeavesNothing(t *testing.T) {
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), crashVariable+"=1")
	output, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line := bufio.NewScanner(output)
	if !line.Scan() {
		t.Fatal("the parent ended before its cluster was up")
	}
	dir := line.Text()
	if len(processesOf(t, dir)) == 0 {
		t.Fatalf("no process belongs to %s", dir)
	}

	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // says that it was killed
	eventually(t, func() error {
		if left := processesOf(t, dir); len(left) > 0 {
			return fmt.Errorf("left running:\n%s", strings.Join(left, "\n"))
		}
		return nil
	})

	next, err := cluster.NewRun(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = next.Remove() })
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the next run left the killed one's folder: %s", dir)
	}
}

// startAndHang starts a cluster, prints its folder, and waits to be killed.
func startAndHang() int {
	ctx := context.Background()
	binary, err := cluster.Build(ctx, root, func(int, int) {})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	run, err := cluster.NewRun(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if _, err := cluster.Start(ctx, binary, run); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(run.Dir)
	select {}
}

func start(t *testing.T) (*cluster.Run, *cluster.Cluster) {
	t.Helper()
	binary, err := cluster.Build(t.Context(), root, func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	run, err := cluster.NewRun(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Remove() })
	c, err := cluster.Start(t.Context(), binary, run)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop() })
	return run, c
}

func createDeployment(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	labels, replicas := map[string]string{"app": "web"}, int32(3)
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "example.com/web:1"}}},
			},
		},
	}
	if _, err := c.Client.AppsV1().Deployments("default").Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// processesOf returns the command lines that name the folder dir.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		t.Skip("needs /proc to see processes")
	}
	var found []string
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(line), dir) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// eventually waits until check returns nil.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	last := errors.New("never checked")
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		last = check()
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%v: %v", err, last)
	}
}
