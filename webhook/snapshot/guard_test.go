package snapshot

import (
	"maps"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An object at which the store panics is left out of a list, and stays as it was where it has changed; the others are taken.
func TestGuard(t *testing.T) {
	known := map[string]string{}
	set := func(o *metav1.PartialObjectMetadata) {
		if o.Annotations["a"] == "bad" {
			panic("bad")
		}
		known[o.Name] = o.Annotations["a"]
	}
	told, failures := 0, 0
	store := guard{reducer[*metav1.PartialObjectMetadata]{
		set:    set,
		remove: func(o *metav1.PartialObjectMetadata) { set(o); delete(known, o.Name) },
		replace: func(list []*metav1.PartialObjectMetadata) {
			clear(known)
			for _, o := range list {
				set(o)
			}
		},
	}.store(func() { told++ }), func(error) { failures++ }}
	object := func(name, a string) any {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"a": a}}}
	}
	expect := func(what string, err error, fails bool, all int, names ...string) {
		t.Helper()
		if got := slices.Sorted(maps.Keys(known)); !slices.Equal(got, names) || (err != nil) != fails || failures != all {
			t.Errorf("%s: known are %v, not %v; error %v; %d failures, not %d", what, got, names, err, failures, all)
		}
	}
	expect("a list", store.Replace([]any{object("one", "1"), object("two", "bad"), object("three", "3")}, "1"), false, 1, "one", "three")
	if told != 1 {
		t.Errorf("the list is told %d times", told)
	}
	expect("a new one", store.Add(object("four", "bad")), true, 2, "one", "three")
	expect("a good one", store.Add(object("five", "5")), false, 2, "five", "one", "three")
	expect("a changed one", store.Update(object("one", "bad")), true, 3, "five", "one", "three")
	expect("one that goes", store.Delete(object("five", "bad")), true, 4, "five", "one", "three")
	if known["one"] != "1" {
		t.Errorf("what was known of one is now %q", known["one"])
	}
	expect("what is none of the kind", store.Replace([]any{7}, "1"), false, 5)
}

// A list that cannot be taken at all is asked for again.
func TestGuardOfNothing(t *testing.T) {
	failures := 0
	store := guard{reducer[*metav1.PartialObjectMetadata]{replace: func([]*metav1.PartialObjectMetadata) { panic("all") }}.store(func() {}), func(error) { failures++ }}
	if err := store.Replace(nil, "1"); err == nil || failures != 1 {
		t.Errorf("%v, %d failures", err, failures)
	}
}
