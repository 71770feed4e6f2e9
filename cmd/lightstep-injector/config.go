package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lightstep-injector/lightstep-injector/internal/escape"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

func configCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Work with configuration files",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("a command is missing: config validate FILE")}
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "validate FILE",
		Short: "Check a configuration file",
		Long: `Check a configuration file (- is standard input) as strictly as serve does, and list every problem with its fix.

What is valid but worth knowing is printed as advice, and does not change the exit code.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return validateConfiguration(args[0], io) },
	})
	return cmd
}

func validateConfiguration(path string, streams streams) error {
	text, err := readFileOr(streams.in, path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	config, err := settings.Parse(text)
	if err != nil {
		return errors.Join(slices.Insert(indented(err), 0, errors.New(path+" is not valid:"))...)
	}
	escape.Printf(streams.out, "%s is valid\n", path)
	for _, advice := range config.Advice() {
		escape.Printf(streams.out, "  advice: %s\n", advice)
	}
	return nil
}

// indented returns the errors that are joined in one, each to be printed below a title.
func indented(err error) []error {
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = slices.Clone(joined.Unwrap())
	}
	for i, problem := range list {
		list[i] = fmt.Errorf("  %w", problem)
	}
	return list
}

// maxConfiguration bounds what is read from standard input; a ConfigMap holds no more.
const maxConfiguration = 1 << 20

func readFileOr(in io.Reader, path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(in, maxConfiguration+1))
	}
	return os.ReadFile(path)
}
