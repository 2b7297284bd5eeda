package cedar

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

// known fills the surroundings of a question that somebody looked at.
func known(r *access.Request) *access.Request {
	r.Context.Weekday, r.Context.Hour = "fri", 12
	return r
}

func TestExplainSurroundings(t *testing.T) {
	t.Parallel()
	const call1 = `(principal, action == Warder::Action::"tools/call", resource) `
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name, policies string
		change         func(*access.Request)
		want           []access.Flip
	}{
		{
			"zone", `@id("z") permit ` + call1 + `when { context.zone == "office" };`, nil,
			[]access.Flip{{Change: `with zone "office"`, Allow: true, Policies: []string{"z"}}},
		},
		{
			"country in a set", `@id("c") permit ` + call1 + `when { ["DE", "AT"].contains(context.country) };`,
			func(r *access.Request) { r.Context.Country = "DE" },
			[]access.Flip{{Change: "with another country"}, {Change: "without country", Policies: []string{"c"}}},
		},
		{
			"hours", `@id("h") permit ` + call1 + `when { context.hours.contains("shift") };`, nil,
			[]access.Flip{{Change: `with hours "shift"`, Allow: true, Policies: []string{"h"}}},
		},
		{
			"weekday", `@id("w") permit ` + call1 + `when { context.weekday != "fri" };`, nil,
			[]access.Flip{{Change: "with another weekday", Allow: true, Policies: []string{"w"}}},
		},
		{
			"posture", `@id("p") permit ` + call1 + `when { context.posture == "compliant" };`,
			func(r *access.Request) { r.Context.Posture = "stale" },
			[]access.Flip{{Change: `with posture "compliant"`, Allow: true, Policies: []string{"p"}}},
		},
		{
			"risk", `@id("r") permit ` + call1 + `when { context.risk < 50 };`, nil,
			[]access.Flip{{Change: "with risk 50"}, {Change: "with risk 51"}},
		},
		{
			"trust", `@id("t") permit ` + call1 + `when { context.trust >= 80 };`, nil,
			[]access.Flip{{Change: "with trust 80", Allow: true, Policies: []string{"t"}}, {Change: "with trust 81", Allow: true, Policies: []string{"t"}}},
		},
		{
			"purpose", `@id("u") permit ` + call1 + `when { context has purpose && context.purpose == "audit" };`, nil,
			[]access.Flip{{Change: `with purpose "audit"`, Allow: true, Policies: []string{"u"}}},
		},
		{
			"grant for a purpose", `@id("g") permit ` + call1 + `when { context has grant && context.grant.purpose == "audit" };`, nil,
			[]access.Flip{{Change: `with a grant for purpose "audit"`, Allow: true, Policies: []string{"g"}}},
		},
		{
			"without the grant", `@id("g") permit ` + call1 + `when { context has grant };`,
			func(r *access.Request) { r.Context.Grant = &warder.Grant{ID: "1"} },
			[]access.Flip{{Change: "without the grant"}},
		},
		{
			"agent", `@id("a") permit ` + call1 + `when { context has agent && context.agent.name == "reporter" };`, nil,
			[]access.Flip{{Change: `with registered agent "reporter"`, Allow: true, Policies: []string{"a"}}},
		},
		{
			"class of the login", `@id("l") permit ` + call1 + `when { principal has acr && principal.acr == "mfa" };`, nil,
			[]access.Flip{{Change: `with acr "mfa"`, Allow: true, Policies: []string{"l"}}},
		},
		{
			"login method", `@id("m") permit ` + call1 + `when { principal.amr.contains("hwk") };`, nil,
			[]access.Flip{{Change: `with login method "hwk"`, Allow: true, Policies: []string{"m"}}},
		},
		{
			"age of the login", `@id("o") permit ` + call1 + `when { principal has auth_time && context.now.durationSince(principal.auth_time) < duration("5m") };`,
			func(r *access.Request) {
				with := *r.Principal
				with.AuthTime = now.Add(-time.Hour)
				r.Principal = &with
			},
			[]access.Flip{{Change: "with a login a moment ago", Allow: true, Policies: []string{"o"}}},
		},
		{
			"bound credential", `@id("b") permit ` + call1 + `when { principal.bound && principal.transport == "dpop" };`,
			func(r *access.Request) {
				with := *r.Principal
				with.Transport = "dpop"
				r.Principal = &with
			},
			[]access.Flip{{Change: "with a credential bound to a key", Allow: true, Policies: []string{"b"}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := known(call(alice(), filesServer(), readTool(), `{}`))
			if tt.change != nil {
				tt.change(r)
			}
			got, err := load(t, tt.policies).Explain(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.Flips); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExplainNeeds(t *testing.T) {
	t.Parallel()
	e := load(t, `
@id("all") permit (principal, action == Warder::Action::"tools/call", resource);
@id("away") @approval("group:ops") @acr("mfa") permit (principal, action == Warder::Action::"tools/call", resource) when { context.zone != "office" };
`)
	r := known(call(alice(), filesServer(), readTool(), `{}`))
	r.Context.Zone = "home"
	got, err := e.Explain(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	approval := warder.Obligation{Kind: warder.ObligationApproval, Value: "group:ops", Policy: "away"}
	acr := warder.Obligation{Kind: warder.ObligationACR, Value: "mfa", Policy: "away"}
	if diff := cmp.Diff([]warder.Obligation{approval, acr}, got.Needs); diff != "" {
		t.Errorf("needs (-want +got):\n%s", diff)
	}
	want := []access.Flip{
		{Change: `with zone "office"`, Allow: true, Policies: []string{"all"}},
		{Change: "without zone", Policies: []string{"away"}},
	}
	if diff := cmp.Diff(want, got.Flips); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// TestExplainTriesWhatConcernsTheRequest proves that values named by policies about other servers do not
// use up the search.
func TestExplainTriesWhatConcernsTheRequest(t *testing.T) {
	t.Parallel()
	text := `@id("here") permit (principal, action == Warder::Action::"tools/call", resource in Warder::Server::"files") when { context.zone == "office" };`
	for i := range 600 {
		text += "\npermit (principal, action, resource in Warder::Server::\"other\") when { context.zone == \"z" + string(rune('a'+i%26)) + time.Duration(i).String() + "\" };"
	}
	got, err := load(t, text).Explain(t.Context(), known(call(alice(), filesServer(), readTool(), `{}`)))
	if err != nil {
		t.Fatal(err)
	}
	if !got.Complete || len(got.Flips) != 1 {
		t.Errorf("complete %v, changes %v", got.Complete, got.Flips)
	}
}

// TestTrustIsZeroUntilSomethingGivesScores pins what the schema says of context.trust: a policy that asks for
// trust permits nothing, and one that forbids what is not trusted forbids everything.
func TestTrustIsZeroUntilSomethingGivesScores(t *testing.T) {
	t.Parallel()
	const permit = `@id("p") permit (principal, action == Warder::Action::"tools/call", resource)`
	for text, allow := range map[string]bool{
		permit + ` when { context.trust >= 1 };`: false,
		permit + ` when { context.trust == 0 };`: true,
		permit + `; forbid (principal, action == Warder::Action::"tools/call", resource) when { context.trust < 50 };`: false,
	} {
		d, err := load(t, text).Authorize(t.Context(), known(call(alice(), filesServer(), readTool(), `{}`)))
		if err != nil || d.Allow != allow {
			t.Errorf("%s: %+v, %v, want %v", text, d, err, allow)
		}
	}
}
