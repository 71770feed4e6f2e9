package mesh

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// TestRendered: what `render istio` prints is right in the eyes of the newest Istio's own validation and analyzers, whatever
// is asked for. It has no cluster.
func TestRendered(t *testing.T) {
	run, err := cluster.NewRun(root)
	stage.Check(t, err)
	t.Cleanup(func() { stage.Check(t, run.Remove()) })
	program, err := injector.Build(t.Context(), root, run)
	stage.Check(t, err)
	istio, err := istiod.Build(t.Context(), root, istiod.Version, func() { report.New(os.Stdout).Linef("istiod is built from source the first time: some minutes.") })
	stage.Check(t, err)
	for _, c := range []struct{ name, profile, args string }{
		{"Collector", "default", "--namespace shop"},
		{"OwnCollector", "default", "--namespace shop --collector otel.shop.svc.cluster.local:4317"},
		{"HTTP", "default", "--namespace shop --protocol http"},
		{"Direct", "default", "--namespace shop --namespace team --direct"},
		{"DirectHTTP", "default", "--namespace shop --direct --protocol http"},
		{"TokenInXDS", "default", "--namespace shop --direct --token-in-xds"},
		{"TokenInXDSByHTTP", "default", "--namespace shop --direct --token-in-xds --protocol http"},
		{"Address", "pay", "--namespace pay --direct"},
		{"IstioNamespaceLabelled", "default", "--namespace istio-system --namespace shop --direct"},
		{"OlderVersions", "default", "--namespace shop --direct --istio-version 1.16.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"render", "istio", "--config", "testdata/config.yaml", "--profile", c.profile}, strings.Fields(c.args)...)
			if !strings.Contains(c.args, "--istio-version") {
				args = append(args, "--istio-version", istiod.Version)
			}
			dir := t.TempDir()
			meshConfig, objects := filepath.Join(dir, "mesh.yaml"), filepath.Join(dir, "objects.yaml")
			stage.Check(t, os.WriteFile(meshConfig, meshConfigOf(t, output(t, program, append(args, "--print", "mesh", "-o", "json")...)), 0o600))
			rendered := output(t, program, append(args, "--print", "objects")...)
			stage.Check(t, os.WriteFile(objects, rendered, 0o600))
			t.Logf("%s", output(t, istio, "validate", "--mesh-config", meshConfig, objects))
			t.Run("WouldFail", func(t *testing.T) {
				wrong := strings.ReplaceAll(string(rendered), "randomSamplingPercentage: ", "randomSamplingPercentage: 1")
				stage.Check(t, os.WriteFile(objects, []byte(wrong), 0o600))
				if exec.CommandContext(t.Context(), istio, "validate", "--mesh-config", meshConfig, objects).Run() == nil {
					t.Error("more than 100 % pass")
				}
			})
		})
	}
}

func meshConfigOf(t *testing.T, list []byte) []byte {
	t.Helper()
	var printed struct {
		Items []struct {
			Spec struct {
				MeshConfig json.RawMessage `json:"meshConfig"`
			} `json:"spec"`
		} `json:"items"`
	}
	stage.Check(t, json.Unmarshal(list, &printed))
	if len(printed.Items) != 1 {
		t.Fatalf("%d objects are printed for Istio's installation", len(printed.Items))
	}
	return printed.Items[0].Spec.MeshConfig
}

func output(t *testing.T, program string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	var said strings.Builder
	cmd.Stderr = &said
	printed, err := cmd.Output()
	if err != nil {
		t.Fatal(fmt.Errorf("%s %s: %w: %s%s", filepath.Base(program), strings.Join(args, " "), err, printed, said.String()))
	}
	return printed
}
