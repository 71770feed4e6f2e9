package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// compilation is the first stage of a Dockerfile for one platform.
type compilation struct {
	// source stands for the stage's folder with the sources, stage for the rest of its files.
	source, stage string
	goVersion     string
	given         map[string]string
	variables     variables
}

// compileFor runs the first stage for a platform. The files that it makes are then in the folder stage.
func compileFor(ctx context.Context, source, stage string, platform *v1.Platform) error {
	d, err := readDockerfile(source)
	if err != nil {
		return err
	}
	c := &compilation{
		source: source, stage: stage, goVersion: d.goVersion,
		given: map[string]string{"TARGETOS": platform.OS, "TARGETARCH": platform.Architecture},
	}
	for _, command := range d.compile {
		if err := c.follow(ctx, command); err != nil {
			return fmt.Errorf("follow the Dockerfile for %s: %w", platform, err)
		}
	}
	return nil
}

func (c *compilation) follow(ctx context.Context, command instructions.Command) error {
	if err := c.variables.expand(command); err != nil {
		return err
	}
	switch command := command.(type) {
	case *instructions.ArgCommand:
		return c.variables.declare(command, c.given)
	case *instructions.EnvCommand:
		for _, pair := range command.Env {
			c.variables = append(c.variables, pair.Key+"="+pair.Value)
		}
		return nil
	case *instructions.WorkdirCommand: // where the sources are does not matter: -trimpath
		return nil
	case *instructions.CopyCommand:
		if command.From != "" || command.DestPath != "." || !slices.Equal(command.SourcePaths, []string{"."}) {
			return refused(command, "it is COPY . .")
		}
		return nil
	case *instructions.RunCommand:
		return c.run(ctx, command)
	default:
		return refused(command, "this stage has ARG, ENV, WORKDIR, COPY and RUN")
	}
}

// run runs go build with the arguments that stand there, and Go of the version of the stage's base. It writes into the stage.
func (c *compilation) run(ctx context.Context, command *instructions.RunCommand) error {
	args := slices.Clone(command.CmdLine)
	output := slices.Index(args, "-o") + 1
	if command.PrependShell || len(args) < 2 || path.Base(args[0]) != "go" || args[1] != "build" || output == 0 || output == len(args) {
		return refused(command, `it is RUN ["go", "build", …, "-o", FILE, …]`)
	}
	for _, mount := range instructions.GetMounts(command) {
		if mount.Type != instructions.MountTypeCache { // caches save time and change nothing
			return refused(command, "mounts are of the type cache")
		}
	}
	args[output] = filepath.Join(c.stage, args[output])
	_, err := outputOf(goCommand(ctx, c.source, c.goVersion, c.variables, args[1:]...))
	return err
}

// goCommand runs Go of the given version, which Go itself fetches where another is installed.
func goCommand(ctx context.Context, folder, version string, variables []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=go"+version, "GOFLAGS=", "GOWORK=off")
	cmd.Env = append(cmd.Env, variables...)
	return cmd
}
