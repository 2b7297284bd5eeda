package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// A Key is one key that a mapping of the file may have.
type Key struct {
	Name  string
	Type  reflect.Type // pointers removed
	Index []int        // field index of the struct, for reflect.Value.FieldByIndex
}

// Keys lists the keys of a struct in the order of its fields, those of inlined structs
// at their place.
func Keys(t reflect.Type) []Key {
	var keys []Key
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if strings.Contains(options, "inline") {
			for _, k := range Keys(deref(f.Type)) {
				k.Index = append(slices.Clone(f.Index), k.Index...)
				keys = append(keys, k)
			}
			continue
		}
		if name == "" {
			name = strings.ToLower(f.Name)
		}
		keys = append(keys, Key{Name: name, Type: deref(f.Type), Index: f.Index})
	}
	return keys
}

// Owner returns the struct type that declares the key: t, or the struct inlined into it.
func Owner(t reflect.Type, k Key) reflect.Type {
	for _, i := range k.Index[:len(k.Index)-1] {
		t = deref(t.Field(i).Type)
	}
	return t
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// isText reports whether values of the type read themselves from text.
func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// IsScalar reports whether values of the type are written as one word.
func IsScalar(t reflect.Type) bool {
	if isText(t) {
		return true
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice, reflect.Pointer, reflect.Interface, reflect.Array,
		reflect.Func, reflect.Chan, reflect.UnsafePointer, reflect.Invalid:
		return false
	default:
		return true
	}
}

// typeName says what the file must hold for a type.
func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration such as 5m"
	case isText(t):
		return "text"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Float32, reflect.Float64:
		return "a number"
	default:
		return "a whole number"
	}
}

// suggest names the closest key, or where the key would be known.
func (c *checker) suggest(path, got string, known []Key) string {
	best, distance := "", 3
	for _, k := range known {
		if d := EditDistance(strings.ToLower(got), k.Name, distance); d < distance {
			best, distance = k.Name, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if path != "" && slices.ContainsFunc(Keys(c.top), func(k Key) bool { return k.Name == got }) {
		return fmt.Sprintf("%q is a key of the top level; check the indentation", got)
	}
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = k.Name
	}
	return "known keys: " + strings.Join(names, ", ")
}

// EditDistance is the number of edits and swaps of neighbours that turn a into b, or limit if there
// are more. Words longer than any key are not compared.
func EditDistance(a, b string, limit int) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return limit
	}
	var before, previous []int
	current := make([]int, len(b)+1)
	for j := range current {
		current[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, previous, current = previous, current, make([]int, len(b)+1)
		current[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
	}
	return min(current[len(b)], limit)
}
