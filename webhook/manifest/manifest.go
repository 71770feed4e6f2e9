package manifest

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

// Object is a Kubernetes object that holds a pod or a pod template.
type Object struct {
	APIVersion, Kind string
	// Namespace is the object's own; empty where it does not say.
	Namespace string
	// Name is the object's name, or its generateName.
	Name string
	// Pod is the pod, or the pod template, as JSON.
	Pod []byte
}

// Mutate says what is to change in an object: additions and replaces, with paths relative to its pod (or template).
type Mutate func(Object) ([]inject.Operation, error)

// Rewrite returns the stream with each of its pods changed as mutate says. Where a document cannot be read or changed,
// the error names it and nothing is returned: half a stream must not be applied to a cluster.
func Rewrite(src []byte, mutate Mutate) ([]byte, error) {
	var out []byte
	err := each(src, func(doc document) error {
		text, err := doc.rewrite(mutate)
		out = append(out, text...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Pods returns the stream's objects that hold a pod, in order.
func Pods(src []byte) ([]Object, error) {
	var pods []Object
	err := eachObject(src, func(f found) error {
		if object, _, ok := f.pod(); ok {
			pods = append(pods, object)
		}
		return nil
	})
	return pods, err
}

// Objects returns all the stream's objects as JSON, in order; the items of a List count as objects of their own.
func Objects(src []byte) ([]jsontext.Value, error) {
	var objects []jsontext.Value
	err := eachObject(src, func(f found) error {
		object, err := f.typed()
		objects = append(objects, object)
		return err
	})
	return objects, err
}

// each calls do for each document. The error names each document that do has failed for.
func each(src []byte, do func(document) error) error {
	docs, err := split(src)
	if err != nil {
		return err
	}
	var errs []error
	for i, doc := range docs {
		if err := do(doc); err != nil {
			errs = append(errs, fmt.Errorf("document %d (line %d): %w", i+1, doc.line, err))
		}
	}
	return errors.Join(errs...)
}

// eachObject calls do for each object in the documents.
func eachObject(src []byte, do func(found) error) error {
	return each(src, func(doc document) error {
		value, err := doc.decode()
		for _, f := range flatten(value, "") {
			err = errors.Join(err, do(f))
		}
		return err
	})
}

// rewrite returns the document's text, changed.
func (d document) rewrite(mutate Mutate) ([]byte, error) {
	value, err := d.decode()
	if err != nil {
		return nil, err
	}
	changes, err := plan(value, mutate)
	if err != nil || len(changes) == 0 {
		return d.text(), err
	}
	if err := d.checkKeys(); err != nil {
		return nil, err
	}
	want, err := apply(value, changes)
	if err != nil {
		return nil, err
	}
	if edited, err := d.edit(changes); err == nil && edited.holds(want) {
		return edited.text(), nil
	}
	written, err := d.reencode(changes)
	if err != nil {
		return nil, err
	}
	if !written.holds(want) {
		return nil, errors.New("the change cannot be written in this document's style: write out what its anchors, " +
			"aliases and merge keys stand for")
	}
	return written.text(), nil
}

// plan asks mutate about each pod in the document. The result has one list of operations per pod that is to change.
func plan(doc jsontext.Value, mutate Mutate) ([][]operation, error) {
	var changes [][]operation
	for _, found := range flatten(doc, "") {
		object, at, ok := found.pod()
		if !ok {
			continue
		}
		patch, err := mutate(object)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", object.Kind, object.Name, err)
		}
		ops, err := rebase(patch, at)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", object.Kind, object.Name, err)
		}
		if len(ops) > 0 {
			changes = append(changes, ops)
		}
	}
	return changes, nil
}
