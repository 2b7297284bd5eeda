package input

import (
	"errors"
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/schema"
	"github.com/warder-mcp/warder/wire"
)

// dead is a compiled schema that cannot decide.
type dead struct{}

func (dead) Validate([]byte) ([]warder.Violation, error) { return nil, errors.New("gone") }

// asked remembers questions, or does not know them.
type asked []wire.Question

func (a asked) Asked(*warder.Exchange) ([]wire.Question, bool) { return a, a != nil }

const form = `{"message":"Who?","requestedSchema":{"type":"object","properties":{"name":{"type":"string","minLength":2},"age":{"type":"number"}},"required":["name"]}}`

func newArguments(q Questions) *arguments {
	return &arguments{answers: schema.NewCache(8, schema.Options{Closed: true}), questions: q}
}

// answer is a client's answer to an elicitation, in a stateful revision.
func answer(tb testing.TB, result string) *warder.Exchange {
	tb.Helper()
	x := sent(tb, `{"jsonrpc":"2.0","id":7,"result":`+result+`}`)
	x.Revision = warder.Revision20251125
	x.Question = decode(tb, `{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":`+form+`}`)
	return x
}

func TestINV01(t *testing.T) {
	t.Parallel()
	c := newArguments(nil)
	t.Run("pass", func(t *testing.T) {
		t.Parallel()
		for _, arguments := range []string{`{"text":"x"}`, `{"text":"x","n":10,"mail":"a@example.com","list":[1,2]}`} {
			mustPass(t, judge(t, c, called(t, arguments)))
		}
		mustPass(t, judge(t, c, sent(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)))
	})
	t.Run("pass_without_arguments", func(t *testing.T) {
		t.Parallel()
		x := sent(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}`)
		x.Tool = approved(t, `{"type":"object"}`, "")
		mustPass(t, judge(t, c, x))
		x.Tool.Input = nil
		mustPass(t, judge(t, c, x))
	})
	t.Run("near_miss", func(t *testing.T) {
		t.Parallel()
		mustPass(t, judge(t, c, called(t, `{"text":"","n":0}`)))
		mustPass(t, judge(t, c, called(t, `{"text":"x","undeclared":"that is INV-04's business"}`)))
	})
	t.Run("deny_arguments", func(t *testing.T) {
		t.Parallel()
		for arguments, place := range map[string]string{
			`{"text":7}`:                           `"/params/arguments/text"`,
			`{}`:                                   `required`,
			`{"text":"x","n":11}`:                  `"/params/arguments/n"`,
			`{"text":"x","n":1.5}`:                 `"/params/arguments/n"`,
			`{"text":"x","mail":"s3cret-no-mail"}`: `"/params/arguments/mail"`,
			`{"text":"x","list":[1,"s3cret"]}`:     `"/params/arguments/list/1"`,
		} {
			d := judge(t, c, called(t, arguments))
			mustRefuse(t, d, warder.CodeInvalidParams, "invalid_arguments")
			if !strings.Contains(d.Public, place) || strings.Contains(d.Public+d.Detail, "s3cret") {
				t.Errorf("%s: got %q, want %s named and no value", arguments, d.Public, place)
			}
		}
	})
	t.Run("deny_missing_arguments", func(t *testing.T) {
		t.Parallel()
		x := sent(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}`)
		x.Tool = approved(t, echoInput, "")
		mustRefuse(t, judge(t, c, x), warder.CodeInvalidParams, "invalid_arguments")
	})
	t.Run("deny_arguments_without_schema", func(t *testing.T) {
		t.Parallel()
		x := called(t, `{"a":1}`)
		x.Tool.Input = nil
		mustRefuse(t, judge(t, c, x), warder.CodeInvalidParams, "invalid_arguments")
	})
	t.Run("deny_prompt_without_required_argument", func(t *testing.T) {
		t.Parallel()
		x := sent(t, `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p","arguments":{"b":"1"}}}`)
		x.Tool = &warder.Tool{Kind: "prompt", Definition: []byte(`{"arguments":[{"name":"a","required":true},{"name":"b"}],"name":"p"}`)}
		mustRefuse(t, judge(t, c, x), warder.CodeInvalidParams, "invalid_arguments")
		x.Request = decode(t, `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p","arguments":{"a":"1"}}}`)
		mustPass(t, judge(t, c, x))
	})
	t.Run("dependency_killed", func(t *testing.T) {
		t.Parallel()
		x := called(t, `{"text":"x"}`)
		x.Tool.Input = dead{}
		mustFail(t, c, x)
		x.Tool = nil
		mustFail(t, c, x)
		x = answer(t, `{"action":"accept"}`)
		x.Question = nil
		mustFail(t, c, x)
		x = answer(t, `{"action":"accept","content":{}}`)
		x.Question = decode(t, `{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"requestedSchema":{"$ref":"https://example.com/s"}}}`)
		mustFail(t, c, x)
	})
}

func TestINV01Answers(t *testing.T) {
	t.Parallel()
	c := newArguments(nil)
	for _, tt := range []struct {
		name, result string
		ok           bool
	}{
		{"pass", `{"action":"accept","content":{"name":"Ada","age":36.5}}`, true},
		{"pass_declined", `{"action":"decline"}`, true},
		{"near_miss", `{"action":"accept","content":{"name":"Al"}}`, true},
		{"deny_short", `{"action":"accept","content":{"name":"A"}}`, false},
		{"deny_type", `{"action":"accept","content":{"name":"Ada","age":"36"}}`, false},
		{"deny_undeclared", `{"action":"accept","content":{"name":"Ada","role":"admin"}}`, false},
		{"deny_empty", `{"action":"accept"}`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := judge(t, c, answer(t, tt.result))
			if tt.ok {
				mustPass(t, d)
			} else {
				mustRefuse(t, d, warder.CodeInvalidParams, "invalid_answer")
			}
			retry := sent(t, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","inputResponses":{"k":`+tt.result+`}}}`)
			retry.Tool = approved(t, `{"type":"object"}`, "")
			questions := asked{{Key: "k", Method: wire.MethodElicit, Params: []byte(form)}, {Key: "r", Method: wire.MethodRootsList}}
			d = judge(t, newArguments(questions), retry)
			if tt.ok {
				mustPass(t, d)
			} else {
				mustRefuse(t, d, warder.CodeInvalidParams, "invalid_answer")
			}
			mustPass(t, judge(t, newArguments(asked(nil)), retry)) // nobody knows what was asked
		})
	}
	t.Run("pass_refused_question", func(t *testing.T) {
		t.Parallel()
		x := sent(t, `{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"no"}}`)
		x.Question = decode(t, `{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":`+form+`}`)
		mustPass(t, judge(t, c, x))
	})
}

func TestINV01Output(t *testing.T) {
	t.Parallel()
	const output = `{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}`
	c := &structured{}
	for _, tt := range []struct {
		name, result string
		ok           bool
	}{
		{"pass", `{"resultType":"complete","content":[],"structuredContent":{"n":1}}`, true},
		{"pass_error", `{"resultType":"complete","content":[],"isError":true}`, true},
		{"pass_question", `{"resultType":"input_required","inputRequests":{}}`, true},
		{"pass_task", `{"resultType":"task","taskId":"t","status":"working"}`, true},
		{"near_miss", `{"resultType":"complete","content":[],"structuredContent":{"n":1,"more":2}}`, true},
		{"deny_type", `{"resultType":"complete","content":[],"structuredContent":{"n":"s3cret"}}`, false},
		{"deny_missing", `{"resultType":"complete","content":[]}`, false},
		{"deny_other_kind", `{"resultType":"complete","content":[],"structuredContent":[1]}`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := called(t, `{"text":"x"}`)
			x.Tool = approved(t, echoInput, output)
			x.Response = decode(t, `{"jsonrpc":"2.0","id":1,"result":`+tt.result+`}`)
			d := judge(t, c, x)
			if tt.ok {
				mustPass(t, d)
				return
			}
			mustRefuse(t, d, warder.CodeUpstreamFailed, "output_schema")
			if strings.Contains(d.Public+d.Detail, "s3cret") {
				t.Errorf("the value is told: %q", d.Public)
			}
		})
	}
	t.Run("dependency_killed", func(t *testing.T) {
		t.Parallel()
		x := called(t, `{"text":"x"}`)
		x.Response = decode(t, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","structuredContent":{}}}`)
		x.Tool.Output = dead{}
		mustFail(t, c, x)
		x.Tool = nil
		mustFail(t, c, x)
	})
}

func BenchmarkINV01(b *testing.B) {
	c, x := newArguments(nil), called(b, `{"text":"`+strings.Repeat("a", 400)+`","n":3}`)
	b.ReportAllocs()
	for b.Loop() {
		if d, err := c.Intercept(b.Context(), x); err != nil || d.Verdict != warder.Pass {
			b.Fatal(d, err)
		}
	}
}
