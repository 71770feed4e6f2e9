// Command controlplane is etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl and kwok in one
// binary. The component is chosen by the name that it is called under or by the first argument:
//
//	controlplane kubectl version
//	ln -s controlplane kube-apiserver && ./kube-apiserver --help
//
// One binary, since the components share most of their packages: it links once and takes a third of the space.
// Each component still runs as a process of its own.
//
// With CONTROLPLANE_PARENT set to the pid of the process that starts it, a component ends as soon as that process has
// gone, however it went: a killed test leaves nothing running.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// component runs one part of the control plane with the arguments that follow its name, and returns its exit code.
type component struct {
	name string
	run  func(args []string) int
}

func components() []component {
	return []component{
		{"etcd", runEtcd},
		{"kube-apiserver", runAPIServer},
		{"kube-controller-manager", runControllerManager},
		{"kube-scheduler", runScheduler},
		{"kubectl", runKubectl},
		{"kwok", runKwok},
		{"kwok-stages", func([]string) int { return printStages(os.Stdout) }},
	}
}

// parentVariable names the environment variable that ties a component to the process that started it.
const parentVariable = "CONTROLPLANE_PARENT"

func main() {
	if parent, err := strconv.Atoi(os.Getenv(parentVariable)); err == nil {
		go func() {
			waitForOrphan(parent)
			os.Exit(1) // nobody is left to ask for a clean end
		}()
	}
	os.Exit(run(os.Args, os.Stderr))
}

// waitForOrphan returns once this process is no longer a child of parent: the kernel then gives it another one.
func waitForOrphan(parent int) {
	for os.Getppid() == parent {
		time.Sleep(200 * time.Millisecond)
	}
}

func run(args []string, stderr io.Writer) int {
	args[0] = filepath.Base(args[0])
	all := components()
	if !known(all, args[0]) && len(args) > 1 {
		args = args[1:]
	}
	for _, c := range all {
		if c.name == args[0] {
			// The components read os.Args themselves: cobra for its arguments, etcd for everything.
			os.Args = args
			return c.run(args)
		}
	}
	_, _ = fmt.Fprintf(stderr, "controlplane: no component %q; one of: %s\n", args[0], names(all))
	return 2
}

func known(all []component, name string) bool {
	return slices.ContainsFunc(all, func(c component) bool { return c.name == name })
}

func names(all []component) string {
	list := make([]string, len(all))
	for i, c := range all {
		list[i] = c.name
	}
	return strings.Join(list, ", ")
}
