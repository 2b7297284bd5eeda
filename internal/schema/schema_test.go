package schema

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
)

func mustCompile(tb testing.TB, source string, opts Options) *Schema {
	tb.Helper()
	s, err := Compile([]byte(source), opts)
	if err != nil {
		tb.Fatalf("Compile(%s): %v", source, err)
	}
	return s
}

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, schema, value string
		want                []warder.Violation
	}{
		{name: "valid", schema: `{"type":"object","properties":{"n":{"type":"integer"}}}`, value: `{"n":1.0}`},
		{
			name: "type", schema: `{"type":"object","properties":{"n":{"type":["integer","null"]}}}`, value: `{"n":"secret"}`,
			want: []warder.Violation{{Pointer: "/n", Keyword: "type", Message: "want null or integer, got string"}},
		},
		{
			name: "required", schema: `{"type":"object","required":["a","b"]}`, value: `{"b":1}`,
			want: []warder.Violation{{Keyword: "required", Message: `lacks "a"`}},
		},
		{
			name: "pointer is escaped", schema: `{"properties":{"a/b~":{"maxLength":2}}}`, value: `{"a/b~":"secret"}`,
			want: []warder.Violation{{Pointer: "/a~1b~0", Keyword: "maxLength", Message: "want at most 2 characters"}},
		},
		{
			name: "enum shows the schema's words", schema: `{"enum":["red","\u202egreen",{"a":1}]}`, value: `"secret"`,
			want: []warder.Violation{{Keyword: "enum", Message: `want one of "red", "\u202egreen", a structure`}},
		},
		{
			name: "alternatives are one violation", schema: `{"anyOf":[{"type":"string"},{"minimum":5}]}`, value: `1`,
			want: []warder.Violation{{Keyword: "anyOf", Message: "matches none of the alternatives, or more than one"}},
		},
		{
			name: "format is asserted in 2020-12", schema: `{"format":"email"}`, value: `"secret"`,
			want: []warder.Violation{{Keyword: "format", Message: `want the format "email"`}},
		},
		{
			name: "forbidden properties", schema: `{"additionalProperties":false}`, value: `{"y":1,"x":1}`,
			want: []warder.Violation{
				{Pointer: "/x", Keyword: "additionalProperties", Message: "is not a declared property"},
				{Pointer: "/y", Keyword: "additionalProperties", Message: "is not a declared property"},
			},
		},
		{
			name: "bounds", schema: `{"minimum":1,"multipleOf":0.5}`, value: `0.25`,
			want: []warder.Violation{
				{Keyword: "minimum", Message: `want at least "1"`},
				{Keyword: "multipleOf", Message: `want a multiple of "1/2"`},
			},
		},
		{
			name: "references", schema: `{"$ref":"#/$defs/t","$defs":{"t":{"items":{"$ref":"#/$defs/t"},"type":"array"}}}`, value: `[[],[[3]]]`,
			want: []warder.Violation{{Pointer: "/1/0/0", Keyword: "type", Message: "want array, got number"}},
		},
		{name: "draft-07 is known", schema: `{"$schema":"http://json-schema.org/draft-07/schema#","items":[{"type":"string"}]}`, value: `["a",1]`},
		{
			name: "false", schema: `{"properties":{"x":false}}`, value: `{"x":1}`,
			want: []warder.Violation{{Pointer: "/x", Keyword: "false", Message: "nothing is allowed here"}},
		},
		{name: "ECMA escapes", schema: `{"pattern":"^\\u00e9\\u{1F600}\\/\\cJ$"}`, value: `"é😀/\n"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := mustCompile(t, tt.schema, Options{}).Validate([]byte(tt.value))
			if err != nil {
				t.Fatalf("Validate: %v", err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Validate(%s) mismatch (-want +got):\n%s", tt.value, diff)
			}
			for _, v := range got {
				if strings.Contains(v.Message, "secret") {
					t.Errorf("message repeats the value: %q", v.Message)
				}
			}
		})
	}
}

// TestLookaheads uses the pattern that Zod 4 writes for e-mail addresses, and others of its form.
func TestLookaheads(t *testing.T) {
	t.Parallel()
	const email = `^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$`
	tests := []struct {
		pattern, text string
		want          bool
	}{
		{email, "ada@example.com", true},
		{email, "a.d.a+x@sub.example.com", true},
		{email, ".ada@example.com", false},
		{email, "ada..b@example.com", false},
		{email, "ada@example..com", false},
		{email, "ada.@example.com", false},
		{email, "ada@example", false},
		{`^(?=.{1,5}$)[a-z]+(?:-[a-z]+|x)?$`, "ab-cd", true},
		{`^(?=.{1,5}$)[a-z]+(?:-[a-z]+|x)?$`, "abc-cd", false},
		{`^(?![)|]a)[)|]b$`, "|b", true},
		{`^(?![)|]a)[)|].$`, "|a", false},
		{`^(?!\))x`, "xy", true},
		{`^(?!x)`, "", true},
		{`^(?!x)`, "xy", false},
	}
	for _, tt := range tests {
		p, err := compilePattern(tt.pattern, 1024)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		if got := p.MatchString(tt.text); got != tt.want {
			t.Errorf("%s matches %q: %t, want %t", tt.pattern, tt.text, got, tt.want)
		}
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, schema, value string
		want                []string // pointers
	}{
		{"declared", `{"properties":{"a":{}}}`, `{"a":1}`, nil},
		{"smuggled", `{"properties":{"a":{}}}`, `{"a":1,"b":2,"A":3}`, []string{"/A", "/b"}},
		{"nothing is declared", `{"type":"object"}`, `{"a":1}`, []string{"/a"}},
		{"declared in a branch", `{"oneOf":[{"properties":{"a":{}}},{"$ref":"#/$defs/b"}],"$defs":{"b":{"properties":{"b":{"type":"string"}}}}}`, `{"a":1,"b":2}`, nil},
		{"declared by a pattern", `{"patternProperties":{"^x-":{}}}`, `{"x-1":1,"y":1}`, []string{"/y"}},
		{"the schema says any", `{"properties":{"a":{}},"additionalProperties":true}`, `{"b":1}`, nil},
		{"the schema says which", `{"additionalProperties":{"type":"integer"}}`, `{"b":1}`, nil},
		{"deeper values are the schema's business", `{"properties":{"a":{"type":"object"}}}`, `{"a":{"z":1}}`, nil},
		{"not a declaration", `{"not":{"properties":{"a":{"type":"string"}},"required":["a"]}}`, `{"a":1}`, []string{"/a"}},
		{"not an object", `{}`, `[1]`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			open, closed := mustCompile(t, tt.schema, Options{}), mustCompile(t, tt.schema, Options{Closed: true})
			undeclared, err := open.Undeclared([]byte(tt.value))
			if err != nil {
				t.Fatalf("Undeclared: %v", err)
			}
			if diff := cmp.Diff(tt.want, pointers(undeclared)); diff != "" {
				t.Errorf("Undeclared(%s) mismatch (-want +got):\n%s", tt.value, diff)
			}
			got, err := closed.Validate([]byte(tt.value))
			if err != nil {
				t.Fatalf("Validate: %v", err)
			}
			if diff := cmp.Diff(tt.want, pointers(got)); diff != "" {
				t.Errorf("closed Validate(%s) mismatch (-want +got):\n%s", tt.value, diff)
			}
		})
	}
}

func pointers(list []warder.Violation) []string {
	var out []string
	for _, v := range list {
		out = append(out, v.Pointer)
	}
	return out
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	nested := func(n int) string {
		return strings.Repeat(`{"items":`, n) + `{}` + strings.Repeat(`}`, n)
	}
	tests := []struct{ name, schema, want string }{
		{"a reference over the network", `{"$ref":"https://attacker.example/s.json"}`, "external references"},
		{"a reference to a file", `{"$ref":"file:///etc/passwd"}`, "external references"},
		{"an unknown dialect", `{"$schema":"https://attacker.example/meta"}`, "unknown $schema"},
		{"a vocabulary as dialect", `{"$schema":"https://json-schema.org/draft/2020-12/meta/core","type":"integer"}`, "unknown $schema"},
		{"a dialect inside", `{"properties":{"a":{"$id":"x","$schema":"https://json-schema.org/draft/2020-12/meta/core"}}}`, "unknown $schema"},
		{"a dangling reference", `{"$ref":"#/$defs/none"}`, "none"},
		{"not a schema", `[1]`, "SCHEMA"},
		{"a wrong keyword", `{"type":"strnig"}`, "type"},
		{"depth", nested(60), "deeper than 48"},
		{"size", `{"description":"` + strings.Repeat("a", 300<<10) + `"}`, "bytes"},
		{"count", `{"enum":[` + strings.Repeat(`{},`, 5000) + `{}]}`, "objects"},
		{"a long pattern", `{"pattern":"` + strings.Repeat("a", 2000) + `"}`, "pattern"},
		{"a lookahead inside", `{"pattern":"^a(?!x)"}`, "invalid"},
		{"a lookahead that is not anchored", `{"pattern":"(?!x)a"}`, "invalid"},
		{"a lookahead before alternatives", `{"pattern":"^(?!x)a|b"}`, "alternatives"},
		{"a repeated lookahead", `{"pattern":"^(?!x)?a"}`, "repeated"},
		{"a lookahead in a lookahead", `{"pattern":"^(?!x(?=y))a"}`, "invalid"},
		{"an open lookahead", `{"pattern":"^(?!x"}`, "unbalanced"},
		{"a lookbehind", `{"pattern":"^(?<!x)a"}`, "invalid"},
		{"a back-reference", `{"pattern":"(a)\\1"}`, "invalid"},
		{"an RE2 escape", `{"pattern":"\\Afoo\\z"}`, "no meaning"},
		{"an empty class", `{"pattern":"[]a]"}`, "empty class"},
		{"a class of POSIX", `{"pattern":"[[:alpha:]]"}`, "[:"},
		{"a costly number", `{"minimum":1e999999}`, "out of range"},
		{"an endless reference", `{"$ref":"#"}`, "leads back"},
		{"an endless composition", `{"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"type":"string"},{"$ref":"#/$defs/b"}]},"b":{"allOf":[{"$ref":"#/$defs/a"}]}}}`, "leads back"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Compile([]byte(tt.schema), Options{})
			if !errors.Is(err, ErrSchema) || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(tt.want)) {
				t.Errorf("Compile = %v, want ErrSchema that says %q", err, tt.want)
			}
		})
	}
}

// doubling is a schema of a few hundred bytes that needs 2^n evaluations.
func doubling(n int) string {
	var b strings.Builder
	b.WriteString(`{"$ref":"#/$defs/d0","$defs":{`)
	for i := range n {
		fmt.Fprintf(&b, `"d%d":{"allOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]},`, i, i+1, i+1)
	}
	fmt.Fprintf(&b, `"d%d":{"type":"integer"}}}`, n)
	return b.String()
}

func TestValidateRefusesWhatCostsTooMuch(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 40) + "1" + strings.Repeat("]", 40)
	tests := []struct{ name, schema, value string }{
		{"doubling in place", doubling(60), `1`},
		{"doubling by depth", `{"$ref":"#/$defs/a","$defs":{"a":{"items":{"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}]}}}}`, deep},
		{"too many values", `{"items":{"type":"integer"}}`, `[` + strings.Repeat("1,", 200_000) + `1]`},
		{"a costly number", `{"type":"integer"}`, `1e999999`},
		{"a long text for a large pattern", `{"pattern":"(a|b|ab){200}c"}`, `"` + strings.Repeat("ab", 2<<20) + `"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := mustCompile(t, tt.schema, Options{})
			start := time.Now()
			got, err := s.Validate([]byte(tt.value))
			if !errors.Is(err, ErrBudget) {
				t.Errorf("Validate = %v, %v, want ErrBudget", got, err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("Validate took %s", took)
			}
		})
	}
}

func TestOrdinaryRecursionIsWithinTheBudget(t *testing.T) {
	t.Parallel()
	s := mustCompile(t, `{"$ref":"#/$defs/json","$defs":{"json":{"anyOf":[
		{"type":["string","number","boolean","null"]},
		{"type":"array","items":{"$ref":"#/$defs/json"}},
		{"type":"object","additionalProperties":{"$ref":"#/$defs/json"}}]}}}`, Options{})
	value := strings.Repeat(`{"a":[`, 30) + `1` + strings.Repeat(`]}`, 30)
	if got, err := s.Validate([]byte(value)); err != nil || got != nil {
		t.Errorf("Validate = %v, %v, want valid", got, err)
	}
}

func TestViolationsAreBoundedAndSorted(t *testing.T) {
	t.Parallel()
	s := mustCompile(t, `{"items":{"type":"string"}}`, Options{})
	got, err := s.Validate([]byte(`[` + strings.Repeat("1,", 999) + `1]`))
	if err != nil || len(got) != MaxViolations {
		t.Fatalf("Validate = %d violations, %v, want %d", len(got), err, MaxViolations)
	}
	for range 20 {
		again, err := s.Validate([]byte(`[` + strings.Repeat("1,", 999) + `1]`))
		if diff := cmp.Diff(got, again); err != nil || diff != "" {
			t.Fatalf("Validate is not deterministic (%v):\n%s", err, diff)
		}
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	c := NewCache(2, Options{})
	a, err := c.Compile([]byte(`{"type":"string"}`))
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := c.Compile([]byte(`{"type":"string"}`)); b != a {
		t.Error("equal schemas were compiled twice")
	}
	if b, _ := c.Compile([]byte(`{"type":"number"}`)); b == a {
		t.Error("different schemas share one compiled form")
	}
	if _, err := c.Compile([]byte(`{"type":"strnig"}`)); !errors.Is(err, ErrSchema) {
		t.Errorf("Compile of a wrong schema = %v, want ErrSchema", err)
	}
}

const weather = `{"type":"object","properties":{
	"city":{"type":"string","minLength":1,"maxLength":80},"days":{"type":"integer","minimum":1,"maximum":14},
	"unit":{"enum":["celsius","fahrenheit"]},"detail":{"type":"boolean"},
	"place":{"type":"object","properties":{"lat":{"type":"number"},"lon":{"type":"number"}},"required":["lat","lon"]},
	"tags":{"type":"array","items":{"type":"string"},"maxItems":10}},
	"required":["city"],"additionalProperties":false}`

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile([]byte(weather), Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	s := mustCompile(b, weather, Options{})
	value := []byte(`{"city":"Graz","days":3,"unit":"celsius","detail":true,"place":{"lat":47.07,"lon":15.43},"tags":["a","b"]}`)
	b.ReportAllocs()
	for b.Loop() {
		if v, err := s.Validate(value); err != nil || v != nil {
			b.Fatal(v, err)
		}
	}
}
