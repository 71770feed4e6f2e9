package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
)

// NewServer makes the TLS server that the apiserver calls. controller-runtime's server bounds the handshake, the headers
// and idle connections by itself; bodies and answers are bounded by deadlines on every path.
func NewServer(listen string, handler http.Handler, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) (webhook.Server, error) {
	host, portText, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: write HOST:PORT, or :PORT for every address: %w", listen, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("listen address %q: the port must be a number from 1 to 65535", listen)
	}
	server := webhook.NewServer(webhook.Options{
		Host: host,
		Port: int(port),
		TLSOpts: []func(*tls.Config){func(c *tls.Config) {
			c.MinVersion = tls.VersionTLS12
			c.NextProtos = []string{"h2", "http/1.1"}
			c.GetCertificate = certificate
		}},
	})
	server.Register(Path, handler)
	server.Register("/", http.HandlerFunc(notFound))
	return server, nil
}

// notFound answers on every path but the handler's, as patiently and no more so.
func notFound(w http.ResponseWriter, _ *http.Request) {
	setDeadlines(w, time.Now())
	http.Error(w, "not found: admission requests are answered at "+Path, http.StatusNotFound)
}

// Health answers the kubelet: alive where anything answers at all, ready where ready says so.
func Health(ready healthz.Checker) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := ready(r); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	return mux
}

// ListenAndServe serves plain HTTP until the context ends, for the kubelet and for Prometheus.
func ListenAndServe(ctx context.Context, address string, handler http.Handler) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen on %q: %w", address, err)
	}
	const patience = 10 * time.Second
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: patience,
		ReadTimeout:       patience,
		WriteTimeout:      2 * patience,
		IdleTimeout:       time.Minute,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %q: %w", address, err)
	}
	return nil
}
