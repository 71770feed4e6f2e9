package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// The names by which kubectl finds the program: what it runs for `kubectl lightstep`, and what it asks for completions of that.
const (
	pluginFile   = "kubectl-lightstep"
	completeFile = "kubectl_complete-lightstep"
)

// asCalled returns what the program calls itself, by the name under which it was started, and its arguments.
func asCalled(argv []string) (name string, args []string) {
	switch strings.TrimSuffix(filepath.Base(argv[0]), ".exe") {
	case pluginFile:
		return "kubectl lightstep", argv[1:]
	case completeFile:
		return "kubectl lightstep", slices.Insert(slices.Clone(argv[1:]), 0, cobra.ShellCompRequestCmd)
	default:
		return "lightstep-injector", argv[1:]
	}
}
