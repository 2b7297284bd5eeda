package identity

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
)

func TestAUT09(t *testing.T) {
	t.Parallel()
	agents := registeredAgents{"a1": {Name: "one"}, "a2": {Name: "two"}, "off": {Name: "off", Disabled: true}}
	chain := func(p *warder.Principal, actors ...warder.Actor) *warder.Principal {
		p.Chain = actors
		for _, a := range actors {
			p.Actors = append(p.Actors, a.Subject)
		}
		return p
	}
	scoped := func(scopes ...string) *warder.Principal {
		p := human()
		p.Scopes = scopes
		return p
	}
	narrow := []warder.Detail{{Server: "files", Tools: []string{"read"}}}
	detailed := human()
	detailed.Details = narrow
	may := human()
	may.MayAct = &warder.Actor{Subject: "a1"}
	mayOther := human()
	mayOther.MayAct = &warder.Actor{Subject: "a2"}
	workload := human()
	workload.Workload = "spiffe://prod.example/ns/x/sa/y"
	foreign := human()
	foreign.Workload = "spiffe://evil.example/x"
	for _, tt := range []struct {
		name string
		cfg  AuthorityConfig
		p    *warder.Principal
		want warder.Reason
	}{
		{name: "pass nobody between", p: human()},
		{name: "pass narrows at every hop", p: chain(scoped("a"), warder.Actor{Subject: "a2", Scopes: []string{"a", "b"}}, warder.Actor{Subject: "a1", Scopes: []string{"a", "b", "c"}})},
		{name: "pass hop that states nothing", p: chain(scoped("a"), warder.Actor{Subject: "a2"}, warder.Actor{Subject: "a1", Scopes: []string{"a"}})},
		{name: "pass as deep as allowed", cfg: AuthorityConfig{Chain: Chain{MaxDepth: 1}}, p: chain(human(), warder.Actor{Subject: "a1"})},
		{name: "pass by inclusion", cfg: AuthorityConfig{Implies: map[string][]string{"w": {"r"}}}, p: chain(scoped("r"), warder.Actor{Subject: "a1", Scopes: []string{"w"}})},
		{name: "pass registered", cfg: AuthorityConfig{Chain: Chain{Registered: true}}, p: chain(human(), warder.Actor{Subject: "a2"}, warder.Actor{Subject: "a1"})},
		{name: "pass may act", p: chain(may, warder.Actor{Subject: "a1"})},
		{name: "pass workload of the trust domain", cfg: AuthorityConfig{Chain: Chain{TrustDomains: []string{"prod.example"}}}, p: workload},
		{name: "near_miss namesake of another issuer", p: chain(human(), warder.Actor{Subject: "alice", Issuer: otherIDP}, warder.Actor{Subject: "alice", Issuer: "https://third.example"})},
		{name: "near_miss details handed on", p: chain(detailed, warder.Actor{Subject: "a1", Details: narrow})},
		{name: "deny scope widened at the last hop", p: chain(scoped("a", "b"), warder.Actor{Subject: "a1", Scopes: []string{"a"}}), want: "chain_widens_scope"},
		{name: "deny scope widened in between", p: chain(scoped("a"), warder.Actor{Subject: "a2", Scopes: []string{"a", "b"}}, warder.Actor{Subject: "a1", Scopes: []string{"a"}}), want: "chain_widens_scope"},
		{name: "deny scope widened across a silent hop", p: chain(scoped("b"), warder.Actor{Subject: "a2"}, warder.Actor{Subject: "a1", Scopes: []string{"a"}}), want: "chain_widens_scope"},
		{name: "deny held nothing", p: chain(scoped("a"), warder.Actor{Subject: "a1", Scopes: []string{}}), want: "chain_widens_scope"},
		{name: "deny details lost", p: chain(human(), warder.Actor{Subject: "a1", Details: narrow}), want: "chain_widens_details"},
		{name: "deny too deep", p: chain(human(), warder.Actor{Subject: "1"}, warder.Actor{Subject: "2"}, warder.Actor{Subject: "3"}, warder.Actor{Subject: "4"}, warder.Actor{Subject: "5"}), want: "chain_too_deep"},
		{name: "deny any delegation", cfg: AuthorityConfig{Chain: Chain{MaxDepth: -1}}, p: chain(human(), warder.Actor{Subject: "a1"}), want: "chain_too_deep"},
		{name: "deny circle", p: chain(human(), warder.Actor{Subject: "a1"}, warder.Actor{Subject: "a2"}, warder.Actor{Subject: "a1", Issuer: issuerURL}), want: "chain_cyclic"},
		{name: "deny subject acts for itself", p: chain(human(), warder.Actor{Subject: "alice"}), want: "chain_cyclic"},
		{name: "deny actor that may not", p: chain(mayOther, warder.Actor{Subject: "a1"}), want: "actor_not_allowed"},
		{name: "deny unregistered actor", cfg: AuthorityConfig{Chain: Chain{Registered: true}}, p: chain(human(), warder.Actor{Subject: "a1"}, warder.Actor{Subject: "x"}), want: "actor_unregistered"},
		{name: "deny disabled actor", cfg: AuthorityConfig{Chain: Chain{Registered: true}}, p: chain(human(), warder.Actor{Subject: "off"}), want: "actor_unregistered"},
		{name: "deny workload of another trust domain", cfg: AuthorityConfig{Chain: Chain{TrustDomains: []string{"prod.example"}}}, p: foreign, want: "workload_invalid"},
		{name: "deny malformed workload", p: chain(human(), warder.Actor{Subject: "spiffe://Prod.example/x"}), want: "workload_invalid"},
		{name: "deny scheme in capitals", p: chain(human(), warder.Actor{Subject: "SPIFFE://prod.example/x"}), want: "workload_invalid"},
		{name: "deny chain that was not read", p: &warder.Principal{Actors: []string{"a1"}}, want: "chain_incomplete"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDelegation(Config{AuthorityConfig: tt.cfg}, agents)
			x := exchange()
			x.Principal = tt.p
			wantReason(t, judge(t, d, x), tt.want)
		})
	}
	t.Run("dependency_killed no registry", func(t *testing.T) {
		t.Parallel()
		d := newDelegation(Config{AuthorityConfig: AuthorityConfig{Chain: Chain{Registered: true}}}, nil)
		x := exchange()
		x.Principal = chain(human(), warder.Actor{Subject: "a1"})
		wantReason(t, judge(t, d, x), "actor_unregistered")
	})
}

func TestReadChain(t *testing.T) {
	t.Parallel()
	claims := jose.Claims{
		"may_act": map[string]any{"sub": "a2"},
		"act": map[string]any{
			"sub": "a2", "scope": "a b", "client_id": "c2",
			"authorization_details": []any{map[string]any{"type": "mcp", "server": "files"}},
			"act":                   map[string]any{"client_id": "c1", "iss": otherIDP, "scope": ""},
		},
	}
	chain, may, ref := readChain(claims)
	if ref != nil {
		t.Fatal(ref)
	}
	want := []warder.Actor{
		{Subject: "a2", Client: "c2", Scopes: []string{"a", "b"}, Details: []warder.Detail{{Server: "files"}}},
		{Subject: "c1", Client: "c1", Issuer: otherIDP, Scopes: []string{}},
	}
	if diff := cmp.Diff(want, chain); diff != "" {
		t.Errorf("chain (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(&warder.Actor{Subject: "a2"}, may); diff != "" {
		t.Errorf("may_act (-want +got):\n%s", diff)
	}
	for name, bad := range map[string]jose.Claims{
		"not an object":      {"act": "a"},
		"no subject":         {"act": map[string]any{"iss": "x"}},
		"subject a number":   {"act": map[string]any{"sub": 1}},
		"scope a number":     {"act": map[string]any{"sub": "a", "scope": 1}},
		"details of another": {"act": map[string]any{"sub": "a", "authorization_details": []any{map[string]any{"type": "payment"}}}},
		"may_act a text":     {"may_act": "a"},
		"may_act nobody":     {"may_act": map[string]any{}},
	} {
		if chain, _, ref := readChain(bad); ref == nil {
			t.Errorf("%s: read as %v", name, chain)
		}
	}
	deep := jose.Claims{}
	for at, i := deep, 0; i <= maxActors; i++ {
		next := map[string]any{"sub": strings.Repeat("x", i+1)}
		at["act"] = next
		at = next
	}
	if _, _, ref := readChain(deep); ref == nil || ref.reason != "actor_chain_too_long" {
		t.Errorf("a chain of %d: %v", maxActors+1, ref)
	}
}

func TestSPIFFEIDs(t *testing.T) {
	t.Parallel()
	d := newDelegation(Config{}, nil)
	for id, want := range map[string]bool{
		"agent-1": true, "https://example.org/x": true, "spiffe://example.org": false, "spiffe://example.org/ns/a/sa/B_1.x-y": true,
		"spiffe://": false, "spiffe:///x": false, "spiffe://Example.org/x": false, "spiffe://example.org/": false,
		"spiffe://example.org//x": false, "spiffe://example.org/../x": false, "spiffe://example.org/x/": false,
		"spiffe://example.org:8443/x": false, "spiffe://u@example.org/x": false, "spiffe://example.org/x?q": false,
		"spiffe://example.org/%41": false, "SPIFFE://example.org/x": false, "spiffe:example.org": false,
	} {
		if got := d.workload(id); got != want {
			t.Errorf("%q: %v, want %v", id, got, want)
		}
	}
}
