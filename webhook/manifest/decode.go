package manifest

import (
	"bytes"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/webhook/yamlkeys"
)

// isJSON tells whether the document is JSON. It matters because JSON allows what a YAML parser refuses, such as
// surrogate pairs, and because a JSON document must stay one.
func (d document) isJSON() bool {
	return looksLikeJSON(d.body) && jsontext.Value(d.body).IsValid()
}

// decode returns the document's value as JSON, null where there is none. It reads as kubectl does.
func (d document) decode() (jsontext.Value, error) {
	if d.isJSON() {
		return jsontext.Value(bytes.TrimSpace(d.body)).Clone(), nil
	}
	if blank(bytes.TrimSuffix(d.body, endMarker(d.body))) { // the parser refuses a text of nothing but "..."
		return jsontext.Value("null"), nil
	}
	value, err := yaml.YAMLToJSON(d.body)
	if err != nil {
		return nil, fmt.Errorf("read as YAML: %w", err)
	}
	return value, nil
}

// checkKeys refuses a mapping that has a key twice: readers differ in which of the values they take, so none is right to
// change.
func (d document) checkKeys() error {
	if d.isJSON() { // its reader has refused it then
		return nil
	}
	if name, found := yamlkeys.Clash(d.body); found {
		return fmt.Errorf("two keys of a mapping are both %q as JSON: leave one of them", name)
	}
	_, strict := yaml.YAMLToJSONStrict(d.body)
	if strict == nil {
		return nil
	}
	// The older parser also refuses a key that stands beside a merge key which has it too. That is what merging is for.
	var value any
	if yamlv3.Unmarshal(d.body, &value) == nil {
		return nil
	}
	return fmt.Errorf("%w: leave one of them", strict)
}
