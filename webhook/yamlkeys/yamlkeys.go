// Package yamlkeys says what the keys of a YAML mapping are called once it is JSON, as sigs.k8s.io/yaml makes it, which is how
// kubectl and Istio read YAML: a key need not be a string there, and of two that come to have one name ("0" and 0) either may win.
package yamlkeys

import (
	"strconv"

	"go.yaml.in/yaml/v2"
)

// Clash returns a name that two keys of one mapping come to have. It says nothing of a text that cannot be read.
func Clash(text []byte) (name string, found bool) {
	var value any
	if yaml.Unmarshal(text, &value) != nil {
		return "", false
	}
	return clash(value)
}

func clash(value any) (string, bool) {
	switch v := value.(type) {
	case map[any]any:
		names := make(map[string]bool, len(v))
		for key, member := range v {
			name := nameOf(key)
			if names[name] {
				return name, true
			}
			names[name] = true
			if inner, found := clash(member); found {
				return inner, true
			}
		}
	case []any:
		for _, element := range v {
			if inner, found := clash(element); found {
				return inner, true
			}
		}
	}
	return "", false
}

// Name is what a plain scalar is called as a key: n is false, 0x1 is 1.
func Name(plain string) string {
	var key any
	if yaml.Unmarshal([]byte(plain), &key) != nil {
		return plain
	}
	return nameOf(key, plain)
}

// nameOf names a key; what is no scalar that JSON's names come from goes by its own text, if there is one.
func nameOf(key any, text ...string) string {
	switch k := key.(type) {
	case string:
		return k
	case bool:
		return strconv.FormatBool(k)
	case int:
		return strconv.Itoa(k)
	case int64:
		return strconv.FormatInt(k, 10)
	case uint64:
		return strconv.FormatUint(k, 10)
	case float64:
		return strconv.FormatFloat(k, 'g', -1, 64)
	}
	if len(text) > 0 {
		return text[0]
	}
	return ""
}
