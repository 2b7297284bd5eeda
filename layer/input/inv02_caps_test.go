package input

import (
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
)

func numbers(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]" }

func members(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"k` + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("y", i/7) + `":1`)
	}
	return "{" + b.String() + "}"
}

func TestINV02(t *testing.T) {
	t.Parallel()
	c := newCaps(Config{
		MaxBytes: 8 << 10, MaxString: 100, MaxName: 60, MaxItems: 10, MaxMembers: 8, MaxNumber: 1<<53 - 1,
	}.orDefault())
	a := func(n int) string { return `"` + strings.Repeat("a", n) + `"` }
	for _, tt := range []struct {
		name, arguments string
		code            warder.Code
		reason          warder.Reason // empty: passes
	}{
		{"pass", `{"text":"x","any":{"a":[1,2,3]}}`, "", ""},
		{"near_miss_string", `{"text":` + a(100) + `}`, "", ""},
		{"near_miss_items", `{"any":{"a":` + numbers(10) + `}}`, "", ""},
		{"near_miss_members", `{"any":` + members(8) + `}`, "", ""},
		{"near_miss_number", `{"any":{"a":-9007199254740991,"b":0.1234567890123456789}}`, "", ""},
		{"near_miss_name", `{"any":{` + a(60) + `:1}}`, "", ""},
		{"pass_schema_states_length", `{"long":` + a(3000) + `}`, "", ""},
		{"pass_schema_states_items", `{"list":` + numbers(200) + `}`, "", ""},
		{"pass_schema_states_range", `{"big":1e200}`, "", ""},
		{"deny_string", `{"text":` + a(101) + `}`, warder.CodeInvalidParams, "string_too_long"},
		{"deny_nested_string", `{"any":{"a":[{"b":` + a(101) + `}]}}`, warder.CodeInvalidParams, "string_too_long"},
		{"deny_second_after_excused", `{"long":` + a(300) + `,"text":` + a(101) + `}`, warder.CodeInvalidParams, "string_too_long"},
		{"deny_items", `{"any":{"a":` + numbers(11) + `}}`, warder.CodeInvalidParams, "array_too_long"},
		{"deny_items_of_objects", `{"any":{"a":[` + strings.TrimSuffix(strings.Repeat("{},", 11), ",") + `]}}`, warder.CodeInvalidParams, "array_too_long"},
		{"deny_members", `{"any":` + members(9) + `}`, warder.CodeInvalidParams, "object_too_large"},
		{"deny_number", `{"any":{"a":9007199254740993}}`, warder.CodeInvalidParams, "number_out_of_range"},
		{"deny_exponent", `{"any":{"a":1e16}}`, warder.CodeInvalidParams, "number_out_of_range"},
		{"deny_infinite", `{"any":{"a":-1e999}}`, warder.CodeInvalidParams, "number_out_of_range"},
		{"deny_digits", `{"any":{"a":0.` + strings.Repeat("1", 70) + `}}`, warder.CodeInvalidParams, "number_out_of_range"},
		{"deny_name", `{"any":{` + a(61) + `:1}}`, warder.CodeInvalidParams, "name_too_long"},
		{"deny_total", `{"long":` + a(8<<10) + `}`, warder.CodeTooLarge, "params_too_large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := judge(t, c, called(t, tt.arguments))
			if tt.reason == "" {
				mustPass(t, d)
				return
			}
			mustRefuse(t, d, tt.code, tt.reason)
			if strings.Contains(d.Public, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa") {
				t.Errorf("the value is told: %q", d.Public)
			}
		})
	}
	t.Run("deny_answers", func(t *testing.T) {
		t.Parallel()
		x := sent(t, `{"jsonrpc":"2.0","id":1,"result":{"content":`+a(101)+`}}`)
		mustRefuse(t, judge(t, c, x), warder.CodeInvalidParams, "string_too_long")
	})
	t.Run("deny_names_the_place", func(t *testing.T) {
		t.Parallel()
		d := judge(t, c, called(t, `{"any":{"a/b":[1,{"c":`+a(101)+`}]}}`))
		if want := "/params/arguments/any/a~1b/1/c"; d.Findings[0].Pointer != want {
			t.Errorf("got %s, want %s", d.Findings[0].Pointer, want)
		}
	})
	t.Run("dependency_killed", func(t *testing.T) {
		t.Parallel()
		mustFail(t, &caps{}, called(t, `{}`))
		mustFail(t, c, &warder.Exchange{})
	})
}

func BenchmarkINV02(b *testing.B) {
	for name, n := range map[string]int{"0.6k": 400, "100k": 100_000} {
		b.Run(name, func(b *testing.B) {
			c, x := newCaps(Default()), called(b, `{"text":"`+strings.Repeat("a", n)+`","n":3,"any":{"a":[1,2,3]}}`)
			b.SetBytes(int64(len(x.Request.Raw)))
			b.ReportAllocs()
			for b.Loop() {
				if d, err := c.Intercept(b.Context(), x); err != nil || d.Verdict != warder.Pass {
					b.Fatal(d, err)
				}
			}
		})
	}
}
