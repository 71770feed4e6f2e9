package inject_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/webhook"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject/injecttest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// outcome is a golden file.
type outcome struct {
	Reason     inject.Reason      `json:"reason"`
	Injected   bool               `json:"injected"`
	Tracer     string             `json:"tracer"`
	Containers []string           `json:"containers,omitempty"`
	Warnings   []string           `json:"warnings,omitempty"`
	Patch      []inject.Operation `json:"patch,omitempty"`
}

// TestGolden runs every testdata/NAME.in.yaml, whose comment says what it shows, and compares with NAME.out.yaml.
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(cases) < 40 {
		t.Fatalf("%d cases, %v; at least 40 are expected", len(cases), err)
	}
	for _, file := range cases {
		name := strings.TrimSuffix(filepath.Base(file), ".in.yaml")
		t.Run(name, func(t *testing.T) {
			c := injecttest.ReadCase(t, file)
			snap, namespace, pod := c.Snapshot, c.Namespace, c.Pod
			// <config hash> stands for the settings' hash, in a pod as in a golden file.
			config := run(t, snap, namespace, pod).Config
			pod = bytes.ReplaceAll(pod, []byte("<config hash>"), []byte(config))
			result := run(t, snap, namespace, pod)
			compareGolden(t, filepath.Join("testdata", name+".out.yaml"), result)

			again := run(t, snap, namespace, apply(t, pod, result.Patch))
			if len(again.Patch) > 0 {
				t.Errorf("the second pass adds:\n%s", asYAML(t, again.Patch))
			}
		})
	}
}

func run(t *testing.T, snap *inject.Snapshot, namespace string, pod []byte) inject.Result {
	t.Helper()
	decoded, err := webhook.DecodePod(pod)
	if err != nil {
		t.Fatal(err)
	}
	return inject.Run(&inject.Request{Namespace: namespace, Pod: decoded}, snap)
}

// apply patches as the apiserver does (k8s.io/apiserver pkg/admission/plugin/webhook/mutating).
func apply(t *testing.T, pod []byte, ops []inject.Operation) []byte {
	t.Helper()
	if len(ops) == 0 {
		return pod
	}
	text, err := json.Marshal(ops)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := patch.Apply(pod)
	if err != nil {
		t.Fatalf("the patch does not apply: %v\n%s\n%s", err, text, pod)
	}
	return patched
}

func compareGolden(t *testing.T, file string, result inject.Result) {
	t.Helper()
	got := outcome{
		Reason: result.Reason, Injected: result.Injected, Tracer: string(result.Tracer),
		Containers: result.Containers, Patch: result.Patch,
	}
	for _, w := range result.Warnings {
		got.Warnings = append(got.Warnings, string(w.Code)+": "+w.Message)
	}
	text := asYAML(t, got)
	if result.Config != "" {
		text = bytes.ReplaceAll(text, []byte(result.Config), []byte("<config hash>"))
	}
	if *update {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (run with -update, then read the new file)", err)
	}
	if diff := cmp.Diff(string(want), string(text)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func asYAML(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	out, err := yaml.JSONToYAML(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestFixturesNameTheirSource: a case with the sidecar of an Istio that no test runs says so, and names the file of that
// release from which its shape was taken.
func TestFixturesNameTheirSource(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sidecar := regexp.MustCompile(`proxyv2:(1\.(?:[89]|[12][0-9]|30)\.[0-9]+)`)
	seen := 0
	for _, file := range cases {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		says, _, _ := bytes.Cut(text, []byte("\nconfig:"))
		for _, found := range sidecar.FindAllSubmatch(text, -1) {
			seen++
			if source := "istio@" + string(found[1]) + " "; !strings.Contains(string(says), "Fixture: ") || !strings.Contains(string(says), source) {
				t.Errorf("%s has a sidecar of Istio %s, and does not say %q and %q", file, found[1], "Fixture: ", source)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d sidecars were found", seen)
	}
}
