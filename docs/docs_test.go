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
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

var update = flag.Bool("update", false, "rewrite reasons.md, and the table in istio.md")

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
	compare(t, "reasons.md", want.String())
}

// TestIstio: the table in docs/istio.md is made of the table of what each version can do.
func TestIstio(t *testing.T) {
	const begin, end = "<!-- Made by go test ./docs -update. -->\n", "<!-- Until here. -->\n"
	var table strings.Builder
	table.WriteString("\n| From Istio | What is done | Why | Source | Proven by |\n|---|---|---|---|---|\n")
	for _, c := range istio.Changes() {
		fmt.Fprintf(&table, "| %s | %s | %s | %s | %s |\n", c.Since, c.Does, c.Because, c.Source, c.Proven)
	}
	table.WriteString("\n")
	page, err := os.ReadFile("istio.md")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(page), begin)
	_, tail, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("istio.md has no place for the table, from %q to %q", begin, end)
	}
	compare(t, "istio.md", head+begin+table.String()+end+tail)
}

// compare holds a page to what the code says, or writes it.
func compare(t *testing.T, file, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("run go test ./docs -update (-want +got):\n%s", diff)
	}
}
