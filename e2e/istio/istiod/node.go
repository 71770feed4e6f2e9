package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"istio.io/api/annotation"
	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pkg/bootstrap"
	"istio.io/istio/pkg/config/mesh"
	corev1 "k8s.io/api/core/v1"
)

// nodeTemplate prints the part of the bootstrap by which a proxy makes itself known. What stands in it is Istio's own.
const nodeTemplate = `{"id": "{{ .nodeID }}", "cluster": "{{ .cluster }}", "metadata": {{ .meta_json_str }}}`

// nodeOf returns the node as which the proxy of a pod makes itself known: derived by Istio's own code for the agent,
// from the container's environment and the pod's annotations.
func nodeOf(pod *corev1.Pod) (*core.Node, error) {
	container, err := proxyContainer(pod)
	if err != nil {
		return nil, err
	}
	environment := environmentOf(pod, container)
	config, err := proxyConfig(pod, environment)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "node-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	config.ConfigPath = dir // where some tracers write files
	node, err := bootstrap.GetNodeMetaData(bootstrap.MetadataOptions{
		ID:          nodeID(pod, container),
		Envs:        environment,
		InstanceIPs: []string{pod.Status.PodIP},
		ProxyConfig: config,
	})
	if err != nil {
		return nil, fmt.Errorf("derive the node's metadata: %w", err)
	}
	return render(bootstrap.New(bootstrap.Config{Node: node}), dir)
}

func render(instance bootstrap.Instance, dir string) (*core.Node, error) {
	file := filepath.Join(dir, "node.json.tmpl")
	if err := os.WriteFile(file, []byte(nodeTemplate), 0o600); err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := instance.WriteTo(file, &text); err != nil {
		return nil, fmt.Errorf("render the node: %w", err)
	}
	node := &core.Node{}
	if err := protojson.Unmarshal(text.Bytes(), node); err != nil {
		return nil, fmt.Errorf("read the rendered node: %w", err)
	}
	return node, nil
}

func proxyContainer(pod *corev1.Pod) (*corev1.Container, error) {
	all := slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers)
	index := slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == "istio-proxy" })
	if index < 0 {
		return nil, errors.New("the pod has no container istio-proxy")
	}
	if len(all[index].Args) < 2 || all[index].Args[0] != "proxy" {
		return nil, fmt.Errorf("the arguments of istio-proxy are %q, not those of Istio's agent", all[index].Args)
	}
	return &all[index], nil
}

// nodeID is type~address~name~domain; the type is the second argument of the agent.
func nodeID(pod *corev1.Pod, container *corev1.Container) string {
	domain := pod.Namespace + ".svc.cluster.local"
	return strings.Join([]string{container.Args[1], pod.Status.PodIP, pod.Name + "." + pod.Namespace, domain}, "~")
}

// proxyConfig merges as the agent does: Istio's defaults, then the environment, then the annotation.
func proxyConfig(pod *corev1.Pod, environment []string) (*meshconfig.ProxyConfig, error) {
	merged := mesh.DefaultMeshConfig()
	for _, layer := range []string{lookup(environment, "PROXY_CONFIG"), pod.Annotations[annotation.ProxyConfig.Name]} {
		if layer == "" {
			continue
		}
		next, err := mesh.ApplyProxyConfig(layer, merged)
		if err != nil {
			return nil, fmt.Errorf("apply a ProxyConfig: %w", err)
		}
		merged = next
	}
	return merged.GetDefaultConfig(), nil
}

// environmentOf is the container's environment as a kubelet would make it, but for limits of resources, which say
// nothing about the node.
func environmentOf(pod *corev1.Pod, container *corev1.Container) []string {
	var environment []string
	for _, variable := range container.Env {
		value := variable.Value
		if variable.ValueFrom != nil && variable.ValueFrom.FieldRef != nil {
			value = field(pod, variable.ValueFrom.FieldRef.FieldPath)
		}
		environment = append(environment, variable.Name+"="+value)
	}
	return environment
}

func field(pod *corev1.Pod, path string) string {
	return map[string]string{
		"metadata.name":           pod.Name,
		"metadata.namespace":      pod.Namespace,
		"metadata.uid":            string(pod.UID),
		"spec.nodeName":           pod.Spec.NodeName,
		"spec.serviceAccountName": cmp.Or(pod.Spec.ServiceAccountName, "default"),
		"status.hostIP":           pod.Status.HostIP,
		"status.podIP":            pod.Status.PodIP,
	}[path]
}

func lookup(environment []string, name string) string {
	for _, variable := range environment {
		if value, found := strings.CutPrefix(variable, name+"="); found {
			return value
		}
	}
	return ""
}
