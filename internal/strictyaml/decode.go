// Package strictyaml reads YAML files that mean exactly what they say: one document, no unknown and no
// repeated keys, no anchors, aliases and explicit tags, no words that turn into booleans. Every
// problem is reported at once, with its place, a caret under the text and a hint:
//
//	err := strictyaml.Decode("warder.yaml", data, &cfg, func() []strictyaml.Problem { return validate(&cfg) })
//	if e, ok := errors.AsType[*strictyaml.Error](err); ok {
//		e.Render(os.Stderr)
//	}
//
// It is the only package that imports the YAML library.
package strictyaml

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Decode fills into, a pointer to a struct that may hold defaults, from the only document of data; a
// file without a document changes nothing. Then it asks validate, which may be nil, for what makes no
// sense in the values. The error is an [*Error]. The name is used in
// messages only; the caller bounds the size of data.
func Decode(name string, data []byte, into any, validate func() []Problem) error {
	c := newChecker(name, data, deref(reflect.TypeOf(into)))
	root, ok := c.document(data)
	if !ok {
		return inOrder(c.problems)
	}
	if root != nil {
		c.check(root)
		if !c.unsafe {
			c.decode(root, into)
		}
	}
	if validate != nil {
		c.validate(validate())
	}
	if len(c.problems) > 0 {
		return inOrder(c.problems)
	}
	return nil
}

// document composes the only document of the file. The node is nil when the file holds none.
func (c *checker) document(data []byte) (root *yaml.Node, ok bool) {
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithUniqueKeys(false))
	if err != nil {
		c.problems = append(c.problems, Problem{File: c.file, Message: err.Error()})
		return nil, false
	}
	var doc yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return nil, true
	} else if err != nil {
		c.syntax(err)
		return nil, false
	}
	if len(doc.Content) == 1 {
		root = doc.Content[0]
	}
	var second yaml.Node
	if err := loader.Load(&second); err == nil {
		c.report(&second, "", "a second document", "keep one document per file: remove the line \"---\" and what follows")
	} else if !errors.Is(err, io.EOF) {
		c.syntax(err)
		return nil, false
	}
	return root, true
}

// syntax reports what the YAML parser could not read.
func (c *checker) syntax(err error) {
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		p := Problem{File: c.file, Line: e.Mark.Line, Column: e.Mark.Column, Message: "not YAML: " + Visible(Clip(e.Message))}
		if strings.Contains(e.Message, "tab") {
			p.Hint = "indent with spaces"
		}
		p.Column = max(p.Column, 1)
		p.place(c.lines, "")
		c.problems = append(c.problems, p)
		return
	}
	c.problems = append(c.problems, Problem{File: c.file, Message: "not YAML: " + Visible(Clip(err.Error()))})
}

// decode fills into. Whatever the YAML package refuses beyond our own check becomes a problem.
func (c *checker) decode(root *yaml.Node, into any) {
	err := root.Load(into, yaml.WithKnownFields())
	if err == nil {
		return
	}
	all, ok := errors.AsType[*yaml.LoadErrors](err)
	if !ok {
		if len(c.problems) == 0 {
			c.syntax(err)
		}
		return
	}
	for _, e := range all.Errors {
		if c.seen(e.Mark.Line, e.Mark.Column) {
			continue
		}
		c.syntax(e)
	}
}
