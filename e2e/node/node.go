package node

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/e2e/balancer"
	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
)

// name is the injector's, and that of its Service.
const name = "lightstep-injector"

// Pods has the cluster leave the injector's pods to this package, those of helm test included.
func Pods() cluster.Option {
	return cluster.WithoutKwok(selector)
}

const (
	selector = "app.kubernetes.io/name in (" + name + "," + name + "-check)"
	// interval is how often it is looked what has changed.
	interval = 100 * time.Millisecond
	// lag is how long it takes until a change of readiness is known to the Service.
	lag = 300 * time.Millisecond
)

// Node runs the injector's pods until it is closed.
type Node struct {
	cluster *cluster.Cluster
	binary  string
	// others are the programs of images that have another.
	others map[string]string
	dir    string

	// network is the second number of the pods' addresses, claim what keeps other runs from them.
	network int
	claim   net.Listener

	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	pods     map[types.UID]*pod
	services map[string]*balancer.Balancer // by address
	started  int

	known    sync.Mutex
	replicas map[types.UID]Replica
}

// Replica is a pod that is to serve, and its process.
type Replica struct {
	Pod, Address string
	PID          int
}

// Start begins to run the injector's pods, with the program. dir is a folder for what they have of files.
func Start(c *cluster.Cluster, binary, dir string) (*Node, error) {
	dir = filepath.Join(dir, "node")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	network, claim, err := claimNetwork()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	n := &Node{network: network, claim: claim, cluster: c, binary: binary, dir: dir, stop: stop, pods: map[types.UID]*pod{}, services: map[string]*balancer.Balancer{}, others: map[string]string{}, replicas: map[types.UID]Replica{}}
	n.running.Go(func() { n.follow(ctx) })
	return n, nil
}

// claimNetwork finds addresses for pods that no other run on this machine uses.
func claimNetwork() (network int, claim net.Listener, err error) {
	for network = 20; network < 120; network++ {
		if claim, err = net.Listen("tcp", fmt.Sprintf("127.%d.255.254:15999", network)); err == nil {
			return network, claim, nil
		}
	}
	return 0, nil, fmt.Errorf("claim addresses for pods: %w", err)
}

// Close ends all that it runs, at once.
func (n *Node) Close() error {
	n.stop()
	n.running.Wait()
	defer func() { _ = n.claim.Close() }()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.pods {
		p.kill()
	}
	for address, service := range n.services {
		if err := service.Close(); err != nil {
			return fmt.Errorf("close the Service at %s: %w", address, err)
		}
	}
	return nil
}

// Use has the pods of an image run another program than the one that Start was given.
func (n *Node) Use(image, binary string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.others[image] = binary
}

// Replicas are the pods that are to serve and whose process runs, in the order of their names.
func (n *Node) Replicas() []Replica {
	n.known.Lock()
	defer n.known.Unlock()
	return slices.SortedFunc(maps.Values(n.replicas), func(a, b Replica) int { return strings.Compare(a.Pod, b.Pod) })
}

// Balancers are what stands for the Services.
func (n *Node) Balancers() []*balancer.Balancer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Values(n.services))
}

// note changes what Replicas returns.
func (n *Node) note(change func(map[types.UID]Replica)) {
	n.known.Lock()
	defer n.known.Unlock()
	change(n.replicas)
}

// Log is the file of a pod's log.
func (n *Node) Log(namespace, pod string) string {
	return filepath.Join(n.dir, namespace+"_"+pod+".log")
}

// Logs are the files of all logs there have been.
func (n *Node) Logs() ([]string, error) { return filepath.Glob(filepath.Join(n.dir, "*.log")) }

// follow looks again and again; where the API server does not answer, it looks again.
func (n *Node) follow(ctx context.Context) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		n.look(ctx)
	}
}

func (n *Node) look(ctx context.Context) {
	services, err := n.cluster.Client.CoreV1().Services("").List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return
	}
	pods, err := n.cluster.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range services.Items {
		n.serve(&services.Items[i])
	}
	there := map[types.UID]bool{}
	for i := range pods.Items {
		found := &pods.Items[i]
		there[found.UID] = true
		if n.pods[found.UID] == nil && found.Spec.NodeName != "" && found.DeletionTimestamp == nil {
			n.begin(found)
		}
		if p := n.pods[found.UID]; p != nil {
			p.look(ctx, found)
		} else if found.DeletionTimestamp != nil {
			n.forget(ctx, found) // it has never run
		}
	}
	for uid, p := range n.pods {
		if !there[uid] {
			n.end(uid, p)
		}
	}
}

// serve plays kube-proxy for a Service.
func (n *Node) serve(service *corev1.Service) {
	address := net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port)))
	if n.services[address] != nil {
		return
	}
	if started, err := balancer.Start(address, lag); err == nil {
		n.services[address] = started
		for _, p := range n.pods {
			started.Add(p.route)
		}
	}
}

// begin takes a pod on.
func (n *Node) begin(found *corev1.Pod) {
	n.started++
	p := newPod(n, found, fmt.Sprintf("127.%d.%d.%d", n.network, n.started/250, n.started%250+1))
	n.pods[found.UID] = p
	for _, service := range n.services {
		service.Add(p.route)
	}
}

// end lets go of a pod that is gone.
func (n *Node) end(uid types.UID, p *pod) {
	for _, service := range n.services {
		service.Remove(p.route)
	}
	p.kill()
	delete(n.pods, uid)
	n.note(func(known map[types.UID]Replica) { delete(known, uid) })
}

// forget has the API server forget a pod that has ended.
func (n *Node) forget(ctx context.Context, found *corev1.Pod) {
	_ = n.cluster.Client.CoreV1().Pods(found.Namespace).Delete(ctx, found.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64(0)), Preconditions: &metav1.Preconditions{UID: &found.UID},
	}) // what fails is tried with the next look
}
