package identity

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
)

func TestIAM02(t *testing.T) {
	t.Parallel()
	now := newClock().now()
	rule := StepUp{Servers: []string{"files"}, Tools: []string{"pay"}, ACR: []string{"gold", "platinum"}, AMR: []string{"hwk", "pin"}, MaxAge: 5 * time.Minute}
	login := func(change func(*warder.Principal)) *warder.Principal {
		p := human()
		p.ACR, p.AMR, p.AuthTime, p.Scopes = "gold", []string{"pin", "pwd", "hwk"}, now.Add(-time.Minute), []string{"bank"}
		if change != nil {
			change(p)
		}
		return p
	}
	for _, tt := range []struct {
		name string
		rule StepUp
		p    *warder.Principal
		tool string
		def  *warder.Tool
		want warder.Reason
	}{
		{name: "pass strong and fresh", rule: rule, p: login(nil), tool: "pay"},
		{name: "pass on the last second", rule: rule, p: login(func(p *warder.Principal) { p.AuthTime = now.Add(-5 * time.Minute) }), tool: "pay"},
		{name: "near_miss other tool", rule: rule, p: human(), tool: "look"},
		{name: "near_miss other server", rule: StepUp{Servers: []string{"mail"}, ACR: []string{"gold"}}, p: human(), tool: "pay"},
		{name: "near_miss other issuer", rule: StepUp{Issuers: []string{otherIDP}, ACR: []string{"gold"}}, p: human(), tool: "pay"},
		{name: "near_miss harmless tool", rule: StepUp{Effects: []string{"write", "destructive"}, ACR: []string{"gold"}}, p: human(), tool: "pay", def: &warder.Tool{Effect: warder.EffectRead}},
		{name: "deny class too weak", rule: rule, p: login(func(p *warder.Principal) { p.ACR = "silver" }), tool: "pay", want: "acr_insufficient"},
		{name: "deny class of a longer name", rule: rule, p: login(func(p *warder.Principal) { p.ACR = "goldish" }), tool: "pay", want: "acr_insufficient"},
		{name: "deny class missing", rule: rule, p: login(func(p *warder.Principal) { p.ACR = "" }), tool: "pay", want: "acr_insufficient"},
		{name: "deny one method missing", rule: rule, p: login(func(p *warder.Principal) { p.AMR = []string{"pin"} }), tool: "pay", want: "amr_insufficient"},
		{name: "deny methods missing", rule: rule, p: login(func(p *warder.Principal) { p.AMR = nil }), tool: "pay", want: "amr_insufficient"},
		{name: "deny too old", rule: rule, p: login(func(p *warder.Principal) { p.AuthTime = now.Add(-5*time.Minute - time.Second) }), tool: "pay", want: "login_too_old"},
		{name: "deny time missing", rule: rule, p: login(func(p *warder.Principal) { p.AuthTime = time.Time{} }), tool: "pay", want: "auth_time_unknown"},
		{name: "deny time in the future", rule: rule, p: login(func(p *warder.Principal) { p.AuthTime = now.Add(2 * time.Minute) }), tool: "pay", want: "auth_time_unknown"},
		{name: "deny effect unknown counts as destructive", rule: StepUp{Effects: []string{"destructive"}, ACR: []string{"gold"}}, p: human(), tool: "pay", def: &warder.Tool{}, want: "acr_insufficient"},
		{name: "deny local user without a login", rule: StepUp{MaxAge: time.Hour}, p: &warder.Principal{Issuer: "local", Subject: "ada", Transport: "stdio"}, tool: "pay", want: "auth_time_unknown"},
		{name: "dependency_killed issuer says nothing of the login", rule: StepUp{ACR: []string{"gold"}}, p: human(), tool: "pay", want: "acr_insufficient"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newStepUp(Config{BaseURL: base, AuthorityConfig: AuthorityConfig{StepUp: []StepUp{tt.rule}}}, func() time.Time { return now })
			x := callOf(t, tt.p, tt.tool, "{}")
			x.Tool = tt.def
			wantReason(t, judge(t, c, x), tt.want)
		})
	}
	t.Run("deny asks for what is needed", func(t *testing.T) {
		t.Parallel()
		c := newStepUp(Config{BaseURL: base, AuthorityConfig: AuthorityConfig{StepUp: []StepUp{rule}}}, func() time.Time { return now })
		d := judge(t, c, callOf(t, login(func(p *warder.Principal) { p.ACR = "" }), "pay", "{}"))
		want := warder.Decision{
			Verdict: warder.Challenge, Code: warder.CodeUnauthenticated, Reason: "acr_insufficient", Detail: d.Detail,
			Public: "This call needs a stronger or fresher login. Log in again with authentication class gold or platinum by hwk and pin, at most 5m0s ago, and repeat the call with the new token.",
			Ask: &warder.Ask{
				Scheme: "Bearer", Error: "insufficient_user_authentication", ACR: []string{"gold", "platinum"}, MaxAge: 5 * time.Minute,
				Scopes: []string{"bank"}, ResourceMetadata: base + "/.well-known/oauth-protected-resource/mcp/files",
			},
		}
		if diff := cmp.Diff(want, d); diff != "" {
			t.Errorf("decision (-want +got):\n%s", diff)
		}
	})
	t.Run("pass listing needs no login", func(t *testing.T) {
		t.Parallel()
		c := newStepUp(Config{AuthorityConfig: AuthorityConfig{StepUp: []StepUp{{ACR: []string{"gold"}}}}}, time.Now)
		wantReason(t, judge(t, c, asked(t, human(), `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)), "")
		wantReason(t, judge(t, c, asked(t, human(), `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a"}}`)), "acr_insufficient")
	})
}
