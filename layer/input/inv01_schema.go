package input

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/schema"
	"github.com/warder-mcp/warder/wire"
)

// arguments refuses calls whose arguments break the input schema of the approved definition, and
// answers that break the schema of the server's question.
// Control INV-01; MCP server/tools "servers must validate all tool inputs", client/elicitation
// "Requested schema". Phase Request.
type arguments struct {
	answers   *schema.Cache
	questions Questions // may be nil
	patterns  patterns
}

// structured refuses results whose structuredContent breaks the output schema of the approved
// definition. Control INV-01; MCP server/tools "Output schema". Phase Response.
type structured struct{}

var (
	_ warder.Interceptor = (*arguments)(nil)
	_ warder.Interceptor = (*structured)(nil)
)

// Control names the control.
func (*arguments) Control() warder.ControlID { return "INV-01" }

// Control names the control.
func (*structured) Control() warder.ControlID { return "INV-01" }

// Intercept judges the message of the client.
func (c *arguments) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Request
	switch {
	case m == nil:
		return warder.Decision{}, errors.New("judge arguments: no message")
	case m.IsAnswer():
		return c.legacyAnswer(x, m)
	case m.Method == wire.MethodToolsCall:
		if d, err := tool(x, m); err != nil || d.Verdict != warder.Pass {
			return d, err
		}
		if d := c.patterns.judge(x.Tool, wire.At(m, m.Params.Get("arguments"))); d.Verdict != warder.Pass {
			return d, nil
		}
	case m.Method == wire.MethodPromptsGet:
		if d, err := prompt(x, m); err != nil || d.Verdict != warder.Pass {
			return d, err
		}
	}
	return c.inputResponses(x, m)
}

// tool judges the arguments of tools/call.
func tool(x *warder.Exchange, m *warder.Message) (warder.Decision, error) {
	if x.Tool == nil {
		return warder.Decision{}, errors.New("judge arguments: no approved definition")
	}
	given := wire.At(m, m.Params.Get("arguments"))
	if x.Tool.Input == nil {
		if given.Len() > 0 {
			return refuse(warder.CodeInvalidParams, "invalid_arguments", "/params/arguments", "maxProperties",
				"the tool has no input schema and takes no arguments"), nil
		}
		return warder.Continue(), nil
	}
	return valid(x.Tool.Input, given, "invalid_arguments", "/params/arguments")
}

// empty stands for arguments or content that were left out.
const empty = "{}"

// valid judges a value by a compiled schema.
func valid(s warder.Schema, v wire.Value, reason warder.Reason, pointer string) (warder.Decision, error) {
	raw := v.Raw()
	if raw == nil {
		raw = []byte(empty)
	}
	violations, err := s.Validate(raw)
	switch {
	case errors.Is(err, schema.ErrBudget):
		return refuse(warder.CodeInvalidParams, "too_complex", pointer, "values", "want a value that is less work to judge"), nil
	case err != nil:
		return warder.Decision{}, fmt.Errorf("judge %s: %w", pointer, err)
	case len(violations) > 0:
		return violated(reason, pointer, violations), nil
	default:
		return warder.Continue(), nil
	}
}

// violated is the refusal for violations of a schema. Three are told; all are recorded.
func violated(reason warder.Reason, prefix string, violations []warder.Violation) warder.Decision {
	var public, detail strings.Builder
	findings := make([]warder.Finding, 0, len(violations))
	for i, v := range violations {
		if i > 0 {
			detail.WriteString("; ")
		}
		detail.WriteString(prefix + v.Pointer + ": " + v.Keyword + ": " + v.Message)
		if i < 3 {
			public.WriteString("At " + show(prefix+v.Pointer) + ": " + v.Message + " (" + v.Keyword + "). ")
		}
		findings = append(findings, warder.Finding{
			Rule: string(reason) + "." + v.Keyword, Severity: warder.Medium, Pointer: prefix + v.Pointer, Evidence: v.Message,
		})
	}
	d := warder.Refuse(warder.CodeInvalidParams, reason, detail.String())
	d.Findings = findings
	return d.Tell(strings.TrimSpace(public.String()))
}

// prompt judges the arguments of prompts/get: what the prompt says is required must be there.
func prompt(x *warder.Exchange, m *warder.Message) (warder.Decision, error) {
	if x.Tool == nil {
		return warder.Decision{}, errors.New("judge arguments: no approved definition")
	}
	given := wire.At(m, m.Params.Get("arguments"))
	for _, argument := range wire.Parse(x.Tool.Definition).Get("arguments").Elements() {
		required, _ := argument.Get("required").Bool()
		name, _ := argument.Get("name").Text()
		if required && !given.Get(name).Exists() {
			return refuse(warder.CodeInvalidParams, "invalid_arguments", point("/params/arguments", []string{name}),
				"required", "the prompt requires this argument"), nil
		}
	}
	return warder.Continue(), nil
}

// legacyAnswer judges the answer to a question that came as a request.
func (c *arguments) legacyAnswer(x *warder.Exchange, m *warder.Message) (warder.Decision, error) {
	if x.Question == nil {
		return warder.Decision{}, errors.New("judge answer: no question")
	}
	if m.Kind != warder.KindResult || x.Question.Method != wire.MethodElicit {
		return warder.Continue(), nil
	}
	return c.elicited(wire.At(x.Question, x.Question.ParamsSpan), wire.At(m, m.ResultSpan), "/result/content")
}

// inputResponses judges the answers of a retry (2026-07-28), if it is known what was asked.
func (c *arguments) inputResponses(x *warder.Exchange, m *warder.Message) (warder.Decision, error) {
	answers := wire.At(m, m.Params.Get("inputResponses"))
	if c.questions == nil || answers.Len() == 0 {
		return warder.Continue(), nil
	}
	asked, ok := c.questions.Asked(x)
	if !ok {
		return warder.Continue(), nil
	}
	for _, q := range asked {
		answer := answers.Get(q.Key)
		if q.Method != wire.MethodElicit || !answer.Exists() {
			continue
		}
		d, err := c.elicited(wire.Parse(q.Params), answer, point("/params/inputResponses", []string{q.Key, "content"}))
		if err != nil || d.Verdict != warder.Pass {
			return d, err
		}
	}
	return warder.Continue(), nil
}

// elicited judges the answer to a form. Only accepted forms have content; an answer by URL has none.
func (c *arguments) elicited(question, answer wire.Value, pointer string) (warder.Decision, error) {
	requested := question.Get("requestedSchema")
	if !answer.Get("action").Equals("accept") || !requested.Exists() {
		return warder.Continue(), nil
	}
	compiled, err := c.answers.Compile(requested.Raw())
	if err != nil {
		return warder.Decision{}, fmt.Errorf("judge answer: %w", err)
	}
	return valid(compiled, answer.Get("content"), "invalid_answer", pointer)
}

// Intercept judges one message of the answer.
func (*structured) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	if m == nil {
		return warder.Decision{}, errors.New("judge result: no message")
	}
	if m.Kind != warder.KindResult || x.Request == nil || x.Request.Method != wire.MethodToolsCall {
		return warder.Continue(), nil
	}
	if x.Tool == nil {
		return warder.Decision{}, errors.New("judge result: no approved definition")
	}
	if x.Tool.Output == nil || !final(x, m) {
		return warder.Continue(), nil
	}
	content := wire.At(m, m.Result.Get("structuredContent"))
	if !content.Exists() {
		d := refuse(warder.CodeUpstreamFailed, "output_schema", "/result/structuredContent", "required",
			"the tool promises structured content and returned none")
		return d, nil
	}
	d, err := valid(x.Tool.Output, content, "output_schema", "/result/structuredContent")
	if err != nil || d.Verdict == warder.Pass {
		return d, err
	}
	d.Code, d.Reason = warder.CodeUpstreamFailed, "output_schema"
	return d.Tell("The tool's result does not have the form it promises. " + d.Public), nil
}

// final reports whether a result of tools/call is the tool's output: not an error, not a question
// and not a task.
func final(x *warder.Exchange, m *warder.Message) bool {
	failed, _ := wire.At(m, m.Result.Get("isError")).Bool()
	if failed {
		return false
	}
	if x.Revision.Modern() {
		return wire.ResultType(m) == wire.ResultComplete
	}
	return !x.Request.Params.Get("task").Present() || !m.Result.Get("task").Present()
}
