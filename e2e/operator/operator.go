package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/compile"
)

// module has the kinds of monitoring.coreos.com. Of this module later versions are not served.
const module, sum = "github.com/prometheus-operator/prometheus-operator@v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="

// Install makes the kinds PodMonitor and PrometheusRule known to the API server.
func Install(ctx context.Context, c *cluster.Cluster) error {
	dir, err := download(ctx)
	if err != nil {
		return fmt.Errorf("download prometheus-operator's CRDs: %w", err)
	}
	crds := filepath.Join(dir, "example", "prometheus-operator-crd", "monitoring.coreos.com_")
	_, err = envtest.InstallCRDs(c.Config, envtest.CRDInstallOptions{
		Paths: []string{crds + "podmonitors.yaml", crds + "prometheusrules.yaml"}, ErrorIfPathMissing: true,
	})
	if err != nil {
		return fmt.Errorf("install prometheus-operator's CRDs: %w", err)
	}
	return nil
}

// download downloads the module, which no other here requires, and returns its folder.
func download(ctx context.Context) (string, error) {
	output, err := compile.Command(ctx, os.TempDir(), "mod", "download", "-json", module).Output()
	if err != nil {
		return "", err
	}
	var downloaded struct{ Dir, Sum string }
	if err := json.Unmarshal(output, &downloaded); err != nil {
		return "", err
	}
	if downloaded.Sum != sum {
		return "", fmt.Errorf("%s has the sum %s", module, downloaded.Sum)
	}
	return downloaded.Dir, nil
}
