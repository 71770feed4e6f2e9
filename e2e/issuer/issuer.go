package issuer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/compile"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
)

const (
	folder      = "e2e/certmanager"
	stopTimeout = 15 * time.Second
)

// CertManager is one that can be run.
type CertManager struct {
	binary, module string
	log            string
	process        *process.Process
}

// Build compiles cert-manager, unless the very same one is there already. root is the repository's root. It calls compiling
// before it compiles, which takes a minute or two the first time.
func Build(ctx context.Context, root string, compiling func()) (*CertManager, error) {
	binary, err := compile.Cached(ctx, root, folder, "-s -w", compiling)
	if err != nil {
		return nil, err
	}
	module, err := compile.Command(ctx, filepath.Join(root, folder), "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager").Output()
	if err != nil {
		return nil, fmt.Errorf("find cert-manager's module: %w", err)
	}
	return &CertManager{binary: binary, module: strings.TrimSpace(string(module))}, nil
}

// Install makes cert-manager's kinds known to the API server.
func (m *CertManager) Install(c *cluster.Cluster) error {
	_, err := envtest.InstallCRDs(c.Config, envtest.CRDInstallOptions{
		Paths: []string{filepath.Join(m.module, "deploy", "crds")}, ErrorIfPathMissing: true,
	})
	if err != nil {
		return fmt.Errorf("install cert-manager's CRDs: %w", err)
	}
	return nil
}

// Start runs it. What it does is seen in the cluster.
func (m *CertManager) Start(c *cluster.Cluster, run *cluster.Run) (err error) {
	m.log = run.Log("cert-manager")
	m.process, err = process.Start(process.Spec{
		Name: "cert-manager", Path: m.binary, Args: []string{"--kubeconfig", c.Kubeconfig}, Log: m.log,
	})
	return err
}

// Stop ends it.
func (m *CertManager) Stop() error {
	if m.process == nil {
		return nil
	}
	return m.process.Stop(stopTimeout)
}

// LogFile is where its log goes.
func (m *CertManager) LogFile() string { return m.log }

// Decode has cert-manager decode a stream of manifests into its types, strictly, and returns their kinds and names. It passes
// over the kinds of others.
func (m *CertManager) Decode(ctx context.Context, manifests []byte) ([]string, error) {
	cmd := exec.CommandContext(ctx, m.binary, "--decode")
	var complaint bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(manifests), &complaint
	output, err := cmd.Output()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("decode into cert-manager's types: %w", err), errors.New(complaint.String()))
	}
	return strings.Fields(string(output)), nil
}
