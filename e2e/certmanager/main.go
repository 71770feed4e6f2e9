// Command certmanager is cert-manager, from its own module: the controllers of certificates, with self-signed issuers and
// those of a CA, and cainjector. Its own commands are modules that are not served, so this one puts its public packages
// together as they do. The webhook that validates cert-manager's objects is internal to its module, and is not here.
//
//   - main.go: the flags, and both parts in one process;
//   - controllers.go: what issues certificates;
//   - cainjector.go: what writes a CA into webhook configurations;
//   - decode.go: nothing but its types: --decode holds manifests to them.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet("certmanager", flag.ContinueOnError) // controller-runtime has a flag of this name in the usual set
	kubeconfig := flags.String("kubeconfig", "", "of the cluster")
	decoding := flags.Bool("decode", false, "decode manifests on stdin strictly, and print what they are of cert-manager's kinds")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *decoding {
		return decode(stdin, stdout)
	}
	ctrl.SetLogger(klog.Background())
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return runControllers(ctx, *kubeconfig) })
	parts.Go(func() error { return runCAInjector(ctx, *kubeconfig) })
	return parts.Wait()
}
