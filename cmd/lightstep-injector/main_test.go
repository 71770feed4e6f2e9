package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// outcomeOf runs the program as a user does.
func outcomeOf(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(context.Background(), append([]string{"lightstep-injector"}, args...), strings.NewReader(stdin), &out, &err)
	return code, out.String(), err.String()
}

// TestGolden holds what each command prints. A golden file has the arguments, the exit code and both outputs.
func TestGolden(t *testing.T) {
	tests := map[string]string{
		"help":                        "--help",
		"inject":                      "inject -f testdata/app.yaml --config testdata/config.yaml",
		"inject-istio":                "inject -f testdata/app.yaml --config testdata/config.yaml --istio-version 1.24",
		"inject-json":                 "inject -f testdata/pod.json --config testdata/config.yaml -o json",
		"inject-json-list":            "inject -f testdata/pod.json -f testdata/pod.json --config testdata/config.yaml -o json",
		"inject-diff":                 "inject -f testdata/app.yaml --config testdata/config.yaml -o diff -n shop",
		"inject-several":              "inject -f testdata/app.yaml -f testdata/pod.json --config testdata/config.yaml",
		"inject-namespaces":           "inject -f testdata/namespaces.yaml --config testdata/config.yaml -o diff",
		"inject-default-config":       "inject -f testdata/app.yaml",
		"inject-token":                "inject -f testdata/namespaces.yaml --config testdata/config.yaml --access-token-file old=testdata/token -o diff",
		"inject-token-without-name":   "inject -f testdata/namespaces.yaml --config testdata/config.yaml --access-token-file testdata/token -o diff",
		"inject-token-spaces":         "inject -f testdata/app.yaml --config testdata/config.yaml --access-token-file testdata/token-with-space",
		"inject-token-twice":          "inject -f testdata/app.yaml --access-token-file testdata/token --access-token-file testdata/token",
		"inject-token-profile":        "inject -f testdata/app.yaml --config testdata/config.yaml --access-token-file default=testdata/token",
		"inject-broken":               "inject -f testdata/broken.yaml -f testdata/app.yaml --config testdata/config.yaml",
		"inject-bad-pod":              "inject -f testdata/bad-pod.yaml --config testdata/config.yaml",
		"inject-missing":              "inject -f testdata/missing.yaml",
		"inject-folder":               "inject -f testdata",
		"inject-no-file":              "inject",
		"inject-bad-output":           "inject -f testdata/app.yaml -o table",
		"inject-bad-version":          "inject -f testdata/app.yaml --istio-version latest",
		"inject-bad-flag":             "inject -f testdata/app.yaml --token x",
		"inject-argument":             "inject testdata/app.yaml",
		"explain":                     "explain -f testdata/app.yaml --config testdata/config.yaml",
		"explain-json":                "explain -f testdata/pod.json --config testdata/config.yaml -o json",
		"explain-yaml":                "explain -f testdata/namespaces.yaml --config testdata/config.yaml -o yaml",
		"explain-bad-pod":             "explain -f testdata/bad-pod.yaml --config testdata/config.yaml",
		"explain-nothing":             "explain",
		"explain-pod-and-file":        "explain web -f testdata/app.yaml",
		"explain-pod-no-config":       "explain web -n shop",
		"explain-pod-kind":            "explain deployment/web --config testdata/config.yaml",
		"render":                      "render",
		"render-istio":                "render istio --config testdata/config.yaml --istio-version 1.31 -n shop",
		"render-istio-direct":         "render istio --config testdata/config.yaml --istio-version 1.31 -n shop --direct --print objects",
		"render-istio-json":           "render istio --config testdata/config.yaml --istio-version 1.26 -n shop --direct --token-in-xds -o json",
		"render-istio-detect":         "render istio --config testdata/config.yaml --istio-version 1.31 --detect",
		"render-istio-profile":        "render istio --config testdata/config.yaml --istio-version 1.31 --profile missing",
		"render-istio-version":        "render istio --config testdata/config.yaml --istio-version 1.15",
		"render-istio-namespace":      "render istio --config testdata/config.yaml --istio-version 1.31 -n Shop",
		"render-istio-protocol":       "render istio --config testdata/config.yaml --istio-version 1.31 --protocol udp",
		"render-istio-no-config":      "render istio --istio-version 1.31",
		"config":                      "config",
		"config-validate":             "config validate testdata/config.yaml",
		"config-validate-problems":    "config validate testdata/config-with-problems.yaml",
		"config-validate-missing":     "config validate testdata/missing.yaml",
		"config-validate-no-argument": "config validate",
		"check-argument":              "check shop",
		"status-argument":             "status shop",
		"status-bad-output":           "status -o wide",
		"status-help":                 "status --help",
		"unknown-command":             "inspect",
	}
	for name, args := range tests {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := outcomeOf("", strings.Fields(args)...)
			got := "$ lightstep-injector " + args + "\n# exit " + string(rune('0'+code)) + "\n# stdout\n" + stdout + "# stderr\n" + stderr
			compareGolden(t, filepath.Join("testdata", "golden", name+".txt"), strings.ReplaceAll(got, version(), "VERSION"))
		})
	}
}

func compareGolden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("differs from %s (-want +got):\n%s", path, diff)
	}
}

// TestInjectTwice holds that what inject prints has nothing left to inject, and then keeps its bytes.
func TestInjectTwice(t *testing.T) {
	for _, file := range []string{"testdata/app.yaml", "testdata/pod.json", "testdata/namespaces.yaml"} {
		args := []string{"inject", "--config", "testdata/config.yaml", "--istio-version", "1.7", "--access-token-file", "old=testdata/token", "-f"}
		code, once, stderr := outcomeOf("", append(args, file)...)
		if code != exitFine {
			t.Fatalf("%s: exit %d: %s", file, code, stderr)
		}
		code, twice, stderr := outcomeOf(once, append(args, "-")...)
		if code != exitFine || strings.Contains(stderr, "  injected  ") {
			t.Errorf("%s, the second time: exit %d, %s", file, code, stderr)
		}
		if diff := cmp.Diff(once, twice); diff != "" {
			t.Errorf("%s, the second time (-first +second):\n%s", file, diff)
		}
	}
}

// TestTokenStaysOut holds that no message has any of a token that is refused.
func TestTokenStaysOut(t *testing.T) {
	const canary = "canary-7f3a"
	for name, content := range map[string]string{
		"space": canary + " " + canary, "lines": canary + "\n" + canary + "\n", "control": "\x00" + canary, "before": " " + canary, "bytes": canary + "\xff",
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := outcomeOf("", "inject", "-f", "testdata/app.yaml", "--config", "testdata/config.yaml", "--access-token-file", "old="+path)
		if code != exitProblems || strings.Contains(stdout+stderr, canary) {
			t.Errorf("%s: exit %d, %s", name, code, stderr)
		}
	}
}

// TestVersion holds that the version is told in each format.
func TestVersion(t *testing.T) {
	for _, format := range []string{"table", "json", "yaml"} {
		code, stdout, stderr := outcomeOf("", "version", "-o", format)
		if code != exitFine || !strings.Contains(stdout, version()) {
			t.Errorf("%s: exit %d, %s%s", format, code, stdout, stderr)
		}
		if b := new(build); format == "json" && (json.Unmarshal([]byte(stdout), b) != nil || *b != thisBuild()) {
			t.Errorf("%s is not %+v", stdout, thisBuild())
		}
	}
}

// TestCompletion holds that each shell has its script.
func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, stdout, stderr := outcomeOf("", "completion", shell); code != exitFine || !strings.Contains(stdout, "lightstep-injector") {
			t.Errorf("%s: exit %d, %s", shell, code, stderr)
		}
	}
	if _, stdout, _ := outcomeOf("", "__complete", "inject", "-o", ""); !strings.HasPrefix(stdout, "yaml\njson\ndiff\n") {
		t.Errorf("inject -o completes as %q", stdout)
	}
}

// TestDiffNumbers holds that each hunk of a diff says where it stands, also behind a hunk of several changes.
func TestDiffNumbers(t *testing.T) {
	const before = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n---\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n"
	const after = "1\na\n2\n3\n4\nb\nc\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n---\n1\n2\n3\n4\n5\n6\n7\n8\n10\n"
	diff, err := unifiedDiff("x", before, after)
	var hunks []string
	for line := range strings.Lines(diff) {
		if strings.HasPrefix(line, "@@") {
			hunks = append(hunks, line)
		}
	}
	if want := []string{"@@ -1,7 +1,10 @@\n", "@@ -23,5 +26,4 @@\n"}; err != nil || !cmp.Equal(hunks, want) {
		t.Errorf("got %q, %v, want %q", hunks, err, want)
	}
}

// TestColour holds that a diff without its colours is the diff.
func TestColour(t *testing.T) {
	const diff = "--- a/x\n+++ b/x\n@@ -1 +1,2 @@\n a\r\n+b\n+--- c\n\\ No newline at end of file\n"
	got := colourDiff(diff)
	plain := strings.NewReplacer("\x1b[1m", "", "\x1b[31m", "", "\x1b[32m", "", "\x1b[36m", "", "\x1b[m", "").Replace(got)
	if plain != diff || strings.Count(got, "\x1b[m") != 5 {
		t.Errorf("got %q", got)
	}
}
