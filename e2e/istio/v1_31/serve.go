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

// serve serves what an agent makes of a pod, with these flags.
func serve(args []string) error {
	flags := flag.NewFlagSet("agent", flag.ContinueOnError)
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
