package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lightstep-injector/lightstep-injector/internal/escape"
)

// choice is a flag that takes one of a few words.
type choice struct {
	value string
	among []string
}

// String returns the word chosen.
func (c *choice) String() string { return c.value }

// Type is what help prints behind the flag.
func (c *choice) Type() string { return strings.Join(c.among, "|") }

// Set chooses a word.
func (c *choice) Set(value string) error {
	if !slices.Contains(c.among, value) {
		return fmt.Errorf("choose one of %s", strings.Join(c.among, ", "))
	}
	c.value = value
	return nil
}

// addOutput gives a command the flag -o. The first word is the default.
func addOutput(cmd *cobra.Command, words ...string) *choice {
	return addChoice(cmd, "output", "o", "what to print", words...)
}

// addChoice gives a command a flag that takes one of the words. The first is the default.
func addChoice(cmd *cobra.Command, name, short, usage string, words ...string) *choice {
	c := &choice{value: words[0], among: words}
	cmd.Flags().VarP(c, name, short, usage)
	complete := cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc(name, complete))
	return c
}

// printValue prints a value as JSON or YAML.
func printValue(out io.Writer, format string, value any) error {
	text, err := json.Marshal(value, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("write %s: %w", format, err)
	}
	if format != "yaml" {
		text = escape.JSON(append(text, '\n'))
	} else if text, err = escape.YAML(text); err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

// terminal reports whether what is written to out appears on a terminal.
func terminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// coloured tells whether to colour what is written to out: only on a terminal, and not against https://no-color.org.
func coloured(out io.Writer) bool {
	return terminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
