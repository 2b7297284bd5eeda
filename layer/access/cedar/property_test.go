package cedar

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/wire"
)

// drawPolicies makes a set of valid policies over a small world, so that scopes meet often.
func drawPolicies(t *rapid.T) string {
	principals := []string{
		"principal", `principal == Warder::User::"https://idp.example|alice"`, `principal == Warder::User::"https://idp.example|bob"`,
		`principal in Warder::Group::"dev"`, `principal in Warder::Group::"interns"`, `principal in Warder::Group::"ops"`,
		`principal is Warder::User`, `principal is Warder::User in Warder::Group::"dev"`,
	}
	actions := []string{
		`action == Warder::Action::"tools/call"`, `action in Warder::Action::"call"`,
		`action in [Warder::Action::"call", Warder::Action::"tools/call"]`,
	}
	resources := []string{
		"resource", `resource in Warder::Server::"files"`, `resource in Warder::Server::"mail"`,
		`resource == Warder::Tool::"files/read"`, `resource == Warder::Tool::"files/write"`, `resource == Warder::Tool::"mail/read"`,
		`resource is Warder::Tool in Warder::Server::"files"`,
	}
	conditions := []string{
		"", `when { resource.effect == "read" }`, `unless { resource.effect == "read" }`,
		`when { principal.scopes.contains("files:read") }`, `when { principal has tenant && principal.tenant == "t" }`,
		`when { context has arguments && context.arguments has path && context.arguments.path like "/srv/*" }`,
		`unless { context has arguments && context.arguments has path && context.arguments.path like "/srv/*" }`,
		`when { resource.effect == "read" && !(context has arguments && context.arguments has n && context.arguments.n > 3) }`,
		`unless { resource.effect == "write" || (context has arguments && context.arguments has n) }`,
		`when { if context has arguments && context.arguments has n then context.arguments.n == 1 else true }`,
		`when { context.findings.severity < 2 }`, `when { context.findings.rules.contains("x") }`,
	}
	var b strings.Builder
	for i := range rapid.IntRange(0, 12).Draw(t, "policies") {
		fmt.Fprintf(&b, "@id(\"p%02d\") %s (%s, %s, %s) %s;\n", i,
			rapid.SampledFrom([]string{"permit", "permit", "forbid"}).Draw(t, "effect"),
			rapid.SampledFrom(principals).Draw(t, "principal"), rapid.SampledFrom(actions).Draw(t, "action"),
			rapid.SampledFrom(resources).Draw(t, "resource"), rapid.SampledFrom(conditions).Draw(t, "condition"))
	}
	return b.String()
}

func drawRequest(t *rapid.T) *access.Request {
	p := &warder.Principal{
		Issuer: "https://idp.example", Subject: rapid.SampledFrom([]string{"alice", "bob", "eve"}).Draw(t, "subject"),
		Groups: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"dev", "interns", "ops"}), 0, 2, rapid.ID).Draw(t, "groups"),
		Tenant: rapid.SampledFrom([]string{"", "t"}).Draw(t, "tenant"), Transport: "stdio",
	}
	if rapid.Bool().Draw(t, "scope") {
		p.Scopes = []string{"files:read"}
	}
	s := &warder.Server{Name: rapid.SampledFrom([]string{"files", "mail"}).Draw(t, "server")}
	tool := &warder.Tool{
		Server: s.Name, Name: rapid.SampledFrom([]string{"read", "write"}).Draw(t, "tool"),
		Effect: rapid.SampledFrom([]warder.Effect{warder.EffectUnknown, warder.EffectRead, warder.EffectWrite}).Draw(t, "effect"),
	}
	r := call(p, s, tool, rapid.SampledFrom([]string{
		`{}`, `{"path":"/srv/a"}`, `{"path":"/etc/b","n":5}`, `{"n":1}`, `{"n":"x"}`, `{"path":7}`, `{"n":null}`,
	}).Draw(t, "arguments"))
	if rapid.Bool().Draw(t, "found") {
		r.Context.Decisions = []warder.Decision{warder.Observe(warder.Finding{Rule: "x", Severity: warder.Medium})}
	}
	return r
}

func nestedGroups() map[string][]string { return map[string][]string{"interns": {"dev"}} }

// TestSlicingIsExact compares every decision with that of the library over the whole, unsliced set.
func TestSlicingIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := drawPolicies(t)
		e, err := Load(access.Config{Inline: text, Groups: nestedGroups()})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		all := cedar.PolicyMap{}
		s := e.current.Load()
		whole := s.build(positions(len(s.policies)), false)
		for _, p := range s.policies {
			all[p.id] = p.final
		}
		for range 8 {
			r := drawRequest(t)
			got, err := e.Authorize(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			a := s.words.actions[r.Action]
			u, th := s.user(r.Principal), thing(r.Resource)
			circumstances, err := whole.circumstances(&r.Context)
			if err != nil {
				t.Fatal(err)
			}
			ok, diag := cedar.Authorize(all, &world{s, u, th}, cedar.Request{
				Principal: u.entity.UID, Action: a.uid, Resource: th.entity.UID, Context: circumstances,
			})
			wantAllow := bool(ok) && len(diag.Errors) == 0
			wantIDs := ids(diag)
			slices.Sort(wantIDs)
			if got.Allow != wantAllow || !slices.Equal(got.Policies, wantIDs) {
				t.Fatalf("sliced: %+v\nwhole: allow %v by %v\n%s\n%s", got, wantAllow, wantIDs, text, r.Context.Arguments.Raw())
			}
		}
	})
}

func positions(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// TestVisibleIsSound checks that nothing is hidden that may be used: what Authorize permits for some
// arguments and findings, Possible calls possible.
func TestVisibleIsSound(t *testing.T) {
	t.Parallel()
	permitted := 0
	rapid.Check(t, func(t *rapid.T) {
		text := drawPolicies(t)
		e, err := Load(access.Config{Inline: text, Groups: nestedGroups()})
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			r := drawRequest(t)
			d, err := e.Authorize(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if !d.Allow {
				continue
			}
			permitted++
			blank := *r
			blank.Context.Arguments, blank.Context.Decisions = wire.Value{}, nil
			if yes, err := e.Possible(t.Context(), &blank); err != nil || !yes {
				t.Fatalf("permitted by %v and not visible (%v)\n%s", d.Policies, err, text)
			}
		}
	})
	if permitted == 0 {
		t.Error("no request was permitted: the test says nothing")
	}
}

func TestVisibleHides(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, policies string
		want           bool
	}{
		{"no policy", ``, false},
		{"condition on arguments", `permit (principal, action == Warder::Action::"tools/call", resource) when { context has arguments && context.arguments has a && context.arguments.a == 1 };`, true},
		{"condition on arguments and on the effect", `permit (principal, action == Warder::Action::"tools/call", resource) when { resource.effect == "write" && context has arguments && context.arguments has a };`, false},
		{"unless on arguments or the effect", `permit (principal, action == Warder::Action::"tools/call", resource) unless { resource.effect == "read" || context has arguments };`, false},
		{"forbidden for some arguments", `permit (principal, action, resource); forbid (principal, action == Warder::Action::"tools/call", resource) when { context has arguments && context.arguments has a };`, true},
		{"forbidden for all", `permit (principal, action, resource); forbid (principal, action, resource in Warder::Server::"files");`, false},
		{"forbidden when found", `permit (principal, action, resource); forbid (principal, action, resource) when { context.findings.count > 0 };`, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := load(t, tt.policies)
			r := call(alice(), filesServer(), readTool(), "")
			for range 2 {
				got, err := e.Possible(t.Context(), r)
				if err != nil || got != tt.want {
					t.Errorf("possible = %v, %v, want %v", got, err, tt.want)
				}
			}
		})
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	e := load(t, `
@id("dev") permit (principal in Warder::Group::"dev", action == Warder::Action::"tools/call", resource) when { resource.effect == "read" };
@id("ops") permit (principal in Warder::Group::"ops", action == Warder::Action::"tools/call", resource);
@id("etc") forbid (principal, action == Warder::Action::"tools/call", resource) when { context has arguments && context.arguments has path && context.arguments.path like "/etc/*" };
`)
	got, err := e.Explain(t.Context(), call(alice(), filesServer(), readTool(), `{"path":"/etc/x","n":1}`))
	if err != nil {
		t.Fatal(err)
	}
	want := access.Explanation{
		Decision: access.Decision{Reason: "forbidden", Policies: []string{"etc"}},
		Policies: []access.Judgement{
			{ID: "dev", Effect: "permit", Source: "inline:2:1", Applies: true},
			{ID: "etc", Effect: "forbid", Source: "inline:4:1", Applies: true},
		},
		Flips:    []access.Flip{{Change: `without argument "path"`, Allow: true, Policies: []string{"dev"}}},
		Complete: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("explanation of a denial (-want +got):\n%s", diff)
	}
	tool := readTool()
	tool.Effect = warder.EffectWrite
	got, err = e.Explain(t.Context(), call(alice(), filesServer(), tool, `{}`))
	if err != nil {
		t.Fatal(err)
	}
	flips := []access.Flip{
		{Change: `with group "ops"`, Allow: true, Policies: []string{"ops"}},
		{Change: `with effect "read"`, Allow: true, Policies: []string{"dev"}},
	}
	if diff := cmp.Diff(flips, got.Flips); diff != "" {
		t.Errorf("changes that would permit (-want +got):\n%s", diff)
	}
	got, err = e.Explain(t.Context(), call(alice(), filesServer(), readTool(), `{}`))
	if err != nil {
		t.Fatal(err)
	}
	flips = []access.Flip{
		{Change: `without group "dev"`},
		{Change: `with effect "write"`},
		{Change: `with effect "destructive"`},
	}
	if diff := cmp.Diff(flips, got.Flips); diff != "" {
		t.Errorf("changes that would deny (-want +got):\n%s", diff)
	}
}
