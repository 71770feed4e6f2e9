package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/lightstep-injector/lightstep-injector/e2e/process"
)

// Cluster is one that answers.
type Cluster struct {
	// Config and Client reach it as an administrator, and so does the file Kubeconfig.
	Config     *rest.Config
	Client     *kubernetes.Clientset
	Kubeconfig string
	// Kubectl is the path of a kubectl of the same version.
	Kubectl string
	// AuditLog is the file of the audit log; empty where there is none.
	AuditLog string
	// Existing is true for a cluster that Start did not make: what was put there has to be taken away again.
	Existing bool

	auditPolicy string
	// webhookUser names the webhooks to which the API server shows the certificate that issueClient writes; nil for none.
	webhookUser string
	issueClient func(dir string) (certFile, keyFile string, err error)
	// others are the pods, by label selector, that kwok leaves to somebody else.
	others string
	// quota is how many bytes etcd may take; its own default where it is empty.
	quota string
	// garbageStays says that no object is deleted for want of its owner.
	garbageStays bool
	env          *envtest.Environment
	components   []*process.Process
}

// Connect uses a cluster that is there already, with the kubectl in PATH.
func Connect(kubeconfig string) (*Cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		return nil, fmt.Errorf("use the cluster of %s: install kubectl: %w", kubeconfig, err)
	}
	config.QPS, config.Burst = 100, 200
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("use the cluster of %s: %w", kubeconfig, err)
	}
	return &Cluster{Config: config, Client: client, Kubeconfig: kubeconfig, Kubectl: kubectl, Existing: true}, nil
}

// Start brings up a cluster from the binary that Build gave, with its files in the run's folder, and returns when pods
// can be created and scheduled. What had been started when it fails is stopped.
func Start(ctx context.Context, binary string, run *Run, options ...Option) (*Cluster, error) {
	c := &Cluster{Kubeconfig: filepath.Join(run.Dir, "kubeconfig"), Kubectl: filepath.Join(run.Dir, "bin", "kubectl")}
	for _, option := range options {
		option(c, run)
	}
	if err := c.start(ctx, binary, run); err != nil {
		return nil, errors.Join(fmt.Errorf("start the control plane: %w", err), c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, binary string, run *Run) error {
	if err := link(binary, filepath.Join(run.Dir, "bin")); err != nil {
		return err
	}
	if err := c.startAPIServer(run); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := os.WriteFile(c.Kubeconfig, c.env.KubeConfig, 0o600); err != nil {
		return err
	}
	if err := c.startComponents(binary, run); err != nil {
		return err
	}
	if err := createNodes(ctx, c.Client); err != nil {
		return err
	}
	return c.waitUntilUsable(ctx)
}

// names are those under which the binary is each component.
func names() []string {
	return []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok"}
}

// link gives the binary the names by which envtest, and a user, know its parts.
func link(binary, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, name := range names() {
		if err := os.Symlink(binary, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// startComponents starts what envtest does not.
func (c *Cluster) startComponents(binary string, run *Run) error {
	stages := filepath.Join(run.Dir, "kwok-stages.yaml")
	output, err := exec.Command(binary, "kwok-stages").Output()
	if err != nil {
		return fmt.Errorf("read kwok's stages: %w", err)
	}
	if err := os.WriteFile(stages, output, 0o600); err != nil {
		return err
	}
	for name, args := range componentFlags(run, stages, c.others) {
		if name == "kube-controller-manager" && c.garbageStays {
			args = append(args, "--controllers=*,-garbage-collector-controller")
		}
		component, err := process.Start(process.Spec{
			Name: name,
			Path: filepath.Join(run.Dir, "bin", name),
			Args: append(args, "--kubeconfig="+c.Kubeconfig),
			Log:  run.Log(name),
		})
		if err != nil {
			return err
		}
		c.components = append(c.components, component)
	}
	return nil
}

// componentFlags holds the flags of each component that is started beside the API server. None of them serves
// anything: whether they work is seen in what they do.
func componentFlags(run *Run, stages, others string) map[string][]string {
	common := []string{"--secure-port=0", "--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000"}
	certs, kwok := certDir(run), []string{"--config=" + stages, "--manage-all-nodes=true", "--cidr=10.0.0.0/16", "--node-lease-duration-seconds=40"} // as long as a kubelet's
	if others != "" {
		kwok = append(kwok, "--disregard-status-with-label-selector="+others)
	}
	return map[string][]string{
		"kube-scheduler": common,
		"kube-controller-manager": append([]string{
			"--service-account-private-key-file=" + filepath.Join(certs, "sa-signer.key"),
			"--root-ca-file=" + filepath.Join(certs, rootCAFile),
		}, common...),
		"kwok": kwok,
	}
}

// Stop ends everything that Start began. It does nothing to a cluster that was there before.
func (c *Cluster) Stop() error {
	var errs []error
	for _, component := range c.components {
		component.Kill() // they hold nothing that is worth a clean end
	}
	if c.env != nil {
		errs = append(errs, c.env.Stop())
	}
	return errors.Join(errs...)
}

// tieToThisProcess has every component end when this process does (see e2e/controlplane): envtest starts two of them,
// and offers no other way than the environment, which they inherit.
func tieToThisProcess() error {
	return os.Setenv("CONTROLPLANE_PARENT", strconv.Itoa(os.Getpid()))
}

const (
	startTimeout = time.Minute
	stopTimeout  = 10 * time.Second
)
