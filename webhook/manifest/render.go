package manifest

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

// style is how a document is written, for what is added to look the same.
type style struct {
	// step is the indentation of a nested block.
	step int
	// flush says that a sequence's dashes stand below the first letter of its key.
	flush bool
	// json says that the document is JSON.
	json bool
	// compact says that nothing stands behind a comma or a colon.
	compact bool
	// newline is the line break.
	newline string
}

// styleOf reads a document's style from its first nested mapping and its first sequence.
func (d document) styleOf(root *node) style {
	s := style{step: 2, flush: true, json: d.isJSON(), newline: "\n"}
	if line := d.body[:lineEnd(d.body, 0)]; bytes.HasSuffix(line, []byte("\r\n")) {
		s.newline = "\r\n"
	}
	s.compact = s.json && !bytes.Contains(d.body, []byte(`": `))
	var step, dashes bool
	root.all(func(n *node) bool {
		for _, e := range n.entries {
			if n.kind != mapping || n.flow || e.value.flow || e.value.column < n.column {
				continue
			}
			if e.value.kind == mapping && !step {
				s.step, step = e.value.column-n.column, true
			}
			if e.value.kind == sequence && !dashes {
				s.flush, dashes = e.value.column == n.column, true
			}
		}
		return !step || !dashes
	})
	return s
}

// flow returns a value on one line, a collection in brackets.
func (s style) flow(value jsontext.Value) (string, error) {
	if s.json {
		line := value.Clone()
		err := line.Format(jsontext.SpaceAfterColon(!s.compact), jsontext.SpaceAfterComma(!s.compact))
		return string(line), err
	}
	// In a list, a string that holds a comma or a bracket is put in quotes.
	whole, err := wrap(sequence, "", value)
	if err != nil {
		return "", err
	}
	n, err := yamlNode(jsontext.NewDecoder(bytes.NewReader(whole)))
	if err != nil {
		return "", err
	}
	n.Style = yaml.FlowStyle
	list, err := s.write(n)
	return strings.TrimSuffix(strings.TrimPrefix(list, "["), "]\n"), err
}

// flowLines returns a value in brackets, an entry per line, its further lines below an indentation.
func (s style) flowLines(value jsontext.Value, indent string) (string, error) {
	lines := value.Clone()
	err := lines.Format(jsontext.Multiline(true), jsontext.WithIndentPrefix(indent), jsontext.WithIndent(strings.Repeat(" ", s.step)))
	return strings.ReplaceAll(string(lines), "\n", s.newline), err
}

// key returns a pair's key in brackets, with its colon.
func (s style) key(name string) (string, error) {
	quoted, err := jsontext.AppendQuote(nil, name)
	if err != nil {
		return "", err
	}
	key, err := s.flow(quoted)
	if s.compact {
		return key + ":", err
	}
	return key + ": ", err
}

// entry returns a collection's entry as block lines.
func (s style) entry(kind kind, name string, value jsontext.Value) (string, error) {
	whole, err := wrap(kind, name, value)
	if err != nil {
		return "", err
	}
	return s.encode(whole, 0)
}

// wrap returns a collection of one entry.
func wrap(kind kind, name string, value jsontext.Value) (jsontext.Value, error) {
	if kind == sequence {
		return json.Marshal([]jsontext.Value{value})
	}
	return json.Marshal(map[string]jsontext.Value{name: value})
}

// rendered is the value of a pair in a block mapping.
type rendered struct {
	// value is what stands on the key's line, with the space before it.
	value string
	// below is what stands on the lines below.
	below string
}

// pair returns a pair's value. A string is put in quotes where it was.
func (s style) pair(value jsontext.Value, quote byte) (rendered, error) {
	whole, err := wrap(mapping, "k", value)
	if err != nil {
		return rendered{}, err
	}
	lines, err := s.encode(whole, quote)
	first, below, _ := strings.Cut(strings.TrimPrefix(lines, "k:"), "\n")
	return rendered{value: first, below: below}, err
}

// encode returns a JSON value as block YAML, its members in order.
func (s style) encode(value jsontext.Value, quote byte) (string, error) {
	n, err := yamlNode(jsontext.NewDecoder(bytes.NewReader(value)))
	if err != nil {
		return "", err
	}
	if quote != 0 {
		requote(n.Content[len(n.Content)-1], quote)
	}
	return s.write(n)
}

// write returns a YAML node in the document's style, but with plain line breaks.
func (s style) write(n *yaml.Node) (string, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(s.step)
	if s.flush {
		encoder.CompactSeqIndent()
	}
	if err := encoder.Encode(n); err != nil {
		return "", err
	}
	return out.String(), encoder.Close()
}

// requote puts a string of one line in quotation marks.
func requote(n *yaml.Node, quote byte) {
	if n.ShortTag() != "!!str" || strings.Contains(n.Value, "\n") {
		return
	}
	n.Style = yaml.DoubleQuotedStyle
	if quote == '\'' {
		n.Style = yaml.SingleQuotedStyle
	}
}

// indent begins each line with an indentation, and ends it as the document does.
func (s style) indent(lines string, column int) string {
	var out strings.Builder
	for line := range strings.Lines(lines) {
		line = strings.TrimSuffix(line, "\n")
		if line != "" {
			out.WriteString(strings.Repeat(" ", column))
		}
		out.WriteString(line + s.newline)
	}
	return out.String()
}

// yamlNode reads a JSON value as a YAML node.
func yamlNode(decoder *jsontext.Decoder) (*yaml.Node, error) {
	switch decoder.PeekKind() {
	case '{':
		return yamlCollection(decoder, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}, '}')
	case '[':
		return yamlCollection(decoder, &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}, ']')
	}
	token, err := decoder.ReadToken()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: token.String()}
	if token.Kind() == '"' {
		return yamlString(token.String())
	}
	return n, nil
}

// yamlString returns a string in a style that YAML 1.1 reads as that string.
func yamlString(s string) (*yaml.Node, error) {
	n := new(yaml.Node)
	// Encode puts in quotes what would be read as something else, such as yes and 1:30.
	if err := n.Encode(s); err != nil {
		return nil, err
	}
	// A block that begins with white space says its indentation, which the encoder does not always get right.
	if n.Style == yaml.LiteralStyle && strings.ContainsAny(s[:1], " \n\t") {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n, nil
}

func yamlCollection(decoder *jsontext.Decoder, n *yaml.Node, closing jsontext.Kind) (*yaml.Node, error) {
	if _, err := decoder.ReadToken(); err != nil {
		return nil, err
	}
	for decoder.PeekKind() != closing {
		child, err := yamlNode(decoder)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, child)
	}
	_, err := decoder.ReadToken()
	return n, err
}
