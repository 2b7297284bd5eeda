package gateway

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// through runs the controls of one phase as the runner does and returns the refusal, if any.
func through(t *testing.T, list []warder.Interceptor, x *warder.Exchange) (warder.ControlID, warder.Decision) {
	t.Helper()
	for _, c := range list {
		d, err := c.Intercept(t.Context(), x)
		if err != nil {
			t.Fatalf("%s: %v", c.Control(), err)
		}
		if d.Verdict != warder.Pass {
			return c.Control(), d
		}
	}
	return "", warder.Decision{}
}

func mustPass(t *testing.T, list []warder.Interceptor, x *warder.Exchange) {
	t.Helper()
	if id, d := through(t, list, x); id != "" {
		t.Fatalf("%s refused %s: %s %s (%s)", id, x.Inbound.Raw, d.Code, d.Reason, d.Detail)
	}
}

// A call that a server interrupts with a question, from the first request to the last answer, through
// every control of the layer.
func TestConversationWithAQuestion(t *testing.T) {
	t.Parallel()
	l, err := New(Default(), newFakes().deps(t))
	if err != nil {
		t.Fatal(err)
	}
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{}},"sampling":{},"extensions":{"com.example/x":{}}},"io.modelcontextprotocol/logLevel":"debug"}`
	first := exchange(t, warder.Revision20260728, `{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"book","arguments":{"room":7},`+meta+`}}`)
	mustPass(t, l.Connect, first)
	mustPass(t, l.Request, first)
	wantMeta := `{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{}},"extensions":{}}}`
	if diff := cmp.Diff(wantMeta, string(first.Request.At(first.Request.Params.Get("_meta")))); diff != "" {
		t.Errorf("_meta for the server (-want +got):\n%s", diff)
	}
	answer(t, first, `{"jsonrpc":"2.0","id":"a","result":{"resultType":"input_required","requestState":"inner","inputRequests":{"q":{"method":"elicitation/create","params":{"mode":"form","message":"For how many people?","requestedSchema":{"type":"object","properties":{"people":{"type":"integer"}}}}}}}}`)
	mustPass(t, l.Response, first)
	token, _ := wire.At(first.Response, first.Response.Result.Get("requestState")).Text()
	if !strings.HasPrefix(token, "w1.") {
		t.Fatalf("requestState = %q, want it sealed", token)
	}
	second := exchange(t, warder.Revision20260728, `{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"book","arguments":{"room":7},"inputResponses":{"q":{"action":"accept","content":{"people":3}}},"requestState":"`+token+`",`+meta+`}}`)
	mustPass(t, l.Request, second)
	if state, _ := wire.At(second.Request, second.Request.Params.Get("requestState")).Text(); state != "inner" {
		t.Errorf("requestState for the server = %q, want %q", state, "inner")
	}
	answer(t, second, `{"jsonrpc":"2.0","id":"b","result":{"resultType":"complete","content":[{"type":"text","text":"booked"}]}}`)
	before := second.Response
	mustPass(t, l.Response, second)
	if second.Response != before {
		t.Error("an ordinary result was changed")
	}
	stolen := exchange(t, warder.Revision20260728, string(second.Inbound.Raw))
	stolen.Principal = mallory()
	if id, d := through(t, l.Request, stolen); id != "PRT-05" || d.Reason != "state_of_another" {
		t.Errorf("another caller's retry ended with %s %s, want PRT-05 state_of_another", id, d.Reason)
	}
	for _, r := range l.Complete {
		if err := r.Record(t.Context(), second); err != nil {
			t.Error(err)
		}
	}
}

// The opening of a session and an ordinary list.
func TestConversationOfASession(t *testing.T) {
	t.Parallel()
	f := newFakes()
	l, err := New(Default(), f.deps(t))
	if err != nil {
		t.Fatal(err)
	}
	hello := exchange(t, warder.Revision20251125, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","clientInfo":{"name":"c","version":"1"},"capabilities":{"roots":{"listChanged":true},"sampling":{},"elicitation":{}}}}`)
	mustPass(t, l.Request, hello)
	if diff := cmp.Diff(`{"elicitation":{}}`, string(declared(hello.Request).Raw())); diff != "" {
		t.Errorf("capabilities for the server (-want +got):\n%s", diff)
	}
	answer(t, hello, `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","serverInfo":{"name":"s","version":"1"},"capabilities":{"logging":{},"tools":{"listChanged":true},"experimental":{"x":{}}}}}`)
	mustPass(t, l.Response, hello)
	if diff := cmp.Diff(`{"tools":{"listChanged":true},"experimental":{}}`, string(hello.Response.At(hello.Response.Result.Get("capabilities")))); diff != "" {
		t.Errorf("capabilities for the client (-want +got):\n%s", diff)
	}
	f.owners["s1"] = alice().Key()
	list := exchange(t, warder.Revision20251125, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	list.Session = "s1"
	list.Conn.Header[keyVersion] = []string{"2025-11-25"}
	mustPass(t, l.Request, list)
	answer(t, list, `{"jsonrpc":"2.0","id":1,"result":{"tools":[`+tool("good", `{"type":"object"}`)+`,`+tool("bad", `{"type":"object","$ref":"https://evil.example/x"}`)+`]}}`)
	mustPass(t, l.Response, list)
	if diff := cmp.Diff([]string{"good"}, names(list)); diff != "" {
		t.Errorf("tools (-want +got):\n%s", diff)
	}
}
