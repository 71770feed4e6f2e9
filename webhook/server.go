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

	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

const (
	// shutdownTimeout is how long requests that are under way when serving ends may take.
	shutdownTimeout = writeTimeout
	// answersTimeout is how long the server itself may take to show that it answers.
	answersTimeout = 2 * time.Second
	// plainTimeout bounds a request to the health port or the metrics port; its answer may take twice as long.
	plainTimeout = 10 * time.Second
)

// Options say what a server serves.
type Options struct {
	// Name is the server's name in metrics and log: webhook, health or metrics.
	Name string
	// Listen is the address, HOST:PORT or :PORT.
	Listen string
	// Handler answers.
	Handler http.Handler
	// Certificate returns the serving certificate. If nil, the server speaks plain HTTP.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Clients verifies client certificates. If nil, every client is served.
	Clients *ClientAuth
	// Connections counts and logs what becomes of the connections.
	Connections *Connections
}

// Server is the TLS server that the API server calls.
type Server struct {
	options Options
	tls     *tls.Config
	current atomic.Pointer[listener]
}

// NewServer makes the server. It bounds connections, handshakes, headers and idle connections; bodies and answers are
// bounded by deadlines on every path.
func NewServer(o Options) (*Server, error) {
	_, portText, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: write HOST:PORT, or :PORT for every address: %w", o.Listen, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("listen address %q: the port must be a number from 1 to 65535", o.Listen)
	}
	mux := http.NewServeMux()
	mux.Handle(Path, o.Handler)
	mux.HandleFunc("/", notFound)
	o.Handler = mux
	return &Server{options: o, tls: o.secure()}, nil
}

// Start serves until the context ends, and then answers what has come. Requests have contexts of their own.
func (s *Server) Start(ctx context.Context) error {
	bounded, err := s.options.listen(ctx, maxConnections, s.tls)
	if err != nil {
		return err
	}
	s.current.Store(bounded)
	patience := shutdownTimeout
	server := manager.Server{Server: s.options.server(bounded), Listener: bounded, ShutdownTimeout: &patience}
	if err := server.Start(ctx); err != nil {
		return fmt.Errorf("serve on %q: %w", s.options.Listen, err)
	}
	return nil
}

// Answers returns an error when the server does not answer requests. It does not use the network, nor a connection that
// a client could have: a server that strangers keep busy is ready.
func (s *Server) Answers(r *http.Request) error {
	bounded := s.current.Load()
	if bounded == nil {
		return errors.New("the webhook's server has not been started yet")
	}
	ctx, cancel := context.WithTimeout(r.Context(), answersTimeout)
	defer cancel()
	if err := bounded.answers(ctx); err != nil {
		return fmt.Errorf("the webhook's server does not answer: %w", err)
	}
	return nil
}

// listen opens the address, with at most so many connections.
func (o *Options) listen(ctx context.Context, limit int64, secure *tls.Config) (*listener, error) {
	var config net.ListenConfig
	inner, err := config.Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", o.Listen, err)
	}
	return newListener(inner, limit, secure, o.Connections.of(o)), nil
}

// secure is the TLS configuration; nil for plain HTTP. HTTP/1.1 is the only protocol: the API server speaks it to
// Services, and one connection then stands for one request.
func (o *Options) secure() *tls.Config {
	if o.Certificate == nil {
		return nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: o.Certificate}
	if o.Clients != nil {
		o.Clients.Require(config)
	}
	return config
}

// server is the HTTP server for a listener.
func (o *Options) server(bounded *listener) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           o.authenticated(),
		Protocols:         protocols,
		MaxHeaderBytes:    maxHeader - headerSlop,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ConnContext:       withConnection,
		ConnState:         nextRequest,
		ErrorLog:          bounded.report.standardLog(),
	}
}

// authenticated is the handler, for accepted clients only.
func (o *Options) authenticated() http.Handler {
	if o.Clients == nil {
		return o.Handler
	}
	accepted := o.Clients.Wrap(o.Handler)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil { // Server.Answers, which uses no network
			notFound(w, r)
			return
		}
		accepted.ServeHTTP(w, r)
	})
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

// ListenAndServe serves until the context ends, for the kubelet and for Prometheus, and then closes all connections.
func ListenAndServe(ctx context.Context, o Options) error {
	bounded, err := o.listen(ctx, maxPlainConnections, o.secure())
	if err != nil {
		return err
	}
	o.Handler = noteValid(o.Handler)
	server := o.server(bounded)
	server.ReadTimeout, server.WriteTimeout = plainTimeout, 2*plainTimeout
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(bounded); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %q: %w", o.Listen, err)
	}
	return nil
}

// noteValid has a connection count as useful once a request by it has been answered well.
func noteValid(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connectionOf(r.Context()).complete()
		answer := &noted{ResponseWriter: w, status: http.StatusOK}
		handler.ServeHTTP(answer, r)
		connectionOf(r.Context()).answered(answer.status == http.StatusOK)
	})
}

// noted remembers an answer's status.
type noted struct {
	http.ResponseWriter

	status int
}

// WriteHeader remembers the status.
func (n *noted) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (n *noted) Unwrap() http.ResponseWriter { return n.ResponseWriter }
