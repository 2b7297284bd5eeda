package config

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/strictyaml"
)

// A Change is one value that two configurations do not share.
type Change struct {
	Path string `json:"path"` // such as servers[files].url; entries with a name are compared by name
	From string `json:"from"` // empty: not set
	To   string `json:"to"`   // empty: not set
}

// Diff lists the values in which two configurations differ, in the order of their paths.
func Diff(from, to *Config) []Change {
	a, b := Flatten(from), Flatten(to)
	var out []Change
	for _, path := range slices.Sorted(maps.Keys(a)) {
		if b[path] != a[path] {
			out = append(out, Change{Path: path, From: a[path], To: b[path]})
		}
	}
	for _, path := range slices.Sorted(maps.Keys(b)) {
		if _, both := a[path]; !both {
			out = append(out, Change{Path: path, To: b[path]})
		}
	}
	slices.SortStableFunc(out, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// Flatten lists every value of a configuration that differs from zero, by path.
func Flatten(cfg *Config) map[string]string {
	out := map[string]string{}
	flatten(out, "", reflect.ValueOf(cfg).Elem())
	return out
}

func flatten(out map[string]string, path string, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	if v.IsZero() {
		return
	}
	switch {
	case strictyaml.IsScalar(v.Type()):
		out[path] = text(v)
	case v.Kind() == reflect.Struct:
		for _, k := range strictyaml.Keys(v.Type()) {
			if field, err := v.FieldByIndexErr(k.Index); err == nil {
				flatten(out, strictyaml.Join(path, k.Name), field)
			}
		}
	case v.Kind() == reflect.Map:
		for iter := v.MapRange(); iter.Next(); {
			flatten(out, strictyaml.Join(path, iter.Key().String()), iter.Value())
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			flatten(out, path+"["+label(v.Index(i), i)+"]", v.Index(i))
		}
	}
}

// label is the name of a list entry, or its number where it has none.
func label(v reflect.Value, i int) string {
	if v.Kind() == reflect.Struct {
		if name := v.FieldByName("Name"); name.IsValid() && name.Kind() == reflect.String && name.String() != "" {
			return name.String()
		}
	}
	return fmt.Sprint(i)
}

func text(v reflect.Value) string {
	if d, ok := reflect.TypeAssert[time.Duration](v); ok {
		return d.String()
	}
	if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v); ok {
		if b, err := m.MarshalText(); err == nil {
			return string(b)
		}
	}
	return fmt.Sprint(v.Interface())
}
