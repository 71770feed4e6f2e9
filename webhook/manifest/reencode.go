package manifest

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

// reencode writes the whole document anew with the changes made. Comments and order are kept; aliases and merge keys are
// written out, since a pod that shares a value with another cannot be changed alone.
func (d document) reencode(changes [][]operation) (document, error) {
	if d.isJSON() {
		return d, errStyle
	}
	var root yaml.Node
	if err := yaml.Unmarshal(d.body, &root); err != nil {
		return d, fmt.Errorf("read as YAML: %w", err)
	}
	places, err := d.tree()
	if err != nil {
		return d, err
	}
	expand(&root)
	for _, op := range slices.Concat(changes...) {
		if err := applyNode(root.Content[0], op); err != nil {
			return d, err
		}
	}
	style := d.styleOf(places)
	written, err := style.write(&root)
	if err != nil {
		return d, fmt.Errorf("write as YAML: %w", err)
	}
	if bytes.HasSuffix(d.head, []byte("---")) {
		written = "\n" + written
	}
	d.body = append([]byte(strings.ReplaceAll(written, "\n", style.newline)), endMarker(d.body)...)
	return d, nil
}

// endMarker returns the line "..." that ends a body; nothing where there is none.
func endMarker(body []byte) []byte {
	last := body[bytes.LastIndexByte(bytes.TrimRight(body, "\r\n"), '\n')+1:]
	if isMarker(last, "...") {
		return last
	}
	return nil
}

// expand puts copies in the place of all aliases and merge keys. Reading the document as JSON has done the same before,
// within its own bound on how much that may be.
func expand(n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		comments := [3]string{n.HeadComment, n.LineComment, n.FootComment}
		*n = *clone(n.Alias)
		n.HeadComment, n.LineComment, n.FootComment = comments[0], comments[1], comments[2]
	}
	n.Anchor = ""
	for _, child := range n.Content {
		expand(child)
	}
	if n.Kind == yaml.MappingNode {
		merge(n)
	}
}

func clone(n *yaml.Node) *yaml.Node {
	c := *n
	c.Content = nil
	for _, child := range n.Content {
		c.Content = append(c.Content, clone(child))
	}
	return &c
}

// merge puts the pairs that a mapping's merge keys stand for in their place.
func merge(n *yaml.Node) {
	var pairs []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.ShortTag() != "!!merge" {
			pairs = append(pairs, key, value)
			continue
		}
		sources := []*yaml.Node{value}
		if value.Kind == yaml.SequenceNode {
			sources = value.Content
		}
		for _, source := range sources {
			pairs = addMissing(pairs, source, n)
		}
	}
	n.Content = pairs
}

// addMissing adds the pairs of source whose key is neither in pairs nor in n.
func addMissing(pairs []*yaml.Node, source, n *yaml.Node) []*yaml.Node {
	for i := 0; i+1 < len(source.Content); i += 2 {
		name := nameOf(source.Content[i])
		if field(pairs, name) < 0 && field(n.Content, name) < 0 {
			pairs = append(pairs, source.Content[i], source.Content[i+1])
		}
	}
	return pairs
}

// field returns the position of a key's value among pairs, a negative one where it is not there.
func field(pairs []*yaml.Node, name string) int {
	for i := 0; i+1 < len(pairs); i += 2 {
		if nameOf(pairs[i]) == name {
			return i + 1
		}
	}
	return -1
}

// applyNode makes an operation in a tree of YAML nodes.
func applyNode(root *yaml.Node, op operation) error {
	parent := root
	for token := range op.Path.Parent().Tokens() {
		i := position(parent, token)
		if i < 0 || i >= len(parent.Content) {
			return fmt.Errorf("%s is not in the document", op.Path.Parent())
		}
		parent = parent.Content[i]
	}
	value, err := yamlNode(jsontext.NewDecoder(bytes.NewReader(op.Value)))
	if err != nil {
		return fmt.Errorf("read the value of %s: %w", op.Path, err)
	}
	if err := put(parent, op, value); err != nil {
		return err
	}
	if len(parent.Content) > 0 {
		parent.Style &^= yaml.FlowStyle
	}
	return nil
}

// put writes an operation's value into the collection that its path leads to.
func put(parent *yaml.Node, op operation, value *yaml.Node) error {
	token := op.Path.LastToken()
	i := position(parent, token)
	switch {
	case parent.Kind == yaml.MappingNode && i < 0:
		key := new(yaml.Node)
		if err := key.Encode(token); err != nil {
			return fmt.Errorf("write the key %s: %w", op.Path, err)
		}
		parent.Content = append(parent.Content, key, value)
	case parent.Kind == yaml.SequenceNode && op.Op == "add":
		parent.Content = slices.Insert(parent.Content, i, value)
	case i >= 0 && i < len(parent.Content):
		parent.Content[i] = value
	default:
		return fmt.Errorf("%s is not in the document", op.Path)
	}
	return nil
}

// position returns where in a node's content the value stands that a token names: behind the last one where a sequence
// has none, a negative position where a mapping has none.
func position(n *yaml.Node, token string) int {
	if n.Kind == yaml.MappingNode {
		return field(n.Content, token)
	}
	if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(n.Content) {
		return i
	}
	return len(n.Content)
}
