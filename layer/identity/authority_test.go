package identity

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// asked is an exchange in phase Request for a message of a principal to the files server.
func asked(tb testing.TB, p *warder.Principal, raw string) *warder.Exchange {
	tb.Helper()
	m, err := wire.Decode([]byte(raw), wire.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	x := exchange()
	x.Principal, x.Inbound, x.Request = p, m, m
	return x
}

// callOf is a call of a tool with arguments.
func callOf(tb testing.TB, p *warder.Principal, tool, arguments string) *warder.Exchange {
	tb.Helper()
	return asked(tb, p, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+tool+`","arguments":`+arguments+`}}`)
}

// judge asks one control as the runner does: an error denies.
func judge(tb testing.TB, c warder.Interceptor, x *warder.Exchange) warder.Decision {
	tb.Helper()
	d, err := c.Intercept(tb.Context(), x)
	if err != nil {
		return warder.Decision{Code: warder.CodeUnavailable, Reason: "control_unavailable", Detail: err.Error()}
	}
	return d
}

// wantReason reports a decision that is not the wanted one; no reason means a pass.
func wantReason(tb testing.TB, d warder.Decision, reason warder.Reason) {
	tb.Helper()
	if (d.Verdict == warder.Pass) != (reason == "") || d.Reason != reason {
		tb.Errorf("got %v %q (%s), want reason %q", d.Verdict, d.Reason, d.Detail, reason)
	}
}

func human() *warder.Principal {
	return &warder.Principal{Issuer: issuerURL, Subject: "alice", Client: "editor", TokenID: "t-1", Transport: "bearer", NotAfter: newClock().now().Add(time.Hour)}
}

// registeredAgents is a registry in memory.
type registeredAgents map[string]*warder.Agent

func (a registeredAgents) Resolve(p *warder.Principal) (*warder.Agent, bool) {
	for _, id := range []string{p.Agent, p.Workload, p.Client} {
		if agent, ok := a[id]; ok {
			return agent, true
		}
	}
	return nil, false
}

func TestNewAuthority(t *testing.T) {
	layer, err := NewAuthority(Config{}, AuthorityDeps{})
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, c := range layer.Request {
		order = append(order, string(c.Control()))
	}
	if got, want := strings.Join(order, " "), "REG-01 IAM-03 AUT-06 IAM-04 IAM-02"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
	for _, c := range []struct {
		name string
		cfg  AuthorityConfig
	}{
		{"mode of agents", AuthorityConfig{Agents: "some"}},
		{"depth", AuthorityConfig{Chain: Chain{MaxDepth: 9}}},
		{"trust domain", AuthorityConfig{Chain: Chain{TrustDomains: []string{"Example"}}}},
		{"step-up without a demand", AuthorityConfig{StepUp: []StepUp{{Tools: []string{"pay"}}}}},
		{"effect", AuthorityConfig{StepUp: []StepUp{{Effects: []string{"unknown"}, ACR: []string{"x"}}}}},
		{"acr", AuthorityConfig{StepUp: []StepUp{{ACR: []string{`x" y`}}}}},
		{"pattern", AuthorityConfig{StepUp: []StepUp{{Tools: []string{"a*b"}, ACR: []string{"x"}}}}},
		{"negative age", AuthorityConfig{StepUp: []StepUp{{MaxAge: -1}}}},
		{"scope rule without scopes", AuthorityConfig{Scopes: []ScopeRule{{Tools: []string{"pay"}}}}},
		{"signature window", AuthorityConfig{Signatures: Signatures{Window: time.Hour}}},
		{"answers without a key", AuthorityConfig{Signatures: Signatures{Answers: []string{"*"}}}},
		{"peer without callers", AuthorityConfig{Signatures: Signatures{Peers: []SignaturePeer{{ID: "k"}}}}},
	} {
		if _, err := NewAuthority(Config{AuthorityConfig: c.cfg}, AuthorityDeps{}); err == nil {
			t.Errorf("%s is accepted", c.name)
		}
		if err := (Config{AuthorityConfig: c.cfg}).Validate(); err == nil {
			t.Errorf("%s is valid", c.name)
		}
	}
}

// TestNobodyIsNobody runs every control of the layer without a principal.
func TestNobodyIsNobody(t *testing.T) {
	cfg := Config{AuthorityConfig: AuthorityConfig{StepUp: []StepUp{{ACR: []string{"gold"}}}}}
	for _, c := range []warder.Interceptor{newScopeCheck(cfg), &details{}, newStepUp(cfg, time.Now)} {
		if d := judge(t, c, callOf(t, nil, "read", "{}")); d.Verdict == warder.Pass {
			t.Errorf("%s passes nobody", c.Control())
		}
	}
}

func BenchmarkAuthority(b *testing.B) {
	cfg := Config{BaseURL: base, AuthorityConfig: AuthorityConfig{
		Scopes: []ScopeRule{{Server: "files", Tools: []string{"read"}, Need: []string{"files:read"}}},
		StepUp: []StepUp{{Effects: []string{"write", "destructive"}, ACR: []string{"gold"}}},
	}}
	layer, err := NewAuthority(cfg, AuthorityDeps{})
	if err != nil {
		b.Fatal(err)
	}
	p := human()
	p.Scopes = []string{"files:read"}
	p.Registered = &warder.Agent{Name: "editor", Tools: []string{"files/read"}}
	p.Details = []warder.Detail{{Server: "files", Tools: []string{"read"}, Arguments: []warder.Bound{{Pointer: "/path", Prefix: "/srv/"}}}}
	x := callOf(b, p, "read", `{"path":"/srv/a"}`)
	x.Tool = &warder.Tool{Server: "files", Name: "read", Effect: warder.EffectRead}
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range layer.Request {
			if d, err := c.Intercept(context.Background(), x); err != nil || d.Verdict != warder.Pass {
				b.Fatal(d, err)
			}
		}
	}
}
