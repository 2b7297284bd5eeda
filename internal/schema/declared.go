package schema

import (
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/warder-mcp/warder"
)

// A declaration is what a schema says of the properties of the value itself.
type declaration struct {
	names    map[string]bool
	patterns []jsonschema.Regexp
	open     bool // the schema says itself what additional properties are, or cannot be followed
}

// declarations follows the schema through everything that judges the same value: references and
// compositions. A property named anywhere there is declared.
func declarations(s *jsonschema.Schema) declaration {
	d := declaration{names: map[string]bool{}}
	d.add(s, map[*jsonschema.Schema]bool{})
	return d
}

func (d *declaration) add(s *jsonschema.Schema, seen map[*jsonschema.Schema]bool) {
	if s == nil || seen[s] {
		return
	}
	seen[s] = true
	if s.AdditionalProperties != nil || s.UnevaluatedProperties != nil || s.DynamicRef != nil || s.RecursiveRef != nil {
		d.open = true
	}
	for name := range s.Properties {
		d.names[name] = true
	}
	for pattern := range s.PatternProperties {
		d.patterns = append(d.patterns, pattern)
	}
	for part := range inPlace(s) {
		if part != s.Not { // what must not match declares nothing
			d.add(part, seen)
		}
	}
}

// undeclared returns a violation for every property of value that is not declared, in no order.
func (d *declaration) undeclared(value any) []warder.Violation {
	object, ok := value.(map[string]any)
	if !ok || d.open {
		return nil
	}
	var found []warder.Violation
	for name := range object {
		if !d.names[name] && !d.matches(name) {
			found = append(found, undeclared("/"+escape(name)))
		}
	}
	return found
}

func (d *declaration) matches(name string) bool {
	for _, pattern := range d.patterns {
		if pattern.MatchString(name) {
			return true
		}
	}
	return false
}
