package access_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

func TestJIT01(t *testing.T) {
	t.Parallel()
	grant := func() *warder.Grant {
		return &warder.Grant{ID: "g", Principal: "alice", Server: "files", Tools: []string{"read"}}
	}
	refused := judged{"JIT-01", warder.Deny, "grant_required"}
	tests := []struct {
		name   string
		effect warder.Effect
		cfg    access.Config
		grants *grants
		change func(*warder.Exchange)
		want   judged
		uses   int
	}{
		{name: "pass granted", effect: warder.EffectDestructive, grants: &grants{list: []*warder.Grant{grant()}}, want: passes(), uses: 1},
		{name: "pass read without", effect: warder.EffectRead, grants: &grants{}, want: passes()},
		{name: "pass policy looks at the grant", effect: warder.EffectRead, cfg: access.Config{Inline: `permit(principal, action, resource) when { context has grant && context.grant.purpose == "" };`}, grants: &grants{list: []*warder.Grant{grant()}}, want: passes(), uses: 1},
		{name: "near_miss a grant that is not needed is not spent", effect: warder.EffectRead, grants: &grants{list: []*warder.Grant{grant()}}, want: passes()},
		{name: "near_miss unknown effect, not configured", effect: warder.EffectUnknown, grants: &grants{}, want: passes()},
		{name: "near_miss bounds that hold", effect: warder.EffectDestructive, grants: &grants{list: []*warder.Grant{{ID: "g", Principal: "alice", Server: "files", Arguments: []warder.Bound{{Pointer: "/path", Prefix: "/srv/"}}}}}, want: passes(), uses: 1},
		{name: "deny bounds that do not hold", effect: warder.EffectDestructive, grants: &grants{list: []*warder.Grant{{ID: "g", Principal: "alice", Server: "files", Arguments: []warder.Bound{{Pointer: "/path", Prefix: "/home/"}}}}}, want: refused},
		{name: "deny unknown effect, configured", effect: warder.EffectUnknown, cfg: access.Config{Grants: access.GrantConfig{Require: []string{"unknown"}}}, grants: &grants{}, want: refused},
		{name: "deny without", effect: warder.EffectDestructive, grants: &grants{}, want: refused},
		{name: "deny another's", effect: warder.EffectDestructive, grants: &grants{list: []*warder.Grant{grant()}}, change: func(x *warder.Exchange) { x.Principal.Subject = "bob" }, want: refused},
		{name: "deny another tool", effect: warder.EffectDestructive, grants: &grants{list: []*warder.Grant{{ID: "g", Principal: "alice", Server: "files", Tools: []string{"write"}}}}, want: refused},
		{name: "deny used up", effect: warder.EffectDestructive, grants: &grants{list: []*warder.Grant{{ID: "g", Principal: "alice", Server: "files", Uses: 1}}, uses: map[string]int{"g": 1}}, want: refused, uses: 1},
		{name: "dependency_killed the store cannot count", effect: warder.EffectDestructive, grants: &grants{list: []*warder.Grant{grant()}, err: errKilled}, want: judged{"JIT-01", warder.Deny, "control_unavailable"}},
		{name: "dependency_killed the grants are old", effect: warder.EffectDestructive, grants: &grants{list: []*warder.Grant{grant()}, behind: 6 * time.Second}, want: judged{"JIT-01", warder.Deny, "control_unavailable"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := called(t, tt.effect)
			if tt.change != nil {
				tt.change(x)
			}
			l := layerOf(t, tt.cfg, access.Deps{Grants: tt.grants})
			if diff := cmp.Diff(tt.want, judge(t, l, x)); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if got := tt.grants.uses["g"]; got != tt.uses {
				t.Errorf("%d uses were counted, want %d", got, tt.uses)
			}
		})
	}
	t.Run("dependency_killed nothing keeps grants", func(t *testing.T) {
		t.Parallel()
		if diff := cmp.Diff(refused, judge(t, layerOf(t, access.Config{}, access.Deps{}), called(t, warder.EffectDestructive))); diff != "" {
			t.Errorf("outcome (-want +got):\n%s", diff)
		}
	})
}
