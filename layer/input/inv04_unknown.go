package input

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
	"github.com/warder-mcp/warder/wire/shape"
)

// unknown refuses what nobody described: members of params that the revision does not know, keys of
// _meta in the specification's name that it does not define, member names that change objects in
// some languages, and arguments that the approved definition does not declare.
// Control INV-04; MCP basic "_meta". Phase Request.
type unknown struct {
	rules *shape.Set
	meta  metaPolicy
	open  []string // servers whose tools may take undeclared arguments
}

var _ warder.Interceptor = (*unknown)(nil)

// undeclarer is a compiled schema that can tell which properties it declares nowhere.
type undeclarer interface {
	Undeclared(value []byte) ([]warder.Violation, error)
}

func newUnknown(cfg Config, rules *shape.Set) *unknown {
	return &unknown{rules: rules, meta: metaPolicy{cfg.AllowMeta, cfg.StripUnknownMeta}, open: cfg.OpenArguments}
}

// Control names the control.
func (*unknown) Control() warder.ControlID { return "INV-04" }

// Intercept judges the message of the client.
func (c *unknown) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Request
	if m == nil || c.rules == nil {
		return warder.Decision{}, errors.New("judge members: no message or no rules")
	}
	if d, refused := prototype(x, m); refused {
		return d, nil
	}
	if d, refused := c.params(x, m); refused {
		return d, nil
	}
	if d, refused, err := c.arguments(x, m); refused || err != nil {
		return d, err
	}
	return c.meta.judge(x, m)
}

// params refuses members that the revision does not describe. What is wrong with a message in other
// ways is GW-01's to say.
func (c *unknown) params(x *warder.Exchange, m *warder.Message) (warder.Decision, bool) {
	if m.IsAnswer() {
		return warder.Decision{}, false
	}
	q := shape.Query{Revision: x.Revision, From: warder.FromClient, Method: m.Method, Closed: true}
	v, ok := c.rules.CheckMessage(q, m)
	if ok {
		return warder.Decision{}, false
	}
	if v.Keyword != "additionalProperties" {
		q.Closed = false
		if _, open := c.rules.CheckMessage(q, m); !open {
			return warder.Decision{}, false
		}
	}
	return refuse(warder.CodeInvalidParams, "unknown_param", v.Pointer, "additionalProperties",
		"this revision has no such member"), true
}

// arguments refuses arguments of a tool or prompt that its approved definition does not declare.
func (c *unknown) arguments(x *warder.Exchange, m *warder.Message) (warder.Decision, bool, error) {
	given := wire.At(m, m.Params.Get("arguments"))
	if x.Tool == nil || given.Kind() != '{' || slices.Contains(c.open, x.Tool.Server) {
		return warder.Decision{}, false, nil
	}
	definition := wire.Parse(x.Tool.Definition)
	switch m.Method {
	case wire.MethodToolsCall:
		return undeclared(x.Tool, definition, given)
	case wire.MethodPromptsGet:
		for key := range given.Members() {
			if name := key.Unescaped(); !promptArgument(definition, name) {
				return refuse(warder.CodeInvalidParams, "undeclared_argument", point("/params/arguments", []string{name}),
					"arguments", "the prompt declares no such argument"), true, nil
			}
		}
	}
	return warder.Decision{}, false, nil
}

// undeclared asks the compiled schema, unless every argument stands among its properties as written.
func undeclared(t *warder.Tool, definition, given wire.Value) (warder.Decision, bool, error) {
	properties := definition.Get("inputSchema").Get("properties")
	declared := true
	for key := range given.Members() {
		declared = declared && has(properties, key)
	}
	if declared {
		return warder.Decision{}, false, nil
	}
	schema, ok := t.Input.(undeclarer)
	if !ok {
		return warder.Decision{}, false, errors.New("judge arguments: the compiled schema cannot tell what it declares")
	}
	violations, err := schema.Undeclared(given.Raw())
	if err != nil {
		return warder.Decision{}, false, fmt.Errorf("judge arguments: %w", err)
	}
	if len(violations) == 0 {
		return warder.Decision{}, false, nil
	}
	return violated("undeclared_argument", "/params/arguments", violations), true, nil
}

// has reports whether an object has a member of this name.
func has(object wire.Value, name wire.Key) bool {
	for key := range object.Members() {
		if bytes.Equal(key.Raw(), name.Raw()) {
			return true
		}
	}
	return false
}

// promptArgument reports whether a prompt declares an argument.
func promptArgument(definition wire.Value, name string) bool {
	for _, argument := range definition.Get("arguments").Elements() {
		if argument.Get("name").Equals(name) {
			return true
		}
	}
	return false
}

// prototype refuses member names that reach an object's prototype in JavaScript. "constructor" and
// "prototype" are also ordinary words: a tool may declare them.
func prototype(x *warder.Exchange, m *warder.Message) (warder.Decision, bool) {
	v, prefix := body(m)
	raw := v.Raw()
	if !suspicious(raw) {
		return warder.Decision{}, false
	}
	s := scan{b: raw}
	bad := -1
	followed := s.run(func(t token, start, end int) bool {
		if t == tokenName && special(x, v, raw, start, end) {
			bad = start
		}
		return bad < 0
	})
	if !followed {
		bad = 0
	}
	if bad < 0 {
		return warder.Decision{}, false
	}
	return refuse(warder.CodeInvalidParams, "prototype_name", point(prefix, pathTo(v, v.Span().Start+bad)),
		"propertyNames", "this member name is not accepted"), true
}

// suspicious reports whether such a name can occur. A name may be written with escapes. Searching
// words is the faster way for short messages only.
func suspicious(raw []byte) bool {
	if len(raw) > 4096 {
		return true
	}
	for _, name := range [...]string{`__proto__"`, `"constructor"`, `"prototype"`, `\u`} {
		if bytes.Contains(raw, []byte(name)) {
			return true
		}
	}
	return false
}

func special(x *warder.Exchange, v wire.Value, raw []byte, start, end int) bool {
	name := raw[start+1 : end-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		text, _ := wire.Parse(raw[start:end]).Text()
		name = []byte(text)
	}
	switch string(name) {
	case "__proto__":
		return true
	case "constructor", "prototype":
		_, declared := describing(x, pathTo(v, v.Span().Start+start))
		return !declared
	default:
		return false
	}
}
