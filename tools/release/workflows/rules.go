package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rhysd/actionlint"
)

const (
	// testWorkflow is the one whose success a release needs.
	testWorkflow = "./.github/workflows/ci.yaml"
	// onlyTags is the condition of what publishes. Without a status function in it, GitHub adds success().
	onlyTags = "github.event_name == 'push'"
)

// check returns what is wrong with a workflow.
func check(w *actionlint.Workflow) (problems []string) {
	for _, event := range w.On {
		// Others run with permissions or secrets for what a stranger has written.
		if !slices.Contains([]string{"push", "pull_request", "workflow_call", "workflow_dispatch"}, event.EventName()) {
			problems = append(problems, "the event "+event.EventName()+" is not allowed")
		}
	}
	if w.Permissions == nil || w.Permissions.All != nil || len(w.Permissions.Scopes) > 0 {
		problems = append(problems, "the workflow needs permissions: {}, and each job its own")
	}
	if w.Concurrency == nil {
		problems = append(problems, "the workflow needs a concurrency group")
	}
	if w.Defaults == nil || w.Defaults.Run == nil || w.Defaults.Run.Shell == nil || w.Defaults.Run.Shell.Value != "bash" {
		problems = append(problems, "the workflow needs defaults.run.shell: bash, or a failure in a pipe is ignored")
	}
	for _, id := range slices.Sorted(maps.Keys(w.Jobs)) {
		for _, problem := range checkJob(w, w.Jobs[id]) {
			problems = append(problems, "job "+id+": "+problem)
		}
	}
	return problems
}

func checkJob(w *actionlint.Workflow, job *actionlint.Job) (problems []string) {
	if job.Permissions == nil || job.Permissions.All != nil {
		problems = append(problems, "permissions must be listed by name")
	}
	if job.ContinueOnError != nil {
		problems = append(problems, "continue-on-error hides failures")
	}
	if job.Container != nil || job.Services != nil {
		problems = append(problems, "containers and services are pinned by nothing here")
	}
	if call := job.WorkflowCall; call != nil {
		if call.InheritSecrets {
			problems = append(problems, "secrets: inherit passes secrets that are not named")
		}
	} else {
		problems = append(problems, checkRunner(job)...)
	}
	for _, step := range job.Steps {
		problems = append(problems, checkStep(step)...)
	}
	if writes(job) {
		problems = append(problems, checkPrivileged(w, job)...)
	}
	return problems
}

func checkRunner(job *actionlint.Job) (problems []string) {
	if job.TimeoutMinutes == nil {
		problems = append(problems, "timeout-minutes is missing")
	}
	if job.RunsOn == nil || len(job.RunsOn.Labels) != 1 || job.RunsOn.Labels[0].Value != "ubuntu-24.04" {
		problems = append(problems, "runs-on must be ubuntu-24.04")
	}
	return problems
}

func checkStep(step *actionlint.Step) (problems []string) {
	if step.ContinueOnError != nil {
		problems = append(problems, "continue-on-error hides failures")
	}
	switch exec := step.Exec.(type) {
	case *actionlint.ExecAction:
		if !strings.HasPrefix(exec.Uses.Value, "actions/checkout@") {
			return problems
		}
		if keep := exec.Inputs["persist-credentials"]; keep == nil || keep.Value.Value != "false" {
			problems = append(problems, "checkout needs persist-credentials: false")
		}
	case *actionlint.ExecRun:
		if strings.Contains(exec.Run.Value, "${{") {
			problems = append(problems, "a script contains ${{ }}, which is expanded before the shell quotes it: use env")
		}
		if exec.Shell != nil {
			problems = append(problems, "a step has its own shell")
		}
		if _, err := commands(exec.Run.Value); err != nil {
			problems = append(problems, err.Error())
		}
	}
	return problems
}

// writes tells whether a job may change anything.
func writes(job *actionlint.Job) bool {
	if job.Permissions == nil || job.Permissions.All != nil {
		return true
	}
	for _, scope := range job.Permissions.Scopes {
		if value := scope.Value.Value; value != "read" && value != "none" {
			return true
		}
	}
	return false
}

// checkPrivileged holds a job with a write permission to steps that run none of the repository's code, after the tests.
func checkPrivileged(w *actionlint.Workflow, job *actionlint.Job) (problems []string) {
	if job.WorkflowCall != nil {
		return []string{"a workflow is called with a write permission"}
	}
	for _, step := range job.Steps {
		problems = append(problems, checkPrivilegedStep(step)...)
	}
	if job.If != nil && job.If.Value != onlyTags {
		problems = append(problems, "if must be "+onlyTags+", so that a failed test stops the job")
	}
	if !needsTests(w, job, map[*actionlint.Job]bool{}) {
		problems = append(problems, "a write permission without "+testWorkflow+" before it")
	}
	for _, event := range w.On {
		if event.EventName() == "pull_request" {
			problems = append(problems, "a write permission in a workflow of pull requests")
		}
	}
	return problems
}

func checkPrivilegedStep(step *actionlint.Step) (problems []string) {
	allowed := []string{"cmp", "cosign", "docker", "echo", "gh", "helm", "jq", "mkdir", "sha256sum", "skopeo", "test"}
	switch exec := step.Exec.(type) {
	case *actionlint.ExecAction:
		if strings.HasPrefix(exec.Uses.Value, "actions/checkout@") || strings.HasPrefix(exec.Uses.Value, "./") {
			problems = append(problems, exec.Uses.Value+" brings the repository's code to a write permission")
		}
	case *actionlint.ExecRun:
		called, _ := commands(exec.Run.Value) // an error is reported by checkStep
		for _, command := range called {
			if !slices.Contains(allowed, command) {
				problems = append(problems, fmt.Sprintf("%s must not run with a write permission", command))
			}
		}
	}
	return problems
}

// needsTests tells whether a job starts only after the tests have passed.
func needsTests(w *actionlint.Workflow, job *actionlint.Job, seen map[*actionlint.Job]bool) bool {
	for _, id := range job.Needs {
		needed := w.Jobs[strings.ToLower(id.Value)]
		if needed == nil || seen[needed] {
			continue
		}
		seen[needed] = true
		if call := needed.WorkflowCall; call != nil && call.Uses.Value == testWorkflow && needed.If == nil {
			return true
		}
		if needsTests(w, needed, seen) {
			return true
		}
	}
	return false
}
