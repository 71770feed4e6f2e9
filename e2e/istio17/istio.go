package istio17

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/compile"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/istio/agent"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
)

const (
	// Version is the release of the module that e2e/istio/v1_7 pins.
	Version = "1.7.8"
	// Namespace is Istio's own, which its chart's names depend on.
	Namespace = "istio-system"

	folder = "e2e/istio/v1_7"
	// port is free on a ClusterIP of its own; the chart's 443 would take rights.
	port         = 15017
	readyTimeout = time.Minute
	stopTimeout  = 15 * time.Second
)

// Options are what an installation may change.
type Options struct {
	// Revision is empty for the default one.
	Revision string
	// Tracer is the values' global.proxy.tracer; that of the chart if empty.
	Tracer string
	// Mesh takes the place of the chart's MeshConfig, unless it is empty.
	Mesh string
}

// Istio is one that runs.
type Istio struct {
	options Options
	cluster *cluster.Cluster
	run     *cluster.Run
	dir     string
	// claimed is the Service's ClusterIP.
	claimed *cluster.ServiceIP
	// client trusts this run's certificate alone, so no other run's is taken for it.
	client  *http.Client
	process *process.Process
}

// Build compiles the program, unless it is there already.
func Build(ctx context.Context, root string, compiling func()) (string, error) {
	return compile.Cached(ctx, root, folder, "-s -w", compiling)
}

// Start installs it and returns when it answers.
func Start(ctx context.Context, root string, c *cluster.Cluster, run *cluster.Run, binary string, o Options) (*Istio, error) {
	i := &Istio{options: o, cluster: c, run: run, dir: filepath.Join(run.Dir, "istio17-"+o.Revision)}
	if err := i.start(ctx, root, binary); err != nil {
		return nil, errors.Join(fmt.Errorf("start Istio %s: %w", Version, err), i.Stop())
	}
	return i, nil
}

// trusting makes a client that trusts one CA.
func trusting(caBundle []byte, serverName string) *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(caBundle)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: serverName}}}
}

func (i *Istio) start(ctx context.Context, root, binary string) error {
	err := os.Mkdir(i.dir, 0o755)
	if err != nil {
		return err
	}
	if i.claimed, err = cluster.ClaimServiceIP(); err != nil {
		return err
	}
	chart, err := readChart(ctx, filepath.Join(root, folder), i.options)
	if err != nil {
		return err
	}
	ca, err := injector.NewCA("Istio's")
	if err != nil {
		return err
	}
	serverName := i.service() + "." + Namespace + ".svc"
	certFile, keyFile, err := ca.WriteServing(i.dir, serverName)
	if err != nil {
		return err
	}
	i.client = trusting(ca.PEM, serverName)
	args := []string{"--listen", i.address(), "--tls-cert", certFile, "--tls-key", keyFile, "--template", chart.template, "--revision", i.options.Revision}
	for name, text := range map[string]string{"config": chart.injector.Data["config"], "values": chart.injector.Data["values"], "mesh": chart.mesh.Data["mesh"]} {
		file := filepath.Join(i.dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		args = append(args, "--"+name, file)
	}
	if i.process, err = process.Start(process.Spec{Name: "Istio " + Version, Path: binary, Args: args, Log: i.LogFile()}); err != nil {
		return err
	}
	if err := i.waitUntilReady(ctx); err != nil {
		return err
	}
	return i.install(ctx, chart, ca.PEM)
}

func (i *Istio) service() string {
	if i.options.Revision == "" {
		return "istiod"
	}
	return "istiod-" + i.options.Revision
}

func (i *Istio) address() string { return net.JoinHostPort(i.claimed.Address, strconv.Itoa(port)) }

// LogFile is where its log goes.
func (i *Istio) LogFile() string { return i.run.Log("istio17-" + i.options.Revision) }

// Stop ends it.
func (i *Istio) Stop() error {
	var errs []error
	if i.process != nil {
		errs = append(errs, i.process.Stop(stopTimeout))
	}
	if i.claimed != nil {
		errs = append(errs, i.claimed.Close())
	}
	return errors.Join(errs...)
}

func (i *Istio) waitUntilReady(ctx context.Context) error {
	last := errors.New("never asked")
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, readyTimeout, true, func(ctx context.Context) (bool, error) {
		if err := i.process.Ended(); err != nil {
			return false, err
		}
		_, last = i.post(ctx, "/ready", nil)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait until it is ready: %w: %w; the end of its log:\n%s", err, last, process.Tail(i.LogFile(), 15))
	}
	return nil
}

// URL is where its webhook answers.
func (i *Istio) URL() string { return "https://" + i.address() + "/inject" }

// Bootstrap is what Istio's agent and its bootstrap make of a pod.
type Bootstrap struct {
	ProxyConfig json.RawMessage `json:"proxyConfig"`
	Bootstrap   json.RawMessage `json:"bootstrap"`
	// Token is what the tracer's token file holds.
	Token string `json:"token"`
}

// Bootstrap starts a pod's proxy as far as its configuration, with the keys NAME/KEY of Secrets that are in its namespace.
func (i *Istio) Bootstrap(ctx context.Context, pod *corev1.Pod, secrets map[string]string) (*Bootstrap, error) {
	body, err := json.Marshal(map[string]any{"pod": pod, "secrets": secrets})
	if err != nil {
		return nil, err
	}
	text, err := i.post(ctx, "/bootstrap", body)
	if err != nil {
		return nil, fmt.Errorf("bootstrap of pod %s: %w", pod.Name, err)
	}
	out := new(Bootstrap)
	return out, errors.Join(json.Unmarshal(text, out), agent.Show(i.run, pod, text))
}

func (i *Istio) post(ctx context.Context, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+i.address()+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := i.client.Do(request)
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
