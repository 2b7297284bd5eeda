package registry

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// annotation is the member of a property schema that mirrors the argument into an HTTP header
// (MCP 2026-07-28, Streamable HTTP, "x-mcp-header").
const annotation = "x-mcp-header"

// headers returns the valid x-mcp-header annotations of an input schema, in the order of their
// names. A schema with an invalid one is refused whole, as 2026-07-28 demands of clients: the name
// must be an RFC 9110 token and unique ignoring case, the type one of string, integer and boolean,
// and the property must be reached from the root through "properties" alone.
func headers(input []byte) ([]warder.Header, error) {
	w := headerWalk{seen: map[string]bool{}}
	if err := w.schema(wire.Parse(input), nil, true); err != nil {
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
func (w *headerWalk) schema(v wire.Value, path []string, plain bool) error {
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
	if name := v.Get(annotation); name.Exists() {
		if err := w.add(name, v.Get("type"), path, plain); err != nil {
			return fmt.Errorf("%s at %q: %w", annotation, strings.Join(path, "."), err)
		}
	}
	for key, part := range v.Members() {
		if err := w.keyword(key.Unescaped(), part, path, plain); err != nil {
			return err
		}
	}
	return nil
}

func (w *headerWalk) keyword(key string, v wire.Value, path []string, plain bool) error {
	switch key {
	case "enum", "const", "default", "examples", "required", "dependentRequired", annotation:
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

func (w *headerWalk) add(name, kind wire.Value, path []string, plain bool) error {
	text, ok := name.Text()
	if !ok || !isToken(text) {
		return errors.New("the name is not a token")
	}
	if !plain || len(path) == 0 {
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

// isToken reports whether s is a token of RFC 9110 section 5.6.2, short enough for a header name.
func isToken(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 {
			continue
		}
		return false
	}
	return true
}
