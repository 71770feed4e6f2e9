package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// errStyle says that the text is written in a way that no edit of single lines keeps. The document is then written anew.
var errStyle = errors.New("the text cannot be edited in its style")

// replacement is an edit of a text: what stands from start to end becomes text.
type replacement struct {
	start, end int
	text       string
}

// edit makes the changes in the document's text. Each list of operations concerns another pod, so one operation of each
// is made at a time, and the text is read again for the next.
func (d document) edit(changes [][]operation) (document, error) {
	for round := 0; ; round++ {
		ops := nth(changes, round)
		if len(ops) == 0 {
			return d, nil
		}
		root, err := d.tree()
		if err != nil {
			return d, fmt.Errorf("find the pod in the text: %w", err)
		}
		e := &editor{text: d.body, style: d.styleOf(root)}
		for _, op := range ops {
			if err := e.apply(root, op); err != nil {
				return d, err
			}
		}
		d.body = splice(d.body, e.edits)
	}
}

// nth returns the operation at a position of each list that is that long.
func nth(changes [][]operation, i int) []operation {
	var ops []operation
	for _, list := range changes {
		if i < len(list) {
			ops = append(ops, list[i])
		}
	}
	return ops
}

// splice makes replacements, which do not overlap, in a text.
func splice(text []byte, edits []replacement) []byte {
	slices.SortStableFunc(edits, func(a, b replacement) int { return cmp.Compare(a.start, b.start) })
	var out []byte
	at := 0
	for _, e := range edits {
		out = append(append(out, text[at:e.start]...), e.text...)
		at = e.end
	}
	return append(out, text[at:]...)
}

// editor collects the edits that make operations true in a text.
type editor struct {
	text  []byte
	style style
	edits []replacement
}

func (e *editor) replace(start, end int, text string) {
	e.edits = append(e.edits, replacement{start: start, end: end, text: text})
}

// apply makes one operation.
func (e *editor) apply(root *node, op operation) error {
	parent, err := root.at(op.Path.Parent())
	if err != nil {
		return err
	}
	if parent.kind != mapping && parent.kind != sequence {
		return errStyle
	}
	token := op.Path.LastToken()
	i := parent.index(token)
	present := i < len(parent.entries)
	switch {
	case present && (parent.kind == mapping || op.Op == "replace"):
		return e.set(parent, i, op.Value)
	case parent.empty():
		return e.fill(root, op)
	case parent.flow:
		return e.insertFlow(parent, i, token, op.Value)
	default:
		return e.insertLines(parent, i, token, op.Value)
	}
}

// fill writes the first entry of an empty collection. Where the collection stands in a block, it becomes a block too.
func (e *editor) fill(root *node, op operation) error {
	path := op.Path.Parent()
	parent, err := root.at(path)
	if err != nil {
		return err
	}
	whole, err := wrap(parent.kind, op.Path.LastToken(), op.Value)
	if err != nil {
		return err
	}
	if path != "" {
		outer, err := root.at(path.Parent())
		if err != nil {
			return err
		}
		return e.set(outer, outer.index(path.LastToken()), whole)
	}
	return e.setFlow(parent, whole)
}

// set writes another value in the place of an entry's.
func (e *editor) set(parent *node, i int, value jsontext.Value) error {
	old := parent.entries[i].value
	switch {
	case parent.flow && old.start < old.end:
		return e.setFlow(old, value)
	case parent.flow, parent.kind != mapping, parent.column < 0, old.kind != scalar && !old.empty():
		return errStyle
	}
	rendered, err := e.style.pair(value, old.quote)
	if err != nil {
		return err
	}
	before := bytes.TrimRight(e.text[:old.start], " \t")
	e.replace(len(before), old.end, rendered.value)
	if rendered.below != "" { // behind a comment that may follow the old value
		e.newLines(old.end, e.style.indent(rendered.below, parent.column))
	}
	return nil
}

// setFlow writes a value on one line in the place of another.
func (e *editor) setFlow(old *node, value jsontext.Value) error {
	line, err := e.style.flow(value)
	e.replace(old.start, old.end, line)
	return err
}

// insertLines writes an entry into a block collection, before the one at a position, or behind all.
func (e *editor) insertLines(parent *node, i int, token string, value jsontext.Value) error {
	if parent.column < 0 {
		return errStyle
	}
	rendered, err := e.style.entry(parent.kind, token, value)
	if err != nil {
		return err
	}
	lines := e.style.indent(rendered, parent.column)
	if i == len(parent.entries) {
		e.newLines(parent.end, lines)
		return nil
	}
	at := bytes.LastIndexByte(e.text[:parent.entries[i].start], '\n') + 1
	if len(bytes.TrimLeft(e.text[at:parent.entries[i].start], " ")) > 0 {
		return errStyle
	}
	at = e.aboveComments(at, parent.column)
	e.replace(at, at, lines)
	return nil
}

// aboveComments returns where the comments begin that stand right above a line, at its column: they are about it.
func (e *editor) aboveComments(at, column int) int {
	for at > 0 {
		previous := bytes.LastIndexByte(e.text[:at-1], '\n') + 1
		line := e.text[previous:at]
		if trimmed := bytes.TrimLeft(line, " "); len(line)-len(trimmed) != column || trimmed[0] != '#' {
			return at
		}
		at = previous
	}
	return at
}

// newLines writes lines behind the line that an offset is in. A text that ends without a line break still does then.
func (e *editor) newLines(at int, lines string) {
	end := lineEnd(e.text, at)
	if end > 0 && e.text[end-1] != '\n' {
		lines = e.style.newline + lines[:len(lines)-len(e.style.newline)]
	}
	e.replace(end, end, lines)
}

// insertFlow writes an entry into a collection in brackets, with what stands between its entries, or before the first.
func (e *editor) insertFlow(parent *node, i int, token string, value jsontext.Value) error {
	space := e.text[parent.start+1 : parent.entries[0].start]
	if len(bytes.TrimSpace(space)) > 0 {
		return errStyle
	}
	rendered, err := e.style.flow(value)
	if newline := bytes.LastIndexByte(space, '\n'); newline >= 0 {
		rendered, err = e.style.flowLines(value, string(space[newline+1:]))
	} else if !e.style.compact {
		space = []byte(" ")
	}
	if err != nil {
		return err
	}
	if parent.kind == mapping {
		key, err := e.style.key(token)
		if err != nil {
			return err
		}
		rendered = key + rendered
	}
	e.putFlow(parent, i, rendered, string(space))
	return nil
}

// putFlow writes an entry's text before the entry at a position, or behind all.
func (e *editor) putFlow(parent *node, i int, text, space string) {
	if i < len(parent.entries) {
		at := parent.entries[i].start
		e.replace(at, at, text+","+space)
		return
	}
	at := parent.entries[i-1].value.end
	e.replace(at, at, ","+space+text)
}
