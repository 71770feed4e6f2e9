package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// tableFile is relative to the repository's root.
const tableFile = ".github/pins.txt"

const tableHeader = `# The commit of each action's version, and the digest of the base image's tag, as GitHub and the registry have them.
# "make pins" writes this file, and the same pins into the workflows and the Dockerfile.
`

// table has a pin for each "NAME VERSION".
type table map[string]string

// key is that of a table.
func (p *pinned) key() string { return p.name + " " + p.version }

// where names a place in a file, and what is there.
func (p *pinned) where() string {
	return fmt.Sprintf("%s:%d: %s %s", p.file, p.line, p.name, p.version)
}

func readTable(root string) (table, error) {
	content, err := os.ReadFile(filepath.Join(root, tableFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	pins := table{}
	for line := range strings.Lines(string(content)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return nil, fmt.Errorf("read %s: %q is not NAME VERSION PIN", tableFile, line)
		}
		key := fields[0] + " " + fields[1]
		if _, twice := pins[key]; twice {
			return nil, fmt.Errorf("read %s: %s is there twice", tableFile, key)
		}
		pins[key] = fields[2]
	}
	return pins, nil
}

func (t table) write(root string) error {
	var text strings.Builder
	text.WriteString(tableHeader)
	for _, key := range slices.Sorted(maps.Keys(t)) {
		text.WriteString(key + " " + t[key] + "\n")
	}
	return os.WriteFile(filepath.Join(root, tableFile), []byte(text.String()), 0o644)
}

// comparePins compares what the files pin with the table.
func (r *repository) comparePins() (problems []string, err error) {
	recorded, err := readTable(r.root)
	if err != nil {
		return nil, err
	}
	unused := maps.Clone(recorded)
	for _, p := range r.pinned {
		if problem := p.malformed(); problem != "" {
			problems = append(problems, p.where()+": "+problem)
			continue
		}
		delete(unused, p.key())
		switch pin, there := recorded[p.key()]; {
		case !there:
			problems = append(problems, p.where()+": not in "+tableFile+": make pins")
		case pin != p.pin:
			problems = append(problems, fmt.Sprintf("%s: pinned to %s, but %s has %s", p.where(), p.pin, tableFile, pin))
		}
	}
	for key := range unused {
		problems = append(problems, fmt.Sprintf("%s: nothing uses %s: make pins", tableFile, key))
	}
	return problems, nil
}

// malformed returns what is wrong with the form of a pin.
func (p *pinned) malformed() string {
	pin, version := regexp.MustCompile(`^[0-9a-f]{40}$`), regexp.MustCompile(`^v\d+\.\d+\.\d+$`)
	if p.image {
		pin, version = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`), regexp.MustCompile(`^[\w.-]+$`)
	}
	switch {
	case !pin.MatchString(p.pin) && p.image:
		return "not pinned to a digest"
	case !pin.MatchString(p.pin):
		return "not pinned to a commit"
	case !version.MatchString(p.version):
		return "no version; an action needs a comment such as # v1.2.3"
	}
	return ""
}

// replacePins writes new pins into the files, each in its line.
func (r *repository) replacePins(pins table) error {
	for _, p := range r.pinned {
		file := filepath.Join(r.root, p.file)
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		lines := strings.SplitAfter(string(content), "\n")
		old, tagged := p.name+"@"+p.pin, p.name
		if p.image {
			tagged += ":" + p.version
			old = strings.TrimSuffix(tagged+"@"+p.pin, "@")
		}
		lines[p.line-1] = strings.Replace(lines[p.line-1], old, tagged+"@"+pins[p.key()], 1)
		if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o644); err != nil {
			return err
		}
	}
	return nil
}
