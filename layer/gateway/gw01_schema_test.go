package gateway

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
)

// forms returns both phases of GW-01.
func forms(tb testing.TB) (request, response warder.Interceptor) {
	tb.Helper()
	request, response, err := newSchema()
	if err != nil {
		tb.Fatal(err)
	}
	return request, response
}

func decide(tb testing.TB, c warder.Interceptor, x *warder.Exchange) warder.Decision {
	tb.Helper()
	d, err := c.Intercept(tb.Context(), x)
	if err != nil {
		tb.Fatalf("%s: %v", c.Control(), err)
	}
	return d
}

func check(tb testing.TB, d warder.Decision, code warder.Code, reason warder.Reason) {
	tb.Helper()
	if reason == "" && d.Verdict == warder.Pass {
		return
	}
	if d.Verdict != warder.Deny || d.Code != code || d.Reason != reason {
		tb.Errorf("got %s %s %s (%s), want %s %s", d.Verdict, d.Code, d.Reason, d.Detail, code, reason)
	}
}

func TestGW01(t *testing.T) {
	t.Parallel()
	request, response := forms(t)
	const (
		r2411, r2503, r2506 = warder.Revision20241105, warder.Revision20250326, warder.Revision20250618
		r2511, r2607        = warder.Revision20251125, warder.Revision20260728
	)
	for _, tt := range []struct {
		name   string
		rev    warder.Revision
		raw    string
		code   warder.Code
		reason warder.Reason
	}{
		{"pass_call", r2607, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":null},` + modernMeta + `}}`, "", ""},
		{"pass_old_call", r2411, `{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"a"}}`, "", ""},
		{"pass_notification", r2511, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, "", ""},
		{"near_miss_elicitation_is_not_there_yet", r2503, `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`, "", ""},
		{"near_miss_open_params", r2511, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"unheard":1}}`, "", ""},
		{"deny_unknown_method", r2607, `{"jsonrpc":"2.0","id":1,"method":"tools/destroy","params":{` + modernMeta + `}}`, warder.CodeUnknownMethod, "unknown_method"},
		{"deny_removed_method", r2607, `{"jsonrpc":"2.0","id":1,"method":"ping","params":{` + modernMeta + `}}`, warder.CodeUnknownMethod, "unknown_method"},
		{"deny_initialize", r2607, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`, warder.CodeUnknownMethod, "unknown_method"},
		{"deny_method_of_the_future", r2511, `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{` + modernMeta + `}}`, warder.CodeUnknownMethod, "unknown_method"},
		{"deny_tasks_before_tasks", r2506, `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"t"}}`, warder.CodeUnknownMethod, "unknown_method"},
		{"deny_wrong_direction", r2511, `{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{"messages":[],"maxTokens":1}}`, warder.CodeUnknownMethod, "unknown_method"},
		{"deny_server_notification", r2511, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, warder.CodeUnknownMethod, "unknown_method"},
		{"deny_request_as_notification", r2511, `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"a"}}`, warder.CodeInvalidRequest, "request_without_id"},
		{"deny_notification_as_request", r2511, `{"jsonrpc":"2.0","id":1,"method":"notifications/initialized"}`, warder.CodeInvalidRequest, "notification_with_id"},
		{"deny_no_name", r2511, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{}}}`, warder.CodeInvalidParams, "params_form"},
		{"deny_no_params", r2511, `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, warder.CodeInvalidParams, "params_form"},
		{"deny_arguments_list", r2511, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":[1]}}`, warder.CodeInvalidParams, "params_form"},
		{"deny_no_meta", r2607, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`, warder.CodeInvalidParams, "params_form"},
		{"deny_progress_token", r2511, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"progressToken":1.5}}}`, warder.CodeInvalidParams, "params_form"},
		{"deny_unasked_answer", r2511, `{"jsonrpc":"2.0","id":1,"result":{}}`, warder.CodeInvalidRequest, "answer_not_expected"},
		{"deny_answer_without_sessions", r2607, `{"jsonrpc":"2.0","id":1,"result":{}}`, warder.CodeInvalidRequest, "answer_not_expected"},
		{"deny_unknown_revision", "2031-01-01", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, warder.CodeUnknownMethod, "unknown_method"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			check(t, decide(t, request, exchange(t, tt.rev, tt.raw)), tt.code, tt.reason)
		})
	}
	for _, tt := range []struct {
		name, question, answer string
		reason                 warder.Reason
	}{
		{"pass_answer", `{"method":"elicitation/create"}`, `{"action":"decline"}`, ""},
		{"pass_ping", `{"method":"ping"}`, `{}`, ""},
		{"near_miss_fraction", `{"method":"elicitation/create"}`, `{"action":"accept","content":{"n":95.5}}`, ""},
		{"deny_answer", `{"method":"elicitation/create"}`, `{"action":"maybe"}`, "answer_form"},
		{"deny_sampling_answer", `{"method":"sampling/createMessage"}`, `{"role":"assistant","content":{"type":"text"},"model":"m"}`, "answer_form"},
		{"deny_roots", `{"method":"roots/list"}`, `{"roots":[{"uri":"no uri"}]}`, "answer_form"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := exchange(t, r2511, `{"jsonrpc":"2.0","id":1,"result":`+tt.answer+`}`)
			x.Question = message(t, `{"jsonrpc":"2.0","id":1,`+tt.question[1:])
			check(t, decide(t, request, x), warder.CodeInvalidRequest, tt.reason)
		})
	}
	call := func(t *testing.T, rev warder.Revision, method string) *warder.Exchange {
		t.Helper()
		return exchange(t, rev, `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{`+modernMeta+`}}`)
	}
	for _, tt := range []struct {
		name   string
		rev    warder.Revision
		method string
		raw    string
		reason warder.Reason
	}{
		{"pass_result", r2607, "tools/call", `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[]}}`, ""},
		{"pass_error", r2511, "tools/call", `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"m"}}`, ""},
		{"pass_server_question", r2511, "tools/call", `{"jsonrpc":"2.0","id":9,"method":"elicitation/create","params":{"message":"m","requestedSchema":{"type":"object","properties":{}}}}`, ""},
		{"pass_progress", r2511, "tools/call", `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":0.5}}`, ""},
		{"deny_result_of_another_method", r2511, "tools/call", `{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}`, "result_form"},
		{"deny_result_without_type", r2607, "tools/call", `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`, "result_form"},
		{"deny_content", r2511, "tools/call", `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"image","data":"not base64!","mimeType":"a/b"}]}}`, "result_form"},
		{"deny_error_without_id", r2506, "tools/call", `{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}`, "result_form"},
		{"deny_question_to_stateless_client", r2607, "tools/call", `{"jsonrpc":"2.0","id":9,"method":"elicitation/create","params":{"message":"m","requestedSchema":{"type":"object","properties":{}}}}`, "unknown_method"},
		{"deny_question_not_there_yet", r2503, "tools/call", `{"jsonrpc":"2.0","id":9,"method":"elicitation/create","params":{"message":"m"}}`, "unknown_method"},
		{"deny_question_form", r2511, "tools/call", `{"jsonrpc":"2.0","id":9,"method":"elicitation/create","params":{"message":7}}`, "question_form"},
		{"deny_client_method_from_server", r2511, "tools/call", `{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"a"}}`, "unknown_method"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			check(t, decide(t, response, answer(t, call(t, tt.rev, tt.method), tt.raw)), warder.CodeUpstreamFailed, tt.reason)
		})
	}
	t.Run("deny_one_bad_definition_costs_one_definition", func(t *testing.T) {
		t.Parallel()
		const good = `{"name":"a", "inputSchema":{"type":"object"}}`
		x := result(t, call(t, r2511, "tools/list"), `{"tools":[`+good+`,{"name":"b"},`+good+`],"nextCursor":"c"}`)
		d := decide(t, response, x)
		check(t, d, "", "")
		if diff := cmp.Diff(`{"tools":[`+good+`,`+good+`],"nextCursor":"c"}`, string(x.Response.At(x.Response.ResultSpan))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if len(d.Findings) != 1 || d.Findings[0].Pointer != "/result/tools/1" {
			t.Errorf("got findings %v", d.Findings)
		}
		x = result(t, call(t, r2511, "tools/list"), `{"tools":[{"name":"b"}],"nextCursor":7}`)
		check(t, decide(t, response, x), warder.CodeUpstreamFailed, "result_form")
	})
	t.Run("deny_tells_the_place_and_not_the_value", func(t *testing.T) {
		t.Parallel()
		d := decide(t, request, exchange(t, r2511, `{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"s3cret"}}`))
		if !strings.Contains(d.Public, "/params/level") || strings.Contains(d.Public+d.Detail, "s3cret") {
			t.Errorf("got %q, %q", d.Public, d.Detail)
		}
	})
	t.Run("dependency_killed", func(t *testing.T) {
		t.Parallel()
		x := result(t, call(t, r2511, "tools/list"), `{"tools":[]}`)
		for _, c := range []warder.Interceptor{&schemaRequest{}, &schemaResponse{}} {
			if d, err := c.Intercept(t.Context(), x); err == nil {
				t.Errorf("got %s and no error, want an error, which denies", d.Verdict)
			}
		}
	})
}

func BenchmarkGW01(b *testing.B) {
	request, response := forms(b)
	x := exchange(b, warder.Revision20260728,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"`+strings.Repeat("a", 350)+`"},`+modernMeta+`}}`)
	result(b, x, `{"resultType":"complete","content":[{"type":"text","text":"`+strings.Repeat("a", 350)+`"}]}`)
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range []warder.Interceptor{request, response} {
			if d, err := c.Intercept(b.Context(), x); err != nil || d.Verdict != warder.Pass {
				b.Fatal(d, err)
			}
		}
	}
}
