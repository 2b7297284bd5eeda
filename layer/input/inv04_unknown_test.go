package input

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// forgetful is a compiled schema that cannot tell what it declares.
type forgetful struct{ dead }

func (forgetful) Undeclared([]byte) ([]warder.Violation, error) { return nil, errors.New("gone") }

func TestINV04(t *testing.T) {
	t.Parallel()
	rules := loadRules(t)
	c := newUnknown(Config{}, rules)
	t.Run("pass", func(t *testing.T) {
		t.Parallel()
		mustPass(t, judge(t, c, called(t, `{"text":"x","n":1,"any":{"whatever":{"is":"inside"}}}`)))
		for _, raw := range []string{
			`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + modernMeta + `,"cursor":"x"}}`,
			`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"x"}}`,
			`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{` + strings.Replace(modernMeta, "Capabilities\":{}", `Capabilities":{"novel":{"x":1},"experimental":{"a":{}}}`, 1) + `}}`,
		} {
			mustPass(t, judge(t, c, sent(t, raw)))
		}
	})
	t.Run("near_miss_misshapen_is_not_unknown", func(t *testing.T) {
		t.Parallel()
		mustPass(t, judge(t, c, sent(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":7}}`)))
	})
	t.Run("near_miss_declared_constructor", func(t *testing.T) {
		t.Parallel()
		mustPass(t, judge(t, c, called(t, `{"text":"__proto__ constructor prototype","constructor":"x"}`)))
	})
	for name, raw := range map[string]string{
		"params":          `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + modernMeta + `,"curser":"x"}}`,
		"params_of_call":  `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{` + modernMeta + `,"name":"echo","toolName":"rm"}}`,
		"older_revision":  `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{` + modernMeta + `,"name":"echo","task":{"ttl":1}}}`,
		"nested":          `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{` + modernMeta + `,"argument":{"name":"a","value":"b","x":1},"ref":{"type":"ref/prompt","name":"p"}}}`,
		"answer_in_union": `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{` + modernMeta + `,"name":"echo","inputResponses":{"k":{"action":"accept","also":1}}}}`,
		"notification":    `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"force":true}}`,
	} {
		t.Run("deny_"+name, func(t *testing.T) {
			t.Parallel()
			x := sent(t, raw)
			x.Tool = approved(t, echoInput, "")
			mustRefuse(t, judge(t, c, x), warder.CodeInvalidParams, "unknown_param")
		})
	}
	for name, arguments := range map[string]string{
		"proto": `{"text":"x","any":{"__proto__":{"admin":true}}}`, "escaped_proto": `{"text":"x","any":{"\u005f_proto__":1}}`,
		"constructor": `{"text":"x","any":{"a":[{"constructor":1}]}}`, "prototype": `{"prototype":1,"text":"x"}`,
	} {
		t.Run("deny_"+name, func(t *testing.T) {
			t.Parallel()
			x := called(t, arguments)
			x.Tool = approved(t, strings.Replace(echoInput, `"any":{"type":"object","additionalProperties":true}`, `"any":{"type":"object"}`, 1), "")
			mustRefuse(t, judge(t, c, x), warder.CodeInvalidParams, "prototype_name")
		})
	}
	t.Run("deny_undeclared_argument", func(t *testing.T) {
		t.Parallel()
		d := judge(t, c, called(t, `{"text":"x","extra":"s3cret"}`))
		mustRefuse(t, d, warder.CodeInvalidParams, "undeclared_argument")
		if !strings.Contains(d.Public, "/params/arguments/extra") || strings.Contains(d.Public, "s3cret") {
			t.Errorf("got %q", d.Public)
		}
		mustPass(t, judge(t, newUnknown(Config{OpenArguments: []string{"notes"}}, rules), called(t, `{"text":"x","extra":1}`)))
	})
	t.Run("near_miss_schema_admits_more", func(t *testing.T) {
		t.Parallel()
		for _, input := range []string{
			`{"type":"object","additionalProperties":true}`, `{"type":"object","patternProperties":{"^ex":{}}}`,
			`{"type":"object","anyOf":[{"properties":{"extra":{}}}]}`, `{"type":"object","$ref":"#/$defs/a","$defs":{"a":{"properties":{"extra":{}}}}}`,
		} {
			x := called(t, `{"extra":1}`)
			x.Tool = approved(t, input, "")
			mustPass(t, judge(t, c, x))
		}
	})
	t.Run("deny_undeclared_prompt_argument", func(t *testing.T) {
		t.Parallel()
		x := sent(t, `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{`+modernMeta+`,"name":"p","arguments":{"a":"1","z":"2"}}}`)
		x.Tool = &warder.Tool{Kind: "prompt", Definition: []byte(`{"arguments":[{"name":"a"}],"name":"p"}`)}
		mustRefuse(t, judge(t, c, x), warder.CodeInvalidParams, "undeclared_argument")
	})
	t.Run("dependency_killed", func(t *testing.T) {
		t.Parallel()
		mustFail(t, &unknown{}, called(t, `{}`))
		x := called(t, `{"text":"x","extra":1}`)
		x.Tool.Input = dead{}
		mustFail(t, c, x)
		x.Tool.Input = forgetful{}
		mustFail(t, c, x)
	})
}

func TestINV04Meta(t *testing.T) {
	t.Parallel()
	rules := loadRules(t)
	strip := newUnknown(Config{StripUnknownMeta: true}, rules)
	strict := newUnknown(Config{}, rules)
	allow := newUnknown(Config{AllowMeta: []string{"claudecode/", "locale"}}, rules)
	for key, want := range map[string]string{ // what strip, strict and allow do: pass, cut or refuse
		"progressToken":                        "pass pass pass",
		"traceparent":                          "pass pass pass",
		"io.modelcontextprotocol/logLevel":     "pass pass pass",
		"io.modelcontextprotocol/related-task": "pass pass pass",
		"com.example/key":                      "pass pass pass",
		"com.example-2.a1/k.e_y-1":             "pass pass pass",
		"com.example.mcp/key":                  "pass pass pass",
		"claudecode/toolUseId":                 "cut refuse pass",
		"locale":                               "cut refuse pass",
		"localeX":                              "cut refuse refuse",
		"com.-example/key":                     "cut refuse refuse",
		"com..example/key":                     "cut refuse refuse",
		"com.example/-key":                     "cut refuse refuse",
		"1com.example/key":                     "cut refuse refuse",
		"com.example/a/b":                      "cut refuse refuse",
		"Traceparent2":                         "cut refuse refuse",
		"io.modelcontextprotocol/admin":        "refuse refuse refuse",
		"io.modelcontextprotocol.evil/x":       "refuse refuse refuse",
		"modelcontextprotocol.io/x":            "refuse refuse refuse",
		"tools.mcp.com/x":                      "refuse refuse refuse",
		"dev.mcp/x":                            "refuse refuse refuse",
		"api.modelcontextprotocol.org/x":       "refuse refuse refuse",
		"mcp.dev/x":                            "refuse refuse refuse",
	} {
		t.Run(strings.Fields(want)[1]+"_"+strings.ReplaceAll(key, "/", " "), func(t *testing.T) {
			t.Parallel()
			for i, c := range []*unknown{strip, strict, allow} {
				x := sent(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"_meta":{"a.b/c":1,`+string(wire.Quote(key))+`:"v"}}}`)
				d := judge(t, c, x)
				got := "pass"
				switch {
				case d.Verdict == warder.Deny:
					got = "refuse"
					mustRefuse(t, d, warder.CodeInvalidParams, "unknown_param")
				case !x.Request.Meta.Get(key).Present():
					got = "cut"
					if diff := cmp.Diff(`{"requestId":1,"_meta":{"a.b/c":1}}`, string(x.Request.At(x.Request.ParamsSpan))); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
				}
				if want := strings.Fields(want)[i]; got != want {
					t.Errorf("%d: got %s, want %s", i, got, want)
				}
			}
		})
	}
}

func TestReservedKey(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"IO.ModelContextProtocol/logLevel", "x.MCP/y", "a.b.mcp.c/y"} {
		if !reservedKey(key) {
			t.Errorf("%s: not reserved", key)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if _, err := New(Default(), Deps{}); err != nil {
		t.Errorf("defaults: %v", err)
	}
	layer, err := New(Config{}, Deps{})
	if err != nil {
		t.Fatalf("zero: %v", err)
	}
	var order []warder.ControlID
	for _, c := range layer.Request {
		order = append(order, c.Control())
	}
	if diff := cmp.Diff([]warder.ControlID{"INV-03", "INV-02", "INV-04", "INV-01"}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	for name, bad := range map[string]Config{
		"negative": {MaxItems: -1}, "deep": {MaxDepth: 1000}, "reserved": {AllowMeta: []string{"io.modelcontextprotocol/x"}},
	} {
		if _, err := New(bad, Deps{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func BenchmarkINV04(b *testing.B) {
	rules := loadRules(b)
	for name, arguments := range map[string]string{
		"0.6k": `{"text":"` + strings.Repeat("a", 400) + `","n":3}`, "100k": `{"text":"` + strings.Repeat("a", 100_000) + `","n":3}`,
	} {
		b.Run(name, func(b *testing.B) {
			c, x := newUnknown(Default(), rules), called(b, arguments)
			b.ReportAllocs()
			for b.Loop() {
				if d, err := c.Intercept(b.Context(), x); err != nil || d.Verdict != warder.Pass {
					b.Fatal(d, err)
				}
			}
		})
	}
}
