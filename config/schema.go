package config

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/strictyaml"
)

//go:generate go run ../internal/tools/configschema -root .. -o config/schema.json

//go:embed schema.json
var schemaFile []byte

// Schema returns the JSON Schema (2020-12) of the configuration file.
func Schema() []byte { return slices.Clone(schemaFile) }

// An Entry explains one key of the file.
type Entry struct {
	Path        string  `json:"path"`                  // such as listen[].tls.cert; * stands for a name chosen by the file
	Type        string  `json:"type"`                  // what is written there
	Description string  `json:"description,omitempty"` //
	Children    []Entry `json:"children,omitempty"`    // keys of the mapping, in the order of the path
}

// descriptions is the part of schema.json that explains keys.
type descriptions struct {
	Defs map[string]struct {
		Properties map[string]struct {
			Description string `json:"description"`
		} `json:"properties"`
	} `json:"$defs"`
}

// Reference explains every key, as a tree.
func Reference() ([]Entry, error) {
	var d descriptions
	if err := json.Unmarshal(schemaFile, &d); err != nil {
		return nil, fmt.Errorf("read schema.json: %w", err)
	}
	return d.entries("", reflect.TypeFor[Config]()), nil
}

func (d descriptions) entries(path string, t reflect.Type) []Entry {
	var out []Entry
	for _, k := range strictyaml.Keys(t) {
		at := strictyaml.Join(path, k.Name)
		e := Entry{Path: at, Type: written(k.Type), Description: d.of(t, k)}
		if inner, suffix := element(k.Type); inner.Kind() == reflect.Struct && !strictyaml.IsScalar(inner) {
			e.Children = d.entries(at+suffix, inner)
		}
		out = append(out, e)
	}
	return out
}

// of finds the description of a key in the definition of the struct that declares it.
func (d descriptions) of(t reflect.Type, k strictyaml.Key) string {
	owner := strictyaml.Owner(t, k)
	pkg := owner.PkgPath()[strings.LastIndexByte(owner.PkgPath(), '/')+1:]
	return d.Defs[pkg+"."+owner.Name()].Properties[k.Name].Description
}

// element returns what a list or a map holds, and what its place adds to a path.
func element(t reflect.Type) (inner reflect.Type, suffix string) {
	for {
		switch {
		case strictyaml.IsScalar(t):
			return t, suffix
		case t.Kind() == reflect.Slice:
			t, suffix = t.Elem(), suffix+"[]"
		case t.Kind() == reflect.Map:
			t, suffix = t.Elem(), suffix+".*"
		case t.Kind() == reflect.Pointer:
			t = t.Elem()
		default:
			return t, suffix
		}
	}
}

// written says how a value is written in the file.
func written(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return written(t.Elem())
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t.Name() == "Bytes":
		return "size"
	case t == reflect.TypeFor[Mode]():
		return "enforce, monitor or off"
	case t == reflect.TypeFor[Date]():
		return "date"
	case t.Kind() == reflect.Slice && !strictyaml.IsScalar(t):
		return "list of " + written(t.Elem())
	case t.Kind() == reflect.Map:
		return "mapping to " + written(t.Elem())
	case t.Kind() == reflect.Struct && !strictyaml.IsScalar(t):
		return "mapping"
	case t.Kind() == reflect.Bool:
		return "boolean"
	case t.Kind() == reflect.String || strictyaml.IsScalar(t) && t.Kind() == reflect.Struct:
		return "text"
	default:
		return "number"
	}
}

// Explain finds the entry of a path such as "listen.tls", "listen[0].tls" or "controls.PRT-02.mode".
func Explain(path string) (Entry, error) {
	all, err := Reference()
	if err != nil {
		return Entry{}, err
	}
	current := Entry{Type: "mapping", Description: "The whole file.", Children: all}
	if path == "" {
		return current, nil
	}
	free := false // the next step is a name chosen by the file
	for step := range strings.SplitSeq(path, ".") {
		step, _, _ = strings.Cut(step, "[")
		i := slices.IndexFunc(current.Children, func(e Entry) bool { return e.Path[strings.LastIndexByte(e.Path, '.')+1:] == step })
		if i < 0 && free {
			free = false
			continue
		}
		if i < 0 {
			var names []string
			for _, e := range current.Children {
				names = append(names, e.Path[strings.LastIndexByte(e.Path, '.')+1:])
			}
			hint := closest(step, names)
			if hint == "" {
				hint = "known keys: " + strings.Join(names, ", ")
			}
			return Entry{}, fmt.Errorf("no key %q in %s: %s", strictyaml.Clip(path), place(current.Path), hint)
		}
		current = current.Children[i]
		free = strings.HasPrefix(current.Type, "mapping to ")
	}
	return current, nil
}

func place(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}
