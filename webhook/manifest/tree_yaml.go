package manifest

import (
	"bytes"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/lightstep-injector/lightstep-injector/webhook/yamlkeys"
)

// yamlTree returns where each value of a YAML text stands. The parser tells where values begin. Where they end is found
// here, from what the parser says is in them; should that ever be wrong, the edited text does not hold what it should,
// and is not used.
func yamlTree(text []byte) (*node, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, err
	}
	if len(root.Content) == 0 {
		return nil, errors.New("no value in the text")
	}
	p := &places{text: text, line: 1}
	return p.node(root.Content[0]), nil
}

// places turns the parser's lines and columns into offsets. Both are asked for in the order of the text, mostly, so the
// last answer is where the next search begins.
type places struct {
	text                 []byte
	line, column, offset int
}

// find returns the offset of a line and column as the parser counts them: from 1, in characters.
func (p *places) find(line, column int) int {
	if line < p.line || line == p.line && column-1 < p.column {
		p.line, p.column, p.offset = 1, 0, 0
	}
	for p.offset < len(p.text) && (p.line < line || p.column < column-1) {
		r, size := utf8.DecodeRune(p.text[p.offset:])
		p.offset += size
		p.column++
		if isBreak(r) {
			p.line, p.column = p.line+1, 0
			if r == '\r' && p.offset < len(p.text) && p.text[p.offset] == '\n' {
				p.offset++
			}
		}
	}
	return p.offset
}

// isBreak tells whether YAML 1.1 ends a line with a character.
func isBreak(r rune) bool {
	return r == '\n' || r == '\r' || r == '\u0085' || r == '\u2028' || r == '\u2029'
}

func (p *places) node(y *yaml.Node) *node {
	n := &node{
		start: p.find(y.Line, y.Column), flow: y.Style&yaml.FlowStyle != 0,
		null: y.Kind == yaml.ScalarNode && y.ShortTag() == "!!null",
	}
	switch y.Kind {
	case yaml.MappingNode:
		n.kind = mapping
		p.pairs(n, y)
	case yaml.SequenceNode:
		n.kind = sequence
		p.items(n, y)
	case yaml.AliasNode:
		n.kind = alias
		n.end = min(n.start+len("*")+len(y.Value), len(p.text))
		return n
	default:
		p.scalar(n, y)
		return n
	}
	p.close(n, y)
	return n
}

func (p *places) pairs(n *node, y *yaml.Node) {
	for i := 0; i+1 < len(y.Content); i += 2 {
		key := y.Content[i]
		start := p.find(key.Line, key.Column)
		if i == 0 {
			n.column = key.Column - 1
		} else if n.column != key.Column-1 {
			n.column = -1
		}
		n.entries = append(n.entries, entry{name: nameOf(key), start: start, value: p.node(y.Content[i+1])})
	}
}

// nameOf is a key's name in JSON: only a plain scalar may be anything but a string.
func nameOf(key *yaml.Node) string {
	if key.Style != 0 {
		return key.Value
	}
	return yamlkeys.Name(key.Value)
}

func (p *places) items(n *node, y *yaml.Node) {
	for i, item := range y.Content {
		value := p.node(item)
		start := value.start
		if !n.flow {
			var column int
			if start, column = p.dash(value.start); i > 0 && column != n.column {
				column = -1
			}
			n.column = column
		}
		n.entries = append(n.entries, entry{start: start, value: value})
	}
}

// dash returns where the dash before an item stands, and its column; a negative one if a comment stands between.
func (p *places) dash(item int) (start, column int) {
	before := bytes.TrimRight(p.text[:item], " \t\r\n")
	if !bytes.HasSuffix(before, []byte("-")) {
		return item, -1
	}
	start = len(before) - 1
	return start, utf8.RuneCount(p.text[bytes.LastIndexByte(before, '\n')+1 : start])
}

// close finds the end of a collection: that of its last entry and, in flow style, the bracket behind it.
func (p *places) close(n *node, y *yaml.Node) {
	n.end = p.skipProperties(n.start, y)
	if len(n.entries) > 0 {
		n.end = n.entries[len(n.entries)-1].value.end
	} else {
		n.end = min(n.end+1, len(p.text))
	}
	for n.flow && n.end < len(p.text) {
		c := p.text[n.end]
		n.end++
		switch c {
		case ']', '}':
			return
		case '#':
			n.end = lineEnd(p.text, n.end)
		}
	}
}

// scalar finds the end of a scalar.
func (p *places) scalar(n *node, y *yaml.Node) {
	n.end = n.start
	if n.null && y.Value == "" {
		return
	}
	at := p.skipProperties(n.start, y)
	switch {
	case y.Style&yaml.DoubleQuotedStyle != 0:
		n.quote = '"'
		n.end = closing(p.text, at+1, '"', '\\')
	case y.Style&yaml.SingleQuotedStyle != 0:
		n.quote = '\''
		n.end = closing(p.text, at+1, '\'', '\'')
	case y.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		n.end = p.keep(p.match(lineEnd(p.text, at), y.Value), y.Value)
	default:
		n.end = p.match(at, y.Value)
	}
}

// skipProperties returns the offset behind an anchor and a tag.
func (p *places) skipProperties(at int, y *yaml.Node) int {
	for at < len(p.text) && (y.Anchor != "" || y.Style&yaml.TaggedStyle != 0) {
		if p.text[at] != '&' && p.text[at] != '!' {
			break
		}
		word := bytes.IndexAny(p.text[at:], " \t\r\n")
		if word < 0 {
			break
		}
		at = len(p.text) - len(bytes.TrimLeft(p.text[at+word:], " \t\r\n"))
	}
	return at
}

// closing returns the offset behind the quotation mark that ends a text: the first that escape does not stand before.
// In a single-quoted text the mark itself is the escape.
func closing(text []byte, at int, quote, escape byte) int {
	for at < len(text) {
		switch {
		case text[at] == escape && at+1 < len(text) && (escape != quote || text[at+1] == quote):
			at += 2
		case text[at] == quote:
			return at + 1
		default:
			at++
		}
	}
	return at
}

// match returns the offset behind a text that stands unquoted from at on: folding and indentation change white space, and
// nothing else.
func (p *places) match(at int, value string) int {
	for _, want := range value {
		if unicode.IsSpace(want) {
			continue
		}
		for at < len(p.text) {
			r, size := utf8.DecodeRune(p.text[at:])
			if !unicode.IsSpace(r) {
				break
			}
			at += size
		}
		at = min(at+utf8.RuneLen(want), len(p.text))
	}
	return at
}

// keep adds the blank lines that end a block scalar and belong to it.
func (p *places) keep(at int, value string) int {
	for range len(value) - len(strings.TrimRight(value, "\n")) - 1 {
		at = lineEnd(p.text, at)
	}
	return at
}
