package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/rhysd/actionlint"
)

// TestWorkflow: the release's recipe is one that GitHub understands, and each action in it is pinned to a commit.
func TestWorkflow(t *testing.T) {
	file := filepath.Join(root, ".github", "workflows", "release.yaml")
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	check(t, err)
	problems, err := linter.LintFile(file, nil)
	check(t, err)
	for _, problem := range problems {
		t.Error(problem)
	}
	content, err := os.ReadFile(file)
	check(t, err)
	workflow, problems := actionlint.Parse(content)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	actions, pinned := 0, regexp.MustCompile(`@[0-9a-f]{40}$`)
	for _, job := range workflow.Jobs {
		for _, step := range job.Steps {
			if action, is := step.Exec.(*actionlint.ExecAction); is {
				actions++
				if !pinned.MatchString(action.Uses.Value) {
					t.Errorf("%s is not pinned to a commit", action.Uses.Value)
				}
			}
		}
	}
	if actions == 0 {
		t.Error("no action was looked at")
	}
}
