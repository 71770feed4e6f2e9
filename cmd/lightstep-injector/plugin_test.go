package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestPlugin holds that the program speaks of itself as it is called.
func TestPlugin(t *testing.T) {
	for _, test := range []struct {
		argv string
		code int
		says string
	}{
		{"/usr/local/bin/kubectl-lightstep --help", exitFine, "Usage:\n  kubectl lightstep [command]"},
		{"kubectl-lightstep.exe status --help", exitFine, "Usage:\n  kubectl lightstep status [flags]"},
		{"kubectl-lightstep status --help", exitFine, "Examples:\n  kubectl lightstep status\n"},
		{"kubectl-lightstep inject", exitUsage, "Run 'kubectl lightstep inject --help' for usage."},
		{"kubectl_complete-lightstep inject -o ", exitFine, "yaml\njson\ndiff\n"},
		{"kubectl_complete-lightstep stat", exitFine, "status\t"},
		{"bin/lightstep-injector inject", exitUsage, "Run 'lightstep-injector inject --help' for usage."},
	} {
		var output bytes.Buffer
		code := run(t.Context(), strings.Split(test.argv, " "), nil, &output, &output)
		if code != test.code || !strings.Contains(output.String(), test.says) {
			t.Errorf("%s: exit %d, %s", test.argv, code, &output)
		}
	}
}
