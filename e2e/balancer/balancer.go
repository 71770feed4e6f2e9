// Package balancer stands where kube-proxy does: it listens on a Service's ClusterIP and gives each new connection to one of
// the replicas that are ready. As with real endpoints, that a replica is no longer ready, or is again, is known a while later,
// and connections that are there stay where they are.
package balancer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Replica is one that connections may be given to.
type Replica struct {
	// Address is where it listens.
	Address string
	// Ready says whether its readiness probe succeeds.
	Ready func() bool

	routed bool
	// since is when Ready began to differ from routed.
	since time.Time
}

// Balancer gives connections to replicas.
type Balancer struct {
	listener *net.TCPListener
	lag      time.Duration
	stop     chan struct{}
	running  sync.WaitGroup

	mu          sync.Mutex
	replicas    []*Replica
	next        int
	lost        Lost
	connections map[net.Conn]bool
	// calls has the replica's end of each connection.
	calls map[*call]net.Conn
}

// Lost is what was given to replicas that were gone, or went.
type Lost struct {
	// Refused is how many connections were given to a replica that did not take them.
	Refused int
	// Cut is how many connections a replica ended while it owed an answer: the client was the last to have sent something.
	Cut int
}

// Since is what was lost since an earlier reading.
func (l Lost) Since(before Lost) Lost { return Lost{l.Refused - before.Refused, l.Cut - before.Cut} }

// All is how many connections were lost.
func (l Lost) All() int { return l.Refused + l.Cut }

// probeInterval is how often replicas are asked whether they are ready.
const probeInterval = 50 * time.Millisecond

// Start listens on an address. lag is how long it takes until a change of readiness is known.
func Start(address string, lag time.Duration, replicas ...*Replica) (*Balancer, error) {
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("start a balancer: %w", err)
	}
	listener, err := net.ListenTCP("tcp", at)
	if err != nil {
		return nil, fmt.Errorf("start a balancer: %w", err)
	}
	b := &Balancer{listener: listener, lag: lag, stop: make(chan struct{}), replicas: replicas, connections: map[net.Conn]bool{}, calls: map[*call]net.Conn{}}
	b.running.Go(b.probe)
	b.running.Go(b.accept)
	return b, nil
}

// Add has a replica given connections from when it is ready on.
func (b *Balancer) Add(r *Replica) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replicas = append(b.replicas, r)
}

// Remove forgets a replica that is gone.
func (b *Balancer) Remove(r *Replica) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replicas = slices.DeleteFunc(b.replicas, func(other *Replica) bool { return other == r })
}

// Routes tells whether connections are given to a replica.
func (b *Balancer) Routes(r *Replica) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return r.routed
}

// Lost is what was lost until now.
func (b *Balancer) Lost() Lost {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost
}

// Routed is how many replicas connections are given to.
func (b *Balancer) Routed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	count := 0
	for _, r := range b.replicas {
		if r.routed {
			count++
		}
	}
	return count
}

// Reconnect ends the connections that owe no answer, and returns once their clients have closed them: the next call of each opens a
// new connection. No call may begin meanwhile.
func (b *Balancer) Reconnect(ctx context.Context) error {
	b.mu.Lock()
	open := maps.Clone(b.calls)
	b.mu.Unlock()
	for c, server := range open {
		if c.idle() {
			_ = server.Close()
			continue
		}
		delete(open, c)
	}
	err := wait.PollUntilContextCancel(ctx, time.Millisecond, true, func(context.Context) (bool, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		maps.DeleteFunc(open, func(c *call, _ net.Conn) bool { return b.calls[c] == nil })
		return len(open) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("wait until clients have closed their connections: %w", err)
	}
	return nil
}

// Close ends the balancer and every connection through it.
func (b *Balancer) Close() error {
	close(b.stop)
	err := b.listener.Close()
	b.mu.Lock()
	for connection := range b.connections {
		_ = connection.Close()
	}
	b.mu.Unlock()
	b.running.Wait()
	return err
}

// probe asks every replica again and again.
func (b *Balancer) probe() {
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-ticker.C:
		}
		for _, r := range b.known() {
			b.note(r, r.Ready())
		}
	}
}

func (b *Balancer) known() []*Replica {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.replicas)
}

// note routes by what a replica has said for long enough.
func (b *Balancer) note(r *Replica, ready bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case ready == r.routed:
		r.since = time.Time{}
	case r.since.IsZero():
		r.since = time.Now()
	case time.Since(r.since) >= b.lag:
		r.routed, r.since = ready, time.Time{}
	}
}

func (b *Balancer) accept() {
	for {
		client, err := b.listener.AcceptTCP()
		if err != nil {
			return // closed
		}
		server, err := b.dial()
		if err != nil {
			_ = client.Close() // the API server sees what it would see of a replica that is gone
			continue
		}
		b.pass(client, server)
	}
}

// dial connects to the next replica that is routed to. That it is gone is not known here: nobody tries another.
func (b *Balancer) dial() (*net.TCPConn, error) {
	b.mu.Lock()
	var to *Replica
	for range b.replicas {
		b.next++
		if r := b.replicas[b.next%len(b.replicas)]; r.routed {
			to = r
			break
		}
	}
	b.mu.Unlock()
	if to == nil {
		return nil, errors.New("no replica is ready")
	}
	address, err := net.ResolveTCPAddr("tcp", to.Address)
	if err != nil {
		return nil, err
	}
	connection, err := net.DialTCP("tcp", nil, address)
	if err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.lost.Refused++
	}
	return connection, err
}

// pass copies both ways until one side ends. Where the replica does, the client is told, but listened to until it has heard: what
// it sends meanwhile is lost, too.
func (b *Balancer) pass(client, server *net.TCPConn) {
	b.mu.Lock()
	c := &call{balancer: b}
	b.connections[client], b.connections[server], b.calls[c] = true, true, server
	b.mu.Unlock()
	b.running.Go(func() {
		_, _ = io.Copy(client, answered{server, c}) // however it ends, it is over
		_ = client.CloseWrite()
	})
	b.running.Go(func() {
		_, _ = io.Copy(server, asked{client, c})
		_ = client.Close()
		_ = server.Close()
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.connections, client)
		delete(b.connections, server)
		delete(b.calls, c)
	})
}
