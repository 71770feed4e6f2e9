package main

import (
	"runtime"
	"runtime/debug"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lightstep-injector/lightstep-injector/internal/escape"
)

// build is what the Go toolchain notes of a build.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitzero"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// thisBuild returns this program's own.
func thisBuild() build {
	b := build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Commit = setting.Value
		case "vcs.modified":
			b.Modified = setting.Value == "true"
		}
	}
	return b
}

// version is this program's version.
func version() string { return thisBuild().Version }

func versionCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
	}
	output := addOutput(cmd, "table", "json", "yaml")
	cmd.RunE = func(*cobra.Command, []string) error {
		if output.value != "table" {
			return printValue(io.out, output.value, thisBuild())
		}
		b := thisBuild()
		table := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
		escape.Printf(table, "version\t%s\n", b.Version)
		if b.Commit != "" {
			escape.Printf(table, "commit\t%s\nmodified\t%s\n", b.Commit, yesNo(b.Modified))
		}
		escape.Printf(table, "go\t%s\nplatform\t%s\n", b.Go, b.Platform)
		return table.Flush()
	}
	return cmd
}
