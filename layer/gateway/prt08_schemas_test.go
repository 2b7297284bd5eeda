package gateway

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// listed returns a tools/list exchange with these definitions in its answer.
func listed(tb testing.TB, tools ...string) *warder.Exchange {
	tb.Helper()
	x := exchange(tb, warder.Revision20251125, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	return result(tb, x, `{"tools":[`+strings.Join(tools, ", ")+`],"nextCursor":"c"}`)
}

func tool(name, input string) string {
	return `{"name":"` + name + `","inputSchema":` + input + `}`
}

// names returns the tools that are left.
func names(x *warder.Exchange) (out []string) {
	for _, v := range wire.At(x.Response, x.Response.Result.Get("tools")).Elements() {
		name, _ := v.Get("name").Text()
		out = append(out, name)
	}
	return out
}

func TestPRT08(t *testing.T) {
	t.Parallel()
	const plain = `{"type":"object","properties":{"a":{"type":"string"}}}`
	mirror := func(property, header, typ string) string {
		return `{"type":"object","properties":{"` + property + `":{"type":"` + typ + `","x-mcp-header":"` + header + `"}}}`
	}
	deep := strings.Repeat(`{"type":"object","properties":{"a":`, 25) + `{}` + strings.Repeat(`}}`, 25)
	var twice strings.Builder // each definition uses the next one twice: 2^40 evaluations
	twice.WriteString(`{"type":"object","allOf":[{"$ref":"#/$defs/d0"}],"$defs":{`)
	for i := range 40 {
		n := strconv.Itoa(i + 1)
		twice.WriteString(`"d` + strconv.Itoa(i) + `":{"allOf":[{"$ref":"#/$defs/d` + n + `"},{"$ref":"#/$defs/d` + n + `"}]},`)
	}
	twice.WriteString(`"d40":{}}}`)
	tests := []struct {
		name, tool, rule string
	}{
		{"pass/plain", tool("x", plain), ""},
		{"pass/local reference", tool("x", `{"type":"object","properties":{"a":{"$ref":"#/$defs/s"}},"$defs":{"s":{"type":"string"}}}`), ""},
		{"pass/recursion that consumes input", tool("x", `{"type":"object","properties":{"child":{"$ref":"#"}}}`), ""},
		{"pass/mirrored string", tool("x", mirror("region", "Region", "string")), ""},
		{"pass/mirrored, nested", tool("x", `{"type":"object","properties":{"o":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}}}}`), ""},
		{"pass/known dialect", tool("x", `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"}`), ""},
		{"near_miss/property that is called like the annotation", tool("x", `{"type":"object","properties":{"x-mcp-header":{"type":"string"}}}`), ""},
		{"near_miss/annotation inside data", tool("x", `{"type":"object","default":{"x-mcp-header":""},"properties":{"a":{"type":"string","examples":[{"x-mcp-header":" "}]}}}`), ""},
		{"near_miss/a URL that is not a reference", tool("x", `{"type":"object","description":"https://evil.example/schema.json"}`), ""},

		{"deny/network reference", tool("x", `{"type":"object","properties":{"a":{"$ref":"https://evil.example/s.json"}}}`), "schema_unsafe"},
		{"deny/file reference", tool("x", `{"type":"object","properties":{"a":{"$ref":"file:///etc/passwd"}}}`), "schema_unsafe"},
		{"deny/relative reference to elsewhere", tool("x", `{"type":"object","properties":{"a":{"$ref":"other.json"}}}`), "schema_unsafe"},
		{"deny/unresolved reference", tool("x", `{"type":"object","properties":{"a":{"$ref":"#/$defs/none"}}}`), "schema_unsafe"},
		{"deny/reference to itself", tool("x", `{"type":"object","$ref":"#"}`), "schema_unsafe"},
		{"deny/too deep", tool("x", deep), "schema_unsafe"},
		{"deny/too much work", tool("x", twice.String()), "schema_unsafe"},
		{"deny/unknown dialect", tool("x", `{"$schema":"https://evil.example/dialect","type":"object"}`), "schema_unsafe"},
		{"deny/unsafe output", `{"name":"x","inputSchema":` + plain + `,"outputSchema":{"$ref":"https://evil.example/s"}}`, "schema_unsafe"},
		{"deny/no input schema", `{"name":"x"}`, "schema_malformed"},
		{"deny/input schema is true", tool("x", `true`), "schema_malformed"},
		{"deny/empty annotation", tool("x", mirror("a", "", "string")), "header_annotation"},
		{"deny/annotation with space", tool("x", mirror("a", "Re gion", "string")), "header_annotation"},
		{"deny/annotation with line break", tool("x", mirror("a", `R\r\nX-Evil: 1`, "string")), "header_annotation"},
		{"deny/annotation on a number", tool("x", mirror("a", "A", "number")), "header_annotation"},
		{"deny/annotation on an object", tool("x", mirror("a", "A", "object")), "header_annotation"},
		{"deny/annotation that is not text", tool("x", `{"type":"object","properties":{"a":{"type":"string","x-mcp-header":7}}}`), "header_annotation"},
		{"deny/same annotation twice", tool("x", `{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"R"},"b":{"type":"string","x-mcp-header":"r"}}}`), "header_annotation"},
		{"deny/annotation under items", tool("x", `{"type":"object","properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}}`), "header_annotation"},
		{"deny/annotation in a definition", tool("x", `{"type":"object","$defs":{"a":{"type":"string","x-mcp-header":"A"}}}`), "header_annotation"},
		{"deny/annotation under anyOf", tool("x", `{"type":"object","anyOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}`), "header_annotation"},
		{"deny/annotation at the root", tool("x", `{"type":"object","x-mcp-header":"A"}`), "header_annotation"},
		{"deny/secret in a header", tool("x", mirror("apiKey", "Key", "string")), "header_annotation"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newFakes().layer(t, Config{}).schemas
			x := listed(t, tool("first", plain), tt.tool, tool("last", plain))
			d := pass(t, c, x)
			want := []string{"first", "x", "last"}
			if tt.rule != "" {
				want = []string{"first", "last"}
			}
			if diff := cmp.Diff(want, names(x)); diff != "" {
				t.Errorf("tools (-want +got):\n%s", diff)
			}
			if tt.rule == "" {
				if len(d.Findings) != 0 {
					t.Errorf("findings = %+v, want none", d.Findings)
				}
				return
			}
			if len(d.Findings) != 1 || d.Findings[0].Rule != tt.rule || d.Findings[0].Pointer != "/result/tools/1" {
				t.Errorf("findings = %+v, want one %s at /result/tools/1", d.Findings, tt.rule)
			}
			if cursor, _ := wire.At(x.Response, x.Response.Result.Get("nextCursor")).Text(); cursor != "c" {
				t.Error("the rest of the result was changed")
			}
		})
	}
	t.Run("pass/one bad tool of fifty costs one tool", func(t *testing.T) {
		t.Parallel()
		var tools []string
		for i := range 50 {
			input := plain
			if i == 17 {
				input = `{"type":"object","$ref":"http://evil.example"}`
			}
			tools = append(tools, tool("t"+itoa(i), input))
		}
		x := listed(t, tools...)
		pass(t, newFakes().layer(t, Config{}).schemas, x)
		if n := len(names(x)); n != 49 {
			t.Errorf("%d tools are left, want 49", n)
		}
	})
	t.Run("deny/all of them", func(t *testing.T) {
		t.Parallel()
		x := listed(t, `{"name":"a"}`, `7`, `null`)
		pass(t, newFakes().layer(t, Config{}).schemas, x)
		if n := names(x); len(n) != 0 {
			t.Errorf("tools %v are left", n)
		}
	})
	t.Run("pass/other answers", func(t *testing.T) {
		t.Parallel()
		x := result(t, call2026(t, `{}`), `{"tools":[7]}`)
		before := x.Response
		if pass(t, newFakes().layer(t, Config{}).schemas, x); x.Response != before {
			t.Error("an answer that is no list was changed")
		}
	})
	t.Run("pass/corpus within a second", func(t *testing.T) {
		t.Parallel()
		c := newFakes().layer(t, Config{}).schemas
		start := time.Now()
		for _, tt := range tests {
			pass(t, c, listed(t, tt.tool))
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the corpus took %v", took)
		}
	})
	t.Run("dependency_killed/no time left to judge", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := newFakes().layer(t, Config{}).schemas.Intercept(ctx, listed(t, tool("a", plain)))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v, want %v", err, context.Canceled)
		}
	})
}

func BenchmarkSchemas(b *testing.B) {
	var tools []string
	for i := range 100 {
		tools = append(tools, tool("t"+itoa(i), `{"type":"object","properties":{"p`+itoa(i)+`":{"type":"string","description":"a parameter"},"n":{"type":"integer"}},"required":["n"]}`))
	}
	c := newFakes().layer(b, Config{}).schemas
	x := listed(b, tools...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Intercept(b.Context(), x); err != nil {
			b.Fatal(err)
		}
	}
}

// Whatever a server sends, no judge of definitions and questions panics, and nothing that names
// another document passes.
func FuzzJudges(f *testing.F) {
	for _, s := range []string{
		`{"name":"x","inputSchema":{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"A"}}}}`,
		`{"inputSchema":{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#"}}}}`, `{"inputSchema":{"$ref":"x"}}`,
		`{"mode":"form","requestedSchema":{"properties":{"a":{"type":"string"}}},"url":"https://a@b"}`,
	} {
		f.Add([]byte(s))
	}
	c := newSchemas(Schemas{Work: 10_000}, wire.Limits{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if wire.Validate(raw, wire.Limits{Depth: 40}) != nil {
			return
		}
		v := wire.Parse(raw)
		start := time.Now()
		bad := c.inspect(v)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("judging took %v", took)
		}
		if bad.rule == "" {
			if ref, ok := v.Get("inputSchema").Get("$ref").Text(); ok && !strings.HasPrefix(ref, "#") {
				t.Errorf("a reference to %q passed", ref)
			}
		}
		_ = judgeForm(v)
		if d := judgeLink(v.Get("url")); d.Verdict == warder.Pass {
			if link, _ := v.Get("url").Text(); !strings.HasPrefix(strings.ToLower(link), "http") {
				t.Errorf("the link %q passed", link)
			}
		}
		_ = (features{}).forbidden(message(t, `{"jsonrpc":"2.0","id":1,"method":"x"}`), v)
	})
}
