package manifest

import (
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// kind is what a node holds.
type kind int

const (
	scalar kind = iota
	mapping
	sequence
	alias // a YAML alias: its value stands elsewhere and may be shared
)

// node is a value with its place in the text.
type node struct {
	kind kind
	// start and end delimit the value in the text; a YAML value's anchor and tag belong to it. They are equal where null
	// is written as nothing.
	start, end int
	// flow says that a collection is in brackets, as all of JSON is.
	flow bool
	// null says that the value is null.
	null bool
	// column is where a block collection's keys, or dashes, begin, counted from 0; negative where they do not begin at one
	// column, as no usual text does.
	column int
	// quote is the quotation mark of a scalar, 0 where it has none.
	quote byte
	// entries are a collection's, in order.
	entries []entry
}

// entry is an item of a sequence, or a pair of a mapping.
type entry struct {
	// name is a pair's key.
	name string
	// start is where a pair's key, an item's dash, or in flow style the item, begins.
	start int
	value *node
}

// empty tells whether a collection has no entry.
func (n *node) empty() bool { return n.kind != scalar && n.kind != alias && len(n.entries) == 0 }

// index returns the position of the entry that a token of a JSON pointer names; the number of entries where there is none.
func (n *node) index(token string) int {
	if n.kind == sequence {
		if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(n.entries) {
			return i
		}
		return len(n.entries)
	}
	for i, e := range n.entries {
		if e.name == token {
			return i
		}
	}
	return len(n.entries)
}

// at returns the value that a path leads to.
func (n *node) at(path jsontext.Pointer) (*node, error) {
	for token := range path.Tokens() {
		i := n.index(token)
		if i == len(n.entries) {
			return nil, fmt.Errorf("%s is not written out in the text", path)
		}
		n = n.entries[i].value
	}
	return n, nil
}

// all calls yield for the node and all below it, until yield returns false.
func (n *node) all(yield func(*node) bool) bool {
	if !yield(n) {
		return false
	}
	for _, e := range n.entries {
		if !e.value.all(yield) {
			return false
		}
	}
	return true
}

// tree returns where each of the document's values stands.
func (d document) tree() (*node, error) {
	if d.isJSON() {
		return jsonTree(d.body)
	}
	return yamlTree(d.body)
}
