package injector

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build compiles the program and returns the binary's path. root is the repository's root.
func Build(ctx context.Context, root string) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", fmt.Errorf("build the injector: %w", err)
	}
	binary := filepath.Join(root, ".cache", "bin", "lightstep-injector")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./cmd/lightstep-injector")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the injector: %w:\n%s", err, output)
	}
	return binary, nil
}
