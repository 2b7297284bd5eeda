package input

import (
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/schema"
	"github.com/warder-mcp/warder/wire"
	"github.com/warder-mcp/warder/wire/shape"
)

func decode(tb testing.TB, raw string) *warder.Message {
	tb.Helper()
	m, err := wire.Decode([]byte(raw), wire.Limits{})
	if err != nil {
		tb.Fatalf("decode %.200s: %v", raw, err)
	}
	return m
}

// approved is a tool as the registry would pin it.
func approved(tb testing.TB, input, output string) *warder.Tool {
	tb.Helper()
	tool := &warder.Tool{Kind: "tool", Server: "notes", Name: "echo", State: warder.Approved}
	tool.Definition = []byte(`{"inputSchema":` + input + `,"name":"echo"}`)
	compiled, err := schema.Compile([]byte(input), schema.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tool.Input = compiled
	if output != "" {
		if compiled, err = schema.Compile([]byte(output), schema.Options{}); err != nil {
			tb.Fatal(err)
		}
		tool.Output = compiled
	}
	return tool
}

const echoInput = `{"type":"object","properties":{"text":{"type":"string"},"n":{"type":"integer","minimum":0,"maximum":10},` +
	`"mail":{"type":"string","format":"email"},"list":{"type":"array","maxItems":5000,"items":{"type":"integer"}},` +
	`"long":{"type":"string","maxLength":2000000},"big":{"type":"number","minimum":-1e300,"maximum":1e300},` +
	`"any":{"type":"object","additionalProperties":true},"constructor":{"type":"string"}},"required":["text"]}`

const modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`

// called is a tools/call of the newest revision with these arguments.
func called(tb testing.TB, arguments string) *warder.Exchange {
	tb.Helper()
	x := sent(tb, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":`+arguments+`,`+modernMeta+`}}`)
	x.Tool = approved(tb, echoInput, "")
	return x
}

func sent(tb testing.TB, raw string) *warder.Exchange {
	tb.Helper()
	m := decode(tb, raw)
	return &warder.Exchange{Revision: warder.Revision20260728, Inbound: m, Request: m, Principal: &warder.Principal{Subject: "alice"}}
}

func judge(tb testing.TB, c warder.Interceptor, x *warder.Exchange) warder.Decision {
	tb.Helper()
	d, err := c.Intercept(tb.Context(), x)
	if err != nil {
		tb.Fatalf("%s: %v", c.Control(), err)
	}
	return d
}

func mustRefuse(tb testing.TB, d warder.Decision, code warder.Code, reason warder.Reason) {
	tb.Helper()
	if d.Verdict != warder.Deny || d.Code != code || d.Reason != reason {
		tb.Errorf("got %s %s %s (%s), want deny %s %s", d.Verdict, d.Code, d.Reason, d.Detail, code, reason)
	}
}

func mustPass(tb testing.TB, d warder.Decision) {
	tb.Helper()
	if d.Verdict != warder.Pass {
		tb.Errorf("got %s %s (%s), want pass", d.Verdict, d.Reason, d.Detail)
	}
}

// mustFail proves that a control that cannot decide returns an error, which the runner turns into a
// denial.
func mustFail(tb testing.TB, c warder.Interceptor, x *warder.Exchange) {
	tb.Helper()
	if d, err := c.Intercept(tb.Context(), x); err == nil {
		tb.Errorf("got %s and no error, want an error, which denies", d.Verdict)
	}
}

func loadRules(tb testing.TB) *shape.Set {
	tb.Helper()
	rules, err := shape.Load()
	if err != nil {
		tb.Fatal(err)
	}
	return rules
}
