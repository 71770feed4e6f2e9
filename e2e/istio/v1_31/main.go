// Command v1_31 is what the agent and the bootstrap of Istio 1.31 make of an injected pod, from Istio's own module. It needs
// no cluster. Its injection is istiod's own (e2e/istio/istiod).
//
//   - main.go: the flags, and the server;
//   - bootstrap.go: POST /bootstrap, a pod as a kubelet would start it, through Istio's agent's rules to Envoy's bootstrap;
//   - kubelet.go: the stand-in for a kubelet, one for all versions of Istio: a container's environment and its files.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"istio.io/istio/pkg/log"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("v1_31", flag.ContinueOnError)
	listen := flags.String("listen", "", "address to serve on")
	template := flags.String("template", "", "the proxy image's bootstrap template: Istio's tools/packaging/common/envoy_bootstrap.json")
	if err := flags.Parse(args); err != nil {
		return err
	}
	quiet := log.DefaultOptions() // the agent logs all that it reads, the token, too
	quiet.SetDefaultOutputLevel(log.OverrideScopeName, log.ErrorLevel)
	if err := log.Configure(quiet); err != nil {
		return fmt.Errorf("configure Istio's logging: %w", err)
	}
	bootstrapper, err := newBootstrapper(*template)
	if err != nil {
		return err
	}
	defer bootstrapper.close()
	mux := http.NewServeMux()
	mux.Handle("POST /bootstrap", bootstrapper)
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	server := &http.Server{Addr: *listen, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
