// Command v1_7 is the injection of Istio 1.7.8, from Istio's own module: its webhook, and what its agent and its bootstrap
// make of an injected pod. It needs no cluster.
//
//   - main.go: the flags, and the TLS server with both;
//   - inject.go: POST /inject, Istio's own webhook;
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
)

// options are the files that a control plane of Istio 1.7.8 mounts, and the template that its proxy image has.
type options struct {
	listen, tlsCert, tlsKey string
	// config and values are the two keys of the ConfigMap istio-sidecar-injector; mesh is that of istio.
	config, values, mesh string
	// template is tools/packaging/common/envoy_bootstrap.json.
	template string
	revision string
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var o options
	flags := flag.NewFlagSet("v1_7", flag.ContinueOnError)
	for _, f := range []struct {
		into        *string
		name, usage string
	}{
		{&o.listen, "listen", "address to serve on, over TLS"},
		{&o.tlsCert, "tls-cert", "certificate, PEM"},
		{&o.tlsKey, "tls-key", "its key, PEM"},
		{&o.config, "config", "the injector's configuration"},
		{&o.values, "values", "the injector's values"},
		{&o.mesh, "mesh", "the MeshConfig"},
		{&o.template, "template", "the proxy image's bootstrap template"},
		{&o.revision, "revision", "the control plane's revision; empty for the default one"},
	} {
		flags.StringVar(f.into, f.name, "", f.usage)
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	return o.serve()
}

func (o *options) serve() error {
	mux := http.NewServeMux()
	if err := o.addWebhook(mux); err != nil {
		return err
	}
	bootstrapper, err := o.newBootstrapper()
	if err != nil {
		return err
	}
	defer bootstrapper.close()
	mux.Handle("/bootstrap", bootstrapper)
	mux.HandleFunc("/ready", func(http.ResponseWriter, *http.Request) {})
	server := &http.Server{Addr: o.listen, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServeTLS(o.tlsCert, o.tlsKey); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
