package inject

import (
	"iter"

	"github.com/tidwall/btree"
)

// Namespaces are the labelled namespaces, by name. They do not change: With and Without return others, which share with
// these all but a path of the tree, so that one namespace's news costs the same among ten and among ten thousand. The zero
// value has none. One goroutine at a time may make others of the same; any number may read them.
type Namespaces struct{ tree *btree.Map[string, Namespace] }

// Get returns a namespace, and whether it is there.
func (n Namespaces) Get(name string) (Namespace, bool) {
	if n.tree == nil {
		return Namespace{}, false
	}
	return n.tree.Get(name)
}

// Len is how many there are.
func (n Namespaces) Len() int {
	if n.tree == nil {
		return 0
	}
	return n.tree.Len()
}

// With returns these and one more, or one of them changed.
func (n Namespaces) With(name string, namespace Namespace) Namespaces {
	next := n.copy()
	next.Set(name, namespace)
	return Namespaces{next}
}

// Without returns these but for one.
func (n Namespaces) Without(name string) Namespaces {
	next := n.copy()
	next.Delete(name)
	return Namespaces{next}
}

func (n Namespaces) copy() *btree.Map[string, Namespace] {
	if n.tree == nil {
		return new(btree.Map[string, Namespace])
	}
	return n.tree.Copy()
}

// All goes through them, in the order of their names.
func (n Namespaces) All() iter.Seq2[string, Namespace] {
	return func(yield func(string, Namespace) bool) {
		if n.tree != nil {
			n.tree.Scan(yield)
		}
	}
}
