package mesh

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// renderCase is a file testdata/render/NAME.in.yaml. The comment at its head says what it shows.
type renderCase struct {
	Profile    string         `json:"profile"`
	Profiles   map[string]any `json:"profiles"`
	Version    string         `json:"version"`
	Namespaces []string       `json:"namespaces"`
	Protocol   Protocol       `json:"protocol"`
	Collector  string         `json:"collector"`
	Direct     bool           `json:"direct"`
	TokenInXDS bool           `json:"tokenInXDS"`
}

func (c *renderCase) request(t *testing.T) *Request {
	t.Helper()
	file, err := yaml.Marshal(map[string]any{"apiVersion": settings.APIVersion, "kind": settings.Kind, "profiles": c.Profiles})
	if err != nil {
		t.Fatal(err)
	}
	config, err := settings.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	if config, err = config.WithIstioVersion(c.Version); err != nil {
		t.Fatal(err)
	}
	profile, err := config.Profile(c.Profile)
	if err != nil {
		t.Fatal(err)
	}
	return &Request{
		Settings: profile, Provider: "lightstep", IstioNamespace: "istio-system", Namespaces: c.Namespaces,
		Protocol: c.Protocol, Collector: c.Collector, Direct: c.Direct, TokenInXDS: c.TokenInXDS,
	}
}

// TestRender renders every testdata/render/NAME.in.yaml and compares with NAME.out.yaml.
func TestRender(t *testing.T) {
	cases, err := filepath.Glob("testdata/render/*.in.yaml")
	if err != nil || len(cases) < 25 {
		t.Fatalf("%d cases, %v; at least 25 are expected", len(cases), err)
	}
	for _, file := range cases {
		name := strings.TrimSuffix(filepath.Base(file), ".in.yaml")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c := renderCase{Profile: settings.DefaultProfile, Protocol: GRPC}
			if err := yaml.UnmarshalStrict(text, &c); err != nil {
				t.Fatal(err)
			}
			rendered, err := Render(c.request(t))
			if strings.HasPrefix(name, "error-") != (err != nil) {
				t.Errorf("the error is %v", err)
			}
			compareGolden(t, strings.TrimSuffix(file, ".in.yaml")+".out.yaml", asText(t, rendered, err))
		})
	}
}

func asText(t *testing.T, rendered *Rendered, err error) []byte {
	t.Helper()
	var text bytes.Buffer
	if err != nil {
		fmt.Fprintf(&text, "# error: %s\n", err)
		return text.Bytes()
	}
	for _, note := range rendered.Notes {
		fmt.Fprintf(&text, "# note: %s\n", note)
	}
	for _, section := range rendered.Sections {
		for i, object := range section.Objects {
			text.WriteString("---\n")
			if i == 0 {
				fmt.Fprintf(&text, "# %s:\n# %s\n", section.Part, strings.Join(section.Says, "\n# "))
			}
			written, err := yaml.Marshal(object.Object)
			if err != nil {
				t.Fatal(err)
			}
			text.Write(written)
		}
	}
	return text.Bytes()
}

func compareGolden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (run with -update, then read the new file)", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// TestSeenNowhereElse: whatever is asked for, nothing of the satellites is seen outside the namespaces that were named, and
// every object of a namespace is for injected pods alone.
func TestSeenNowhereElse(t *testing.T) {
	cases, _ := filepath.Glob("testdata/render/*.in.yaml")
	for _, file := range cases {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := renderCase{Profile: settings.DefaultProfile, Protocol: GRPC}
		if err := yaml.UnmarshalStrict(text, &c); err != nil {
			t.Fatal(err)
		}
		rendered, err := Render(c.request(t))
		if err != nil {
			continue
		}
		for _, section := range rendered.Sections {
			if section.Part != PartObjects {
				continue
			}
			for _, object := range section.Objects {
				spec, _ := object.Object["spec"].(map[string]any)
				export, _ := spec["exportTo"].([]any)
				inNamespace := slices.Contains(c.Namespaces, object.GetNamespace())
				switch kind := object.GetKind(); {
				case kind == "ServiceEntry" && !slices.Equal(export, []any{"~"}) && (!inNamespace || !slices.Equal(export, []any{"."})),
					kind == "DestinationRule" && (!inNamespace || !slices.Equal(export, []any{"."}) || spec["workloadSelector"] == nil),
					kind == "Telemetry" && (!inNamespace || spec["selector"] == nil):
					t.Errorf("%s: %s %s/%s is seen too widely: %v", file, kind, object.GetNamespace(), object.GetName(), spec)
				}
			}
		}
	}
}

// TestChanges: every row has a source, and they are in order.
func TestChanges(t *testing.T) {
	last := ""
	for _, c := range changes() {
		if c.source == "" || c.apply == nil {
			t.Errorf("the change of %s has no source, or does nothing", c.since)
		}
		if last != "" && older(t, c.since, last) {
			t.Errorf("%s stands after %s", c.since, last)
		}
		last = c.since
	}
}

func older(t *testing.T, a, b string) bool {
	t.Helper()
	first, err := version.ParseGeneric(a)
	if err != nil {
		t.Fatal(err)
	}
	return first.LessThan(version.MustParseGeneric(b))
}
