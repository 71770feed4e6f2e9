package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../../.."

// TestRepository: the workflows have no problem that is found without a network.
func TestRepository(t *testing.T) {
	r, err := readRepository(root)
	must(t, err)
	problems, err := r.problems()
	must(t, err)
	for _, problem := range problems {
		t.Error(problem)
	}
	if want := []string{"ci.yaml", "release.yaml"}; !slices.Equal(want, slices.Sorted(maps.Keys(r.workflows))) || len(r.pinned) < 10 {
		t.Errorf("workflows %v, %d pins", r.workflows, len(r.pinned))
	}
}

// TestProblems: each way to weaken a workflow or a pin is found.
func TestProblems(t *testing.T) {
	const release, ci = ".github/workflows/release.yaml", ".github/workflows/ci.yaml"
	for _, test := range []struct{ name, file, old, new, problem string }{
		{"a commit that is another version's", release, "a2bbfa25375fe432b6a289bc6b6cd05ecd0c4c32", "977bb373ede98d70efdf65b84cb5f73e068dcc2a", "pinned to 977bb373"},
		{"a commit that does not exist", release, "a2bbfa25375fe432b6a289bc6b6cd05ecd0c4c32", "977bb373ede98d70efbf0b7b13af9c3d6651dc60", "pinned to 977bb373"},
		{"a version that is not the commit's", release, "# v4.1.0", "# v4.0.0", "not in .github/pins.txt"},
		{"no version", release, " # v4.1.0", "", "no version"},
		{"a version that moves", release, "# v4.1.0", "# v4", "no version"},
		{"a tag", release, "download-artifact@3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c", "download-artifact@v8", "not pinned to a commit"},
		{"a container as an action", release, "actions/download-artifact@3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c", "docker://alpine:3", "not pinned to a commit"},
		{"another commit in the table", tableFile, "v4.1.0 a2bbfa25", "v4.1.0 a2bbfa26", "pinned to a2bbfa25"},
		{"a version that nothing uses in the table", tableFile, "v4.1.0", "v4.1.1", "nothing uses"},
		{"a base image by its tag", "Dockerfile", "@sha256:9d2f36f06329b2a141b9db99ffa32765cf695ee57b813ca29e245e8670bcbfff", "", "not pinned to a digest"},
		{"another digest", "Dockerfile", "sha256:9d2f", "sha256:9d2e", "pinned to sha256:9d2e"},
		{"another image", "Dockerfile", "golang:1.26.8", "golang:1.26.7", "not in .github/pins.txt"},
		{"not a workflow", release, "runs-on: ubuntu-24.04", "run-on: ubuntu-24.04", "run-on"},
		{"pull_request_target", ci, "  pull_request:", "  pull_request_target:", "the event pull_request_target"},
		{"workflow_run", ci, "  pull_request:", "  workflow_run:\n    workflows: [release]", "the event workflow_run"},
		{"permissions for all jobs", release, "permissions: {}", "permissions: {contents: write}", "the workflow needs permissions: {}"},
		{"the default permissions", ci, "permissions: {}\n", "", "the workflow needs permissions: {}"},
		{"all permissions", release, "    permissions:\n      contents: write # the release and its files", "    permissions: write-all", "permissions must be listed"},
		{"a job with the default permissions", ci, "    permissions:\n      contents: read\n", "", "permissions must be listed"},
		{"two releases at once", release, "concurrency:\n  group: release-${{ github.ref }}\n  cancel-in-progress: false", "#", "needs a concurrency group"},
		{"a shell without pipefail", release, "    shell: bash", "    shell: sh", "defaults.run.shell: bash"},
		{"a step's own shell", release, "        run: make release", "        shell: sh\n        run: make release", "its own shell"},
		{"no time limit", release, "    timeout-minutes: 60\n", "", "timeout-minutes is missing"},
		{"a runner that changes", release, "ubuntu-24.04", "ubuntu-latest", "runs-on must be"},
		{"credentials that stay", release, "persist-credentials: false", "persist-credentials: true", "persist-credentials: false"},
		{"a text from outside in a script", release, "run: make release", "run: make release VERSION=${{ github.ref_name }}", "use env"},
		{"a failure that is hidden", release, "        run: make release", "        continue-on-error: true\n        run: make release", "hides failures"},
		{"a service", ci, "    timeout-minutes: 15", "    timeout-minutes: 15\n    services: {a: {image: alpine}}", "containers and services"},
		{"all secrets", release, "    with:\n      release: true", "    secrets: inherit", "secrets that are not named"},
		{"writing while building", release, "      contents: read\n    outputs:", "      packages: write\n    outputs:", "make must not run with a write permission"},
		{"the repository's code with permissions", release, "      - uses: sigstore/", "      - uses: actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2\n        with: {persist-credentials: false}\n      - uses: sigstore/", "brings the repository's code"},
		{"an action of the repository with permissions", release, "      - uses: sigstore/", "      - uses: ./push\n      - uses: sigstore/", "brings the repository's code"},
		{"a script with permissions", release, "          skopeo copy", "          ./push.sh && skopeo copy", "./push.sh must not run"},
		{"a script in a variable", release, "          skopeo copy", "          $SCRIPT && skopeo copy", "$… must not run"},
		{"another shell's script", release, "          skopeo copy", "          bash push.sh && skopeo copy", "bash must not run"},
		{"a script in another command", release, `image=$(< lightstep`, `image=$(go run ./x; < lightstep`, "go must not run"},
		{"publishing without tests", release, "needs: [test, build]", "needs: [build]", "without ./.github/workflows/ci.yaml"},
		{"publishing after failed tests", release, "if: github.event_name == 'push'", "if: always()", "a failed test stops the job"},
		{"publishing after skipped tests", release, "  test:\n", "  test:\n    if: false\n", "without ./.github/workflows/ci.yaml"},
		{"publishing what a pull request built", release, "  workflow_dispatch:", "  workflow_dispatch:\n  pull_request:", "in a workflow of pull requests"},
	} {
		t.Run(test.name, func(t *testing.T) {
			copied := changed(t, test.file, test.old, test.new)
			r, err := readRepository(copied)
			if err != nil {
				if !strings.Contains(err.Error(), test.problem) {
					t.Error(err)
				}
				return
			}
			problems, err := r.problems()
			must(t, err)
			all := strings.Join(problems, "\n")
			if !strings.Contains(all, test.problem) {
				t.Errorf("want %q, got:\n%s", test.problem, all)
			}
		})
	}
}

// changed is a copy of the files that are read, the first occurrence of a text in one of them replaced.
func changed(t *testing.T, file, from, to string) string {
	t.Helper()
	copied := t.TempDir()
	for _, name := range []string{".github/workflows/ci.yaml", ".github/workflows/release.yaml", tableFile, "Dockerfile"} {
		content, err := os.ReadFile(filepath.Join(root, name))
		must(t, err)
		text := string(content)
		if name == file {
			text = strings.Replace(text, from, to, 1)
			if text == string(content) {
				t.Fatalf("%s has no %q", name, from)
			}
		}
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(copied, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(copied, name), []byte(text), 0o600))
	}
	return copied
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
