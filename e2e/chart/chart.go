package chart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/compile"
)

// Namespace is where the chart is installed.
const Namespace = "lightstep-system"

// release is its name.
const release = "lightstep-injector"

// Helm is one that can be run.
type Helm struct {
	binary, chart string
	// home is a folder for Helm's own files.
	home string
}

// Build compiles Helm, unless the very same one is there already. root is the repository's root, home a folder for
// Helm's files. It calls compiling before it compiles, which takes a minute the first time.
func Build(ctx context.Context, root, home string, compiling func()) (*Helm, error) {
	binary, err := compile.Cached(ctx, root, "e2e/helm", "-s -w", compiling)
	if err != nil {
		return nil, err
	}
	return &Helm{binary: binary, chart: folder(root), home: home}, nil
}

// Of is the same Helm with the chart of another checkout, whose root this is.
func (h *Helm) Of(root string) *Helm {
	return &Helm{binary: h.binary, chart: folder(root), home: h.home}
}

func folder(root string) string {
	return filepath.Join(root, "manifests", "chart", "lightstep-injector")
}

// Binary is Helm's path.
func (h *Helm) Binary() string { return h.binary }

// Template renders the chart without a cluster.
func (h *Helm) Template(ctx context.Context, flags ...string) ([]*unstructured.Unstructured, error) {
	output, err := h.Render(ctx, flags...)
	if err != nil {
		return nil, err
	}
	return Decode(output)
}

// Render renders the chart without a cluster, to the text that Helm prints.
func (h *Helm) Render(ctx context.Context, flags ...string) ([]byte, error) {
	return h.run(ctx, "", append([]string{"template", release, h.chart}, flags...))
}

// Lint has Helm look for what is wrong with the chart, and what is not as it should be.
func (h *Helm) Lint(ctx context.Context, flags ...string) error {
	output, err := h.run(ctx, "", append([]string{"lint", h.chart, "--strict"}, flags...))
	if err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	return nil
}

// Install installs the chart, or upgrades it, and returns when the API server has all of it.
func (h *Helm) Install(ctx context.Context, c *cluster.Cluster, flags ...string) error {
	_, err := h.Upgrade(ctx, c, flags...)
	return err
}

// Upgrade is Install, and returns what Helm tells of it, the chart's notes among it.
func (h *Helm) Upgrade(ctx context.Context, c *cluster.Cluster, flags ...string) (string, error) {
	output, err := h.run(ctx, c.Kubeconfig, append([]string{"upgrade", release, h.chart, "--install", "--create-namespace"}, flags...))
	return string(output), err
}

// Rollback goes back to what was installed before.
func (h *Helm) Rollback(ctx context.Context, c *cluster.Cluster, flags ...string) error {
	_, err := h.run(ctx, c.Kubeconfig, append([]string{"rollback", release}, flags...))
	return err
}

// Test runs helm test, and returns all that it says.
func (h *Helm) Test(ctx context.Context, c *cluster.Cluster, flags ...string) (string, error) {
	output, err := h.run(ctx, c.Kubeconfig, append([]string{"test", release}, flags...))
	return string(output), err
}

// Uninstall takes the release away.
func (h *Helm) Uninstall(ctx context.Context, c *cluster.Cluster, flags ...string) error {
	_, err := h.run(ctx, c.Kubeconfig, append([]string{"uninstall", release}, flags...))
	return err
}

func (h *Helm) run(ctx context.Context, kubeconfig string, arguments []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, h.binary, slices.Insert(slices.Clone(arguments), 1, "--namespace", Namespace)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig,
		"HELM_CACHE_HOME="+h.home, "HELM_CONFIG_HOME="+h.home, "HELM_DATA_HOME="+h.home)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	output, err := cmd.Output()
	if err != nil {
		return output, fmt.Errorf("helm %s: %w: %s", arguments[0], err, complaint.String())
	}
	return output, nil
}

// Decode reads the objects of a stream of YAML.
func Decode(stream []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(stream), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(object); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, fmt.Errorf("read objects: %w", err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}
