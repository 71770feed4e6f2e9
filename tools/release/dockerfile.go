package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// dockerfile is one of two stages: the first compiles the program, the second is the image.
type dockerfile struct {
	// goVersion is that of the first stage's base.
	goVersion string
	// compiler is the first stage's name.
	compiler       string
	compile, image []instructions.Command
}

func readDockerfile(folder string) (*dockerfile, error) {
	content, err := os.ReadFile(filepath.Join(folder, "Dockerfile"))
	if err != nil {
		return nil, err
	}
	d, err := parseDockerfile(content)
	if err != nil {
		return nil, fmt.Errorf("read the Dockerfile: %w", err)
	}
	return d, nil
}

func parseDockerfile(content []byte) (*dockerfile, error) {
	parsed, err := parser.Parse(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	stages, args, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil, err
	}
	if len(stages) != 2 || len(args) > 0 {
		return nil, fmt.Errorf("%d stages and %d ARGs before them: there have to be a stage that compiles, an image, and nothing else", len(stages), len(args))
	}
	image, isGo := strings.CutPrefix(stages[0].BaseName, "golang:")
	if !isGo || stages[1].BaseName != "scratch" {
		return nil, fmt.Errorf("FROM %s and FROM %s: known are golang:VERSION@DIGEST and scratch", stages[0].BaseName, stages[1].BaseName)
	}
	goVersion, digest, _ := strings.Cut(image, "@")
	if _, err := v1.NewHash(digest); err != nil {
		return nil, fmt.Errorf("FROM %s: a base image needs a digest, since a tag can be moved: %w", stages[0].BaseName, err)
	}
	return &dockerfile{goVersion: goVersion, compiler: stages[0].Name, compile: stages[0].Commands, image: stages[1].Commands}, nil
}

// refused is the error for an instruction that an engine would follow and this program would not.
func refused(command instructions.Command, known string) error {
	return fmt.Errorf("%v: not known here, where %s", command, known)
}

// variables are those of a stage, each as NAME=VALUE.
type variables []string

// declare adds what an ARG declares, with the values that are given for a build.
func (v *variables) declare(command *instructions.ArgCommand, given map[string]string) error {
	for _, arg := range command.Args {
		value, there := given[arg.Key]
		if !there {
			return fmt.Errorf("%v: no value is known for it", command)
		}
		*v = append(*v, arg.Key+"="+value)
	}
	return nil
}

// expand replaces the variables in an instruction. One that nobody has declared is an error, where an engine would put nothing.
func (v *variables) expand(command instructions.Command) error {
	expandable, does := command.(instructions.SupportsSingleWordExpansion)
	if !does {
		return nil
	}
	return expandable.Expand(func(word string) (string, error) {
		text, unknown, err := shell.NewLex('\\').ProcessWord(word, shell.EnvsFromSlice(slices.Clone(*v)))
		if err == nil && len(unknown) > 0 {
			err = fmt.Errorf("%v: %q has a variable that is not declared", command, word)
		}
		return text, err
	})
}
