package attacker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

const (
	// pause is how long an attacker waits before it begins again.
	pause = 250 * time.Millisecond
	// dialsAtOnce bounds the connections that are being made.
	dialsAtOnce = 8
	dialTimeout = 10 * time.Second
	// requestsPerSecond bounds the requests of a party.
	requestsPerSecond = 2000
)

// Party is some attackers of one server.
type Party struct {
	// Target is where the server listens, Plain that it does so without TLS.
	Target string
	Plain  bool
	// From are the addresses that the attackers connect from, by turns.
	From []netip.Addr

	dials *semaphore.Weighted
	pace  *rate.Limiter
	turn  atomic.Int64
	// open is how many connections are open.
	open   atomic.Int64
	mu     sync.Mutex
	counts Counts
}

// Counts is what became of an attack.
type Counts struct {
	// Connections is how many were made, Refused how many could not be.
	Connections, Refused int
	// Requests is how many were sent, whole or in part, Answered how many were answered.
	Requests, Answered int
	// Held is the most connections that were open at once.
	Held int
}

// And adds two up.
func (c Counts) And(other Counts) Counts {
	return Counts{
		Connections: c.Connections + other.Connections, Refused: c.Refused + other.Refused,
		Requests: c.Requests + other.Requests, Answered: c.Answered + other.Answered, Held: c.Held + other.Held,
	}
}

// New gathers attackers. The target has to be an address of this machine.
func New(target string, plain bool, from ...netip.Addr) (*Party, error) {
	address, err := netip.ParseAddrPort(target)
	if err != nil {
		return nil, fmt.Errorf("attack %s: %w", target, err)
	}
	if !address.Addr().IsLoopback() || len(from) == 0 {
		return nil, fmt.Errorf("attack %s from %v: only loopback addresses are attacked, from some address", target, from)
	}
	return &Party{Target: target, Plain: plain, From: from, dials: semaphore.NewWeighted(dialsAtOnce), pace: rate.NewLimiter(requestsPerSecond, requestsPerSecond/10)}, nil
}

// Attack is a way to attack, until the context ends.
type Attack func(context.Context, *Party)

// Begin attacks until it is told to end, and then returns what became of it.
func (p *Party) Begin(ctx context.Context, attack Attack) (end func() Counts) {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		attack(ctx, p)
	}()
	return func() Counts {
		stop()
		<-done
		return p.Counts()
	}
}

// asks waits until one more request may be sent, and counts it.
func (p *Party) asks(ctx context.Context) error {
	if err := p.pace.Wait(ctx); err != nil {
		return err
	}
	p.count(func(c *Counts) { c.Requests++ })
	return nil
}

// Counts is what became of it up to now.
func (p *Party) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

func (p *Party) count(change func(*Counts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.counts)
}

// each has so many attackers do something again and again.
func each(ctx context.Context, attackers int, attack func(context.Context) error) {
	var running sync.WaitGroup
	for range attackers {
		running.Go(func() {
			for ctx.Err() == nil {
				_ = attack(ctx) // however it ended, it begins again
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	running.Wait()
}

// connect connects from the next address. The connection is closed when the context ends.
func (p *Party) connect(ctx context.Context) (net.Conn, error) {
	if err := p.dials.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer p.dials.Release(1)
	return p.dial(ctx)
}

func (p *Party) dial(ctx context.Context) (net.Conn, error) {
	from := p.From[int(p.turn.Add(1))%len(p.From)]
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: dialTimeout}
	c, err := dialer.DialContext(ctx, "tcp", p.Target)
	if err != nil {
		p.count(func(c *Counts) { c.Refused++ })
		return nil, err
	}
	p.count(func(c *Counts) { c.Connections++ })
	return p.opened(ctx, c), nil
}

// connectTLS connects, and makes a TLS handshake where the server does. The last value says which protocol was agreed on.
func (p *Party) connectTLS(ctx context.Context, protocols ...string) (net.Conn, string, error) {
	if err := p.dials.Acquire(ctx, 1); err != nil {
		return nil, "", err
	}
	defer p.dials.Release(1)
	c, err := p.dial(ctx)
	if err != nil || p.Plain {
		return c, "", err
	}
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
	handshake, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := secure.HandshakeContext(handshake); err != nil {
		p.count(func(c *Counts) { c.Refused++ })
		return nil, "", errors.Join(err, c.Close())
	}
	return secure, secure.ConnectionState().NegotiatedProtocol, nil
}

// connection is one that is counted while it is open.
type connection struct {
	net.Conn

	closed func()
}

func (p *Party) opened(ctx context.Context, c net.Conn) net.Conn {
	now := p.open.Add(1)
	p.mu.Lock()
	p.counts.Held = max(p.counts.Held, int(now))
	p.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	return &connection{Conn: c, closed: sync.OnceFunc(func() { stop(); p.open.Add(-1) })}
}

// Close closes it.
func (c *connection) Close() error {
	c.closed()
	return c.Conn.Close()
}
