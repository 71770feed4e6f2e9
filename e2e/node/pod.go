package node

import (
	"cmp"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/e2e/balancer"
	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
)

// pod is one that is run.
type pod struct {
	node  *Node
	ip    string
	dir   string
	route *balancer.Replica
	ready atomic.Bool

	process *process.Process
	// config is the version of the ConfigMap that its file has.
	config string
	// stopping says that it was sent SIGTERM.
	stopping bool
}

func newPod(n *Node, found *corev1.Pod, ip string) *pod {
	p := &pod{node: n, ip: ip, dir: filepath.Join(n.dir, string(found.UID))}
	port := ""
	for _, c := range found.Spec.Containers[0].Ports {
		if c.Name == "webhook" {
			port = strconv.Itoa(int(c.ContainerPort))
		}
	}
	p.route = &balancer.Replica{Address: net.JoinHostPort(ip, port), Ready: p.ready.Load}
	return p
}

// look does what is due: what fails is tried with the next look.
func (p *pod) look(ctx context.Context, found *corev1.Pod) {
	leaving := found.DeletionTimestamp != nil
	if !leaving {
		if err := p.bringConfig(ctx, found); err != nil {
			return // as a kubelet waits for what is to be mounted
		}
	}
	if p.process == nil {
		if leaving {
			p.node.forget(ctx, found)
			return
		}
		if err := p.start(ctx, found); err != nil {
			return
		}
	}
	if leaving && !p.stopping {
		p.stopping = true
		p.process.Terminate()
	}
	p.ready.Store(p.probe(ctx, found))
	ended, failed := p.process.Exited()
	switch {
	case ended && leaving:
		p.node.forget(ctx, found)
	case ended && found.Spec.RestartPolicy == corev1.RestartPolicyAlways:
		p.process = nil
		p.node.note(func(known map[types.UID]Replica) { delete(known, found.UID) })
	case ended && failed:
		p.tell(ctx, found, corev1.PodFailed)
	case ended:
		p.tell(ctx, found, corev1.PodSucceeded)
	default:
		p.tell(ctx, found, corev1.PodRunning)
	}
}

func (p *pod) kill() {
	if p.process != nil {
		p.process.Kill()
	}
}

// bringConfig has the files of the pod's ConfigMap be as it is.
func (p *pod) bringConfig(ctx context.Context, found *corev1.Pod) error {
	for _, volume := range found.Spec.Volumes {
		if volume.ConfigMap == nil {
			continue
		}
		config, err := p.node.cluster.Client.CoreV1().ConfigMaps(found.Namespace).Get(ctx, volume.ConfigMap.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if config.ResourceVersion == p.config {
			continue
		}
		if err := writeFiles(filepath.Join(p.dir, volume.Name), config.Data); err != nil {
			return err
		}
		p.config = config.ResourceVersion
	}
	return nil
}

// writeFiles writes each under another name first, so that none is ever seen half.
func writeFiles(dir string, files map[string]string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, content := range files {
		temporary := filepath.Join(dir, ".new-"+name)
		if err := os.WriteFile(temporary, []byte(content), 0o600); err != nil {
			return err
		}
		if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// start runs the pod's container.
func (p *pod) start(ctx context.Context, found *corev1.Pod) error {
	account, err := p.node.cluster.As(ctx, found.Namespace, found.Spec.ServiceAccountName)
	if err != nil {
		return err
	}
	kubeconfig := filepath.Join(p.dir, "kubeconfig")
	if err := cluster.WriteKubeconfig(kubeconfig, account); err != nil {
		return err
	}
	args, err := p.arguments(ctx, found)
	if err != nil {
		return err
	}
	p.process, err = process.Start(process.Spec{
		Name: found.Name,
		Path: cmp.Or(p.node.others[found.Spec.Containers[0].Image], p.node.binary),
		Args: args,
		Env:  append(environment(found), "GOGC=100", "KUBECONFIG="+kubeconfig),
		Log:  p.node.Log(found.Namespace, found.Name),
	})
	if err == nil && found.Spec.Containers[0].ReadinessProbe != nil {
		p.node.note(func(known map[types.UID]Replica) {
			known[found.UID] = Replica{Pod: found.Name, Address: p.ip, PID: p.process.PID()}
		})
	}
	return err
}

// arguments are the container's, with its files where they are here, and its ports on the pod's own address.
func (p *pod) arguments(ctx context.Context, found *corev1.Pod) ([]string, error) {
	container := &found.Spec.Containers[0]
	args := slices.Clone(container.Args)
	for i, arg := range args {
		flag, value, _ := strings.Cut(arg, "=")
		if strings.HasPrefix(value, ":") {
			args[i] = flag + "=" + p.ip + value
		}
		for _, mount := range container.VolumeMounts {
			if rest, in := strings.CutPrefix(value, mount.MountPath+"/"); in {
				args[i] = flag + "=" + filepath.Join(p.dir, mount.Name, rest)
			}
		}
	}
	if args[0] != "check" {
		return args, nil
	}
	service, err := p.node.cluster.Client.CoreV1().Services(found.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	// There is no DNS here.
	return append(args, "--service-address="+net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port)))), nil
}

func environment(found *corev1.Pod) []string {
	var env []string
	for _, variable := range found.Spec.Containers[0].Env {
		value := variable.Value
		if from := variable.ValueFrom; from != nil && from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.namespace" {
			value = found.Namespace
		}
		env = append(env, variable.Name+"="+value)
	}
	return env
}

// probe asks what the readiness probe does.
func (p *pod) probe(ctx context.Context, found *corev1.Pod) bool {
	container := &found.Spec.Containers[0]
	probe := container.ReadinessProbe
	if probe == nil {
		return false
	}
	port := ""
	for _, c := range container.Ports {
		if c.Name == probe.HTTPGet.Port.StrVal {
			port = strconv.Itoa(int(c.ContainerPort))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(p.ip, port)+probe.HTTPGet.Path, nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// tell tells the API server, where it is news: or where somebody has told it otherwise, as the controller of nodes does while it
// has not heard of one.
func (p *pod) tell(ctx context.Context, found *corev1.Pod, phase corev1.PodPhase) {
	ready := corev1.ConditionFalse
	if p.ready.Load() {
		ready = corev1.ConditionTrue
	}
	if found.Status.Phase == phase && readiness(found) == ready {
		return
	}
	status := map[string]any{"status": corev1.PodStatus{
		Phase: phase, PodIP: p.ip, PodIPs: []corev1.PodIP{{IP: p.ip}},
		Conditions: []corev1.PodCondition{
			{Type: corev1.ContainersReady, Status: ready, LastTransitionTime: metav1.Now()},
			{Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.Now()},
		},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: found.Spec.Containers[0].Name, Image: found.Spec.Containers[0].Image, Ready: ready == corev1.ConditionTrue, Started: new(true),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
		}},
	}}
	patch, err := json.Marshal(status)
	if err != nil {
		return
	}
	_, _ = p.node.cluster.Client.CoreV1().Pods(found.Namespace).Patch(ctx, found.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
}

// readiness is what the API server has of it.
func readiness(found *corev1.Pod) corev1.ConditionStatus {
	for _, condition := range found.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status
		}
	}
	return ""
}
