package output

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
)

func TestPRT07(t *testing.T) {
	t.Parallel()
	const (
		listTools = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`
		read      = `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a:b"}}`
		retry     = `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a:b","requestState":"s"}}`
		discover  = `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{}}`
	)
	c := &cacheScope{longest: 5 * time.Minute, public: []string{"manual"}}
	tests := []struct {
		name, request, server, result, want string
		finding                             bool
	}{
		{"pass_private", listTools, "notes", `{"resultType":"complete","tools":[],"ttlMs":1000,"cacheScope":"private"}`, `{"resultType":"complete","tools":[],"ttlMs":1000,"cacheScope":"private"}`, false},
		{"pass_public_read_of_a_public_server", read, "manual", `{"resultType":"complete","contents":[],"ttlMs":1000,"cacheScope":"public"}`, `{"resultType":"complete","contents":[],"ttlMs":1000,"cacheScope":"public"}`, false},
		{"pass_public_discovery_of_a_public_server", discover, "manual", `{"resultType":"complete","ttlMs":1,"cacheScope":"public"}`, `{"resultType":"complete","ttlMs":1,"cacheScope":"public"}`, false},
		{"near_miss_call_without_hints", callEcho, "notes", `{"resultType":"complete","content":[]}`, `{"resultType":"complete","content":[]}`, false},
		{"deny_public_list", listTools, "notes", `{"resultType":"complete","tools":[],"ttlMs":1000,"cacheScope":"public"}`, `{"resultType":"complete","tools":[],"ttlMs":1000,"cacheScope":"private"}`, true},
		{"deny_public_list_of_a_public_server", listTools, "manual", `{"resultType":"complete","tools":[],"ttlMs":1000,"cacheScope":"public"}`, `{"resultType":"complete","tools":[],"ttlMs":1000,"cacheScope":"private"}`, true},
		{"deny_public_read", read, "notes", `{"resultType":"complete","contents":[],"ttlMs":1000,"cacheScope":"public"}`, `{"resultType":"complete","contents":[],"ttlMs":1000,"cacheScope":"private"}`, true},
		{"deny_public_retry", retry, "manual", `{"resultType":"complete","contents":[],"ttlMs":1000,"cacheScope":"public"}`, `{"resultType":"complete","contents":[],"ttlMs":0,"cacheScope":"private"}`, true},
		{"deny_unknown_scope", listTools, "notes", `{"resultType":"complete","tools":[],"ttlMs":1000,"cacheScope":"shared"}`, `{"resultType":"complete","tools":[],"ttlMs":0,"cacheScope":"private"}`, false},
		{"deny_scope_of_another_type", listTools, "notes", `{"cacheScope":{"a":1},"resultType":"complete","tools":[],"ttlMs":"7"}`, `{"cacheScope":"private","resultType":"complete","tools":[],"ttlMs":0}`, false},
		{"deny_long_life", listTools, "notes", `{"resultType":"complete","tools":[],"ttlMs":86400000,"cacheScope":"private"}`, `{"resultType":"complete","tools":[],"ttlMs":300000,"cacheScope":"private"}`, false},
		{"deny_negative_life", listTools, "notes", `{"resultType":"complete","tools":[],"ttlMs":-1,"cacheScope":"private"}`, `{"resultType":"complete","tools":[],"ttlMs":0,"cacheScope":"private"}`, false},
		{"deny_missing_hints", listTools, "notes", `{"resultType":"complete","tools":[]}`, `{"resultType":"complete","tools":[],"cacheScope":"private","ttlMs":0}`, false},
		{"deny_hints_on_a_call", callEcho, "manual", `{"resultType":"complete","content":[],"cacheScope":"public","ttlMs":5}`, `{"resultType":"complete","content":[],"cacheScope":"private","ttlMs":0}`, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := answered(t, tt.request, `{"jsonrpc":"2.0","id":1,"result":`+tt.result+`}`)
			x.Server = &warder.Server{Name: tt.server}
			d := judge(t, c, x)
			mustPass(t, d)
			if diff := cmp.Diff(tt.want, string(x.Response.At(x.Response.ResultSpan))); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if (len(d.Findings) > 0) != tt.finding {
				t.Errorf("got findings %v, want some: %v", d.Findings, tt.finding)
			}
		})
	}
	t.Run("pass_stateful_revisions_are_untouched", func(t *testing.T) {
		t.Parallel()
		x := answered(t, listTools, `{"jsonrpc":"2.0","id":1,"result":{"tools":[],"cacheScope":"public"}}`)
		x.Revision = warder.Revision20251125
		before := x.Response
		mustPass(t, judge(t, c, x))
		if x.Response != before {
			t.Error("the message was replaced")
		}
	})
	t.Run("dependency_killed", func(t *testing.T) {
		t.Parallel()
		x := answered(t, listTools, textResult(1))
		x.Response = nil
		if d, err := c.Intercept(t.Context(), x); err == nil {
			t.Errorf("got %s and no error, want an error, which denies", d.Verdict)
		}
	})
}

func BenchmarkPRT07(b *testing.B) {
	c := &cacheScope{longest: 5 * time.Minute}
	x := answered(b, callEcho, textResult(500))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Intercept(b.Context(), x); err != nil {
			b.Fatal(err)
		}
	}
}
