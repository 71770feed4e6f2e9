package injector

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/compile"
)

// Build compiles the program into the run's folder, since another run may be of other sources, and returns its path.
// root is the repository's root.
func Build(ctx context.Context, root string, run *cluster.Run) (string, error) {
	binary := filepath.Join(run.Dir, "lightstep-injector")
	args := append([]string{"build", "-o", binary}, compile.Flags()...)
	cmd := compile.Command(ctx, root, append(args, "./cmd/lightstep-injector")...)
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the injector: %w:\n%s", err, output)
	}
	return binary, nil
}
