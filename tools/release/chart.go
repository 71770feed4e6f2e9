package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.yaml.in/yaml/v3"
)

// chart packages the chart. It installs the image with the given digest, whatever becomes of the image's tag.
func (o *options) chart(ctx context.Context, source string, noted *build, image v1.Hash) error {
	folder := filepath.Join(source, "manifests", "chart", program)
	if err := pinImage(filepath.Join(folder, "values.yaml"), image, noted.created); err != nil {
		return err
	}
	helm := exec.CommandContext(ctx, o.helm, "package", folder,
		"--version", strings.TrimPrefix(noted.version, "v"), "--app-version", noted.version, "--destination", o.out)
	home := filepath.Join(source, ".helm")
	helm.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	_, err := outputOf(helm)
	return err
}

// pinImage writes a digest into image.digest of a chart's values, which is "" there. The other bytes stay, comments included,
// so the YAML library finds the place and does not write the file.
func pinImage(file string, image v1.Hash, at time.Time) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var values struct {
		Image struct {
			Digest yaml.Node `yaml:"digest"`
		} `yaml:"image"`
	}
	if err := yaml.Unmarshal(content, &values); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	digest := values.Image.Digest
	if digest.Style != yaml.DoubleQuotedStyle || digest.Value != "" {
		return fmt.Errorf(`read %s: image.digest is %q; want "", in double quotes`, file, digest.Value)
	}
	lines := strings.SplitAfter(string(content), "\n")
	line := lines[digest.Line-1]
	lines[digest.Line-1] = line[:digest.Column-1] + strconv.Quote(image.String()) + line[digest.Column+1:]
	if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o644); err != nil {
		return err
	}
	return os.Chtimes(file, at, at)
}
