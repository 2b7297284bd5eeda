package access_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

func TestCVM04(t *testing.T) {
	t.Parallel()
	cfg := access.Config{Risk: access.RiskConfig{StepUp: 30, Hold: 60, Deny: 90}}
	tests := []struct {
		name  string
		score float64
		age   time.Duration // of the login
		want  judged
	}{
		{"pass no risk", 0, time.Hour, passes()},
		{"near_miss just below", 29.9, time.Hour, passes()},
		{"near_miss step-up, and the login is fresh", 30, 5 * time.Minute, passes()},
		{"deny step-up, and the login is old", 30, 6 * time.Minute, judged{"CVM-03", warder.Challenge, "step_up_required"}},
		{"deny hold, and nobody puts it to people", 60, 0, judged{"HIL-01", warder.Deny, "approval_unavailable"}},
		{"deny", 90, 0, judged{"CVM-04", warder.Deny, "risk_too_high"}},
		{"deny the most", 100, 0, judged{"CVM-04", warder.Deny, "risk_too_high"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := called(t, warder.EffectRead)
			x.Principal.AuthTime = start().Add(-tt.age)
			l := layerOf(t, cfg, access.Deps{Risk: &scores{now: tt.score}})
			if diff := cmp.Diff(tt.want, judge(t, l, x)); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if x.Risk != tt.score {
				t.Errorf("risk %v, want %v", x.Risk, tt.score)
			}
		})
	}
	t.Run("deny other messages too", func(t *testing.T) {
		t.Parallel()
		x := exchange(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`)
		if got := judge(t, layerOf(t, cfg, access.Deps{Risk: &scores{now: 95}}), x); got.Reason != "risk_too_high" {
			t.Errorf("outcome %+v", got)
		}
	})
	reviewed(t)
	signals(t)
}

// reviewed changes the world while an exchange lasts.
func reviewed(t *testing.T) {
	t.Helper()
	type world struct {
		now     *time.Time
		risk    *scores
		posture *posture
		dead    *bool
	}
	for _, tt := range []struct {
		name   string
		change func(world)
		want   warder.Reason
	}{
		{"pass nothing changed", func(world) {}, ""},
		{"near_miss a little later", func(w world) { *w.now = w.now.Add(time.Minute) }, ""},
		{"deny posture lost", func(w world) { *w.posture = "not_compliant" }, "attribute_posture"},
		{"deny risk rose", func(w world) { w.risk.now = 90 }, "risk_too_high"},
		{"deny policy looks at the risk", func(w world) { w.risk.now = 50 }, "no_permit"},
		{"deny credential ended", func(w world) { *w.now = w.now.Add(10 * time.Minute) }, "credential_ended"},
		{"deny grant ended", func(w world) { *w.now = w.now.Add(5 * time.Minute) }, "grant_ended"},
		{"dependency_killed policy", func(w world) { *w.dead = true }, "control_unavailable"},
	} {
		t.Run("review "+tt.name, func(t *testing.T) {
			t.Parallel()
			now, s, p, killed := start(), scores{}, posture("compliant"), false
			cfg := access.Config{
				Risk: access.RiskConfig{Deny: 90}, Attributes: access.AttributeConfig{Require: map[string][]string{"write": {"posture"}}},
			}
			deps := access.Deps{
				Authorizer: &mortal{engine(t, `permit(principal, action, resource) when { context.risk < 50 };`), &killed},
				Risk:       &s, Posture: &p, Now: func() time.Time { return now },
			}
			l := newLayer(t, cfg, deps)
			x := called(t, warder.EffectWrite)
			x.Grant = &warder.Grant{ID: "g", NotAfter: start().Add(5 * time.Minute)}
			tt.change(world{&now, &s, &p, &killed})
			before := *x
			if got := run(t, control(t, l.Review, "CVM-04"), x); got.Reason != tt.want {
				t.Errorf("review: %+v, want %q", got, tt.want)
			}
			if x.Risk != before.Risk || x.Grant != before.Grant || len(x.Obligations) != 0 || len(x.Policies) != 0 {
				t.Error("the review changed the exchange")
			}
		})
	}
}

// mortal is an authorizer that may die.
type mortal struct {
	access.Authorizer
	dead *bool
}

func (m *mortal) Authorize(ctx context.Context, r *access.Request) (access.Decision, error) {
	if *m.dead {
		return access.Decision{Allow: true}, errKilled
	}
	return m.Authorizer.Authorize(ctx, r)
}

// signals are what an exchange adds to the score of the next.
func signals(t *testing.T) {
	t.Helper()
	refused := func(code warder.Code, control warder.ControlID, reason warder.Reason) *warder.Exchange {
		x := called(t, warder.EffectRead)
		x.Outcome, x.Failure = warder.OutcomeRefused, &warder.Error{Code: code, Control: control, Reason: reason}
		return x
	}
	found := called(t, warder.EffectRead)
	found.Outcome = warder.OutcomeAllowed
	found.Decisions = []warder.Decision{warder.Observe(warder.Finding{Severity: warder.High}, warder.Finding{Severity: warder.Low}, warder.Finding{Severity: warder.Critical})}
	for _, tt := range []struct {
		name string
		x    *warder.Exchange
		want []string
	}{
		{"refused", refused(warder.CodeDenied, "CVM-01", "no_permit"), []string{"refused"}},
		{"not found", refused(warder.CodeNotFound, "MST-01", "not_found"), []string{"refused"}},
		{"replayed", refused(warder.CodeDenied, "PRT-05", "state_replayed"), []string{"replay"}},
		{"state used twice", refused(warder.CodeInvalidParams, "PRT-05", "state_replayed"), []string{"replay"}},
		{"proof used twice", refused(warder.CodeUnauthenticated, "IAM-06", "proof_replayed"), []string{"replay"}},
		{"approval used twice", refused(warder.CodeDenied, "HIL-01", "approval_used"), []string{"replay"}},
		{"revoked", refused(warder.CodeDenied, "JIT-04", "revoked"), []string{"revoked"}},
		{"its credential was revoked", refused(warder.CodeUnauthenticated, "JIT-04", "revoked"), []string{"revoked"}},
		{"revocations not known", refused(warder.CodeUnavailable, "JIT-04", "revocation_stale"), nil},
		{"refused for its risk", refused(warder.CodeDenied, "CVM-04", "risk_too_high"), nil},
		{"asked for more", refused(warder.CodeUnauthenticated, "CVM-03", "step_up_required"), nil},
		{"held", refused(warder.CodeHeld, "HIL-01", "approval_pending"), nil},
		{"broken", refused(warder.CodeUnavailable, "JIT-01", "control_unavailable"), nil},
		{"findings", found, []string{"finding", "critical"}},
	} {
		s := scores{}
		l := layerOf(t, access.Config{}, access.Deps{Risk: &s})
		for _, r := range l.Complete {
			if err := r.Record(t.Context(), tt.x); err != nil {
				t.Error(err)
			}
		}
		if !slices.Equal(s.notes, tt.want) {
			t.Errorf("%s: signals %v, want %v", tt.name, s.notes, tt.want)
		}
	}
}
