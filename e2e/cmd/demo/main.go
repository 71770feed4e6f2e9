// Command demo shows lightstep-injector at work: it brings up a real Kubernetes control plane on this machine, runs the
// injector in front of it, creates Istio's Bookinfo in three namespaces, and shows what became of each pod. It ends 0
// only if the cluster shows what it should.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.StringVar(&o.root, "root", ".", "the repository's root")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "use the cluster of this file instead of starting one; what the demo makes there it removes again")
	flags.StringVar(&o.webhookHost, "webhook-host", "", "name or address under which that cluster's API server reaches this machine; needed with --kubeconfig")
	flags.BoolVar(&o.keep, "keep", false, "leave everything up until Ctrl-C")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if err := o.check(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "demo:", err)
		return 2
	}
	err := demonstrate(ctx, o)
	if ctx.Err() != nil && !o.keep {
		_, _ = fmt.Fprintln(os.Stderr, "\ndemo: interrupted; all is taken down")
		return 1
	}
	if err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		return 1
	}
	return 0
}
