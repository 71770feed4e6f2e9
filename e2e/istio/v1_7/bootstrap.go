package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/ioutil"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gogo/protobuf/types"
	"istio.io/api/annotation"
	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pkg/bootstrap"
	"istio.io/istio/pkg/bootstrap/platform"
	"istio.io/istio/pkg/config/constants"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/config/validation"
	"istio.io/istio/pkg/util/gogoprotomarshal"
	corev1 "k8s.io/api/core/v1"
)

// bootstrapper answers /bootstrap: {"pod": …, "secrets": {"NAME/KEY": VALUE}} with {"proxyConfig": …, "bootstrap": …}.
type bootstrapper struct {
	template string
	// gatewayMesh is the MeshConfig that a gateway's pod mounts; a sidecar has none but PROXY_CONFIG.
	gatewayMesh string
	// dir is where the agent leaves the token's file.
	dir string
}

type request struct {
	Pod     corev1.Pod        `json:"pod"`
	Secrets map[string]string `json:"secrets"`
}

type answer struct {
	ProxyConfig json.RawMessage `json:"proxyConfig"`
	Bootstrap   json.RawMessage `json:"bootstrap"`
	// Token is what the agent wrote to the file that the tracer reads.
	Token string `json:"token"`
}

func (o *options) newBootstrapper() (*bootstrapper, error) {
	text, err := ioutil.ReadFile(o.mesh)
	if err != nil {
		return nil, fmt.Errorf("read the mesh's configuration: %w", err)
	}
	dir, err := ioutil.TempDir(filepath.Dir(o.mesh), "pods")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	return &bootstrapper{template: o.template, gatewayMesh: string(text), dir: dir}, nil
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
	config, err := b.proxyConfig(&in.Pod, proxy, env)
	if err != nil {
		return nil, err
	}
	text, err := gogoprotomarshal.ToJSON(config)
	if err != nil {
		return nil, fmt.Errorf("write the ProxyConfig: %w", err)
	}
	own, err := ioutil.TempDir(b.dir, "pod")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(own) }()
	config.ConfigPath = own
	envoy, err := b.write(config, &in.Pod, proxy, env)
	if err != nil {
		return nil, err
	}
	token, err := ioutil.ReadFile(filepath.Join(own, "lightstep_access_token.txt"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return &answer{json.RawMessage(text), envoy, string(token)}, nil
}

// proxyConfig goes the way of Istio's agent, whose own is in its package main: its defaults, the mounted file, the env, the
// annotation, each over what came before; then its flags, and two annotations (istio@1.7.8 pilot/cmd/pilot-agent/config.go).
func (b *bootstrapper) proxyConfig(pod *corev1.Pod, proxy *corev1.Container, env map[string]string) (*meshconfig.ProxyConfig, error) {
	annotations, err := podInfo(pod, proxy)
	if err != nil {
		return nil, err
	}
	config, err := b.meshConfig(proxy, env["PROXY_CONFIG"], annotations[annotation.ProxyConfig.Name])
	if err != nil {
		return nil, err
	}
	concurrency, err := strconv.Atoi(flagOf(proxy, "--concurrency", "0", env))
	if err != nil {
		return nil, fmt.Errorf("read the flag --concurrency: %w", err)
	}
	proxyConfig := config.DefaultConfig
	proxyConfig.Concurrency = &types.Int32Value{Value: int32(concurrency)}
	proxyConfig.ServiceCluster = flagOf(proxy, "--serviceCluster", constants.ServiceClusterName, env)
	if err := validation.ValidateProxyConfig(proxyConfig); err != nil {
		return nil, fmt.Errorf("validate the ProxyConfig: %w", err)
	}
	if address, ok := annotations[annotation.SidecarDiscoveryAddress.Name]; ok {
		proxyConfig.DiscoveryAddress = address
	}
	if text, ok := annotations[annotation.SidecarStatusPort.Name]; ok {
		port, _ := strconv.Atoi(text) // what is no number is 0, as in the agent
		proxyConfig.StatusPort = int32(port)
	}
	return proxyConfig, nil
}

func (b *bootstrapper) meshConfig(proxy *corev1.Container, env, annotated string) (*meshconfig.MeshConfig, error) {
	config := mesh.DefaultMeshConfig()
	if mounts(proxy, "/etc/istio/config") {
		applied, err := mesh.ApplyMeshConfig(b.gatewayMesh, config)
		if err != nil {
			return nil, fmt.Errorf("apply the mounted mesh's configuration: %w", err)
		}
		config = *applied
	}
	for _, overlay := range []string{env, annotated} {
		if overlay == "" {
			continue
		}
		applied, err := mesh.ApplyProxyConfig(overlay, config)
		if err != nil {
			return nil, fmt.Errorf("apply a ProxyConfig: %w", err)
		}
		config = *applied
	}
	return &config, nil
}

// podInfo is what the agent reads of the pod's annotations, as the downward API writes them; a container that does not
// mount them has none.
func podInfo(pod *corev1.Pod, proxy *corev1.Container) (map[string]string, error) {
	if !mounts(proxy, "/etc/istio/pod") {
		return nil, nil
	}
	annotations, err := bootstrap.ParseDownwardAPI(formatMap(pod.Annotations))
	if err != nil {
		return nil, fmt.Errorf("read the pod's annotations: %w", err)
	}
	return annotations, nil
}

// flagOf is the value of one of the agent's flags, or its default.
func flagOf(proxy *corev1.Container, flag, otherwise string, env map[string]string) string {
	for i, argument := range proxy.Args {
		if argument == flag && i+1 < len(proxy.Args) {
			return expand(proxy.Args[i+1], env)
		}
	}
	return otherwise
}

// write makes Envoy's bootstrap (istio@1.7.8 pkg/bootstrap, as pkg/envoy calls it).
func (b *bootstrapper) write(config *meshconfig.ProxyConfig, pod *corev1.Pod, proxy *corev1.Container, env map[string]string) (json.RawMessage, error) {
	var out bytes.Buffer
	err := bootstrap.New(bootstrap.Config{
		Node:         strings.Join([]string{roleOf(proxy), podIP, pod.Name + "." + pod.Namespace, pod.Namespace + ".svc.cluster.local"}, "~"),
		Proxy:        config,
		PlatEnv:      &platform.Unknown{},
		LocalEnv:     variables(env),
		NodeIPs:      []string{podIP},
		PodName:      pod.Name,
		PodNamespace: pod.Namespace,
		PodIP:        net.ParseIP(podIP),

		DiscoveryHost: strings.Split(config.DiscoveryAddress, ":")[0],
	}).WriteTo(b.template, &out)
	if err != nil {
		return nil, fmt.Errorf("write the bootstrap: %w", err)
	}
	if !json.Valid(out.Bytes()) {
		return nil, fmt.Errorf("the bootstrap is not JSON: %s", &out)
	}
	return out.Bytes(), nil
}
