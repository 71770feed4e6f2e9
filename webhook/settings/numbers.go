package settings

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNumber bounds a number, in characters. A percentage takes no more.
const maxNumber = 16

// plainNumber tells whether a text is a number as people write one: decimal digits with at most one point. Go and YAML
// also read hexadecimal, octal, exponents, underscores, signs, Inf and NaN, where a typing error becomes another number.
func plainNumber(text string) bool {
	whole, fraction, pointed := strings.Cut(text, ".")
	switch {
	case len(text) > maxNumber, strings.Trim(whole+fraction, "0123456789") != "":
		return false
	case pointed:
		return fraction != "" && leads(whole)
	}
	return whole != "" && leads(whole)
}

// leads tells whether digits can lead a number: YAML reads 010 as 8.
func leads(digits string) bool { return len(digits) < 2 || digits[0] != '0' }

// checkNumbers returns a problem for each number of a configuration file that is not a plain one. It reads the text, since
// YAML's decoder keeps only the value.
func checkNumbers(text []byte) []error {
	var document yaml.Node
	if yaml.Unmarshal(text, &document) != nil {
		return nil // Parse itself has read it
	}
	var p problems
	p.numbers("", &document)
	return p
}

// numbers checks a node and all that it contains.
func (p *problems) numbers(field string, node *yaml.Node) {
	switch node.Kind {
	case yaml.DocumentNode:
		for _, content := range node.Content {
			p.numbers(field, content)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			p.numbers(strings.TrimPrefix(field+"."+node.Content[i].Value, "."), node.Content[i+1])
		}
	case yaml.SequenceNode:
		for i, element := range node.Content {
			p.numbers(field+"["+strconv.Itoa(i)+"]", element)
		}
	case yaml.ScalarNode:
		tag := node.ShortTag()
		if (tag == "!!int" || tag == "!!float") && !plainNumber(strings.TrimPrefix(node.Value, "-")) {
			p.add(field, node.Value, "write the number in decimal digits, such as 12.5")
		}
	}
}
