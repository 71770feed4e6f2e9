package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

const (
	// maxConnections bounds the connections that are open; one more waits until another has ended. The API servers of a
	// cluster have a few each.
	maxConnections = 2048
	// headerTimeout bounds the TLS handshake, and then the headers of each request.
	headerTimeout = 5 * time.Second
	// idleTimeout is longer than the API server keeps an idle connection, so that it is the one to close it: a request that
	// is sent just then would be lost.
	idleTimeout = 2 * time.Minute
	// shutdownTimeout is how long requests that are under way when serving ends may take.
	shutdownTimeout = writeTimeout
	// dialTimeout is how long the server itself may take to show that it answers.
	dialTimeout = 2 * time.Second
)

// Server is the TLS server that the API server calls.
type Server struct {
	address string
	tls     *tls.Config
	handler http.Handler
	started atomic.Bool
	// connState is told of every change of a connection's state; it may be nil.
	connState func(net.Conn, http.ConnState)
}

// NewServer makes the server. It bounds the handshake, the headers and idle connections; bodies and answers are bounded by
// deadlines on every path.
func NewServer(listen string, handler http.Handler, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) (*Server, error) {
	_, portText, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: write HOST:PORT, or :PORT for every address: %w", listen, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("listen address %q: the port must be a number from 1 to 65535", listen)
	}
	mux := http.NewServeMux()
	mux.Handle(Path, handler)
	mux.HandleFunc("/", notFound)
	return &Server{address: listen, handler: mux, tls: &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: certificate,
	}}, nil
}

// Authenticate has only those clients served whose certificate is accepted. It is called before Start.
func (s *Server) Authenticate(clients *ClientAuth) {
	clients.Require(s.tls)
	s.handler, s.connState = clients.Wrap(s.handler), clients.closed
}

// Start serves until the context ends, and then answers what has come. Requests have contexts of their own.
func (s *Server) Start(ctx context.Context) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("listen on %q: %w", s.address, err)
	}
	s.started.Store(true)
	patience := shutdownTimeout
	server := manager.Server{
		Server:          &http.Server{Handler: s.handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, ConnState: s.connState},
		Listener:        tls.NewListener(netutil.LimitListener(listener, maxConnections), s.tls),
		ShutdownTimeout: &patience,
	}
	if err := server.Start(ctx); err != nil {
		return fmt.Errorf("serve on %q: %w", s.address, err)
	}
	return nil
}

// Answers says why the server does not answer, by calling it.
func (s *Server) Answers(r *http.Request) error {
	if !s.started.Load() {
		return errors.New("the webhook's server has not been started yet")
	}
	ctx, cancel := context.WithTimeout(r.Context(), dialTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // what it serves is looked at elsewhere
	connection, err := dialer.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("the webhook's server does not answer: %w", err)
	}
	_ = connection.Close()
	return nil
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
