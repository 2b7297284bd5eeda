package gateway

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func TestPRT09(t *testing.T) {
	t.Parallel()
	c := newFakes().layer(t, Config{Extensions: []string{wire.ExtensionTasks, "com.example/known"}}).extensions
	capabilities := func(x *warder.Exchange, m *warder.Message) string {
		if m == x.Response {
			return string(m.At(m.Result.Get("capabilities")))
		}
		return string(declared(m).Raw())
	}
	tests := []struct {
		name, caps, want string
		findings         int
	}{
		{"pass/none", `{"tools":{}}`, `{"tools":{}}`, 0},
		{"pass/allowed", `{"extensions":{"com.example/known":{"v":1}}}`, `{"extensions":{"com.example/known":{"v":1}}}`, 0},
		{"pass/allowed, written with escapes", `{"extensions":{"com.example\/known":{}}}`, `{"extensions":{"com.example\/known":{}}}`, 0},
		{"near_miss/a member elsewhere that looks alike", `{"tools":{"extensions":{"com.example/other":{}}}}`, `{"tools":{"extensions":{"com.example/other":{}}}}`, 0},
		{"deny/unknown", `{"extensions":{"com.example/other":{}}}`, `{"extensions":{}}`, 1},
		{"deny/unknown among allowed", `{"extensions":{"a/b":{},"com.example/known":{},"c/d":{}},"tools":{}}`, `{"extensions":{"com.example/known":{}},"tools":{}}`, 1},
		{"deny/longer than an allowed one", `{"extensions":{"com.example/known.evil":{}}}`, `{"extensions":{}}`, 1},
		{"deny/other case", `{"extensions":{"com.example/Known":{}}}`, `{"extensions":{}}`, 1},
		{"deny/experimental", `{"experimental":{"x":{}},"extensions":{"io.modelcontextprotocol/ui":{}}}`, `{"experimental":{},"extensions":{}}`, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			requests := []*warder.Exchange{
				exchange(t, warder.Revision20260728, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/clientCapabilities":`+tt.caps+`}}}`),
				exchange(t, warder.Revision20251125, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":`+tt.caps+`}}`),
			}
			for _, x := range requests {
				d := pass(t, extensionRequests{c}, x)
				if diff := cmp.Diff(tt.want, capabilities(x, x.Request)); diff != "" {
					t.Errorf("%s: capabilities (-want +got):\n%s", x.Request.Method, diff)
				}
				if len(d.Findings) != tt.findings {
					t.Errorf("%d findings, want %d", len(d.Findings), tt.findings)
				}
			}
			answers := []*warder.Exchange{
				exchange(t, warder.Revision20260728, `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{`+modernMeta+`}}`),
				exchange(t, warder.Revision20251125, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`),
			}
			for _, x := range answers {
				pass(t, extensionResponses{c}, result(t, x, `{"capabilities":`+tt.caps+`}`))
				if diff := cmp.Diff(tt.want, capabilities(x, x.Response)); diff != "" {
					t.Errorf("answer to %s: capabilities (-want +got):\n%s", x.Request.Method, diff)
				}
			}
		})
	}
	t.Run("result types", func(t *testing.T) {
		t.Parallel()
		none := newFakes().layer(t, Config{}).extensions
		for _, tt := range []struct {
			result string
			c      *extensions
			want   warder.Reason
		}{
			{`{"resultType":"complete"}`, none, ""},
			{`{"resultType":"input_required"}`, none, ""},
			{`{"content":[]}`, none, ""},
			{`{"resultType":"task"}`, c, ""},
			{`{"resultType":"task"}`, none, "result_type_unknown"},
			{`{"resultType":"Complete"}`, c, "result_type_unknown"},
			{`{"resultType":"com.example/stream"}`, c, "result_type_unknown"},
			{`{"resultType":null}`, c, "result_type_unknown"},
			{`{"resultType":["complete"]}`, c, "result_type_unknown"},
		} {
			verdict(t, extensionResponses{tt.c}, result(t, call2026(t, `{}`), tt.result), warder.CodeUpstreamFailed, tt.want)
		}
	})
	t.Run("dependency_killed/a message that cannot be rewritten", func(t *testing.T) {
		t.Parallel()
		c, err := newExtensions(nil, wire.Limits{Bytes: 8})
		if err != nil {
			t.Fatal(err)
		}
		x := exchange(t, warder.Revision20251125, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{"extensions":{"a/b":{}}}}}`)
		fails(t, extensionRequests{c}, x)
		fails(t, extensionResponses{c}, result(t, x, `{"capabilities":{"extensions":{"a/b":{}}}}`))
	})
}
