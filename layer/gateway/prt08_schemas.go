package gateway

import (
	"context"
	"crypto/sha256"
	"fmt"
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
	mirrored, err := wire.AnnotatedHeaders(tool.Get("inputSchema").Raw())
	if err != nil {
		return flaw{"header_annotation", err.Error()}
	}
	for _, h := range mirrored {
		if name := h.Pointer[len(h.Pointer)-1]; secretName(name) {
			return flaw{"header_annotation", fmt.Sprintf("%s of %q: a secret would stand in a header", wire.HeaderAnnotation, name)}
		}
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
