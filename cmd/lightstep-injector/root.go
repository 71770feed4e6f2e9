package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lightstep-injector/lightstep-injector/internal/escape"
)

// The exit codes.
const (
	exitFine     = 0
	exitProblems = 1
	exitUsage    = 2
)

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// usageError says that the command line is wrong, where only the command itself can tell.
type usageError struct{ error }

// run runs the command that the arguments name, the first of which is the program's own name, and returns the exit code.
func run(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) int {
	started := false
	name, args := asCalled(argv)
	root := rootCommand(name, streams{in: stdin, out: stdout, err: stderr})
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	noteStart(root, &started)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitFine
	}
	if !started { // the error is cobra's, and its line feeds, too
		_, _ = io.WriteString(stderr, escape.Lines("error: "+err.Error()+"\n"))
	} else {
		escape.Printf(stderr, "error: %s\n", err)
	}
	if _, wrong := errors.AsType[usageError](err); started && !wrong {
		return exitProblems
	}
	escape.Printf(stderr, "Run '%s --help' for usage.\n", cmd.CommandPath())
	return exitUsage
}

// noteStart has each command note that it has begun: an error before that is one of usage.
func noteStart(cmd *cobra.Command, started *bool) {
	if begin := cmd.RunE; begin != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return begin(cmd, args)
		}
	}
	for _, child := range cmd.Commands() {
		noteStart(child, started)
	}
}

func rootCommand(name string, io streams) *cobra.Command {
	root := &cobra.Command{
		Use:         strings.ReplaceAll(name, " ", "-"), // of which completion scripts make identifiers
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: name},
		Short:       "Set up pods to report their spans over TLS, as they are created",
		Long: `Set up pods to report their spans to Lightstep satellites, or any OTLP backend, over TLS to your own CA.

serve is the admission webhook that does it in a cluster. inject and explain do the same to manifests, without a cluster.
status tells which pods of a cluster were missed, and check whether the webhook can be called.

Exit codes: 0 fine, 1 problems found, 2 wrong usage.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(
		serveCommand(io), injectCommand(io), explainCommand(io), statusCommand(io), checkCommand(io), renderCommand(io), configCommand(io), versionCommand(io),
	)
	nameExamples(root, name)
	return root
}

// nameExamples has the commands' examples call the program as it was called.
func nameExamples(cmd *cobra.Command, name string) {
	cmd.Example = strings.ReplaceAll(cmd.Example, "lightstep-injector ", name+" ")
	for _, child := range cmd.Commands() {
		nameExamples(child, name)
	}
}
