package schema

import (
	"encoding/json"
	"testing"

	oracle "github.com/google/jsonschema-go/jsonschema"
	"pgregory.net/rapid"
)

// oracleAccepts asks an independent implementation. The second result is false if it does not take
// the schema.
func oracleAccepts(schema, value []byte) (accepts, knows bool) {
	var s oracle.Schema
	if err := json.Unmarshal(schema, &s); err != nil {
		return false, false
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		return false, false
	}
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		return false, false
	}
	return resolved.Validate(v) == nil, true
}

// aValue draws a small JSON value over few names and numbers, so that schemas meet it often.
func aValue(t *rapid.T, depth int) any {
	kinds := 5
	if depth > 0 {
		kinds = 7
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return rapid.IntRange(-3, 6).Draw(t, "int")
	case 3:
		return rapid.SampledFrom([]float64{0.5, 1.5, 2, -0.25}).Draw(t, "float")
	case 4:
		return rapid.SampledFrom([]string{"", "a", "ab", "abc", "é", "x-1"}).Draw(t, "string")
	case 5:
		list := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "length") {
			list = append(list, aValue(t, depth-1))
		}
		return list
	default:
		object := map[string]any{}
		for range rapid.IntRange(0, 3).Draw(t, "members") {
			object[aName(t)] = aValue(t, depth-1)
		}
		return object
	}
}

func aName(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "b", "c", "x-1"}).Draw(t, "name")
}

// aSchema draws a schema of the keywords that both implementations claim.
func aSchema(t *rapid.T, depth int) any {
	if rapid.IntRange(0, 9).Draw(t, "bool schema") == 0 {
		return rapid.Bool().Draw(t, "verdict")
	}
	s := map[string]any{}
	small := func(what string) int { return rapid.IntRange(0, 3).Draw(t, what) }
	leaf := []func(){
		func() {
			s["type"] = rapid.SampledFrom([]any{"object", "array", "string", "number", "integer", "boolean", "null", []string{"string", "null"}}).Draw(t, "type")
		},
		func() { s["minimum"] = small("minimum") },
		func() { s["exclusiveMaximum"] = small("exclusiveMaximum") },
		func() { s["multipleOf"] = rapid.SampledFrom([]float64{0.5, 1, 2}).Draw(t, "multipleOf") },
		func() { s["maxLength"] = small("maxLength") },
		func() { s["minLength"] = small("minLength") },
		func() { s["pattern"] = rapid.SampledFrom([]string{"^a", "b$", "^x-[0-9]+$"}).Draw(t, "pattern") },
		func() { s["enum"] = []any{aValue(t, 1), aValue(t, 0)} },
		func() { s["const"] = aValue(t, 1) },
		func() { s["required"] = []string{aName(t)} },
		func() { s["maxProperties"] = small("maxProperties") },
		func() { s["minItems"] = small("minItems") },
		func() { s["uniqueItems"] = true },
		func() { s["dependentRequired"] = map[string]any{aName(t): []string{aName(t)}} },
	}
	part := func() any { return aSchema(t, depth-1) }
	inner := []func(){
		func() { s["properties"] = map[string]any{aName(t): part(), "b": part()} },
		func() { s["patternProperties"] = map[string]any{"^x-": part()} },
		func() { s["additionalProperties"] = part() },
		func() { s["propertyNames"] = part() },
		func() { s["prefixItems"] = []any{part()} },
		func() { s["items"] = part() },
		func() { s["contains"] = part() },
		func() { s["allOf"] = []any{part(), part()} },
		func() { s["anyOf"] = []any{part(), part()} },
		func() { s["oneOf"] = []any{part(), part()} },
		func() { s["not"] = part() },
		func() { s["if"], s["then"], s["else"] = part(), part(), part() },
		func() { s["unevaluatedProperties"] = part() },
		func() { s["dependentSchemas"] = map[string]any{aName(t): part()} },
	}
	for range rapid.IntRange(0, 3).Draw(t, "leaf keywords") {
		rapid.SampledFrom(leaf).Draw(t, "leaf")()
	}
	if depth > 0 {
		for range rapid.IntRange(0, 2).Draw(t, "inner keywords") {
			rapid.SampledFrom(inner).Draw(t, "inner")()
		}
	}
	return s
}

// TestAgreesWithAnIndependentImplementation draws schemas and values and compares the verdict with
// that of google/jsonschema-go. Cases that the other one does not take are not counted.
func TestAgreesWithAnIndependentImplementation(t *testing.T) {
	t.Parallel()
	compared, valid := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		source, err := json.Marshal(aSchema(t, 3))
		if err != nil {
			t.Fatal(err)
		}
		s, err := Compile(source, Options{})
		if err != nil {
			t.Fatalf("Compile(%s): %v", source, err)
		}
		for range 4 {
			value, err := json.Marshal(aValue(t, 3))
			if err != nil {
				t.Fatal(err)
			}
			want, knows := oracleAccepts(source, value)
			if !knows {
				continue
			}
			got, err := s.Validate(value)
			if err != nil {
				t.Fatalf("schema %s, value %s: %v", source, value, err)
			}
			if (got == nil) != want {
				t.Fatalf("schema %s, value %s: valid = %t (%v), independent implementation says %t", source, value, got == nil, got, want)
			}
			compared++
			if want {
				valid++
			}
		}
	})
	t.Logf("%d verdicts compared, %d of them valid", compared, valid)
	if valid == 0 || valid == compared {
		t.Errorf("the drawn cases are one-sided: %d of %d valid", valid, compared)
	}
}

// TestPublishedExamples compares both implementations on schemas as tools have them.
func TestPublishedExamples(t *testing.T) {
	t.Parallel()
	schemas := []string{
		weather,
		`{"type":"object","properties":{"path":{"type":"string"},"edits":{"type":"array","items":{"type":"object","properties":{"old":{"type":"string"},"new":{"type":"string"}},"required":["old","new"],"additionalProperties":false}},"dry":{"type":"boolean","default":false}},"required":["path","edits"]}`,
		`{"type":"object","oneOf":[{"properties":{"kind":{"const":"a"},"n":{"type":"integer"}},"required":["kind","n"]},{"properties":{"kind":{"const":"b"},"s":{"type":"string"}},"required":["kind","s"]}]}`,
		`{"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},"next":{"$ref":"#/$defs/node"}},"required":["v"]}}}`,
		`{"$ref":"#n","$defs":{"x":{"$anchor":"n","type":"object","properties":{"a":{"enum":[1,2]}}}}}`,
	}
	values := []string{
		`{}`, `[]`, `null`, `{"city":"Graz"}`, `{"city":""}`, `{"city":"Graz","x":1}`, `{"city":"Graz","place":{"lat":1}}`,
		`{"path":"/a","edits":[{"old":"a","new":"b"}]}`, `{"path":"/a","edits":[{"old":"a"}]}`, `{"path":"/a","edits":[{"old":"a","new":"b","c":1}]}`,
		`{"kind":"a","n":1}`, `{"kind":"a","s":"x"}`, `{"kind":"b","s":"x"}`, `{"v":1,"next":{"v":2,"next":{"v":"x"}}}`, `{"v":1,"next":{"v":2}}`,
		`{"a":1}`, `{"a":3}`, `{"a":1.0}`,
	}
	for _, source := range schemas {
		s := mustCompile(t, source, Options{})
		for _, value := range values {
			want, knows := oracleAccepts([]byte(source), []byte(value))
			if !knows {
				t.Errorf("the independent implementation does not take %s", source)
				continue
			}
			got, err := s.Validate([]byte(value))
			if err != nil || (got == nil) != want {
				t.Errorf("schema %s, value %s: %v, %v, independent implementation says %t", source, value, got, err, want)
			}
		}
	}
}

// FuzzCompile looks for schemas and values that make the package panic or hang.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{weather, doubling(4), `{"$dynamicRef":"#n","$dynamicAnchor":"n"}`, `{"pattern":"\\u{1}"}`, `{"if":true,"then":false}`, `true`} {
		f.Add([]byte(s), []byte(`{"a":[1,"x",null]}`))
	}
	f.Fuzz(func(t *testing.T, source, value []byte) {
		if !json.Valid(source) || !json.Valid(value) {
			return // package wire refuses it before it comes here
		}
		s, err := Compile(source, Options{Closed: true})
		if err != nil {
			return
		}
		first, err := s.Validate(value)
		second, again := s.Validate(value)
		if (err == nil) != (again == nil) || len(first) != len(second) {
			t.Errorf("two validations differ: %v, %v and %v, %v", first, err, second, again)
		}
		if len(first) > MaxViolations {
			t.Errorf("%d violations", len(first))
		}
	})
}
