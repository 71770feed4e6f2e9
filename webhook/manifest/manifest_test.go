package manifest_test

import (
	"bytes"
	stdjson "encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/manifest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestRewriteGolden holds what becomes of each way to write a pod. Read the difference to the input by eye.
func TestRewriteGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/rewrite/*.in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no inputs: %v", err)
	}
	for _, input := range inputs {
		t.Run(strings.TrimSuffix(filepath.Base(input), ".in.yaml"), func(t *testing.T) {
			src := read(t, input)
			got, err := manifest.Rewrite(src, everything)
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(input, ".in.yaml") + ".golden.yaml"
			if *update {
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(read(t, golden)), string(got)); diff != "" {
				t.Errorf("differs from %s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// pod is the part of a pod that everything looks at.
type pod struct {
	Metadata *struct {
		Labels, Annotations map[string]string
	}
	Spec struct {
		Containers []struct {
			Env          []any
			VolumeMounts []any
		}
		Volumes []any
	}
}

// everything changes a pod in each of the ways that the injector does.
func everything(object manifest.Object) ([]inject.Operation, error) {
	var p pod
	if err := stdjson.Unmarshal(object.Pod, &p); err != nil {
		return nil, fmt.Errorf("read pod: %w", err)
	}
	ops := metadata(p)
	ops = appendTo(ops, p.Spec.Volumes, "/spec/volumes", map[string]any{
		"name": "lightstep-cacert", "secret": map[string]any{"secretName": "lightstep.cacert", "optional": true},
	})
	for i, c := range p.Spec.Containers {
		at := fmt.Sprintf("/spec/containers/%d", i)
		ops = appendTo(ops, c.VolumeMounts, at+"/volumeMounts", map[string]any{
			"mountPath": "/etc/lightstep", "name": "lightstep-cacert", "readOnly": true,
		})
		env := map[string]any{"name": "TOKEN", "value": "yes"}
		if c.Env == nil {
			ops = append(ops, inject.Operation{Op: "add", Path: at + "/env", Value: []any{env}})
		} else {
			ops = append(ops, inject.Operation{Op: "add", Path: at + "/env/0", Value: env})
		}
	}
	return ops, nil
}

func metadata(p pod) []inject.Operation {
	const config = "concurrency: 1\ntracing:\n  sampling: 10\n"
	labels := map[string]string{"lightstep.com/injected": "true"}
	annotations := map[string]string{"lightstep.com/status": `{"version":"v1"}`, "proxy.istio.io/config": config}
	if p.Metadata == nil {
		return []inject.Operation{{Op: "add", Path: "/metadata", Value: map[string]any{"labels": labels, "annotations": annotations}}}
	}
	ops := appendKeys(nil, p.Metadata.Labels, "/metadata/labels", labels)
	return appendKeys(ops, p.Metadata.Annotations, "/metadata/annotations", annotations)
}

func appendKeys(ops []inject.Operation, have map[string]string, path string, add map[string]string) []inject.Operation {
	if have == nil {
		return append(ops, inject.Operation{Op: "add", Path: path, Value: add})
	}
	for _, key := range []string{"lightstep.com/injected", "lightstep.com/status", "proxy.istio.io/config"} {
		if value, ok := add[key]; ok {
			op := "add"
			if _, present := have[key]; present {
				op = "replace"
			}
			ops = append(ops, inject.Operation{Op: op, Path: path + "/" + strings.ReplaceAll(key, "/", "~1"), Value: value})
		}
	}
	return ops
}

func appendTo(ops []inject.Operation, have []any, path string, value any) []inject.Operation {
	if have == nil {
		return append(ops, inject.Operation{Op: "add", Path: path, Value: []any{value}})
	}
	return append(ops, inject.Operation{Op: "add", Path: path + "/-", Value: value})
}

// TestRewriteNothing holds that a stream in which nothing is to change keeps its bytes.
func TestRewriteNothing(t *testing.T) {
	inputs, _ := filepath.Glob("testdata/rewrite/*.yaml")
	for _, input := range inputs {
		src := read(t, input)
		got, err := manifest.Rewrite(src, func(manifest.Object) ([]inject.Operation, error) { return nil, nil })
		if err != nil || !bytes.Equal(got, src) {
			t.Errorf("%s: changed, or %v", input, err)
		}
	}
}
