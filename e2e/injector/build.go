package injector

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/compile"
)

// Build compiles the program into the run's folder, since another run may be of other sources, and returns its path.
// root is the repository's root.
func Build(ctx context.Context, root string, run *cluster.Run) (string, error) {
	return build(ctx, root, filepath.Join(run.Dir, "lightstep-injector"))
}

// BuildAs compiles the program of another checkout.
func BuildAs(ctx context.Context, root, binary string) error {
	_, err := build(ctx, root, binary)
	return err
}

// BuildOverlaid builds a binary with some of the sources replaced, as a file says in the form of go build -overlay.
func BuildOverlaid(ctx context.Context, root, binary, overlay string) (string, error) {
	return build(ctx, root, binary, "-overlay", overlay)
}

func build(ctx context.Context, root, binary string, flags ...string) (string, error) {
	args := slices.Concat([]string{"build", "-o", binary}, compile.Flags(), flags)
	cmd := compile.Command(ctx, root, append(args, "./cmd/lightstep-injector")...)
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the injector: %w:\n%s", err, output)
	}
	return binary, nil
}
