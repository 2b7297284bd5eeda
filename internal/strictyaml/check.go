package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// A checker compares the document with the shape of a Go type and remembers where everything stands,
// so that every problem can name its place.
type checker struct {
	file     string
	top      reflect.Type
	lines    []string
	problems []Problem
	values   map[string]*yaml.Node // path → value
	unsafe   bool                  // the document uses what must not be decoded
}

func newChecker(file string, data []byte, top reflect.Type) *checker {
	return &checker{
		file:   file,
		top:    top,
		lines:  strings.Split(string(data), "\n"),
		values: map[string]*yaml.Node{},
	}
}

// check compares the whole document.
func (c *checker) check(root *yaml.Node) { c.value("", root, c.top) }

// report adds a problem at the node.
func (c *checker) report(n *yaml.Node, path, message, hint string) {
	p := Problem{File: c.file, Line: n.Line, Column: n.Column, Path: Visible(path), Message: Visible(message), Hint: Visible(hint)}
	text := ""
	if n.Kind == yaml.ScalarNode {
		text = n.Value
		if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
			text = `"` + text + `"`
		}
	}
	p.place(c.lines, text)
	c.problems = append(c.problems, p)
}

// seen reports whether a problem is known at the place already.
func (c *checker) seen(line, column int) bool {
	return slices.ContainsFunc(c.problems, func(p Problem) bool { return p.Line == line && p.Column == column })
}

// validate places the problems that the caller found. Those inside a part whose shape is wrong are
// left out: they would only follow from it.
func (c *checker) validate(found []Problem) {
	shape := slices.Clone(c.problems)
	for _, p := range found {
		if slices.ContainsFunc(shape, func(s Problem) bool { return follows(p.Path, s.Path) }) {
			continue
		}
		n := c.nearest(p.Path)
		if n == nil {
			p.File = c.file
			c.problems = append(c.problems, p)
			continue
		}
		c.report(n, p.Path, p.Message, p.Hint)
	}
}

// follows reports whether a problem at path may stem from one at the given place: it is there, below
// it, or beside it in the same mapping.
func follows(path, place string) bool {
	if place == "" {
		return false
	}
	parent := place
	if i := strings.LastIndexByte(place, '.'); i >= 0 {
		parent = place[:i]
	}
	return path == place || path == parent || strings.HasPrefix(path, place+".") || strings.HasPrefix(path, place+"[") ||
		(parent != place && strings.HasPrefix(path, parent+"."))
}

// nearest returns the node at the path or at the closest place above it that the file has.
func (c *checker) nearest(path string) *yaml.Node {
	for {
		if n := c.values[path]; n != nil {
			return n
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return nil
		}
		path = path[:i]
	}
}

// value compares one value with the type that is wanted there.
func (c *checker) value(path string, n *yaml.Node, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if path != "" {
		c.values[path] = n
	}
	if !c.plain(path, n) {
		return
	}
	switch {
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
	case IsScalar(t):
		c.scalar(path, n, t)
	case t.Kind() == reflect.Struct:
		c.structure(path, n, t)
	case t.Kind() == reflect.Map:
		c.mapping(path, n, t)
	case t.Kind() == reflect.Slice:
		c.list(path, n, t)
	default:
		c.report(n, path, "no value of type "+t.String()+" can be written here", "")
	}
}

// plain refuses anchors, aliases and explicit tags: they make a file mean what it does not say.
func (c *checker) plain(path string, n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		c.unsafe = true
		c.report(n, path, "anchors and aliases are not accepted", "write the value out")
		return false
	case n.Style&yaml.TaggedStyle != 0:
		c.unsafe = true
		c.report(n, path, "explicit tags are not accepted", "remove "+Clip(n.Tag))
		return false
	}
	return true
}

func (c *checker) structure(path string, n *yaml.Node, t reflect.Type) {
	if n.Kind != yaml.MappingNode {
		c.report(n, path, "want a mapping, got "+kindName(n), "")
		return
	}
	known := Keys(t)
	c.pairs(path, n, func(key, value *yaml.Node, at string) {
		i := slices.IndexFunc(known, func(k Key) bool { return k.Name == key.Value })
		if i < 0 {
			c.report(key, at, fmt.Sprintf("unknown key %q", Clip(key.Value)), c.suggest(path, key.Value, known))
			return
		}
		c.value(at, value, known[i].Type)
	})
}

func (c *checker) mapping(path string, n *yaml.Node, t reflect.Type) {
	if n.Kind != yaml.MappingNode {
		c.report(n, path, "want a mapping, got "+kindName(n), "")
		return
	}
	c.pairs(path, n, func(key, value *yaml.Node, at string) {
		if !IsScalar(t.Key()) {
			c.report(key, at, "no key of type "+t.Key().String()+" can be written here", "")
			return
		}
		c.scalar(at, key, t.Key())
		c.value(at, value, t.Elem())
	})
}

// pairs visits the keys and values of a mapping and refuses keys given twice.
func (c *checker) pairs(path string, n *yaml.Node, visit func(key, value *yaml.Node, at string)) {
	first := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!null" {
			c.report(key, path, "a key must be a word", "")
			c.unsafe = true
			continue
		}
		at := Join(path, key.Value)
		if !c.plain(at, key) {
			continue
		}
		if line, dup := first[key.Value]; dup {
			c.unsafe = true
			c.report(key, at, fmt.Sprintf("duplicate key %q", Clip(key.Value)), fmt.Sprintf("it stands on line %d already", line))
			continue
		}
		first[key.Value] = key.Line
		visit(key, value, at)
	}
}

func (c *checker) list(path string, n *yaml.Node, t reflect.Type) {
	if n.Kind != yaml.SequenceNode {
		hint := ""
		if n.Kind == yaml.ScalarNode {
			hint = "write [" + Clip(n.Value) + "]"
		}
		c.report(n, path, "want a list, got "+kindName(n), hint)
		return
	}
	for i, item := range n.Content {
		c.value(fmt.Sprintf("%s[%d]", path, i), item, t.Elem())
	}
}

// scalar compares one scalar with its type. Words that YAML 1.1 reads as booleans, and numbers where
// text is wanted, are refused rather than converted.
func (c *checker) scalar(path string, n *yaml.Node, t reflect.Type) {
	if n.Kind != yaml.ScalarNode {
		c.report(n, path, "want "+typeName(t)+", got "+kindName(n), "")
		return
	}
	switch tag := n.ShortTag(); {
	case isText(t):
		if err := reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
			c.report(n, path, err.Error(), "")
		}
	case t == reflect.TypeFor[time.Duration]():
		if _, err := time.ParseDuration(n.Value); err != nil {
			c.report(n, path, "want a duration such as 5m, got "+strconv.Quote(Clip(n.Value)), "units are ms, s, m and h")
		}
	case t.Kind() == reflect.Bool:
		if tag != "!!bool" || (n.Value != "true" && n.Value != "false") {
			c.report(n, path, "want true or false, got "+strconv.Quote(Clip(n.Value)), "")
		}
	case t.Kind() == reflect.String:
		if tag != "!!str" && tag != "!!timestamp" {
			c.report(n, path, "want text, got "+kindName(n), fmt.Sprintf("put it in quotes: %q", Clip(n.Value)))
		}
	case !number(n, tag, t):
		c.report(n, path, "want "+typeName(t)+", got "+strconv.Quote(Clip(n.Value)), "")
	}
}

func number(n *yaml.Node, tag string, t reflect.Type) bool {
	var err error
	switch t.Kind() {
	case reflect.Float32, reflect.Float64:
		_, err = strconv.ParseFloat(n.Value, t.Bits())
		return err == nil && (tag == "!!float" || tag == "!!int")
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		_, err = strconv.ParseUint(n.Value, 10, t.Bits())
	default:
		_, err = strconv.ParseInt(n.Value, 10, t.Bits())
	}
	return err == nil && tag == "!!int"
}

// Join returns the path of a key below a path.
func Join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		return map[string]string{"!!int": "a number", "!!float": "a number", "!!bool": "a boolean", "!!null": "nothing", "!!timestamp": "a date"}[n.ShortTag()] +
			map[bool]string{true: "text"}[n.ShortTag() == "!!str"]
	default:
		return "something else"
	}
}
