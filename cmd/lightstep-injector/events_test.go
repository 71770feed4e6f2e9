package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/certs/distribute"
	"github.com/lightstep-injector/lightstep-injector/webhook/mesh"
)

// templateList is a list that a template of the chart defines.
func templateList(t *testing.T, name string) []string {
	t.Helper()
	template := string(readFile(t, "../../manifests/chart/lightstep-injector/templates/_policies.tpl"))
	_, rest, found := strings.Cut(template, `{{- define "lightstep-injector.`+name+`" -}}`)
	text, _, ended := strings.Cut(rest, "{{- end -}}")
	var list []string
	if err := yaml.Unmarshal([]byte(text), &list); err != nil || !found || !ended {
		t.Fatalf("no list of %s: %v", name, err)
	}
	return list
}

// TestContractEvents: the chart's policy allows Events of exactly the reasons that the program records.
func TestContractEvents(t *testing.T) {
	reasons := slices.Sorted(slices.Values(slices.Concat(distribute.EventReasons(), mesh.EventReasons(), []string{objectUnreadable})))
	if diff := cmp.Diff(reasons, templateList(t, "eventReasons")); diff != "" {
		t.Errorf("reasons (-the program +the policy):\n%s", diff)
	}
}

// TestContractEventSources: no other package records Events, so that TestContractEvents knows every reason.
func TestContractEventSources(t *testing.T) {
	want := []string{"certs/distribute", "cmd/lightstep-injector", "webhook/mesh"}
	var got []string
	for _, folder := range []string{"certs", "cmd", "internal", "webhook"} {
		root := filepath.Join("../..", folder)
		if _, err := os.Stat(root); err != nil {
			continue
		}
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			if bytes.Contains(readFile(t, path), []byte(".Eventf(")) {
				name, err := filepath.Rel("../..", filepath.Dir(path))
				got = append(got, name)
				return err
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
		t.Errorf("packages that record Events (-known +found):\n%s", diff)
	}
}
