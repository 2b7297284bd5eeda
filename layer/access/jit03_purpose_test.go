package access_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

func TestJIT03(t *testing.T) {
	t.Parallel()
	cfg := access.Config{
		Grants: access.GrantConfig{Require: []string{}},
		Purposes: map[string]access.Purpose{
			"report":   {Effects: []string{"read"}, Labels: []string{"docs", "internal"}},
			"cleanup":  {Effects: []string{"read", "write", "destructive"}, Tools: []string{"files/*"}},
			"research": {Effects: []string{"read"}, Escalate: true},
		},
		PurposeFor: []string{"destructive"},
	}
	declare := func(purpose string) func(*testing.T, *warder.Exchange) {
		return func(t *testing.T, x *warder.Exchange) {
			t.Helper()
			x.Request = message(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{},"_meta":{"io.warder/purpose":`+purpose+`}}}`)
		}
	}
	of := func(reason warder.Reason) judged { return judged{"JIT-03", warder.Deny, reason} }
	tests := []struct {
		name    string
		effect  warder.Effect
		change  func(*testing.T, *warder.Exchange)
		want    judged
		purpose string
	}{
		{"pass read for a report", warder.EffectRead, declare(`"report"`), passes(), "report"},
		{"pass credential's purpose", warder.EffectWrite, func(_ *testing.T, x *warder.Exchange) { x.Principal.Purpose = "cleanup" }, passes(), "cleanup"},
		{"pass the same twice", warder.EffectRead, func(t *testing.T, x *warder.Exchange) {
			t.Helper()
			declare(`"report"`)(t, x)
			x.Principal.Purpose = "report"
		}, passes(), "report"},
		{"pass grant's purpose", warder.EffectDestructive, func(_ *testing.T, x *warder.Exchange) { x.Principal.Subject = "granted" }, passes(), "cleanup"},
		{"near_miss no purpose for what needs none", warder.EffectRead, nil, passes(), ""},
		{"near_miss allowed label", warder.EffectRead, func(t *testing.T, x *warder.Exchange) {
			t.Helper()
			declare(`"report"`)(t, x)
			x.Tool.Labels = []string{"docs"}
		}, passes(), "report"},
		{"deny destructive for a report", warder.EffectDestructive, declare(`"report"`), of("purpose_mismatch"), "report"},
		{"deny label", warder.EffectRead, func(t *testing.T, x *warder.Exchange) {
			t.Helper()
			declare(`"report"`)(t, x)
			x.Tool.Labels = []string{"docs", "salaries"}
		}, of("purpose_mismatch"), "report"},
		{"deny label of the server", warder.EffectRead, func(t *testing.T, x *warder.Exchange) {
			t.Helper()
			declare(`"report"`)(t, x)
			x.Server.Labels = []string{"salaries"}
		}, of("purpose_mismatch"), "report"},
		{"deny server", warder.EffectRead, func(t *testing.T, x *warder.Exchange) {
			t.Helper()
			declare(`"cleanup"`)(t, x)
			x.Server = &warder.Server{Name: "mail"}
		}, of("purpose_mismatch"), "cleanup"},
		{"deny widening the credential", warder.EffectRead, func(t *testing.T, x *warder.Exchange) {
			t.Helper()
			declare(`"cleanup"`)(t, x)
			x.Principal.Purpose = "report"
		}, of("purpose_mismatch"), ""},
		{"deny unknown", warder.EffectRead, declare(`"fun"`), of("purpose_unknown"), "fun"},
		{"deny no text", warder.EffectRead, declare(`["report"]`), of("purpose_mismatch"), ""},
		{"deny empty", warder.EffectRead, declare(`""`), of("purpose_mismatch"), ""},
		{"deny missing where it is needed", warder.EffectDestructive, nil, of("purpose_missing"), ""},
		{"deny escalated, and nobody puts it to people", warder.EffectWrite, declare(`"research"`), judged{"HIL-01", warder.Deny, "approval_unavailable"}, "research"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := called(t, tt.effect)
			if tt.change != nil {
				tt.change(t, x)
			}
			cfg := cfg
			cfg.Inline = permitAll + `@id("grant") permit(principal, action, resource) when { context has grant };`
			l := layerOf(t, cfg, access.Deps{Grants: &grants{list: []*warder.Grant{{ID: "g", Principal: "granted", Server: "files", Purpose: "cleanup"}}}})
			if diff := cmp.Diff(tt.want, judge(t, l, x)); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if x.Purpose != tt.purpose {
				t.Errorf("purpose %q, want %q", x.Purpose, tt.purpose)
			}
		})
	}
	t.Run("dependency_killed no definition: the effect is unknown and not allowed", func(t *testing.T) {
		t.Parallel()
		x := called(t, warder.EffectRead)
		declare(`"report"`)(t, x)
		x.Tool = nil
		if diff := cmp.Diff(of("purpose_mismatch"), judge(t, layerOf(t, cfg, access.Deps{}), x)); diff != "" {
			t.Errorf("outcome (-want +got):\n%s", diff)
		}
	})
}
