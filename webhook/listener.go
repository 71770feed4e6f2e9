package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/lightstep-injector/lightstep-injector/webhook/fairshare"
)

// acceptRetry is how long to wait after an error of accept, such as too many open files.
const acceptRetry = 50 * time.Millisecond

// listener accepts every connection. At its bound, it closes the least useful connection of the client that has the most
// for its valid requests. It does the TLS handshakes itself, so that the HTTP server only sees clients that speak TLS.
type listener struct {
	net.Listener

	clients *fairshare.Clients
	pool    *fairshare.Pool
	// secure is nil for a plain server.
	secure *tls.Config
	report *reporter

	ready   chan net.Conn
	ending  context.Context //nolint:containedctx // the life of the listener
	end     context.CancelFunc
	running sync.WaitGroup
}

// newListener wraps a listener and starts to accept.
func newListener(inner net.Listener, limit int64, secure *tls.Config, report *reporter) *listener {
	l := &listener{
		Listener: inner, clients: new(fairshare.Clients), secure: secure, report: report, ready: make(chan net.Conn),
		pool: fairshare.NewPool(limit, limit, limit/quarter, report.closed),
	}
	l.ending, l.end = context.WithCancel(context.Background())
	l.running.Go(l.acceptAll)
	return l
}

// Accept returns the next connection that is ready for its first request.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ending.Done():
		return nil, net.ErrClosed
	}
}

// Close stops accepting, and closes the connections that the HTTP server has not got yet.
func (l *listener) Close() error {
	l.end()
	err := l.Listener.Close()
	l.running.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close listener: %w", err)
	}
	return nil
}

// acceptAll accepts until the listener is closed.
func (l *listener) acceptAll() {
	for {
		raw, err := l.Listener.Accept()
		switch {
		case l.ending.Err() != nil:
			if err == nil {
				_ = raw.Close()
			}
			return
		case err != nil:
			l.report.failed(causeAccept, nil, err)
			select {
			case <-time.After(acceptRetry):
			case <-l.ending.Done():
			}
		default:
			c := l.admit(raw)
			l.running.Go(func() { l.prepare(c) })
		}
	}
}

// admit enters a connection, at the expense of a less useful one where there are too many.
func (l *listener) admit(raw net.Conn) *connection {
	c := &connection{Conn: raw, raw: raw, listener: l}
	c.held = l.pool.Hold(l.clients.Join(remoteAddress(raw)), func() { _ = raw.Close() })
	c.held.KeepUntil(time.Now().Add(firstRequest))
	l.report.open.Inc()
	if !c.held.Displace(1) {
		_ = c.Close()
	}
	return c
}

// prepare does the handshake, and hands the connection to the HTTP server.
func (l *listener) prepare(c *connection) {
	var ready net.Conn = c
	if l.secure != nil {
		secured, err := l.handshake(c)
		if err != nil {
			if !c.held.Lost() && l.ending.Err() == nil {
				l.report.failed(l.report.causeOf(err), c.RemoteAddr(), err)
			}
			_ = c.Close()
			return
		}
		ready = secured
	}
	if err := l.firstByte(c); err != nil {
		_ = c.Close()
		return
	}
	select {
	case l.ready <- ready:
	case <-l.ending.Done():
		_ = c.Close()
	}
}

// firstByte waits for the first request as long as for any other. The API server may open a connection and then send its request by
// another that has become free: a request that it sends just when the server closes the unused one is lost.
func (l *listener) firstByte(c *connection) error {
	defer context.AfterFunc(l.ending, func() { _ = c.raw.Close() })()
	if err := c.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
		return fmt.Errorf("bound the wait for the first request: %w", err)
	}
	first := make([]byte, 1)
	n, err := c.Conn.Read(first)
	if err != nil {
		return fmt.Errorf("wait for the first request: %w", err)
	}
	c.first = first[:n]
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("bound the wait for the first request: %w", err)
	}
	return nil
}

// handshake turns a connection into one over TLS. A client has handshakeTimeout and maxHandshake bytes for it.
func (l *listener) handshake(c *connection) (*securedConnection, error) {
	limited := &limitedReads{Conn: c.raw, left: maxHandshake}
	over := tls.Server(limited, l.secure)
	ctx, cancel := context.WithTimeout(l.ending, handshakeTimeout)
	defer cancel()
	if err := over.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	limited.left = unlimited
	c.Conn = over
	return &securedConnection{connection: c, over: over}, nil
}

// answers checks that the HTTP server takes connections and answers requests, without the network and without using up a
// connection that a client could have.
func (l *listener) answers(ctx context.Context) error {
	near, far := net.Pipe()
	defer func() { _ = near.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = near.SetDeadline(deadline)
	}
	select {
	case l.ready <- far:
	case <-ctx.Done():
		_ = far.Close()
		return ctx.Err()
	case <-l.ending.Done():
		_ = far.Close()
		return net.ErrClosed
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return near, nil },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://in-process/", http.NoBody)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// remoteAddress is the address that a connection is counted for.
func remoteAddress(c net.Conn) netip.Addr {
	remote, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return remote.Addr().Unmap()
}
