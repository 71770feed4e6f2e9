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
	config   *api.Config
	server   *url.URL
	listener net.Listener
	// gate is held for reading by whoever passes on the server's words, and for writing while they are held back.
	gate sync.RWMutex

	mutex       sync.Mutex
	cut         bool
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
	if r.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start a relay: %w", err)
	}
	r.running.Go(r.accept)
	return r, nil
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
	through.Host = r.listener.Addr().String()
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

// Cut ends every connection, and each new one until Mend.
func (r *Relay) Cut() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.cut = true
	r.hangUp()
}

// Mend lets clients through again.
func (r *Relay) Mend() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.cut = false
}

// Close ends the relay and every connection through it.
func (r *Relay) Close() error {
	err := r.listener.Close()
	r.Cut()
	r.running.Wait()
	return err
}

// hangUp ends every connection.
func (r *Relay) hangUp() {
	for _, connection := range r.connections {
		_ = connection.Close() // often closed already
	}
	r.connections = nil
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

func (r *Relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		server, err := net.Dial("tcp", r.server.Host)
		if err != nil {
			_ = client.Close() // the client sees what it would see without a relay
			continue
		}
		r.keep(client, server)
		r.running.Go(func() { pass(server, client) })
		r.running.Go(func() { pass(gated{client, &r.gate}, server) })
	}
}

// keep remembers connections for Cut and Close; while it is cut, it ends them.
func (r *Relay) keep(connections ...net.Conn) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.connections = append(r.connections, connections...)
	if r.cut {
		r.hangUp()
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
