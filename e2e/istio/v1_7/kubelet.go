package main

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// proxyOf finds the sidecar.
func proxyOf(pod *corev1.Pod) (*corev1.Container, error) {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == "istio-proxy" {
			return &pod.Spec.Containers[i], nil
		}
	}
	return nil, fmt.Errorf("pod %s/%s has no container istio-proxy", pod.Namespace, pod.Name)
}

// mountsMesh tells whether a container has the MeshConfig as a file, as the gateways of 1.7's chart do.
func mountsMesh(c *corev1.Container) bool {
	for _, mount := range c.VolumeMounts {
		if mount.MountPath == "/etc/istio/config" {
			return true
		}
	}
	return false
}

// environment is a stand-in for a kubelet: values with $(NAME) of what stands earlier in the list, and references to
// Secrets and to the pod's own fields. An optional Secret that is not there leaves its variable out.
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

func resolve(pod *corev1.Pod, from *corev1.EnvVarSource, secrets map[string]string) (value string, found bool, err error) {
	if key := from.SecretKeyRef; key != nil {
		value, found = secrets[key.Name+"/"+key.Key]
		if !found && (key.Optional == nil || !*key.Optional) {
			return "", false, fmt.Errorf("Secret %s has no key %s", key.Name, key.Key)
		}
		return value, found, nil
	}
	if from.FieldRef == nil {
		return "", false, nil // resources: nothing that is looked at depends on them
	}
	switch from.FieldRef.FieldPath {
	case "metadata.name":
		return pod.Name, true, nil
	case "metadata.namespace":
		return pod.Namespace, true, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, true, nil
	}
	return podIP, true, nil
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
