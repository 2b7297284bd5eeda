package access_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

func TestJIT05(t *testing.T) {
	t.Parallel()
	step := &warder.Grant{ID: "g", Principal: "alice", Server: "files", Tools: []string{"read"}, Plan: "plan", Step: 2, Uses: 1, NotAfter: start().Add(1)}
	notReached := judged{"JIT-05", warder.Deny, "plan_step_not_reached"}
	tests := []struct {
		name   string
		effect warder.Effect
		grants []*warder.Grant
		plans  access.Plans
		want   judged
	}{
		{"pass the step that is reached", warder.EffectDestructive, []*warder.Grant{step}, &plans{at: 2, grant: "g"}, passes()},
		{"near_miss a tool in no plan", warder.EffectRead, nil, &plans{at: 1, later: []string{"release"}}, passes()},
		{"near_miss a step that only reads is one all the same", warder.EffectRead, []*warder.Grant{step}, &plans{at: 2, grant: "g"}, passes()},
		{"deny a step that comes later", warder.EffectDestructive, nil, &plans{at: 1, later: []string{"read"}}, notReached},
		{"deny a grant of another step", warder.EffectDestructive, []*warder.Grant{step}, &plans{at: 3, grant: "h"}, notReached},
		{"deny the same step under another grant", warder.EffectDestructive, []*warder.Grant{step}, &plans{at: 2, grant: "h"}, notReached},
		{"dependency_killed nothing keeps plans", warder.EffectDestructive, []*warder.Grant{step}, nil, notReached},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := layerOf(t, access.Config{}, access.Deps{Plans: tt.plans, Grants: &grants{list: tt.grants}})
			if diff := cmp.Diff(tt.want, judge(t, l, called(t, tt.effect))); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("dependency_killed success cannot be written down", func(t *testing.T) {
		t.Parallel()
		l := layerOf(t, access.Config{}, access.Deps{Plans: &plans{err: errKilled}})
		x := called(t, warder.EffectWrite)
		x.Grant, x.Response = step, message(t, `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`)
		if got := run(t, control(t, l.Response, "JIT-05"), x); got.Verdict == warder.Pass {
			t.Error("the answer was not withheld")
		}
	})
	for _, tt := range []struct {
		name, answer string
		outcome      warder.Outcome
		want         []bool
	}{
		{"success", `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`, warder.OutcomeAllowed, []bool{true}},
		{"success of a stateless client", `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[]}}`, warder.OutcomeAllowed, []bool{true}},
		{"the tool failed", `{"jsonrpc":"2.0","id":1,"result":{"isError":true,"content":[]}}`, warder.OutcomeAllowed, []bool{false}},
		{"a question", `{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{}}}`, warder.OutcomeAllowed, []bool{false}},
		{"a task that only began", `{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"t"}}}`, warder.OutcomeAllowed, []bool{false}},
		{"an error", `{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}`, warder.OutcomeAllowed, []bool{false}},
		{"the server was gone", "", warder.OutcomeFailed, []bool{false}},
		{"progress, then cancelled", `{"jsonrpc":"2.0","method":"notifications/progress","params":{}}`, warder.OutcomeCanceled, []bool{false}},
	} {
		t.Run("settles "+tt.name, func(t *testing.T) {
			t.Parallel()
			p := &plans{}
			l := layerOf(t, access.Config{}, access.Deps{Plans: p})
			x := called(t, warder.EffectWrite)
			x.Grant, x.Forwarded, x.Outcome = step, true, tt.outcome
			if tt.answer != "" {
				x.Response = message(t, tt.answer)
				if got := run(t, control(t, l.Response, "JIT-05"), x); got.Verdict != warder.Pass {
					t.Errorf("response: %+v", got)
				}
			}
			for _, r := range l.Complete {
				if err := r.Record(t.Context(), x); err != nil {
					t.Error(err)
				}
			}
			if !slices.Equal(p.settled, tt.want) {
				t.Errorf("settled %v, want %v", p.settled, tt.want)
			}
		})
	}
}
