package injector

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
)

// Options says how the injector is run.
type Options struct {
	// Binary is what Build gave.
	Binary string
	// Config is the configuration file.
	Config string
	// Flags are added to those of `serve`.
	Flags []string
	// Env is added to its environment.
	Env []string
	// Kubeconfig is the one that it is given; the cluster's own if empty.
	Kubeconfig string
	// Certificate has it take its serving certificate from the cluster: it is given no files.
	Certificate bool
	// Name tells replicas apart; lightstep-injector if empty.
	Name string
	// WebhookHost is the name or address under which the API server of an existing cluster reaches this machine.
	WebhookHost string
}

// Injector is one that is registered, and, between Start and Stop or Kill, one that runs.
type Injector struct {
	options Options
	cluster *cluster.Cluster
	run     *cluster.Run

	listen, health, metrics string
	certFile, keyFile       string
	// arguments are those of the command line ahead of the ones that say where it listens and what it reads.
	arguments  []string
	registered []func(context.Context) error // each takes one thing away again
	process    *process.Process
}

const (
	// readyTimeout bounds the time from its start until the injector answers.
	readyTimeout = 30 * time.Second
	// drainTimeout bounds the time that it takes to end: longer than it goes on serving by design.
	drainTimeout = 30 * time.Second
)

// New makes the certificates, picks the ports and registers the injector in the cluster. It does not run yet.
func New(ctx context.Context, c *cluster.Cluster, run *cluster.Run, options Options) (*Injector, error) {
	i, ca, err := prepare(c, run, options)
	if err != nil {
		return nil, err
	}
	if err := i.register(ctx, ca.PEM); err != nil {
		return nil, errors.Join(fmt.Errorf("register the webhook: %w", err), i.Unregister(ctx))
	}
	return i, nil
}

// NewUncalled is New for an injector that the API server does not call: it is not registered, and only its controllers
// are of interest.
func NewUncalled(c *cluster.Cluster, run *cluster.Run, options Options) (*Injector, error) {
	i, _, err := prepare(c, run, options)
	return i, err
}

func prepare(c *cluster.Cluster, run *cluster.Run, options Options) (*Injector, *CA, error) {
	i := &Injector{options: options, cluster: c, run: run, arguments: []string{"serve"}}
	ca, err := NewCA("webhook CA")
	if err != nil {
		return nil, nil, err
	}
	if err := i.pickAddresses(); err != nil {
		return nil, nil, err
	}
	if i.certFile, i.keyFile, err = ca.WriteServing(run.Dir, i.serverName()); err != nil {
		return nil, nil, err
	}
	return i, ca, nil
}

// Start runs the injector, and returns when it says that it is ready.
func (i *Injector) Start(ctx context.Context) error {
	if err := i.Launch(); err != nil {
		return err
	}
	return i.waitUntilReady(ctx)
}

// Launch runs the injector, and returns at once.
func (i *Injector) Launch() error {
	args := slices.Concat(i.arguments, []string{"--config", i.options.Config, "--listen", i.listen, "--health-listen", i.health, "--metrics-listen", i.metrics})
	if !i.options.Certificate {
		args = append(args, "--tls-cert-file", i.certFile, "--tls-key-file", i.keyFile)
	}
	started, err := process.Start(process.Spec{
		Name: "lightstep-injector",
		Path: i.options.Binary,
		Args: slices.Concat(args, i.options.Flags),
		// Its memory is of interest, so it collects as it would elsewhere, whatever the tests are compiled and run with.
		Env: append([]string{"GOGC=100", "KUBECONFIG=" + cmp.Or(i.options.Kubeconfig, i.cluster.Kubeconfig), "POD_NAMESPACE=" + Namespace}, i.options.Env...),
		Log: i.LogFile(),
	})
	if err != nil {
		return err
	}
	i.process = started
	return nil
}

// Ended returns an error, with the end of the log, if it has ended.
func (i *Injector) Ended() error { return i.process.Ended() }

// Stop asks the injector to end, as a kubelet would, and waits until it has.
func (i *Injector) Stop() error {
	if i.process == nil {
		return nil
	}
	return i.process.Stop(drainTimeout)
}

// Kill ends it at once, as a crash would.
func (i *Injector) Kill() {
	if i.process != nil {
		i.process.Kill()
	}
}

// URL is where it answers admission requests.
func (i *Injector) URL() string { return "https://" + i.listen + path }

// Address is where it listens for them.
func (i *Injector) Address() string { return i.listen }

// LogFile is where its log goes.
func (i *Injector) LogFile() string { return i.run.Log(cmp.Or(i.options.Name, "lightstep-injector")) }

func (i *Injector) waitUntilReady(ctx context.Context) error {
	last := errors.New("never asked")
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, readyTimeout, true, func(ctx context.Context) (bool, error) {
		if err := i.process.Ended(); err != nil {
			return false, err
		}
		last = i.Ready(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait until the injector is ready: %w: %w; the end of its log:\n%s", err, last, process.Tail(i.LogFile(), 15))
	}
	return nil
}

// PID is the process's.
func (i *Injector) PID() int { return i.process.PID() }

// Ready asks the injector whether it is ready, and returns why not.
func (i *Injector) Ready(ctx context.Context) error {
	response, err := get(ctx, "http://"+i.health+"/readyz")
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	reason, _ := io.ReadAll(response.Body) // to its end in any case, so that the connection is kept
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /readyz: %s: %s", response.Status, bytes.TrimSpace(reason))
	}
	return nil
}

func get(ctx context.Context, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(request)
}

// pickAddresses picks free ports on the Service's ClusterIP: no connection has its own end there, so that what is killed and
// started again finds them free. Where the API server is on another machine, the webhook's is on every interface.
func (i *Injector) pickAddresses() error {
	host, local := clusterIP, clusterIP
	if i.options.WebhookHost != "" {
		host, local = "", "127.0.0.1"
	}
	var listeners []net.Listener // all at once: a port that is free again may be picked again
	defer func() {
		for _, listener := range listeners {
			_ = listener.Close()
		}
	}()
	for _, address := range []struct {
		to   *string
		host string
	}{{&i.listen, host}, {&i.health, local}, {&i.metrics, local}} {
		listener, err := net.Listen("tcp", net.JoinHostPort(address.host, "0"))
		if err != nil {
			return fmt.Errorf("find a free port: %w", err)
		}
		listeners = append(listeners, listener)
		*address.to = net.JoinHostPort(address.host, strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
	}
	return nil
}

// WriteConfig puts a configuration into a file as an editor does: under another name first, then renamed.
func WriteConfig(file string, config []byte) error {
	temporary := filepath.Join(filepath.Dir(file), ".new-"+filepath.Base(file))
	if err := os.WriteFile(temporary, config, 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if err := os.Rename(temporary, file); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}
