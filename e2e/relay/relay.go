// Package relay lies between a client and an API server. It holds back what the server says for as long as a test wants, a
// watch that lags, made on purpose; or lets nobody through, as if there were no server.
package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Relay forwards TCP connections.
type Relay struct {
	config  *api.Config
	server  *url.URL
	address string
	// gate is held for reading by whoever passes on the server's words, and for writing while they are held back.
	gate sync.RWMutex
	// requests is the same for the clients' words.
	requests sync.RWMutex

	mutex       sync.Mutex
	listener    net.Listener // nil while nobody is let through
	connections []net.Conn
	running     sync.WaitGroup
}

// Start starts a relay to the API server that a kubeconfig's current context names.
func Start(kubeconfig string) (*Relay, error) {
	config, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	r := &Relay{config: config}
	cluster, err := r.cluster()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	if r.server, err = url.Parse(cluster.Server); err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: server: %w", kubeconfig, err)
	}
	r.address = "127.0.0.1:0"
	return r, r.Mend()
}

// WriteKubeconfig writes a kubeconfig that goes through the relay.
func (r *Relay) WriteKubeconfig(file string) error {
	cluster, err := r.cluster()
	if err != nil {
		return err
	}
	if cluster.TLSServerName == "" {
		cluster.TLSServerName = r.server.Hostname()
	}
	through := *r.server
	through.Host = r.address
	cluster.Server = through.String()
	if err := clientcmd.WriteToFile(*r.config, file); err != nil {
		return fmt.Errorf("write kubeconfig %s: %w", file, err)
	}
	return nil
}

// Pause holds back the server's words until Resume.
func (r *Relay) Pause() { r.gate.Lock() }

// Resume lets them through again.
func (r *Relay) Resume() { r.gate.Unlock() }

// HoldRequests holds back the clients' words until ReleaseRequests: they reach the server later than they were said.
func (r *Relay) HoldRequests() { r.requests.Lock() }

// ReleaseRequests lets them through again.
func (r *Relay) ReleaseRequests() { r.requests.Unlock() }

// Cut ends every connection, and refuses each new one until Mend.
func (r *Relay) Cut() error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.listener == nil {
		return nil
	}
	err := r.listener.Close()
	r.listener = nil
	for _, connection := range r.connections {
		_ = connection.Close() // often closed already
	}
	r.connections = nil
	return err
}

// Mend lets clients through again.
func (r *Relay) Mend() error {
	listener, err := net.Listen("tcp", r.address)
	if err != nil {
		return fmt.Errorf("start a relay: %w", err)
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.listener, r.address = listener, listener.Addr().String()
	r.running.Go(func() { r.accept(listener) })
	return nil
}

// Close ends the relay and every connection through it.
func (r *Relay) Close() error {
	err := r.Cut()
	r.running.Wait()
	return err
}

func (r *Relay) cluster() (*api.Cluster, error) {
	context, ok := r.config.Contexts[r.config.CurrentContext]
	if !ok {
		return nil, errors.New("it has no current context")
	}
	cluster, ok := r.config.Clusters[context.Cluster]
	if !ok {
		return nil, fmt.Errorf("it has no cluster %q", context.Cluster)
	}
	return cluster, nil
}

func (r *Relay) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // closed
		}
		server, err := net.Dial("tcp", r.server.Host)
		if err != nil {
			_ = client.Close() // the client sees what it would see without a relay
			continue
		}
		r.keep(listener, client, server)
		r.running.Go(func() { pass(gated{server, &r.requests}, client) })
		r.running.Go(func() { pass(gated{client, &r.gate}, server) })
	}
}

// keep remembers connections for Cut and Close; those of a listener that is closed it ends.
func (r *Relay) keep(listener net.Listener, connections ...net.Conn) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.listener == listener {
		r.connections = append(r.connections, connections...)
		return
	}
	for _, connection := range connections {
		_ = connection.Close()
	}
}

// pass copies until one side ends, and then ends the other.
func pass(to io.WriteCloser, from io.Reader) {
	_, _ = io.Copy(to, from) // however it ends, it is over
	_ = to.Close()
}

// gated writes only while the gate is open.
type gated struct {
	net.Conn
	gate *sync.RWMutex
}

func (g gated) Write(data []byte) (int, error) {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.Conn.Write(data)
}
