package manifest

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// podPath returns where an object of a kind holds its pod or pod template.
func podPath(apiVersion, kind string) (path jsontext.Pointer, ok bool) {
	group, _, found := strings.Cut(apiVersion, "/")
	if !found {
		group = ""
	}
	switch group + "/" + kind {
	case "/Pod":
		return "", true
	case "/PodTemplate":
		return "/template", true
	case "/ReplicationController",
		"apps/Deployment", "apps/StatefulSet", "apps/DaemonSet", "apps/ReplicaSet",
		"extensions/Deployment", "extensions/DaemonSet", "extensions/ReplicaSet",
		"batch/Job":
		return "/spec/template", true
	case "batch/CronJob":
		return "/spec/jobTemplate/spec/template", true
	}
	return "", false
}

// found is one object in a document.
type found struct {
	// at is where the object stands: the root, or an item of a List.
	at               jsontext.Pointer
	apiVersion, kind string
	value            jsontext.Value
}

// flatten returns the objects of a document: itself, or the items of a List, and of Lists in it.
func flatten(value jsontext.Value, at jsontext.Pointer) []found {
	return flattenTyped(value, at, "", "")
}

// flattenTyped flattens a value whose type, where it does not say it itself, is known from the list around it: the
// apiserver leaves both fields out of the items of a PodList.
func flattenTyped(value jsontext.Value, at jsontext.Pointer, apiVersion, kind string) []found {
	if value.Kind() != '{' {
		return nil
	}
	if own := stringAt(value, "/kind"); own != "" {
		apiVersion, kind = stringAt(value, "/apiVersion"), own
	}
	items := lookup(value, "/items")
	itemKind, isList := strings.CutSuffix(kind, "List")
	if !isList || items.Kind() != '[' {
		return []found{{at: at, apiVersion: apiVersion, kind: kind, value: value}}
	}
	var elements []jsontext.Value
	if json.Unmarshal(items, &elements) != nil {
		return nil
	}
	var all []found
	for i, element := range elements {
		all = append(all, flattenTyped(element, at.AppendToken("items").AppendToken(strconv.Itoa(i)), apiVersion, itemKind)...)
	}
	return all
}

// pod returns the object with its pod and where that stands; false where it has none.
func (f found) pod() (object Object, at jsontext.Pointer, ok bool) {
	path, ok := podPath(f.apiVersion, f.kind)
	if !ok {
		return Object{}, "", false
	}
	pod := lookup(f.value, path)
	if pod.Kind() != '{' {
		return Object{}, "", false
	}
	name := stringAt(f.value, "/metadata/name")
	if name == "" {
		name = stringAt(f.value, "/metadata/generateName")
	}
	return Object{
		APIVersion: f.apiVersion, Kind: f.kind,
		Namespace: stringAt(f.value, "/metadata/namespace"), Name: name, Pod: pod,
	}, f.at + path, true
}

// typed returns the object with its type, which an item of a PodList may leave to the list.
func (f found) typed() (jsontext.Value, error) {
	if f.kind == "" || stringAt(f.value, "/kind") != "" {
		return f.value, nil
	}
	var fields map[string]jsontext.Value
	if err := json.Unmarshal(f.value, &fields); err != nil {
		return nil, err
	}
	for name, value := range map[string]string{"apiVersion": f.apiVersion, "kind": f.kind} {
		quoted, err := jsontext.AppendQuote(nil, value)
		if err != nil {
			return nil, err
		}
		fields[name] = quoted
	}
	return json.Marshal(fields, json.Deterministic(true))
}

// lookup returns the value that a path through objects leads to, nil where there is none.
func lookup(value jsontext.Value, path jsontext.Pointer) jsontext.Value {
	for token := range path.Tokens() {
		var fields map[string]jsontext.Value
		if value.Kind() != '{' || json.Unmarshal(value, &fields) != nil {
			return nil
		}
		value = fields[token]
	}
	return value
}

// stringAt returns the string that a path leads to, empty where there is none.
func stringAt(value jsontext.Value, path jsontext.Pointer) string {
	var s string
	if field := lookup(value, path); field.Kind() == '"' && json.Unmarshal(field, &s) == nil {
		return s
	}
	return ""
}
