package escape

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	sigsyaml "sigs.k8s.io/yaml"
)

// JSON returns a JSON text of the same value in which no string holds a character that is not visible, but as an escape.
// Encoders escape C0 alone.
func JSON(text []byte) []byte {
	return replace(text, func(out []byte, r rune) []byte {
		for _, unit := range utf16.AppendRune(nil, r) {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
		return out
	})
}

// YAML returns a JSON text as a YAML document of the same value in which no string holds a character that is not visible, but
// as an escape.
func YAML(text []byte) ([]byte, error) {
	document, err := sigsyaml.JSONToYAML(replace(text, yamlEscape)) // it reads JSON as YAML, which allows no C1
	if err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	if !bytes.ContainsFunc(document, hidden) {
		return document, nil
	}
	var root yaml.Node
	if err := yaml.Unmarshal(document, &root); err != nil {
		return nil, fmt.Errorf("escape YAML: %w", err)
	}
	quoteHidden(&root)
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	encoder.CompactSeqIndent()
	if err := encoder.Encode(&root); err != nil {
		return nil, fmt.Errorf("escape YAML: %w", err)
	}
	return replace(out.Bytes(), yamlEscape), nil
}

// yamlEscape appends a character as YAML's double quotes have it.
func yamlEscape(out []byte, r rune) []byte {
	if r > 0xFFFF {
		return fmt.Appendf(out, `\U%08x`, r)
	}
	return fmt.Appendf(out, `\u%04x`, r)
}

// hidden reports whether a character must be escaped in an encoded document. Its line feeds, tabs and spaces are the
// encoder's own; other C0 characters are escaped already.
func hidden(r rune) bool { return r > '~' && !visible(r) }

// quoteHidden puts each string that holds a hidden character in double quotes, the one style that has escapes.
func quoteHidden(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && strings.ContainsFunc(n.Value, hidden) {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, child := range n.Content {
		quoteHidden(child)
	}
}

// replace writes each hidden character of a text as an escape.
func replace(text []byte, escape func(out []byte, r rune) []byte) []byte {
	if !bytes.ContainsFunc(text, hidden) {
		return text
	}
	out := make([]byte, 0, len(text)+len(text)/8)
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if hidden(r) {
			out = escape(out, r)
		} else {
			out = append(out, text[:size]...)
		}
		text = text[size:]
	}
	return out
}
