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
	// folders are the modules', by their path.
	folders map[string]string
}

// newLicences finds the folders of a program's modules, and Go's own. They were fetched when it was compiled.
func newLicences(ctx context.Context, source, goVersion string, program *debug.BuildInfo) (*licences, error) {
	known, err := assets.DefaultClassifier()
	if err != nil {
		return nil, fmt.Errorf("load the licences that can be told: %w", err)
	}
	l := &licences{classifier: known, folders: map[string]string{program.Main.Path: source}}
	root, err := outputOf(goCommand(ctx, source, goVersion, nil, "env", "GOROOT"))
	if err != nil {
		return nil, err
	}
	l.folders[standardLibrary] = strings.TrimSpace(root)
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
			return l, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what go mod download prints: %w", err)
		}
		l.folders[module.Path] = module.Dir
	}
}

// of is an SPDX expression for all licences that the files of a module's root are the text of.
func (l *licences) of(module string) (string, error) {
	var found []string
	for _, pattern := range []string{"LICENSE*", "LICENCE*", "COPYING*"} {
		files, err := filepath.Glob(filepath.Join(l.folders[module], pattern))
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
