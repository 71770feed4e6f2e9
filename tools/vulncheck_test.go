// Package tools_test tests the scripts beside it.
package tools_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	calls      = "package main\n\nimport \"strings\"\n\nfunc main() { println(strings.Repeat(\"x\", 2)) }\n"
	callsOther = "package main\n\nimport \"strings\"\n\nfunc main() { println(strings.ToUpper(\"x\")) }\n"
	broken     = "package main\n\nfunc main() { undeclared() }\n"
)

// finding is an entry in the format of the Go vulnerability database: strings.Repeat is vulnerable in every version. Its text
// holds the words with which a network error is reported.
var finding = map[string]any{
	"schema_version": "1.3.1", "id": "GO-2026-0001", "modified": "2026-01-01T00:00:00Z", "published": "2026-01-01T00:00:00Z",
	"summary": "Forbidden: dial tcp: lookup vuln.go.dev: no such host", "details": "fetching vulnerabilities: connection refused",
	"database_specific": map[string]any{"url": "https://pkg.go.dev/vuln/GO-2026-0001"},
	"affected": []any{map[string]any{
		"package":            map[string]any{"name": "stdlib", "ecosystem": "Go"},
		"ranges":             []any{map[string]any{"type": "SEMVER", "events": []any{map[string]any{"introduced": "0"}}}},
		"ecosystem_specific": map[string]any{"imports": []any{map[string]any{"path": "strings", "symbols": []any{"Repeat"}}}},
	}},
}

// TestVulncheck: a finding fails, whatever its text; only an unreachable database is "not run".
func TestVulncheck(t *testing.T) {
	database := writeDatabase(t)
	const unreachable = "http://127.0.0.1:1"
	for _, test := range []struct {
		name, source, database string
		environment            []string
		code                   int
		output                 string
	}{
		{"a vulnerable function is called", calls, database, nil, 3, "GO-2026-0001"},
		{"another function is called", callsOther, database, nil, 0, "No vulnerabilities found"},
		{"the module does not compile", broken, database, nil, 1, "undeclared"},
		{"the database is unreachable", calls, unreachable, nil, 0, "NOT RUN"},
		{"the database is not one", calls, "file://" + t.TempDir() + "/missing", nil, 0, "NOT RUN"},
		{"it is unreachable and required", calls, unreachable, []string{"VULNCHECK_REQUIRED=true"}, 1, "NOT RUN"},
		{"it is unreachable in a workflow of GitHub", calls, unreachable, []string{"GITHUB_ACTIONS=true"}, 0, "::warning title=govulncheck not run::"},
	} {
		t.Run(test.name, func(t *testing.T) {
			module := writeModule(t, test.source)
			code, output := vulncheck(t, append(test.environment, "VULNCHECK_DB="+test.database), "linux:"+module)
			if code != test.code || !strings.Contains(output, test.output) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, test.code, test.output, output)
			}
		})
	}
	t.Run("one module of two has a finding", func(t *testing.T) {
		code, output := vulncheck(t, []string{"VULNCHECK_DB=" + database}, "linux:"+writeModule(t, calls), "linux:"+writeModule(t, callsOther))
		if code != 3 || strings.Count(output, "govulncheck linux:") != 2 {
			t.Errorf("exit code %d:\n%s", code, output)
		}
	})
}

// TestVulncheckCoversShipped: the script looks at each system that a release has a program for.
func TestVulncheckCoversShipped(t *testing.T) {
	script, err := os.ReadFile("vulncheck")
	check(t, err)
	for _, target := range []string{"linux:.", "darwin:.", "windows:.", "linux:tools/release"} {
		if !strings.Contains(string(script), " "+target) {
			t.Errorf("%s is not analysed", target)
		}
	}
}

// vulncheck runs the script in an environment that has none of its variables set otherwise.
func vulncheck(t *testing.T, environment []string, targets ...string) (code int, output string) {
	t.Helper()
	script, err := filepath.Abs("vulncheck")
	check(t, err)
	cmd := exec.CommandContext(t.Context(), script, targets...)
	cmd.Env = append(os.Environ(), "GITHUB_ACTIONS=", "VULNCHECK_REQUIRED=")
	cmd.Env = append(cmd.Env, environment...)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	err = cmd.Run()
	if failed, is := errors.AsType[*exec.ExitError](err); is {
		return failed.ExitCode(), text.String()
	}
	check(t, err)
	return 0, text.String()
}

// writeDatabase writes a vulnerability database with one entry, in the layout of https://go.dev/security/vuln/database#api,
// and returns its URL.
func writeDatabase(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for name, content := range map[string]any{
		"index/db": map[string]any{"modified": finding["modified"]},
		"index/modules": []any{map[string]any{
			"path": "stdlib", "vulns": []any{map[string]any{"id": finding["id"], "modified": finding["modified"]}},
		}},
		"ID/GO-2026-0001": finding,
	} {
		text, err := json.Marshal(content)
		check(t, err)
		write(t, filepath.Join(folder, name+".json"), string(text))
	}
	return "file://" + folder
}

func writeModule(t *testing.T, source string) string {
	t.Helper()
	folder := t.TempDir()
	write(t, filepath.Join(folder, "go.mod"), "module example.com/tiny\n\ngo 1.26\n")
	write(t, filepath.Join(folder, "main.go"), source)
	return folder
}

func write(t *testing.T, file, content string) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(file), 0o755))
	check(t, os.WriteFile(file, []byte(content), 0o600))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
