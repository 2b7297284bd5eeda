package gateway

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/bounded"
	"github.com/warder-mcp/warder/internal/schema"
	"github.com/warder-mcp/warder/wire"
)

// maxJudged is how many judged definitions are remembered at least.
const maxJudged = 4096

// schemas leaves tools out of lists whose schemas a client or a server cannot use safely: too large,
// too deep, too much work, references beyond the schema, invalid or secret mirrored arguments. The
// other tools of the list stay.
// Control PRT-08; MCP 2026-07-28 basic, "JSON Schema usage" (no network references, bounds), and
// Streamable HTTP, "x-mcp-header" (clients must leave out tools with invalid ones). Phase Response.
type schemas struct {
	opts   schema.Options
	judged *bounded.Cache[[sha256.Size]byte, flaw] // by the bytes of the definition
	limits wire.Limits
}

// A flaw is what is wrong with a definition; the zero value says nothing is.
type flaw struct{ rule, detail string }

func newSchemas(cfg Schemas, lim wire.Limits) *schemas {
	return &schemas{cfg.options(), bounded.New[[sha256.Size]byte, flaw](maxJudged), lim}
}

var _ warder.Interceptor = (*schemas)(nil)

// Control returns "PRT-08".
func (*schemas) Control() warder.ControlID { return "PRT-08" }

// Intercept judges every tool of a tools/list result.
func (s *schemas) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	if m.Kind != warder.KindResult || x.Method() != wire.MethodToolsList {
		return passed()
	}
	var findings []warder.Finding
	n := -1
	cut, edit := keep(wire.At(m, m.Result.Get("tools")), func(tool wire.Value) bool {
		n++
		if ctx.Err() != nil {
			return false // fails as a whole below
		}
		f := s.judge(tool)
		if f.rule != "" {
			name, _ := tool.Get("name").Text()
			findings = append(findings, warder.Finding{
				Rule: f.rule, Severity: warder.Medium, Pointer: "/result/tools/" + strconv.Itoa(n), Evidence: quote(name + ": " + f.detail),
			})
		}
		return f.rule == ""
	})
	if err := ctx.Err(); err != nil {
		return warder.Decision{}, fmt.Errorf("judge schemas: %w", err)
	}
	if cut == 0 {
		return passed()
	}
	if err := rewriteResponse(x, s.limits, []wire.Edit{edit}); err != nil {
		return warder.Decision{}, err
	}
	return warder.Observe(findings...), nil
}

// judge returns what is wrong with one tool. Equal definitions are judged once.
func (s *schemas) judge(tool wire.Value) flaw {
	key := sha256.Sum256(tool.Raw())
	if f, ok := s.judged.Get(key); ok {
		return f
	}
	return s.judged.Add(key, s.inspect(tool))
}

func (s *schemas) inspect(tool wire.Value) flaw {
	for _, member := range []string{"inputSchema", "outputSchema"} {
		v := tool.Get(member)
		if !v.Exists() && member == "outputSchema" {
			continue
		}
		if v.Kind() != '{' {
			return flaw{"schema_malformed", member + " is not an object"}
		}
		if err := s.safe(v); err != nil {
			return flaw{"schema_unsafe", member + ": " + err.Error()}
		}
	}
	w := headerWalk{}
	if err := w.schema(tool.Get("inputSchema"), "", true); err != nil {
		return flaw{"header_annotation", err.Error()}
	}
	return flaw{}
}

// safe compiles a schema, which bounds its size, depth, number of subschemas and references, and
// judges the smallest value by it: a schema that exceeds its budget there does so on every value.
func (s *schemas) safe(v wire.Value) error {
	if err := references(v); err != nil {
		return err
	}
	compiled, err := schema.Compile(v.Raw(), s.opts)
	if err != nil {
		return err
	}
	_, err = compiled.Validate([]byte("{}"))
	return err
}

// references refuses every reference that does not begin with "#": a schema of a tool is one
// document, and a relative name or a URL means another one.
func references(v wire.Value) error {
	for pointer, leaf := range wire.Leaves(v) {
		if !strings.HasSuffix(pointer, "/$ref") && !strings.HasSuffix(pointer, "/$dynamicRef") && !strings.HasSuffix(pointer, "/$recursiveRef") {
			continue
		}
		if text, _ := leaf.Text(); !strings.HasPrefix(text, "#") {
			return fmt.Errorf("reference to another document at %s", pointer)
		}
	}
	return nil
}

// annotation is the member of a property's schema that mirrors the argument into an HTTP header.
const annotation = "x-mcp-header"

// A headerWalk looks for annotations in a schema, which is known to be of bounded depth.
type headerWalk struct{ seen []string }

// schema visits one schema. Plain says that it was reached through "properties" alone; name is the
// property's.
func (w *headerWalk) schema(v wire.Value, name string, plain bool) error {
	switch v.Kind() {
	case '[':
		for _, part := range v.Elements() {
			if err := w.schema(part, name, false); err != nil {
				return err
			}
		}
	case '{':
		if header := v.Get(annotation); header.Exists() {
			if err := w.add(header, v.Get("type"), name, plain); err != nil {
				return err
			}
		}
		for k, part := range v.Members() {
			if err := w.keyword(k, part, name, plain); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *headerWalk) keyword(k wire.Key, v wire.Value, name string, plain bool) error {
	if v.Kind() != '{' && v.Kind() != '[' {
		return nil
	}
	switch key := k.Unescaped(); key {
	case "enum", "const", "default", "examples", "required", "dependentRequired":
		return nil // data, not schemas
	case "properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies":
		for property, part := range v.Members() {
			if err := w.schema(part, property.Unescaped(), plain && key == "properties"); err != nil {
				return err
			}
		}
		return nil
	default:
		return w.schema(v, name, false)
	}
}

func (w *headerWalk) add(header, kind wire.Value, name string, plain bool) error {
	text, ok := header.Text()
	switch {
	case !ok || !token(text):
		return fmt.Errorf("%s of %q is not a token", annotation, name)
	case !plain || name == "":
		return fmt.Errorf("%s of %q is not reached through plain properties", annotation, name)
	case !kind.Equals("string") && !kind.Equals("integer") && !kind.Equals("boolean"):
		return fmt.Errorf("%s of %q: the type is not string, integer or boolean", annotation, name)
	case slices.ContainsFunc(w.seen, func(s string) bool { return strings.EqualFold(s, text) }):
		return fmt.Errorf("%s of %q: the name is used twice", annotation, name)
	case secretName(name):
		return fmt.Errorf("%s of %q: a secret would stand in a header", annotation, name)
	}
	w.seen = append(w.seen, text)
	return nil
}

// token reports whether s is a token of RFC 9110 section 5.6.2, short enough for a header name.
func token(s string) bool {
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
