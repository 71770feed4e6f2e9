package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/lightstep-injector/lightstep-injector/e2e/process"
)

// RestartAPIServer kills the API server, and has the very same command run again: its data are etcd's, its certificates are
// where they were. It returns once it answers. envtest would make other certificates, which nobody knows.
func (c *Cluster) RestartAPIServer(ctx context.Context, run *Run) error {
	pid, command, err := findProcess(filepath.Join(run.Dir, "bin", "kube-apiserver"))
	if err != nil {
		return fmt.Errorf("restart the API server: %w", err)
	}
	if err := end(ctx, pid); err != nil {
		return fmt.Errorf("restart the API server: %w", err)
	}
	again, err := process.Start(process.Spec{Name: "kube-apiserver", Path: command[0], Args: command[1:], Log: run.Log("kube-apiserver")})
	if err != nil {
		return fmt.Errorf("restart the API server: %w", err)
	}
	c.components = append(c.components, again)
	return c.waitUntilUsable(ctx)
}

// findProcess finds the process whose command is this path.
func findProcess(path string) (pid int, command []string, err error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		command := strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
		found, _ := filepath.Abs(command[0])
		if want, _ := filepath.Abs(path); found == want {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			return pid, command, err
		}
	}
	return 0, nil, fmt.Errorf("there is no process %s", path)
}

// end ends a process, and returns once it has. A SIGTERM would take a minute, in which the API server waits for its clients.
func end(ctx context.Context, pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	return wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, startTimeout, true, func(context.Context) (bool, error) {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH), nil // its parent, which is envtest, has waited for it
	})
}
