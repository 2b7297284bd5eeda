package wire

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/warder-mcp/warder"
)

// HeaderAnnotation is the member of a property schema that mirrors the argument into an HTTP header
// (MCP 2026-07-28, Streamable HTTP).
const HeaderAnnotation = "x-mcp-header"

// maxHeaderName is the longest name that an annotation may give, in bytes.
const maxHeaderName = 128

// AnnotatedHeaders returns the valid x-mcp-header annotations of an input schema, in the order of their
// names. A schema with an invalid one is refused whole, as 2026-07-28 demands of clients: the name
// must be an RFC 9110 token and unique ignoring case, the type one of string, integer and boolean,
// and the property must be reached from the root through "properties" alone.
func AnnotatedHeaders(input []byte) ([]warder.Header, error) {
	w := headerWalk{seen: map[string]bool{}}
	if err := w.schema(Parse(input), nil, true); err != nil {
		return nil, err
	}
	slices.SortFunc(w.found, func(a, b warder.Header) int { return cmp.Compare(a.Name, b.Name) })
	return w.found, nil
}

type headerWalk struct {
	found []warder.Header
	seen  map[string]bool
}

// schema visits one schema. plain says that it was reached through "properties" alone.
func (w *headerWalk) schema(v Value, path []string, plain bool) error {
	switch v.Kind() {
	case '[':
		for _, part := range v.Elements() {
			if err := w.schema(part, path, false); err != nil {
				return err
			}
		}
		return nil
	case '{':
	default:
		return nil
	}
	if name := v.Get(HeaderAnnotation); name.Exists() {
		if err := w.add(name, v.Get("type"), path, plain); err != nil {
			return fmt.Errorf("%s at %q: %w", HeaderAnnotation, strings.Join(path, "."), err)
		}
	}
	for key, part := range v.Members() {
		if err := w.keyword(key.Unescaped(), part, path, plain); err != nil {
			return err
		}
	}
	return nil
}

func (w *headerWalk) keyword(key string, v Value, path []string, plain bool) error {
	switch key {
	case "enum", "const", "default", "examples", "required", "dependentRequired", HeaderAnnotation:
		return nil // data, not schemas
	case "properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies":
		for name, part := range v.Members() {
			if err := w.schema(part, append(slices.Clip(path), name.Unescaped()), plain && key == "properties"); err != nil {
				return err
			}
		}
		return nil
	default:
		return w.schema(v, append(slices.Clip(path), key), false)
	}
}

func (w *headerWalk) add(name, kind Value, path []string, plain bool) error {
	text, ok := name.Text()
	if !ok || len(text) > maxHeaderName || !Token(text) {
		return errors.New("the name is not a token")
	}
	if !plain || len(path) == 0 || path[len(path)-1] == "" {
		return errors.New("not on a property that is reached through plain properties")
	}
	typ, _ := kind.Text()
	switch typ {
	case "string", "integer", "boolean":
	default:
		return errors.New("the type is not string, integer or boolean")
	}
	if w.seen[strings.ToLower(text)] {
		return errors.New("the name is used twice")
	}
	w.seen[strings.ToLower(text)] = true
	w.found = append(w.found, warder.Header{Name: text, Pointer: slices.Clone(path), Type: typ})
	return nil
}
