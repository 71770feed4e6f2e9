package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"math"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/lightstep-injector/lightstep-injector/webhook/fairshare"
)

const (
	// maxConnections bounds the open connections of the webhook's port. An idle one takes at most 32 KiB (measured), one whose
	// client sends the worst headers some 100 KiB more (estimated). An API server opens one for each concurrent call.
	maxConnections = 1024
	// maxPlainConnections bounds those of the health port and of the metrics port. The kubelet and Prometheus have one or two.
	maxPlainConnections = 256

	// handshakeTimeout bounds the TLS handshake, from accept on.
	handshakeTimeout = 5 * time.Second
	// headerTimeout bounds the headers of each request, from their first byte on.
	headerTimeout = 5 * time.Second
	// idleTimeout is longer than the API server keeps an idle connection (90 s), so that the API server closes it: a request
	// that is sent while the server closes is lost.
	idleTimeout = 2 * time.Minute

	// maxHandshake bounds the bytes of a client's part of the handshake. Certificates of a client are a few KiB.
	maxHandshake = 16 << 10
	// maxHeader bounds the bytes of a request's headers, and maxHeaderLines their number: each line that is parsed takes some
	// 100 bytes, however short it is. The API server sends ten.
	maxHeader      = 16 << 10
	maxHeaderLines = 100
	// headerSlop is what net/http reads beyond its MaxHeaderBytes.
	headerSlop = 4096

	unlimited = math.MaxInt
)

// How long a connection should be kept. At the bound, the connection of the client with the most that has the earliest such
// time is closed. So those go first whose handshake or first request is not complete after a second, oldest first; then
// those that are idle, longest first, the ones with a recent valid request later; then the rest.
const (
	// firstRequest is the time for the handshake and the first request.
	firstRequest = time.Second
	// inProgress is the time for a request whose headers are complete.
	inProgress = 2 * time.Second
	// idleKept is the time for an idle connection whose last request was not valid, and usefulKept for one whose last was.
	idleKept   = 2 * time.Second
	usefulKept = 10 * time.Second
)

var errHeaders = errors.New("too many header lines")

// connection is one connection of a server.
type connection struct {
	net.Conn // over TLS, if the server is

	raw      net.Conn
	listener *listener
	held     *fairshare.Holding
	closed   atomic.Bool
	// useful is set from the first valid request on. Only the goroutine that serves the connection uses it.
	useful bool
	header headerScan
	// first is what was read before the HTTP server got the connection.
	first []byte
}

// Read reads, and closes a connection that sends too many header lines.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.read(p)
	if !c.header.ended && !c.header.take(p[:n]) {
		c.listener.report.failed(causeHeaders, c.RemoteAddr(), errHeaders)
		return 0, errHeaders
	}
	return n, err
}

// read reads what was read before, and then from the client.
func (c *connection) read(p []byte) (int, error) {
	if len(c.first) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.first)
	c.first = c.first[n:]
	return n, nil
}

// Close closes the connection and gives its place back.
func (c *connection) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.held.Release()
		c.listener.report.open.Dec()
		c.listener.clients.Leave(c.held.Client())
	}
	return c.Conn.Close()
}

// arrived notes that the headers of a request are complete.
func (c *connection) arrived() {
	if c != nil && c.useful {
		c.busy()
	}
}

// complete notes that a request is complete.
func (c *connection) complete() {
	if c != nil {
		c.busy()
	}
}

// busy keeps a connection with a request at least as long as it would be kept without.
func (c *connection) busy() {
	kept := inProgress
	if c.useful {
		kept = usefulKept
	}
	c.held.KeepUntil(time.Now().Add(kept))
}

// answered notes that a request is answered, and whether it was valid.
func (c *connection) answered(valid bool) {
	if c == nil {
		return
	}
	kept := idleKept
	if valid {
		c.useful = true
		c.held.Client().Valid()
		kept = usefulKept
	}
	c.held.KeepUntil(time.Now().Add(kept))
}

// securedConnection is a connection over TLS. net/http asks it for the state.
type securedConnection struct {
	*connection

	over *tls.Conn
}

// ConnectionState returns the state of TLS.
func (c *securedConnection) ConnectionState() tls.ConnectionState { return c.over.ConnectionState() }

// tracked is a connection of a listener's.
type tracked interface{ tracked() *connection }

func (c *connection) tracked() *connection { return c }

type connectionKey struct{}

// withConnection has the handlers of a connection find it.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(tracked); ok {
		return context.WithValue(ctx, connectionKey{}, t.tracked())
	}
	return ctx
}

// connectionOf is the connection that a request came by; nil outside a server of ours.
func connectionOf(ctx context.Context) *connection {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	return c
}

// nextRequest has the header lines of the next request counted. It is for [http.Server.ConnState]: when a connection is
// idle, nothing reads from it.
func nextRequest(c net.Conn, state http.ConnState) {
	if t, ok := c.(tracked); ok && state == http.StateIdle {
		t.tracked().header = headerScan{}
	}
}

// headerScan counts the lines of a request's headers.
type headerScan struct {
	ended bool
	lines int
	// line is the length of the current line so far, without a carriage return.
	line int
}

// take scans what was read, and returns false when there are too many lines.
func (s *headerScan) take(read []byte) bool {
	for {
		end := bytes.IndexByte(read, '\n')
		if end < 0 {
			s.line += len(bytes.TrimRight(read, "\r"))
			return true
		}
		s.line += len(bytes.TrimRight(read[:end], "\r"))
		switch {
		case s.line > 0:
			s.lines++
		case s.lines > 0: // net/http skips empty lines before a request
			s.ended = true
			return true
		}
		if s.lines > maxHeaderLines {
			return false
		}
		read, s.line = read[end+1:], 0
	}
}

// limitedReads is a connection of which only so many bytes may be read.
type limitedReads struct {
	net.Conn

	left int
}

// Read reads what is left.
func (l *limitedReads) Read(p []byte) (int, error) {
	if l.left == unlimited {
		return l.Conn.Read(p)
	}
	if l.left == 0 {
		return 0, errHandshakeTooLong
	}
	n, err := l.Conn.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

var errHandshakeTooLong = errors.New("the client's part of the handshake is too long")
