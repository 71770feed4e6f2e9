package istio

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// FuzzProxyConfig: whatever a user wrote, a merge keeps every field, adds tracing and no other, and adds nothing the
// second time; and a text that cannot be read is never turned into one that can.
func FuzzProxyConfig(f *testing.F) {
	for _, text := range []string{
		"", "{}", "concurrency: 2", `{"concurrency":2}`, "tracing: {sampling: 10}", "a: 1\na: 2", "[1]", "x: &a {y: 1}\nz: *a", "1: 2",
		`{"a":{"b":[1,2.50,1e3,null]}}`, "proxyMetadata:\n  A: \"b\" # c\n", "null", "--- {a: 1}\n--- {b: 2}", "{a: 1", "\xff", "? {a: b}\n: c", "<<: {a: 1}",
	} {
		f.Add(text)
	}
	block, err := Tracing{Address: "satellite:9292", AccessToken: "t", Sampling: 100, Secure: true, CAFile: "/etc/lightstep/cacert.pem"}.Block()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, config string) {
		for name, merge := range map[string]func(string, jsontext.Value) (string, error){"annotation": MergeAnnotation, "env": MergeEnv} {
			merged, err := merge(config, block)
			if err != nil {
				continue
			}
			before, after := fieldsOf(t, config), fieldsOf(t, merged)
			delete(before, tracingField)
			if _, ok := after[tracingField]; !ok {
				t.Fatalf("%s: no tracing in %q", name, merged)
			}
			delete(after, tracingField)
			if diff := cmp.Diff(before, after); diff != "" {
				t.Fatalf("%s: other fields changed (-before +after):\n%s", name, diff)
			}
			if again, err := merge(merged, block); err != nil || again != merged {
				t.Fatalf("%s: a second merge gives %q, %v", name, again, err)
			}
		}
		checkExplicit(t, config)
	})
}

// checkExplicit: the same of what is explicitly set, which goes into a tracing block of the user's own: each field of that
// is kept, too.
func checkExplicit(t *testing.T, config string) {
	t.Helper()
	mesh := map[string]jsontext.Value{"zipkin": jsontext.Value(`{"address":"z:9411"}`), "customTags": jsontext.Value(`{"mesh":{"literal":{"value":"m"}}}`)}
	explicit := Explicit{Sampling: 12.5, CustomTags: map[string]string{"team": "a", "mesh": "ours"}}
	merged, _, err := MergeExplicit(config, mesh, explicit)
	if err != nil {
		return
	}
	before, after := fieldsOf(t, config), fieldsOf(t, merged)
	user, _ := before[tracingField].(map[string]any)
	block, _ := after[tracingField].(map[string]any)
	for name, value := range user {
		if strings.EqualFold(strings.ReplaceAll(name, "_", ""), customTagsField) {
			continue // tags are added
		}
		if diff := cmp.Diff(value, block[name]); diff != "" {
			t.Fatalf("tracing.%s changed (-before +after):\n%s", name, diff)
		}
	}
	delete(before, tracingField)
	delete(after, tracingField)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Fatalf("other fields changed (-before +after):\n%s", diff)
	}
	if again, _, err := MergeExplicit(merged, mesh, explicit); err != nil || again != merged {
		t.Fatalf("a second merge gives %q, %v after %q", again, err, merged)
	}
}

// What is explicitly set, over the mesh's own tracing and the user's.
func TestMergeExplicit(t *testing.T) {
	mesh := map[string]jsontext.Value{"zipkin": jsontext.Value(`{"address":"z"}`), "maxPathTagLength": jsontext.Value("99")}
	explicit := Explicit{Sampling: 10, CustomTags: map[string]string{"a": "b"}}
	for config, want := range map[string]struct {
		tracing string
		clashes []string
	}{
		"": {`{"customTags":{"a":{"literal":{"value":"b"}}},"maxPathTagLength":99,"sampling":10,"zipkin":{"address":"z"}}`, nil},
		"tracing: {sampling: 5}": {
			`{"customTags":{"a":{"literal":{"value":"b"}}},"maxPathTagLength":99,"sampling":5,"zipkin":{"address":"z"}}`, []string{"sampling"},
		},
		"tracing: {max_path_tag_length: 3, datadog: {}}": {
			`{"customTags":{"a":{"literal":{"value":"b"}}},"datadog":{},"max_path_tag_length":3,"sampling":10}`, nil,
		},
		"tracing: {customTags: {a: {literal: {value: mine}}}}": {
			`{"customTags":{"a":{"literal":{"value":"mine"}}},"maxPathTagLength":99,"sampling":10,"zipkin":{"address":"z"}}`, []string{"customTags.a"},
		},
		"tracing: {customTags: 7}": {`{"customTags":7,"maxPathTagLength":99,"sampling":10,"zipkin":{"address":"z"}}`, []string{"customTags"}},
	} {
		merged, clashes, err := MergeExplicit(config, mesh, explicit)
		if err != nil || merged != `{"tracing":`+want.tracing+`}` || cmp.Diff(clashes, want.clashes) != "" {
			t.Errorf("%q: %s, %v, %v; want %s, %v", config, merged, clashes, err, want.tracing, want.clashes)
		}
	}
}

// fieldsOf reads a ProxyConfig as Istio does (istio@1.24.0 pkg/util/protomarshal: YAML to JSON, then JSON).
func fieldsOf(t *testing.T, config string) map[string]any {
	t.Helper()
	fields := map[string]any{}
	if err := yaml.Unmarshal([]byte(config), &fields); err != nil {
		t.Fatalf("merged, but not readable: %q: %v", config, err)
	}
	if fields == nil {
		fields = map[string]any{}
	}
	return fields
}

// TestUserTracing: a block of the user's own is told from ours, however it is written.
func TestUserTracing(t *testing.T) {
	block, err := Tracing{Address: "a:1", AccessToken: "t", Sampling: 10}.Block()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]error{
		"tracing:\n  sampling: 10\n  lightstep: {accessToken: t, address: 'a:1'}\n":   nil,
		`{"tracing":{"lightstep":{"address":"a:1","accessToken":"t"},"sampling":10}}`: nil,
		`{"tracing":{"lightstep":{"address":"a:1","accessToken":"t"},"sampling":11}}`: ErrUserTracing,
		`{"tracing":{}}`:   ErrUserTracing,
		`{"tracing":null}`: ErrUserTracing,
	} {
		got, err := MergeAnnotation(text, block)
		if !errors.Is(err, want) || (want == nil && got != text) {
			t.Errorf("%s: %q, %v; want it unchanged, %v", text, got, err, want)
		}
	}
}

// TestBlockIsComplete: the block replaces the mesh's whole, so with TLS it names mode, CA and server name.
func TestBlockIsComplete(t *testing.T) {
	block, err := Tracing{
		Address: "a:1", AccessToken: "t", Sampling: 1.5, CustomTags: map[string]string{"b": "2", "a": "1"},
		Secure: true, CAFile: "/ca.pem", ServerName: "a",
	}.Block()
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"lightstep":{"address":"a:1","accessToken":"t"},"sampling":1.5,` +
		`"customTags":{"a":{"literal":{"value":"1"}},"b":{"literal":{"value":"2"}}},` +
		`"tlsSettings":{"mode":"SIMPLE","caCertificates":"/ca.pem","sni":"a"}}`
	if string(block) != want {
		t.Errorf("got  %s\nwant %s", block, want)
	}
}

// FuzzUserVolumeMount: every entry that was there still is, one is added at most, and a second merge adds none.
func FuzzUserVolumeMount(f *testing.F) {
	for _, text := range []string{"", "{}", "[]", "null", `{"a":{"mountPath":"/a"}}`, `[{"name":"a","mountPath":"/a"}]`, `{"v":{"mountPath":"/etc/x"}}`, `{"a":1}`, "a: b"} {
		f.Add(text)
	}
	collides := func(a, b string) bool { return a == b }
	f.Fuzz(func(t *testing.T, annotation string) {
		merged, err := MergeUserVolumeMount(annotation, "v", "/etc/x", collides)
		if err != nil {
			return
		}
		if again, err := MergeUserVolumeMount(merged, "v", "/etc/x", collides); err != nil || again != merged {
			t.Fatalf("a second merge of %q gives %q, %v", merged, again, err)
		}
		var before, after any
		if annotation != "" && json.Unmarshal([]byte(annotation), &before) != nil {
			t.Fatalf("%q cannot be read, but was merged", annotation)
		}
		if err := json.Unmarshal([]byte(merged), &after); err != nil {
			t.Fatal(err)
		}
		if was, ok := before.(map[string]any); ok {
			is, _ := after.(map[string]any)
			for name := range was {
				if diff := cmp.Diff(was[name], is[name]); diff != "" {
					t.Fatalf("entry %q changed:\n%s", name, diff)
				}
			}
		}
	})
}
