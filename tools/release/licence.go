package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	classifier "github.com/google/licenseclassifier/v2"
	"github.com/google/licenseclassifier/v2/assets"
)

// noAssertion is SPDX's word for what nobody has looked up, or could.
const noAssertion = "NOASSERTION"

// licences tells the licence of a module, by the text that it ships.
type licences struct {
	classifier *classifier.Classifier
	// told are those of the modules that it was asked about: reading takes its time, and all programs have most modules in common.
	told map[debug.Module]string
}

func newLicences() (*licences, error) {
	known, err := assets.DefaultClassifier()
	if err != nil {
		return nil, fmt.Errorf("load the licences that can be told: %w", err)
	}
	return &licences{classifier: known, told: map[debug.Module]string{}}, nil
}

// foldersOf are those of a program's modules and of Go's own packages, by their path. They were fetched when it was compiled.
func foldersOf(ctx context.Context, source, goVersion string, program *debug.BuildInfo) (map[string]string, error) {
	root, err := outputOf(goCommand(ctx, source, goVersion, nil, "env", "GOROOT"))
	if err != nil {
		return nil, err
	}
	folders := map[string]string{program.Main.Path: source, standardLibrary: strings.TrimSpace(root)}
	args := []string{"mod", "download", "-json"}
	for _, module := range program.Deps {
		args = append(args, module.Path+"@"+module.Version)
	}
	listed, err := outputOf(goCommand(ctx, source, goVersion, nil, args...))
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(strings.NewReader(listed))
	for {
		var module struct{ Path, Dir string }
		if err := decoder.Decode(&module); errors.Is(err, io.EOF) {
			return folders, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what go mod download prints: %w", err)
		}
		folders[module.Path] = module.Dir
	}
}

// of is an SPDX expression for all licences that the files in a module's folder are the text of.
func (l *licences) of(module *debug.Module, folder string) (string, error) {
	if told, there := l.told[*module]; there {
		return told, nil
	}
	licence, err := l.read(folder)
	l.told[*module] = licence
	return licence, err
}

func (l *licences) read(folder string) (string, error) {
	var found []string
	for _, pattern := range []string{"LICENSE*", "LICENCE*", "COPYING*"} {
		files, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			return "", err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			found = append(found, l.named(text)...)
		}
	}
	slices.Sort(found)
	if found = slices.Compact(found); len(found) > 0 {
		return strings.Join(found, " AND "), nil
	}
	return noAssertion, nil
}

// named are the licences whose text, or usual notice, is nearly all there.
func (l *licences) named(text []byte) (names []string) {
	const nearlyAll = 0.9
	for _, match := range l.classifier.Match(text).Matches {
		if (match.MatchType == "License" || match.MatchType == "Header") && match.Confidence >= nearlyAll {
			names = append(names, match.Name)
		}
	}
	return names
}
