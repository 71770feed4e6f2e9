package injector

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
)

// Build compiles the program into the run's folder, since another run may be of other sources, and returns its path.
// root is the repository's root.
func Build(ctx context.Context, root string, run *cluster.Run) (string, error) {
	binary := filepath.Join(run.Dir, "lightstep-injector")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./cmd/lightstep-injector")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOGC=400") // as for the control plane
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the injector: %w:\n%s", err, output)
	}
	return binary, nil
}
