package yamlkeys

import (
	"encoding/json"
	"testing"

	"sigs.k8s.io/yaml"
)

// A plain key is called what it is called in the JSON that kubectl makes.
func TestName(t *testing.T) {
	for _, plain := range []string{"a", "app.kubernetes.io/name", "n", "yes", "on", "true", "0", "0x1F", "1_000", "1.50", "-3", "1e3", "2021-01-01", "0o7"} {
		text, err := yaml.YAMLToJSON([]byte(plain + ": x"))
		if err != nil {
			t.Fatalf("%s: %v", plain, err)
		}
		var object map[string]string
		if err := json.Unmarshal(text, &object); err != nil || len(object) != 1 {
			t.Fatalf("%s: %s: %v", plain, text, err)
		}
		if _, ok := object[Name(plain)]; !ok {
			t.Errorf("Name(%q) is %q, and in JSON it is %s", plain, Name(plain), text)
		}
	}
}

func TestClash(t *testing.T) {
	for text, want := range map[string]string{
		`{"0":9,0}`: "0", "a:\n- n: 1\n  \"false\": 2": "false", "{1: a, \"1\": b}": "1", "{on: a, 'true': b}": "true",
		"{a: 1, b: 2}": "", "a: {n: 1}\nb: {\"false\": 1}": "", "[": "", "": "", "x: &a {y: 1}\nz: *a": "",
	} {
		if got, found := Clash([]byte(text)); got != want || found != (want != "") {
			t.Errorf("Clash(%q) = %q, %t; want %q", text, got, found, want)
		}
	}
}
