package access_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

func TestCVM03(t *testing.T) {
	t.Parallel()
	const strong = permitAll + `@id("strong") @acr("gold platinum") @max_age("5m") permit(principal, action == Warder::Action::"tools/call", resource);`
	asks := judged{"CVM-03", warder.Challenge, "step_up_required"}
	tests := []struct {
		name     string
		policies string
		change   func(*warder.Exchange)
		want     judged
		ask      *warder.Ask
	}{
		{name: "pass strong and fresh", policies: strong, want: passes()},
		{name: "pass nothing asked", policies: permitAll, change: func(x *warder.Exchange) { x.Principal.ACR = "" }, want: passes()},
		{name: "near_miss as old as allowed", policies: strong, change: func(x *warder.Exchange) { x.Principal.AuthTime = start().Add(-5 * time.Minute) }, want: passes()},
		{name: "near_miss a permit that does not match asks for nothing", policies: permitAll + `@acr("gold") permit(principal in Warder::Group::"ops", action, resource);`, change: func(x *warder.Exchange) { x.Principal.ACR = "" }, want: passes()},
		{name: "deny weak", policies: strong, change: func(x *warder.Exchange) { x.Principal.ACR = "silver" }, want: asks, ask: &warder.Ask{ACR: []string{"gold", "platinum"}}},
		{name: "deny no class", policies: strong, change: func(x *warder.Exchange) { x.Principal.ACR = "" }, want: asks, ask: &warder.Ask{ACR: []string{"gold", "platinum"}}},
		{name: "deny old", policies: strong, change: func(x *warder.Exchange) { x.Principal.AuthTime = start().Add(-5*time.Minute - 1) }, want: asks, ask: &warder.Ask{MaxAge: 5 * time.Minute}},
		{name: "deny unknown age", policies: strong, change: func(x *warder.Exchange) { x.Principal.AuthTime = time.Time{} }, want: asks, ask: &warder.Ask{MaxAge: 5 * time.Minute}},
		{
			name: "deny the strictest of two", policies: strong + `@id("more") @max_age("1m") @acr("platinum") permit(principal, action, resource);`,
			change: func(x *warder.Exchange) { x.Principal.AuthTime = start().Add(-10 * time.Minute) }, want: asks,
			ask: &warder.Ask{MaxAge: time.Minute, ACR: []string{"platinum"}},
		},
		{name: "deny the local user cannot", policies: strong, change: func(x *warder.Exchange) {
			x.Door, x.Principal.ACR = warder.DoorStdio, ""
		}, want: judged{"CVM-03", warder.Deny, "step_up_impossible"}},
		{name: "deny no grant", policies: permitAll + `@grant("required") permit(principal, action, resource);`, want: judged{"CVM-03", warder.Deny, "grant_required"}},
		{name: "deny no person", policies: permitAll + `@approval("") permit(principal, action, resource);`, want: judged{"HIL-01", warder.Deny, "approval_unavailable"}},
		{name: "dependency_killed an obligation nobody knows", policies: permitAll, change: func(x *warder.Exchange) {
			x.Obligations = []warder.Obligation{{Kind: "dance"}}
		}, want: judged{"CVM-03", warder.Deny, "obligation_unknown"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := called(t, warder.EffectRead)
			x.Principal.ACR, x.Principal.AuthTime = "gold", start().Add(-time.Minute)
			if tt.change != nil {
				tt.change(x)
			}
			l := layerOf(t, access.Config{Inline: tt.policies}, access.Deps{})
			if diff := cmp.Diff(tt.want, judge(t, l, x)); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if tt.ask == nil {
				return
			}
			d, err := control(t, l.Request, "CVM-03").Intercept(t.Context(), x)
			if err != nil {
				t.Fatal(err)
			}
			tt.ask.Scheme, tt.ask.Error = "Bearer", "insufficient_user_authentication"
			tt.ask.ResourceMetadata = "https://gate.example/.well-known/oauth-protected-resource/mcp/files"
			if diff := cmp.Diff(tt.ask, d.Ask); diff != "" {
				t.Errorf("challenge (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFurtherPermitOnlyTightens: whatever is added to a permit, the obligations of the others stay.
func TestFurtherPermitOnlyTightens(t *testing.T) {
	t.Parallel()
	list := []string{permitAll, `@id("1") @acr("gold") permit(principal, action, resource);`, `@id("2") @approval("group:ops") permit(principal, action, resource);`, `@id("3") @grant("required") permit(principal, action, resource);`}
	text, before := "", 0
	for _, p := range list {
		text += p
		x := called(t, warder.EffectRead)
		l := layerOf(t, access.Config{Inline: text}, access.Deps{})
		if got := run(t, control(t, l.Request, "CVM-01"), x); got.Verdict != warder.Pass {
			t.Fatal(got)
		}
		if len(x.Obligations) < before {
			t.Errorf("after %s: %v", p, x.Obligations)
		}
		before = len(x.Obligations)
	}
	if before != 3 {
		t.Errorf("%d obligations, want 3", before)
	}
	for _, bad := range []string{
		`@acr("gold") forbid(principal, action, resource);`, `@acr("") permit(principal, action, resource);`, `@max_age("soon") permit(principal, action, resource);`,
		`@max_age("-1m") permit(principal, action, resource);`, `@grant("maybe") permit(principal, action, resource);`, `@approval("ops") permit(principal, action, resource);`,
	} {
		if err := engine(t, permitAll).Reload(access.Config{Inline: bad}); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}
