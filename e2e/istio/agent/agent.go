// Package agent runs what the agent and the bootstrap of a release of Istio make of an injected pod, the real ones
// (e2e/istio/v1_31, e2e/istio/v1_26). Its injection, and what a proxy is sent later, are istiod's (e2e/istiod).
package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/compile"
	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
)

const (
	readyTimeout = time.Minute
	stopTimeout  = 15 * time.Second
)

// Agent is one that runs.
type Agent struct {
	run          *cluster.Run
	address, log string
	process      *process.Process
}

// program is where a release's agent is: the module's folder, and what the program is told first.
func program(version string) (folder string, command []string) {
	if version == istiod.Middle {
		return "e2e/istio/v1_26", []string{"agent"}
	}
	return "e2e/istio/v1_31", nil
}

// Start compiles the agent of a release, unless it is there already, runs it, and returns when it answers. It calls compiling
// before it compiles.
func Start(ctx context.Context, root string, run *cluster.Run, version string, compiling func()) (*Agent, error) {
	a := &Agent{run: run, log: run.Log("istio-agent")}
	if err := a.start(ctx, root, version, compiling); err != nil {
		return nil, errors.Join(fmt.Errorf("start the agent of Istio %s: %w", version, err), a.Stop())
	}
	return a, nil
}

func (a *Agent) start(ctx context.Context, root, version string, compiling func()) error {
	folder, command := program(version)
	binary, err := compile.Cached(ctx, root, folder, "-s -w -X istio.io/istio/pkg/version.buildVersion="+version, compiling)
	if err != nil {
		return err
	}
	module, err := compile.Command(ctx, filepath.Join(root, folder), "list", "-m", "-f", "{{.Dir}}", "istio.io/istio").Output()
	if err != nil {
		return fmt.Errorf("find Istio's module: %w", err)
	}
	template := filepath.Join(strings.TrimSpace(string(module)), "tools/packaging/common/envoy_bootstrap.json")
	if a.address, err = freeAddress(); err != nil {
		return err
	}
	a.process, err = process.Start(process.Spec{
		Name: "Istio's agent", Path: binary, Args: append(command, "--listen", a.address, "--template", template), Env: []string{"TMPDIR=" + a.run.Dir}, Log: a.log,
	})
	if err != nil {
		return err
	}
	return a.waitUntilReady(ctx)
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

func (a *Agent) waitUntilReady(ctx context.Context) error {
	last := errors.New("never asked")
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, readyTimeout, true, func(ctx context.Context) (bool, error) {
		if err := a.process.Ended(); err != nil {
			return false, err
		}
		_, last = a.ask(ctx, http.MethodGet, "/ready", nil)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait until it is ready: %w: %w; the end of its log:\n%s", err, last, process.Tail(a.log, 15))
	}
	return nil
}

// LogFile is where its log goes.
func (a *Agent) LogFile() string { return a.log }

// Stop ends it.
func (a *Agent) Stop() error {
	if a.process == nil {
		return nil
	}
	return a.process.Stop(stopTimeout)
}

// Bootstrap is what Istio's agent and its bootstrap make of a pod.
type Bootstrap struct {
	// ProxyConfig is the effective one: Istio's defaults, the env PROXY_CONFIG and the pod's annotation.
	ProxyConfig json.RawMessage `json:"proxyConfig"`
	Bootstrap   json.RawMessage `json:"bootstrap"`
	// Token is what the file of a native tracer's token holds.
	Token string `json:"token"`
}

// Bootstrap starts a pod's proxy as far as its configuration, with the keys NAME/KEY of Secrets that are in its namespace.
func (a *Agent) Bootstrap(ctx context.Context, pod *corev1.Pod, secrets map[string]string) (*Bootstrap, error) {
	body, err := json.Marshal(map[string]any{"pod": pod, "secrets": secrets})
	if err != nil {
		return nil, err
	}
	text, err := a.ask(ctx, http.MethodPost, "/bootstrap", body)
	if err != nil {
		return nil, fmt.Errorf("bootstrap of pod %s: %w", pod.Name, err)
	}
	out := new(Bootstrap)
	return out, errors.Join(json.Unmarshal(text, out), Show(a.run, pod, text))
}

// Made is as what a run is shown what an agent of Istio's makes of a pod.
const Made = "bootstraps"

// Shown is how it is shown.
type Shown struct {
	Pod  *corev1.Pod     `json:"pod"`
	Made json.RawMessage `json:"made"`
}

// Show shows it.
func Show(run *cluster.Run, pod *corev1.Pod, made []byte) error {
	text, err := json.Marshal(&Shown{pod, made})
	if err == nil {
		run.Show(Made, text)
	}
	return err
}

func (a *Agent) ask(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+a.address+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, bytes.TrimSpace(text))
	}
	return text, err
}
