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
	return &Helm{binary: binary, chart: filepath.Join(root, "manifests", "chart", "lightstep-injector"), home: home}, nil
}

// Template renders the chart without a cluster.
func (h *Helm) Template(ctx context.Context, flags ...string) ([]*unstructured.Unstructured, error) {
	output, err := h.run(ctx, "", "template", flags)
	if err != nil {
		return nil, err
	}
	return decode(output)
}

// Install installs the chart, or upgrades it, and returns when the API server has all of it.
func (h *Helm) Install(ctx context.Context, c *cluster.Cluster, flags ...string) error {
	_, err := h.run(ctx, c.Kubeconfig, "upgrade", append([]string{"--install", "--create-namespace"}, flags...))
	return err
}

func (h *Helm) run(ctx context.Context, kubeconfig, command string, flags []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, h.binary, append([]string{command, release, h.chart, "--namespace", Namespace}, flags...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig,
		"HELM_CACHE_HOME="+h.home, "HELM_CONFIG_HOME="+h.home, "HELM_DATA_HOME="+h.home)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("helm %s: %w: %s", command, err, complaint.String())
	}
	return output, nil
}

func decode(stream []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(stream), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(object); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what the chart renders to: %w", err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}
