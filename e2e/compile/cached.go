package compile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Cached compiles the program in a folder of the repository, a module of its own, unless the very same one is there
// already, and returns the binary's path. root is the repository's root, link what the linker is told. It calls compiling
// before it compiles, which may take minutes.
func Cached(ctx context.Context, root, folder, link string, compiling func()) (string, error) {
	binary, err := cached(ctx, root, folder, link, compiling)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", folder, err)
	}
	return binary, nil
}

func cached(ctx context.Context, root, folder, link string, compiling func()) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	source, flags := filepath.Join(root, folder), append(Flags(), "-ldflags", link)
	key, err := contentKey(ctx, source, flags)
	if err != nil {
		return "", err
	}
	cache := filepath.Join(root, ".cache", filepath.Base(folder))
	binary := filepath.Join(cache, key)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	compiling()
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	// Under another name first: a build that was cut short leaves nothing that looks finished.
	temporary := fmt.Sprintf("%s.%d", binary, os.Getpid())
	defer func() { _ = os.Remove(temporary) }()
	cmd := Command(ctx, source, append(append([]string{"build", "-o", temporary}, flags...), ".")...)
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build in %s: %w:\n%s", source, err, output)
	}
	return binary, errors.Join(os.Rename(temporary, binary), removeOthers(cache, key))
}

// contentKey names the binary after everything that it is made of: the sources, the flags, and Go itself.
func contentKey(ctx context.Context, source string, flags []string) (string, error) {
	version, err := Command(ctx, source, "env", "GOVERSION", "GOOS", "GOARCH").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	hash := sha256.New()
	_, _ = fmt.Fprintln(hash, string(version), flags)
	files, err := filepath.Glob(filepath.Join(source, "*"))
	if err != nil {
		return "", err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		_, _ = fmt.Fprintf(hash, "%s %d\n%s", filepath.Base(file), len(data), data)
	}
	return hex.EncodeToString(hash.Sum(nil))[:12], nil
}

// removeOthers removes the binaries that earlier sources gave, and leaves what another run may be about to rename to this.
func removeOthers(cache, keep string) error {
	files, err := filepath.Glob(filepath.Join(cache, "*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if !strings.HasPrefix(filepath.Base(file), keep) {
			err = errors.Join(err, os.RemoveAll(file))
		}
	}
	return err
}
