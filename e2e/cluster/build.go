package cluster

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/lightstep-injector/lightstep-injector/e2e/compile"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
)

// Progress is told how far a build has come: packages compiled of those that are to be. It is called again and again;
// the total is 0 while it is not known, which takes as long as fetching the modules does.
type Progress func(done, total int)

// Build compiles the control plane, unless the very same one is there already, and returns the binary's path. root is
// the repository's root.
func Build(ctx context.Context, root string, progress Progress) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", fmt.Errorf("build the control plane: %w", err)
	}
	b := builder{source: filepath.Join(root, "e2e", "controlplane")}
	key, err := b.contentKey(ctx)
	if err != nil {
		return "", fmt.Errorf("build the control plane: %w", err)
	}
	cache := filepath.Join(root, ".cache", "controlplane")
	binary := filepath.Join(cache, key, "controlplane")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := b.compile(ctx, binary, progress); err != nil {
		return "", fmt.Errorf("build the control plane: %w", err)
	}
	return binary, removeOthers(cache, key)
}

// builder compiles the module in the folder source.
type builder struct{ source string }

// flags also set the version that the components report. The version itself stands in e2e/controlplane/go.mod alone.
func (b builder) flags(version string) []string {
	const variable = " -X k8s.io/component-base/version."
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	link := "-s -w" + variable + "gitVersion=" + version + variable + "gitMajor=" + major + variable + "gitMinor=" + minor
	return append(compile.Flags(), "-ldflags", link)
}

// contentKey names the binary after everything that it is made of: the sources, the flags, and Go itself.
func (b builder) contentKey(ctx context.Context) (string, error) {
	goVersion, err := b.goCommand(ctx, "env", "GOVERSION", "GOOS", "GOARCH")
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	_, _ = fmt.Fprintln(hash, string(goVersion), b.flags(""))
	err = filepath.WalkDir(b.source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(hash, "%s %d\n%s", entry.Name(), len(data), data)
		return nil
	})
	return hex.EncodeToString(hash.Sum(nil))[:12], err
}

// compile builds the binary under another name and moves it into place: a build that was cut short leaves nothing that
// looks finished, and of two at the same time both succeed.
func (b builder) compile(ctx context.Context, binary string, progress Progress) error {
	progress(0, 0)
	version, err := b.goCommand(ctx, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	if err != nil {
		return err
	}
	flags := b.flags(strings.TrimSpace(string(version)))
	total, err := b.countStale(ctx, flags)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return err
	}
	temporary := fmt.Sprintf("%s.%d", binary, os.Getpid())
	defer func() { _ = os.Remove(temporary) }()
	if err := b.goBuild(ctx, flags, temporary, func(done int) { progress(min(done, total), total) }); err != nil {
		return err
	}
	return os.Rename(temporary, binary)
}

// goBuild runs go build -v, which names every package that it compiles.
func (b builder) goBuild(ctx context.Context, flags []string, binary string, progress func(done int)) error {
	cmd := b.command(ctx, append(append([]string{"build", "-v", "-o", binary}, flags...), ".")...)
	log := filepath.Join(filepath.Dir(binary), "build.log")
	file, err := os.Create(log)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	output, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(io.TeeReader(output, file))
	for done := 1; lines.Scan(); done++ {
		progress(done)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("go build in %s: %w; the end of its output:\n%s", b.source, err, process.Tail(log, 15))
	}
	return nil
}

// countStale counts the packages that Go's build cache does not have.
func (b builder) countStale(ctx context.Context, flags []string) (int, error) {
	args := append(append([]string{"list"}, flags...), "-deps", "-f", "{{if .Stale}}x{{end}}", ".")
	output, err := b.goCommand(ctx, args...)
	return bytes.Count(output, []byte("x")), err
}

func (b builder) goCommand(ctx context.Context, args ...string) ([]byte, error) {
	cmd := b.command(ctx, args...)
	cmd.Stderr = &bytes.Buffer{}
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s in %s: %w: %s", strings.Join(args, " "), b.source, err, cmd.Stderr)
	}
	return output, nil
}

func (b builder) command(ctx context.Context, args ...string) *exec.Cmd {
	return compile.Command(ctx, b.source, args...)
}

// removeOthers removes the binaries that earlier sources gave: each has over a hundred megabytes.
func removeOthers(cache, keep string) error {
	entries, err := os.ReadDir(cache)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == keep {
			continue
		}
		if err := os.RemoveAll(filepath.Join(cache, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}
