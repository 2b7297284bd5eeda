package input

import (
	"testing"

	"github.com/warder-mcp/warder"
)

func TestINV01Patterns(t *testing.T) {
	t.Parallel()
	compiled, err := compilePatterns([]Pattern{
		{"notes", "echo", "/text", `[a-z/]+`},
		{"notes", "echo", "/any/a~1b/1", `\d+`},
		{"notes", "echo", "/list", `[1-3]`},
		{"other", "echo", "/n", `never`},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := newArguments(nil)
	c.patterns = compiled
	for _, tt := range []struct {
		name, arguments string
		ok              bool
	}{
		{"pass", `{"text":"a/b","list":[1,2,3]}`, true},
		{"pass_absent", `{"text":"abc"}`, true},
		{"near_miss_other_server", `{"text":"abc","n":1}`, true},
		{"pass_nested", `{"text":"abc","any":{"a/b":["x","12"]}}`, true},
		{"deny_text", `{"text":"../etc"}`, false},
		{"deny_second_line", `{"text":"abc\nDROP"}`, false},
		{"deny_nested", `{"text":"abc","any":{"a/b":["x","12x"]}}`, false},
		{"deny_nested_object", `{"text":"abc","any":{"a/b":["x",{}]}}`, false},
		{"deny_element", `{"text":"abc","list":[1,4]}`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := judge(t, c, called(t, tt.arguments))
			if tt.ok {
				mustPass(t, d)
			} else {
				mustRefuse(t, d, warder.CodeInvalidParams, "pattern_mismatch")
			}
		})
	}
	for name, bad := range map[string]Pattern{
		"expression": {"a", "b", "/c", "("}, "pointer": {"a", "b", "c", "x"}, "empty": {"a", "b", "/c", ""}, "server": {"", "b", "/c", "x"},
	} {
		if _, err := New(Config{Patterns: []Pattern{bad}}, Deps{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
