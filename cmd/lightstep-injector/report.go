package main

import (
	"bytes"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/lightstep-injector/lightstep-injector/internal/escape"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/manifest"
)

// report says what became of each object with a pod.
type report struct{ entries []reportEntry }

type reportEntry struct {
	object string
	result inject.Result
}

func (r *report) add(object manifest.Object, namespace string, result inject.Result) {
	r.entries = append(r.entries, reportEntry{title(object, namespace), result})
}

// maxTitle bounds, in bytes, what a table has of an object's kind and name, which are no longer than 63 and 253 where they are valid:
// a longer one would push the other columns away.
const maxTitle = 320

// title names an object as kubectl takes it.
func title(object manifest.Object, namespace string) string {
	name := escape.Cut(strings.ToLower(object.Kind)+"/"+object.Name, maxTitle)
	if namespace != "default" {
		name += " -n " + escape.Cut(namespace, maxTitle)
	}
	return name
}

// print prints a line for each object, the columns below one another, and the object's warnings below it.
func (r *report) print(out io.Writer) error {
	var table bytes.Buffer
	columns := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, e := range r.entries {
		escape.Printf(columns, "%s\t%s\t%s\t%s\n", e.object, outcome(e.result), e.result.Reason, containers(e.result))
	}
	if err := columns.Flush(); err != nil {
		return err
	}
	for _, e := range r.entries {
		line, err := table.ReadString('\n')
		if err != nil {
			return err
		}
		escape.Printf(out, "%s\n", strings.TrimRight(line, " \n"))
		for _, warning := range e.result.Warnings {
			escape.Printf(out, "  warning: %s: %s\n", warning.Code, warning.Message)
		}
	}
	return nil
}

func outcome(result inject.Result) string {
	switch {
	case !result.Injected:
		return "not injected"
	case len(result.Patch) == 0:
		return "unchanged"
	}
	return "injected"
}

func containers(result inject.Result) string {
	if len(result.Containers) == 0 {
		return ""
	}
	return "containers: " + strings.Join(result.Containers, ", ")
}
