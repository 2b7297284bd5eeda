package broker_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/broker"
)

func TestAgents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one, two := r.open(t, broker.Config{}), r.open(t, broker.Config{})
	bot := warder.Agent{Name: "bot", Owner: "team-a", Roles: []string{"bots"}, Clients: []string{"client-1", "spiffe://x/bot"}, Tools: []string{"files/*"}}
	if _, err := one.Agents.Register(t.Context(), bot, boss()); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*warder.Principal{
		"by client":   {Client: "client-1"},
		"by workload": {Workload: "spiffe://x/bot", Client: "other"},
		"by actor":    {Agent: "client-1", Client: "other"},
	} {
		if got, ok := one.Agents.Resolve(p); !ok || got.Name != "bot" {
			t.Errorf("%s: %v %v, want bot", name, got, ok)
		}
	}
	if _, ok := one.Agents.Resolve(&warder.Principal{Agent: "stranger", Client: "client-1"}); ok {
		t.Error("an unknown actor hides behind the client of a known agent")
	}
	other := warder.Agent{Name: "other", Owner: "team-b", Clients: []string{"client-1"}}
	if _, err := two.Agents.Register(t.Context(), other, boss()); !errors.Is(err, broker.ErrForbidden) {
		t.Errorf("the client of another agent: %v, want ErrForbidden", err)
	}
	for name, agent := range map[string]warder.Agent{
		"no name": {Owner: "a", Clients: []string{"x"}}, "no owner": {Name: "x", Clients: []string{"x"}}, "no clients": {Name: "x", Owner: "a"},
		"a name with a line": {Name: "x\ny", Owner: "a", Clients: []string{"x"}},
	} {
		if _, err := one.Agents.Register(t.Context(), agent, boss()); !errors.Is(err, broker.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	eventually(t, "the other replica knows it", func() bool { _, ok := two.Agents.Resolve(&warder.Principal{Client: "client-1"}); return ok })
	if _, err := two.Agents.Disable(t.Context(), "bot", true, boss()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "disabled here too", func() bool {
		got, ok := one.Agents.Resolve(&warder.Principal{Client: "client-1"})
		return ok && got.Disabled
	})
	bot.Clients = []string{"client-2"} // client-1 is free
	if _, err := one.Agents.Register(t.Context(), bot, boss()); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Agents.Register(t.Context(), other, boss()); err != nil {
		t.Errorf("a client id that was given up: %v", err)
	}
	if got, ok := one.Agents.Resolve(&warder.Principal{Client: "client-1"}); !ok || got.Name != "other" {
		t.Errorf("resolved to %v, want other", got)
	}
	if list, err := one.Agents.List(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("list = %v, %v", list, err)
	}
	r.trail.set(true)
	if _, err := one.Agents.Disable(t.Context(), "other", true, boss()); err == nil {
		t.Error("disabled without a trail")
	}
}

func TestRisk(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{Risk: broker.RiskConfig{HalfLife: 10 * time.Minute, Weights: map[string]int{"refused": 8}}})
	trace := [16]byte{1}
	score := func(p *warder.Principal, trace [16]byte) float64 { return math.Round(b.Risk.Score(p, trace)) }
	if got := score(principal(), trace); got != 0 {
		t.Errorf("at first %v", got)
	}
	b.Risk.Note("refused", principal(), trace)
	b.Risk.Note("finding", principal(), trace)
	if got := score(principal(), trace); got != 28 {
		t.Errorf("after two signals %v, want 28", got)
	}
	other := principal()
	other.Subject = "bob"
	if got := score(other, [16]byte{2}); got != 0 {
		t.Errorf("somebody else has %v", got)
	}
	if got := score(other, trace); got != 28 {
		t.Errorf("somebody else in the same trace has %v, want 28", got)
	}
	r.clock.add(10 * time.Minute)
	if got := score(principal(), trace); got != 14 {
		t.Errorf("after a half-life %v, want 14", got)
	}
	for range 50 {
		b.Risk.Note("critical", principal(), trace)
	}
	if got := score(principal(), trace); got != 100 {
		t.Errorf("at most 100, got %v", got)
	}
}

// TestRiskIsToldToOtherReplicas and survives a restart.
func TestRiskIsToldToOtherReplicas(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one, two := r.open(t, broker.Config{}), r.open(t, broker.Config{})
	one.Risk.Note("critical", principal(), [16]byte{})
	eventually(t, "the other replica knows", func() bool { return two.Risk.Score(principal(), [16]byte{}) >= 40 })
	again := r.open(t, broker.Config{})
	if got := again.Risk.Score(principal(), [16]byte{}); got < 40 {
		t.Errorf("after a restart %v, want 40", got)
	}
}

// TestRiskIsBounded: a flood of small scores does not wash out a high one.
func TestRiskIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{})
	b.Risk.Note("critical", principal(), [16]byte{})
	for i := range 100_000 {
		b.Risk.Note("refused", &warder.Principal{Issuer: issuer, Subject: fmt.Sprint("user-", i)}, [16]byte{})
	}
	if got := b.Risk.Score(principal(), [16]byte{}); got < 40 {
		t.Errorf("after the flood %v, want 40", got)
	}
}

func TestPosture(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one, two := r.open(t, broker.Config{}), r.open(t, broker.Config{})
	p := principal()
	p.Binding = "key-thumbprint"
	report := func(subject string, compliant bool, at time.Time) {
		t.Helper()
		if err := one.Posture.Report(t.Context(), broker.Posture{Subject: subject, Compliant: compliant, At: at, Source: "mdm"}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(word string) {
		t.Helper()
		for _, b := range []*broker.Broker{one, two} {
			eventually(t, "posture "+word, func() bool { return b.Posture.Of(p) == word })
		}
	}
	want("")
	report(issuer+"|ada", true, r.clock.Now())
	want(broker.PostureCompliant)
	report("key-thumbprint", false, r.clock.Now())
	want(broker.PostureNotCompliant)
	if got := one.Risk.Score(p, [16]byte{}); got != 0 {
		t.Errorf("the risk of a device is that of a principal: %v", got)
	}
	report("key-thumbprint", true, r.clock.Now().Add(-time.Minute)) // an older report changes nothing
	want(broker.PostureNotCompliant)
	report("key-thumbprint", true, r.clock.Now())
	want(broker.PostureCompliant)
	r.clock.add(24 * time.Hour)
	want(broker.PostureStale)
	report(issuer+"|ada", false, r.clock.Now())
	want(broker.PostureNotCompliant)
	if got := one.Risk.Score(p, [16]byte{}); got < 50 {
		t.Errorf("risk after the device was lost = %v, want 50", got)
	}
	if err := one.Posture.Report(t.Context(), broker.Posture{}); !errors.Is(err, broker.ErrInvalid) {
		t.Errorf("a report about nothing: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{})
	for _, cfg := range []broker.Config{
		{Grants: broker.GrantConfig{MaxTTL: -1}},
		{Grants: broker.GrantConfig{Skew: time.Hour}},
		{Grants: broker.GrantConfig{Needed: 6}},
		{Approvals: broker.ApprovalConfig{Timeout: 48 * time.Hour}},
		{Approvals: broker.ApprovalConfig{Critical: 101}},
		{Risk: broker.RiskConfig{HalfLife: 48 * time.Hour}},
	} {
		if b.Reload(cfg) == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

func BenchmarkScore(b *testing.B) {
	r := newRig(b)
	br := r.open(b, broker.Config{})
	people := crowd(b, br)
	for _, p := range people {
		br.Risk.Note("refused", p, [16]byte{})
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		br.Risk.Score(people[i%len(people)], [16]byte{1})
		i++
	}
}
