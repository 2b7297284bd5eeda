package shape_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A published schema, as generic JSON.
type published struct {
	defs map[string]any
	path string // "definitions" or "$defs"
	raw  []byte
}

func readPublished(raw []byte) (*published, error) {
	var file map[string]any
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, err
	}
	for _, path := range []string{"definitions", "$defs"} {
		if defs, ok := file[path].(map[string]any); ok {
			return &published{defs, path, raw}, nil
		}
	}
	return nil, fmt.Errorf("no definitions")
}

// instances makes valid values of a schema: for each alternative, one with what is required and one
// with everything described.
func (p *published) instances(s map[string]any) []any {
	var out []any
	for _, alternative := range p.alternatives(s, 0) {
		out = append(out, p.make(alternative, false, 0), p.make(alternative, true, 0))
	}
	return out
}

// alternatives spreads unions at the top of a schema.
func (p *published) alternatives(s map[string]any, depth int) []map[string]any {
	s = p.follow(s)
	list, ok := s["anyOf"].([]any)
	if !ok || depth > 4 {
		return []map[string]any{s}
	}
	var out []map[string]any
	for _, one := range list {
		out = append(out, p.alternatives(one.(map[string]any), depth+1)...)
	}
	return out
}

func (p *published) follow(s map[string]any) map[string]any {
	for {
		ref, ok := s["$ref"].(string)
		if !ok {
			return s
		}
		s = p.defs[ref[strings.LastIndexByte(ref, '/')+1:]].(map[string]any)
	}
}

func (p *published) make(s map[string]any, full bool, depth int) any {
	s = p.follow(s)
	if c, ok := s["const"]; ok {
		return c
	}
	if e, ok := s["enum"].([]any); ok {
		return e[0]
	}
	if list, ok := s["anyOf"].([]any); ok {
		pick := 0
		if depth > 5 {
			pick = len(list) - 1 // ends recursion: the last case of JSONValue is a scalar
		}
		return p.make(list[pick].(map[string]any), full && depth <= 5, depth+1)
	}
	if list, ok := s["allOf"].([]any); ok {
		sum := map[string]any{}
		for _, part := range list {
			maps.Copy(sum, p.make(part.(map[string]any), full, depth+1).(map[string]any))
		}
		return sum
	}
	return p.typed(s, full, depth)
}

func (p *published) typed(s map[string]any, full bool, depth int) any {
	kind, _ := s["type"].(string)
	if list, ok := s["type"].([]any); ok {
		kind = list[0].(string)
	}
	switch kind {
	case "string":
		switch s["format"] {
		case "uri":
			return "file:///a/b%20c?d=e#f"
		case "uri-template":
			return "file:///{path}{?q*}"
		case "byte":
			return "aGVsbG8="
		}
		return "text"
	case "integer":
		return 1
	case "number":
		return 0.5
	case "boolean":
		return true
	case "array":
		items, _ := s["items"].(map[string]any)
		if !full || items == nil {
			return []any{}
		}
		return []any{p.make(items, full, depth+1), p.make(items, false, depth+1)}
	case "object":
		return p.object(s, full, depth)
	default:
		return map[string]any{"anything": []any{1.5, nil}}
	}
}

func (p *published) object(s map[string]any, full bool, depth int) any {
	out := map[string]any{}
	required, _ := s["required"].([]any)
	properties, _ := s["properties"].(map[string]any)
	for name, property := range properties {
		if full && depth <= 6 || slices.Contains(required, any(name)) {
			out[name] = p.make(property.(map[string]any), full, depth+1)
		}
	}
	if !full || depth > 6 {
		return out
	}
	switch extra := s["additionalProperties"].(type) {
	case map[string]any:
		out["other"] = p.make(extra, full, depth+1)
	case bool:
		if extra {
			out["other"] = 1
		}
	}
	return out
}

// A place is a position in a value: how to read it and how to put something else there.
type place struct {
	pointer string
	set     func(v any)
	drop    func() // nil unless it is a member
}

// mutants calls yield with every systematic mutation of a value, as JSON.
func mutants(value any, yield func(what string, raw []byte)) {
	root := clone(value)
	emit := func(what string) {
		raw, err := json.Marshal(root)
		if err != nil {
			panic(err)
		}
		yield(what, raw)
	}
	var walk func(at place, v any)
	walk = func(at place, v any) {
		for i, other := range replacements() {
			at.set(other)
			emit(fmt.Sprintf("%s replaced by %d", at.pointer, i))
		}
		at.set(v)
		if at.drop != nil {
			at.drop()
			emit(at.pointer + " dropped")
			at.set(v)
		}
		switch v := v.(type) {
		case map[string]any:
			v["unheardOf"] = 1
			emit(at.pointer + " with an unknown member")
			delete(v, "unheardOf")
			for _, name := range slices.Sorted(maps.Keys(v)) {
				walk(place{
					pointer: at.pointer + "/" + name,
					set:     func(n any) { v[name] = n },
					drop:    func() { delete(v, name) },
				}, v[name])
			}
		case []any:
			for i := range v {
				walk(place{pointer: fmt.Sprintf("%s/%d", at.pointer, i), set: func(n any) { v[i] = n }}, v[i])
			}
		}
	}
	walk(place{set: func(v any) { root = v }}, root)
}

// replacements are values of every type, in the spellings that decoders disagree on.
func replacements() []any {
	many := make([]any, 101)
	for i := range many {
		many[i] = "text"
	}
	return []any{
		nil, true, false, 7, -3, 1.5, json.Number("1e2"), json.Number("2.0"), json.Number("-0"), "text", "", "assistant",
		"no uri at all", "//host/path", "{unclosed", "!!!!",
		[]any{},
		[]any{1},
		[]any{"text"},
		[]any{nil},
		many,
		map[string]any{},
		map[string]any{"type": "text"},
		map[string]any{"a": 1},
		map[string]any{"a": "b"},
	}
}

func clone(v any) any {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var out any
	if err := json.Unmarshal(raw, &out); err != nil {
		panic(err)
	}
	return out
}
