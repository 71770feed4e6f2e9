package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/rhysd/actionlint"
)

// repository is what this program reads of a repository.
type repository struct {
	root string
	// workflows are by their files' names.
	workflows map[string]*actionlint.Workflow
	pinned    []pinned
}

// pinned is an action or an image in a file.
type pinned struct {
	// file is relative to the repository's root.
	file string
	line int
	// name is an action's, as owner/repository or with a folder, or an image's.
	name string
	// version is an action's in the comment behind it, as v1.2.3, or an image's tag.
	version string
	// pin is an action's commit, or an image's digest, as sha256:HEX.
	pin string
	// image tells an image from an action.
	image bool
}

func readRepository(root string) (*repository, error) {
	r := &repository{root: root, workflows: map[string]*actionlint.Workflow{}}
	files, err := filepath.Glob(filepath.Join(root, ".github", "workflows", "*"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no workflow", root)
	}
	for _, file := range files {
		if err := r.readWorkflow(filepath.Base(file)); err != nil {
			return nil, err
		}
	}
	return r, r.readDockerfile()
}

func (r *repository) readWorkflow(name string) error {
	file := filepath.Join(".github", "workflows", name)
	content, err := os.ReadFile(filepath.Join(r.root, file))
	if err != nil {
		return err
	}
	workflow, problems := actionlint.Parse(content)
	if len(problems) > 0 {
		return fmt.Errorf("read %s: %w", file, problems[0])
	}
	r.workflows[name] = workflow
	lines := strings.Split(string(content), "\n")
	for _, job := range workflow.Jobs {
		for _, uses := range actions(job) {
			if strings.HasPrefix(uses.Value, "./") {
				continue
			}
			p := pinned{file: file, line: uses.Pos.Line}
			p.name, p.pin, _ = strings.Cut(uses.Value, "@")
			_, p.version, _ = strings.Cut(lines[uses.Pos.Line-1], " # ")
			r.pinned = append(r.pinned, p)
		}
	}
	return nil
}

// actions are the actions that a job uses, or the workflow that it is.
func actions(job *actionlint.Job) (used []*actionlint.String) {
	if job.WorkflowCall != nil {
		used = append(used, job.WorkflowCall.Uses)
	}
	for _, step := range job.Steps {
		if action, is := step.Exec.(*actionlint.ExecAction); is {
			used = append(used, action.Uses)
		}
	}
	return used
}

func (r *repository) readDockerfile() error {
	const file = "Dockerfile"
	content, err := os.ReadFile(filepath.Join(r.root, file))
	if err != nil {
		return err
	}
	parsed, err := parser.Parse(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("read the Dockerfile: %w", err)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return fmt.Errorf("read the Dockerfile: %w", err)
	}
	for _, stage := range stages {
		if stage.BaseName == "scratch" {
			continue
		}
		p := pinned{file: file, line: stage.Location[0].Start.Line, image: true}
		p.name, p.pin, _ = strings.Cut(stage.BaseName, "@")
		if colon := strings.LastIndex(p.name, ":"); colon > strings.LastIndex(p.name, "/") { // not a port's
			p.name, p.version = p.name[:colon], p.name[colon+1:]
		}
		r.pinned = append(r.pinned, p)
	}
	return nil
}

// problems are all that can be found without a network.
func (r *repository) problems() (problems []string, err error) {
	for name, workflow := range r.workflows {
		lint, err := r.lint(name)
		if err != nil {
			return nil, err
		}
		problems = append(problems, lint...)
		for _, problem := range check(workflow) {
			problems = append(problems, name+": "+problem)
		}
	}
	pins, err := r.comparePins()
	return append(problems, pins...), err
}

// lint returns what actionlint finds.
func (r *repository) lint(name string) (problems []string, err error) {
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	if err != nil {
		return nil, err
	}
	project, err := actionlint.NewProject(r.root)
	if err != nil {
		return nil, err
	}
	found, err := linter.LintFile(filepath.Join(r.root, ".github", "workflows", name), project)
	for _, problem := range found {
		problems = append(problems, problem.Error())
	}
	return problems, err
}
