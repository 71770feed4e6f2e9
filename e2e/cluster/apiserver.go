package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-logr/logr"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/lightstep-injector/lightstep-injector/e2e/process"
)

// ServiceCIDR is the range of ClusterIPs: addresses of this machine.
const ServiceCIDR = "127.10.0.0/16"

// rootCAFile holds the CA of the API server's certificate, for the ConfigMap kube-root-ca.crt of every namespace.
const rootCAFile = "root-ca.crt"

func certDir(run *Run) string { return filepath.Join(run.Dir, "certs") }

// startAPIServer starts etcd and kube-apiserver.
func (c *Cluster) startAPIServer(run *Run) error {
	if err := tieToThisProcess(); err != nil {
		return err
	}
	bin, data := filepath.Join(run.Dir, "bin"), filepath.Join(run.Dir, "etcd")
	for _, dir := range []string{certDir(run), data} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	server, etcd := &envtest.APIServer{CertDir: certDir(run)}, &envtest.Etcd{DataDir: data}
	if c.quota != "" {
		etcd.Configure().Set("quota-backend-bytes", c.quota)
	}
	logs, err := openLogs(run, server, etcd)
	if err != nil {
		return err
	}
	defer func() {
		for _, log := range logs {
			_ = log.Close() // the processes have their own copies
		}
	}()
	configureAPIServer(server)
	if err := errors.Join(c.configureAudit(server, run), c.configureAdmission(server, run)); err != nil {
		return err
	}
	crlog.SetLogger(logr.Discard()) // envtest returns what it logs, and complains when it is not told where to
	c.env = &envtest.Environment{
		ControlPlane:             envtest.ControlPlane{APIServer: server, Etcd: etcd},
		BinaryAssetsDirectory:    bin,
		ControlPlaneStartTimeout: startTimeout,
		ControlPlaneStopTimeout:  stopTimeout,
	}
	restore, err := keepTemporaryFiles(run.Dir)
	if err != nil {
		return err
	}
	defer restore()
	if c.Config, err = c.env.Start(); err != nil {
		return fmt.Errorf("%w\netcd:\n%s\nkube-apiserver:\n%s",
			err, process.Tail(run.Log("etcd"), 5), process.Tail(run.Log("kube-apiserver"), 10))
	}
	if err := os.WriteFile(filepath.Join(certDir(run), rootCAFile), server.CA, 0o600); err != nil {
		return err
	}
	c.Client, err = kubernetes.NewForConfig(c.Config)
	return err
}

// keepTemporaryFiles has envtest make its temporary files in a folder of ours, so that they go with it even where the
// process is killed.
func keepTemporaryFiles(dir string) (restore func(), err error) {
	const variable = "TMPDIR"
	before, set := os.LookupEnv(variable)
	if err := os.Setenv(variable, dir); err != nil {
		return nil, err
	}
	return func() {
		if !set {
			_ = os.Unsetenv(variable)
			return
		}
		_ = os.Setenv(variable, before)
	}, nil
}

// configureAPIServer makes envtest's API server an ordinary one.
func configureAPIServer(server *envtest.APIServer) {
	server.Configure().
		Set("service-cluster-ip-range", ServiceCIDR).
		// envtest switches service accounts off, since it usually runs without the controllers that make them.
		Disable("disable-admission-plugins").
		// It listens on loopback, which is no address for an Endpoints object, and nobody looks for it there.
		Set("advertise-address", "127.0.0.1").
		Set("endpoint-reconciler-type", "none")
}

func openLogs(run *Run, server *envtest.APIServer, etcd *envtest.Etcd) ([]*os.File, error) {
	serverLog, err := os.Create(run.Log("kube-apiserver"))
	if err != nil {
		return nil, err
	}
	server.Out, server.Err = serverLog, serverLog
	etcdLog, err := os.Create(run.Log("etcd"))
	if err != nil {
		return []*os.File{serverLog}, err
	}
	etcd.Out, etcd.Err = etcdLog, etcdLog
	return []*os.File{serverLog, etcdLog}, nil
}
