// Package docs_test holds the documents to what they speak of: links lead somewhere, and the tables of reasons and codes
// are those of the code.
package docs_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

var update = flag.Bool("update", false, "rewrite reasons.md")

// TestLinks: every relative link in a Markdown file names a file that is there.
func TestLinks(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			files++
			checkLinks(t, path)
		}
		return nil
	})
	if err != nil || files < 5 {
		t.Fatalf("%d files, %v", files, err)
	}
}

func checkLinks(t *testing.T, file string) {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	document := goldmark.DefaultParser().Parse(text.NewReader(source))
	_ = ast.Walk(document, func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		link, ok := node.(*ast.Link)
		if !ok || !entering {
			return ast.WalkContinue, nil
		}
		target, _, _ := strings.Cut(string(link.Destination), "#")
		if target == "" || strings.Contains(target, "://") {
			return ast.WalkContinue, nil
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(file), target)); err != nil {
			t.Errorf("%s: broken link %s", file, link.Destination)
		}
		return ast.WalkContinue, nil
	})
}

// TestReasons: docs/reasons.md is made of the code's own lists.
func TestReasons(t *testing.T) {
	var want strings.Builder
	want.WriteString("<!-- Made by go test ./docs -update. -->\n\n# Reasons and warnings\n\n" +
		"Every answer has one reason. It stands in the log (`reason`), in the metric `lightstep_injector_admissions_total{outcome,reason}`, in the audit annotation\n" +
		"`reason`, and is what `lightstep-injector explain` ends with.\n\n| Reason | Meaning |\n|---|---|\n")
	for _, r := range inject.Reasons() {
		fmt.Fprintf(&want, "| `%s` | %s |\n", r.Reason, r.Means)
	}
	want.WriteString("\nA warning says what was left out, at which field, and what mends it. `kubectl` prints it; its code also stands in the pod's annotation\n" +
		"`lightstep.com/status`, since the controllers that create most pods swallow warnings.\n\n| Code | Meaning |\n|---|---|\n")
	for _, c := range inject.Codes() {
		fmt.Fprintf(&want, "| `%s` | %s |\n", c.Code, c.Means)
	}
	if *update {
		if err := os.WriteFile("reasons.md", []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Errorf("run go test ./docs -update (-want +got):\n%s", diff)
	}
}
