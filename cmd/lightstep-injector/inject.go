package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/aymanbagabas/go-udiff"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/lightstep-injector/lightstep-injector/internal/escape"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/manifest"
)

func injectCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inject -f FILE|-",
		Short: "Do to manifests what the webhook does to pods",
		Long: `Do to manifests what the webhook does to pods, and print them. What is not to change comes out byte for byte.

The objects' namespaces count as labelled, unless the manifests hold the Namespace: its labels and annotations decide then.
Standard error has a line for each object with a pod: whether it is injected, why, and what was left out.`,
		Example: `  lightstep-injector inject -f app.yaml --config config.yaml -o diff
  kustomize build . | lightstep-injector inject -f - --config config.yaml | kubectl apply -f -`,
		Args: cobra.NoArgs,
	}
	o, output := addOffline(cmd), addOutput(cmd, "yaml", "json", "diff")
	cobra.CheckErr(cmd.MarkFlagRequired("filename"))
	cmd.RunE = func(*cobra.Command, []string) error { return injectManifests(o, output.value, io) }
	return cmd
}

func injectManifests(o *offline, format string, io streams) error {
	sources, snap, err := o.load(io.in)
	if err != nil {
		return err
	}
	var report report
	injected := make([]source, 0, len(sources))
	for _, s := range sources {
		text, err := manifest.Rewrite(s.text, func(object manifest.Object) ([]inject.Operation, error) {
			request, err := o.request(object)
			if err != nil {
				return nil, err
			}
			result := inject.Run(request, snap)
			report.add(object, request.Namespace, result)
			return result.Patch, nil
		})
		if err != nil {
			return fmt.Errorf("inject %s: %w", s.name, err)
		}
		injected = append(injected, source{name: s.name, text: text})
	}
	if err := printManifests(io.out, format, sources, injected); err != nil {
		return err
	}
	return report.print(io.err)
}

func printManifests(out io.Writer, format string, before, after []source) error {
	switch format {
	case "diff":
		return printDiffs(out, before, after)
	case "json":
		return printObjects(out, after)
	}
	texts := make([][]byte, 0, len(after))
	for _, s := range after {
		texts = append(texts, s.text)
	}
	text := manifest.Join(texts...)
	if terminal(out) { // anywhere else, the manifests' own bytes are printed
		text = []byte(escape.Lines(string(text)))
	}
	_, err := out.Write(text)
	return err
}

// printObjects prints the objects as JSON: one as it is, any other number in a List.
func printObjects(out io.Writer, sources []source) error {
	items := []jsontext.Value{}
	for _, s := range sources {
		objects, err := manifest.Objects(s.text)
		if err != nil {
			return fmt.Errorf("read %s: %w", s.name, err)
		}
		items = append(items, objects...)
	}
	if len(items) == 1 {
		return printValue(out, "json", items[0])
	}
	return printValue(out, "json", struct {
		APIVersion string           `json:"apiVersion"`
		Kind       string           `json:"kind"`
		Items      []jsontext.Value `json:"items"`
	}{"v1", "List", items})
}

// printDiffs prints what changed in each file, for people and for patch -p1, which does not apply a diff of a text that has
// characters that are not visible: they are escaped.
func printDiffs(out io.Writer, before, after []source) error {
	colour := coloured(out)
	for i := range before {
		diff, err := unifiedDiff(before[i].name, string(before[i].text), string(after[i].text))
		if err != nil {
			return fmt.Errorf("compare %s: %w", before[i].name, err)
		}
		diff = escape.Lines(diff)
		if colour {
			diff = colourDiff(diff)
		}
		if _, err := io.WriteString(out, diff); err != nil {
			return err
		}
	}
	return nil
}

func unifiedDiff(name, before, after string) (string, error) {
	name = strings.TrimPrefix(filepath.ToSlash(name), "/")
	edits, err := lineEdits(before, after)
	if err != nil {
		return "", err
	}
	diff, err := udiff.ToUnifiedDiff("a/"+name, "b/"+name, before, edits, udiff.DefaultContextLines)
	if err != nil {
		return "", err
	}
	// The library forgets the unchanged lines between two changes of one hunk when it counts the lines of the new text.
	added := 0
	for _, hunk := range diff.Hunks {
		hunk.ToLine = hunk.FromLine + added
		for _, line := range hunk.Lines {
			switch line.Kind {
			case udiff.Insert:
				added++
			case udiff.Delete:
				added--
			}
		}
	}
	return diff.String(), nil
}

// lineEdits compares two streams document by document: in longer texts the library stops looking for what is the same.
func lineEdits(before, after string) ([]udiff.Edit, error) {
	old, err := manifest.Split([]byte(before))
	if err != nil {
		return nil, err
	}
	rewritten, err := manifest.Split([]byte(after))
	if err != nil || len(old) != len(rewritten) {
		return udiff.Lines(before, after), err
	}
	var edits []udiff.Edit
	offset := 0
	for i, text := range old {
		for _, edit := range udiff.Lines(string(text), string(rewritten[i])) {
			edits = append(edits, udiff.Edit{Start: offset + edit.Start, End: offset + edit.End, New: edit.New})
		}
		offset += len(text)
	}
	return edits, nil
}

// colourDiff colours a diff as git does.
func colourDiff(diff string) string {
	const bold, red, green, cyan, reset = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[m"
	var out strings.Builder
	for line := range strings.Lines(diff) {
		text := strings.TrimSuffix(line, "\n")
		colour := ""
		switch {
		case strings.HasPrefix(text, "--- a/"), strings.HasPrefix(text, "+++ b/"):
			colour = bold
		case strings.HasPrefix(text, "@@"):
			colour = cyan
		case strings.HasPrefix(text, "-"):
			colour = red
		case strings.HasPrefix(text, "+"):
			colour = green
		}
		if colour != "" {
			text = colour + text + reset
		}
		out.WriteString(text + line[len(strings.TrimSuffix(line, "\n")):])
	}
	return out.String()
}
