package snapshot

import (
	"slices"

	"k8s.io/client-go/tools/cache"

	"github.com/lightstep-injector/lightstep-injector/webhook/panics"
)

// guard has a panic at what a watch has told be that object's affair: without it, one object that somebody has written would
// end every replica, again and again. What was known of the object before stays; of a whole list, the others are taken.
type guard struct {
	cache.ReflectorStore

	// failed is told of each.
	failed func(error)
}

// Add takes a new object.
func (g guard) Add(item any) error {
	return g.caught(func() error { return g.ReflectorStore.Add(item) })
}

// Update takes a changed object.
func (g guard) Update(item any) error {
	return g.caught(func() error { return g.ReflectorStore.Update(item) })
}

// Delete takes an object that is gone.
func (g guard) Delete(item any) error {
	return g.caught(func() error { return g.ReflectorStore.Delete(item) })
}

// Replace takes the whole list; where that panics, those objects of it at which nothing does.
func (g guard) Replace(list []any, version string) error {
	whole := panics.Caught(func() error { return g.ReflectorStore.Replace(list, version) })
	if whole == nil {
		return nil
	}
	rest := slices.DeleteFunc(slices.Clone(list), func(item any) bool { return g.Update(item) != nil })
	if len(rest) == len(list) {
		g.failed(whole)
		return whole
	}
	return g.caught(func() error { return g.ReflectorStore.Replace(rest, version) })
}

// caught tells of a failure, and returns it: the reflector goes on with what comes next, or asks for the list again.
func (g guard) caught(task func() error) error {
	err := panics.Caught(task)
	if err != nil {
		g.failed(err)
	}
	return err
}
