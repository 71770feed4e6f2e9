package main

import (
	"fmt"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// podIP is every pod's: no network is there, and nothing that is looked at depends on it.
const podIP = "10.0.0.1"

// proxyOf finds the sidecar, or the gateway, wherever it stands: native sidecars are init containers.
func proxyOf(pod *corev1.Pod) (*corev1.Container, error) {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == "istio-proxy" {
				return &list[i], nil
			}
		}
	}
	return nil, fmt.Errorf("pod %s/%s has no container istio-proxy", pod.Namespace, pod.Name)
}

// roleOf is the proxy's kind, which the agent takes from its arguments: sidecar, or router for a gateway.
func roleOf(proxy *corev1.Container) string {
	if len(proxy.Args) > 1 && proxy.Args[0] == "proxy" {
		return proxy.Args[1]
	}
	return "sidecar"
}

// mounts tells whether a container has anything at a path.
func mounts(c *corev1.Container, path string) bool {
	for _, mount := range c.VolumeMounts {
		if filepath.Clean(mount.MountPath) == path {
			return true
		}
	}
	return false
}

// formatMap is how the downward API writes a map into a file (k8s.io/kubernetes pkg/fieldpath); its order is of no account.
func formatMap(values map[string]string) string {
	var out strings.Builder
	for name, value := range values {
		fmt.Fprintf(&out, "%s=%q\n", name, value)
	}
	return out.String()
}

// environment is a container's, as a kubelet makes it: values with $(NAME) of what stands earlier in the list, and
// references to Secrets and to the pod's own fields. An optional Secret that is not there leaves its variable out.
func environment(pod *corev1.Pod, c *corev1.Container, secrets map[string]string) (map[string]string, error) {
	env := map[string]string{}
	for _, variable := range c.Env {
		if variable.ValueFrom == nil {
			env[variable.Name] = expand(variable.Value, env)
			continue
		}
		value, found, err := resolve(pod, variable.ValueFrom, secrets)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", variable.Name, err)
		}
		if found {
			env[variable.Name] = value
		}
	}
	return env, nil
}

// variables is an environment as a process has it.
func variables(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}

func resolve(pod *corev1.Pod, from *corev1.EnvVarSource, secrets map[string]string) (value string, found bool, err error) {
	if key := from.SecretKeyRef; key != nil {
		value, found = secrets[key.Name+"/"+key.Key]
		if !found && (key.Optional == nil || !*key.Optional) {
			return "", false, fmt.Errorf("Secret %s has no key %s", key.Name, key.Key)
		}
		return value, found, nil
	}
	if from.FieldRef == nil {
		return "", false, nil // limits of resources, and ConfigMaps: nothing that is looked at depends on them
	}
	value, err = field(pod, from.FieldRef.FieldPath)
	return value, err == nil, err
}

func field(pod *corev1.Pod, path string) (string, error) {
	for prefix, values := range map[string]map[string]string{"metadata.annotations['": pod.Annotations, "metadata.labels['": pod.Labels} {
		if strings.HasPrefix(path, prefix) {
			return values[strings.TrimSuffix(strings.TrimPrefix(path, prefix), "']")], nil
		}
	}
	value, known := map[string]string{
		"metadata.name":           pod.Name,
		"metadata.namespace":      pod.Namespace,
		"metadata.uid":            string(pod.UID),
		"spec.nodeName":           pod.Spec.NodeName,
		"spec.serviceAccountName": pod.Spec.ServiceAccountName,
		"status.podIP":            podIP,
		"status.hostIP":           podIP,
	}[path]
	if !known {
		return "", fmt.Errorf("the field %s is not known", path)
	}
	return value, nil
}

// expand replaces $(NAME) by the value of what is known, and $$ by $ (k8s.io/kubernetes third_party/forked/golang/expansion).
func expand(text string, env map[string]string) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			out.WriteByte(text[i])
			continue
		}
		end := strings.IndexByte(text[i:], ')')
		switch {
		case text[i+1] == '$':
			out.WriteByte('$')
			i++
		case text[i+1] == '(' && end > 0:
			name := text[i+2 : i+end]
			if value, ok := env[name]; ok {
				out.WriteString(value)
			} else {
				out.WriteString(text[i : i+end+1])
			}
			i += end
		default:
			out.WriteByte('$')
		}
	}
	return out.String()
}
