package webhook

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// The causes of connection_errors_total that this package knows. [ClientAuth.Failed] names others.
const (
	causeAccept  = "Accept"  // accept failed: too many open files, for example
	causeHeaders = "Headers" // a request had too many header lines
	causeTimeout = "HandshakeTimeout"
	causeGone    = "HandshakeClosed" // the client closed the connection during the handshake
	causeNotTLS  = "NotTLS"
	causeAlert   = "RejectedByClient" // the client does not accept the certificate, for example
	causeOther   = "Handshake"
	causePanic   = "Panic"
	causeServer  = "Server" // any other line of net/http's
)

const (
	// errorsLogged is how many errors of each cause are logged in each errorPeriod. All are counted.
	errorsLogged = 5
	errorPeriod  = time.Minute
	// maxErrorText bounds the text of an error in the log, in bytes.
	maxErrorText = 1024
)

// Connections counts and logs what becomes of connections.
type Connections struct {
	open   *prometheus.GaugeVec
	closed *prometheus.CounterVec
	failed *prometheus.CounterVec
	log    *zap.Logger
}

// NewConnections makes the metrics of connections and registers them.
func NewConnections(registry prometheus.Registerer, log *zap.Logger) (*Connections, error) {
	c := &Connections{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lightstep_injector_connections",
			Help: "Open connections, by server (webhook, health, metrics).",
		}, []string{"server"}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lightstep_injector_connections_closed_total",
			Help: "Connections closed in favour of new ones because the server had as many as it accepts.",
		}, []string{"server"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lightstep_injector_connection_errors_total",
			Help: "Connections that failed before a request was read, by server and cause.",
		}, []string{"server", "cause"}),
		log: log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
			return zapcore.NewSamplerWithOptions(core, errorPeriod, errorsLogged, 0)
		})),
	}
	for _, collector := range []prometheus.Collector{c.open, c.closed, c.failed} {
		if err := registry.Register(collector); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return c, nil
}

// of is the reporter of one server.
func (c *Connections) of(o *Options) *reporter {
	for _, cause := range []string{causeAccept, causeHeaders, causeTimeout, causeGone, causeNotTLS, causeAlert, causeOther, causePanic, causeServer} {
		c.failed.WithLabelValues(o.Name, cause) // so that a rate has a beginning
	}
	return &reporter{
		server: o.Name, all: c, clients: o.Clients,
		open: c.open.WithLabelValues(o.Name), displaced: c.closed.WithLabelValues(o.Name),
	}
}

// reporter counts and logs what becomes of one server's connections.
type reporter struct {
	server    string
	all       *Connections
	clients   *ClientAuth
	open      prometheus.Gauge
	displaced prometheus.Counter
}

// closed counts a connection that was closed in favour of another.
func (r *reporter) closed() { r.displaced.Inc() }

// failed counts a connection that failed, and logs the first few of each cause.
func (r *reporter) failed(cause string, remote net.Addr, err error) {
	r.all.failed.WithLabelValues(r.server, cause).Inc()
	line := r.all.log.Check(zapcore.InfoLevel, "connection failed: "+cause)
	if line == nil {
		return
	}
	fields := []zap.Field{zap.String("server", r.server), zap.String("error", cut(err.Error()))}
	if remote != nil {
		fields = append(fields, zap.Stringer("remote", remote))
	}
	line.Write(fields...)
}

// causeOf sorts the error of a handshake.
func (r *reporter) causeOf(err error) string {
	if r.clients != nil {
		if cause := r.clients.Failed(err); cause != "" {
			return cause
		}
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return causeNotTLS
	}
	if operation, ok := errors.AsType[*net.OpError](err); ok && operation.Op == "remote error" {
		return causeAlert
	}
	switch timeout, ok := errors.AsType[net.Error](err); {
	case ok && timeout.Timeout(), errors.Is(err, os.ErrDeadlineExceeded):
		return causeTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), ok:
		return causeGone
	}
	return causeOther
}

// standardLog is what net/http logs to.
func (r *reporter) standardLog() *log.Logger { return log.New(serverLines{r}, "", 0) }

// serverLines takes the lines of net/http's log.
type serverLines struct{ *reporter }

// Write takes one line.
func (s serverLines) Write(line []byte) (int, error) {
	cause := causeServer
	if strings.HasPrefix(string(line), "http: panic serving") {
		cause = causePanic
	}
	s.failed(cause, nil, errors.New(strings.TrimSpace(string(line))))
	return len(line), nil
}

// cut bounds the text of an error.
func cut(text string) string { return strings.ToValidUTF8(text[:min(len(text), maxErrorText)], "") }
