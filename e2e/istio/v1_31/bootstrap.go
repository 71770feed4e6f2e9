package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pilot/cmd/pilot-agent/config"
	"istio.io/istio/pkg/bootstrap"
	"istio.io/istio/pkg/config/constants"
	"istio.io/istio/pkg/util/protomarshal"
	corev1 "k8s.io/api/core/v1"
)

// The agent's defaults, which its flags and environment may change (istio@1.31.0 pilot/cmd/pilot-agent/options).
const (
	statusPort     = 15021
	prometheusPort = 15090
	meshFile       = "./etc/istio/config/mesh"
)

// bootstrapper answers /bootstrap: {"pod": …, "secrets": {"NAME/KEY": VALUE}} with {"proxyConfig": …, "bootstrap": …}.
type bootstrapper struct {
	template string
	// dir is the container's root folder, and the process's: Istio's agent reads its files by relative names. So there is
	// one container at a time.
	dir string
	mu  sync.Mutex
}

type request struct {
	Pod     corev1.Pod        `json:"pod"`
	Secrets map[string]string `json:"secrets"`
}

type answer struct {
	ProxyConfig json.RawMessage `json:"proxyConfig"`
	Bootstrap   json.RawMessage `json:"bootstrap"`
	// Token is what the agent wrote to the file of a native tracer, if there is one.
	Token string `json:"token"`
}

func newBootstrapper(template string) (*bootstrapper, error) {
	template, err := filepath.Abs(template)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "istio-agent-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	return &bootstrapper{template: template, dir: dir}, os.Chdir(dir)
}

func (b *bootstrapper) close() { _ = os.RemoveAll(b.dir) }

func (b *bootstrapper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in request
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out, err := b.bootstrap(&in)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

func (b *bootstrapper) bootstrap(in *request) (*answer, error) {
	proxy, err := proxyOf(&in.Pod)
	if err != nil {
		return nil, err
	}
	env, err := environment(&in.Pod, proxy, in.Secrets)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := writePodInfo(b.dir, &in.Pod, proxy); err != nil {
		return nil, fmt.Errorf("write the container's files: %w", err)
	}
	effective, err := config.ConstructProxyConfig(meshFile, constants.ServiceClusterName, env["PROXY_CONFIG"], 0)
	if err != nil {
		return nil, fmt.Errorf("construct the ProxyConfig: %w", err)
	}
	text, err := protomarshal.Marshal(effective)
	if err != nil {
		return nil, fmt.Errorf("write the ProxyConfig: %w", err)
	}
	envoy, token, err := b.write(effective, &in.Pod, proxy, env)
	return &answer{text, envoy, token}, err
}

// write makes Envoy's bootstrap, and the files beside it, as the agent does (istio@1.31.0 pkg/istio-agent/agent.go).
func (b *bootstrapper) write(effective *meshconfig.ProxyConfig, pod *corev1.Pod, proxy *corev1.Container, env map[string]string) (json.RawMessage, string, error) {
	own, err := os.MkdirTemp(b.dir, "config-")
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = os.RemoveAll(own) }()
	effective.ConfigPath = own // a pod's own may be any of this machine's
	var pilotSAN []string
	if effective.GetControlPlaneAuthPolicy() == meshconfig.AuthenticationPolicy_MUTUAL_TLS {
		pilotSAN = []string{config.GetPilotSan(effective.GetDiscoveryAddress())}
	}
	node, err := bootstrap.GetNodeMetaData(bootstrap.MetadataOptions{
		ID:                  strings.Join([]string{roleOf(proxy), podIP, pod.Name + "." + pod.Namespace, pod.Namespace + ".svc.cluster.local"}, "~"),
		Envs:                variables(env),
		InstanceIPs:         []string{podIP},
		ProxyConfig:         effective,
		PilotSubjectAltName: pilotSAN,
		EnvoyStatusPort:     statusPort,
		EnvoyPrometheusPort: prometheusPort,
	})
	if err != nil {
		return nil, "", fmt.Errorf("derive the node's metadata: %w", err)
	}
	var out bytes.Buffer
	if err := bootstrap.New(bootstrap.Config{Node: node}).WriteTo(b.template, &out); err != nil {
		return nil, "", fmt.Errorf("write the bootstrap: %w", err)
	}
	if !json.Valid(out.Bytes()) {
		return nil, "", fmt.Errorf("the bootstrap is not JSON: %s", &out)
	}
	token, err := os.ReadFile(filepath.Join(own, "lightstep_access_token.txt"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, "", err
	}
	return out.Bytes(), string(token), nil
}

// writePodInfo writes the pod's annotations and labels under dir, the container's root, as the downward API does where
// the container mounts it; where it does not, the agent finds none.
func writePodInfo(dir string, pod *corev1.Pod, c *corev1.Container) error {
	folder := filepath.Join(dir, "etc/istio/pod")
	if err := os.RemoveAll(folder); err != nil || !mounts(c, "/etc/istio/pod") {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, values := range map[string]map[string]string{"annotations": pod.Annotations, "labels": pod.Labels} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(formatMap(values)), 0o600); err != nil {
			return err
		}
	}
	return nil
}
