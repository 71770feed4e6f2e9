package manifest

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// jsonTree returns where each value of a JSON text stands.
func jsonTree(text []byte) (*node, error) {
	return jsonNode(jsontext.NewDecoder(bytes.NewReader(text)))
}

func jsonNode(decoder *jsontext.Decoder) (*node, error) {
	switch decoder.PeekKind() {
	case '{':
		return jsonCollection(decoder, mapping)
	case '[':
		return jsonCollection(decoder, sequence)
	}
	value, err := decoder.ReadValue()
	if err != nil {
		return nil, err
	}
	end := int(decoder.InputOffset())
	n := &node{flow: true, start: end - len(value), end: end, null: value.Kind() == 'n'}
	if value.Kind() == '"' {
		n.quote = '"'
	}
	return n, nil
}

func jsonCollection(decoder *jsontext.Decoder, kind kind) (*node, error) {
	if _, err := decoder.ReadToken(); err != nil {
		return nil, err
	}
	n := &node{kind: kind, flow: true, start: int(decoder.InputOffset()) - 1}
	for decoder.PeekKind() != '}' && decoder.PeekKind() != ']' {
		e, err := jsonEntry(decoder, kind)
		if err != nil {
			return nil, err
		}
		n.entries = append(n.entries, e)
	}
	_, err := decoder.ReadToken()
	n.end = int(decoder.InputOffset())
	return n, err
}

func jsonEntry(decoder *jsontext.Decoder, kind kind) (e entry, err error) {
	if kind == mapping {
		name, err := decoder.ReadValue()
		if err != nil {
			return entry{}, err
		}
		e.start = int(decoder.InputOffset()) - len(name)
		unquoted, err := jsontext.AppendUnquote(nil, name)
		if err != nil {
			return entry{}, err
		}
		e.name = string(unquoted)
	}
	e.value, err = jsonNode(decoder)
	if kind == sequence && err == nil {
		e.start = e.value.start
	}
	return e, err
}
