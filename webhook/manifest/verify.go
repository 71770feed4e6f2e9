package manifest

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

// operation is an inject.Operation whose path begins at the document and whose value is encoded.
type operation struct {
	Op    string           `json:"op"`
	Path  jsontext.Pointer `json:"path"`
	Value jsontext.Value   `json:"value"`
}

// rebase turns a patch of a pod into one of the document that holds the pod.
func rebase(patch []inject.Operation, at jsontext.Pointer) ([]operation, error) {
	ops := make([]operation, 0, len(patch))
	for _, op := range patch {
		if op.Op != "add" && op.Op != "replace" {
			return nil, fmt.Errorf("operation %q at %s: only add and replace are known", op.Op, op.Path)
		}
		value, err := json.Marshal(op.Value, json.Deterministic(true))
		if err != nil {
			return nil, fmt.Errorf("encode the value of %s: %w", op.Path, err)
		}
		ops = append(ops, operation{Op: op.Op, Path: at + jsontext.Pointer(op.Path), Value: value})
	}
	return ops, nil
}

// apply returns what the document's value is to become, by the library that the apiserver uses.
func apply(value jsontext.Value, changes [][]operation) (jsontext.Value, error) {
	var all []operation
	for _, ops := range changes {
		all = append(all, ops...)
	}
	encoded, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("encode the patch: %w", err)
	}
	patch, err := jsonpatch.DecodePatch(encoded)
	if err != nil {
		return nil, fmt.Errorf("read the patch: %w", err)
	}
	patched, err := patch.Apply(value)
	if err != nil {
		return nil, fmt.Errorf("apply the patch: %w", err)
	}
	return patched, nil
}

// holds tells whether the document's value is the wanted one.
func (d document) holds(want jsontext.Value) bool {
	got, err := d.decode()
	return err == nil && equal(got, want)
}

// equal compares two JSON texts by value. Numbers are compared as they are written: both texts come from one reader.
func equal(a, b []byte) bool {
	x, errX := parse(a)
	y, errY := parse(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}

func parse(text []byte) (any, error) {
	decoder := stdjson.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	err := decoder.Decode(&value)
	return value, err
}
