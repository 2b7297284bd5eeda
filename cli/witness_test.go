package cli

import (
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/layer/access/cedar"
	"github.com/warder-mcp/warder/proxy"
)

const recordedCall = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"send","arguments":{}}}`

// recordJudge judges by the access layer alone.
func recordJudge(t *testing.T, cfg access.Config) *judge {
	t.Helper()
	j := &judge{cfg: &config.Config{Access: cfg}, servers: map[string]*warder.Server{"mail": {Name: "mail"}}}
	var err error
	if j.policies, err = cedar.Load(cfg); err != nil {
		t.Fatal(err)
	}
	layer, err := access.New(cfg, j.witness.deps(j.policies, func(string) string { return "https://gate.example" }))
	if err != nil {
		t.Fatal(err)
	}
	j.chain = proxy.NewChain([]warder.Layer{layer}, nil, nil)
	return j
}

func recordedEvent(change func(*warder.Event)) *warder.Event {
	e := &warder.Event{
		Exchange: "x", Time: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), Type: warder.EventExchange, Door: warder.DoorHTTP,
		Revision: warder.Revision20260728, Endpoint: "mail", Server: "mail", Method: "tools/call", Target: "send", Peer: "192.0.2.7",
		Outcome: warder.OutcomeAllowed, Principal: &warder.EventPrincipal{Issuer: "https://idp.example", Subject: "ana", Transport: "bearer"},
		Circumstances: &warder.Circumstances{},
	}
	change(e)
	return e
}

func TestReplayJudgesByTheRecord(t *testing.T) {
	t.Parallel()
	permit := func(condition string) access.Config {
		return access.Config{Inline: `permit (principal, action, resource) when { ` + condition + ` };`}
	}
	refused := func(id warder.ControlID, reason warder.Reason) func(*warder.Event) {
		return func(e *warder.Event) { e.Outcome, e.Control, e.Reason = warder.OutcomeRefused, id, reason }
	}
	approval := permit("true")
	approval.Approval = access.ApprovalConfig{Require: []string{"unknown"}, Wait: time.Millisecond}
	risky := permit("true")
	risky.Risk.Deny = 80
	end := time.Date(2026, 11, 20, 13, 0, 0, 0, time.UTC)
	tests := []struct {
		name   string
		cfg    access.Config
		change func(*warder.Event)
		want   string
	}{
		{"nothing changes", permit("true"), func(*warder.Event) {}, "allowed"},
		{"revoked then", permit("true"), refused("JIT-04", "revoked"), "refused by JIT-04 (revoked)"},
		{"revocations not known then", permit("true"), refused("JIT-04", "revocation_stale"), "refused by JIT-04 (revocation_stale)"},
		{"posture", permit(`context.posture == "compliant"`), func(e *warder.Event) { e.Circumstances.Posture = "compliant" }, "allowed"},
		{"no posture", permit(`context.posture == "compliant"`), func(*warder.Event) {}, "refused by CVM-01 (policy_error)"},
		{"grant of then", permit(`context has grant && context.grant.purpose == "audit"`), func(e *warder.Event) {
			e.Circumstances.Grant = &warder.GrantSeen{ID: "g", Purpose: "audit", NotAfter: end}
		}, "allowed"},
		{"no grant then", permit(`context has grant`), func(*warder.Event) {}, "refused by CVM-01 (no_permit)"},
		{"grant used up then", permit(`context has grant`), func(e *warder.Event) {
			refused("JIT-01", "grant_required")(e)
			e.Circumstances.Grant = &warder.GrantSeen{ID: "g", NotAfter: end}
		}, "refused by JIT-01 (grant_required)"},
		{"agent", permit(`context has agent && context.agent.roles.contains("ops")`), func(e *warder.Event) {
			e.Circumstances.Agent = &warder.AgentSeen{Name: "a", Roles: []string{"ops"}}
		}, "allowed"},
		{"bound", permit(`principal.bound && principal.transport == "dpop"`), func(e *warder.Event) {
			e.Principal.Bound, e.Principal.Transport = true, "dpop"
		}, "allowed"},
		{"approved then", approval, func(e *warder.Event) { e.Approval = "h" }, "allowed"},
		{"denied then", approval, refused("HIL-01", "approval_denied"), "refused by HIL-01 (approval_denied)"},
		{"nobody was asked", approval, func(*warder.Event) {}, "refused by HIL-01 (approval_pending)"},
		{"risk", risky, func(e *warder.Event) { e.Circumstances.Risk = 81 }, "refused by CVM-04 (risk_too_high)"},
		{"plan", permit("true"), refused("JIT-05", "plan_step_not_reached"), "refused by JIT-05 (plan_step_not_reached)"},
		{"hour of then", permit(`context.hour == 12 && context.weekday == "fri"`), func(*warder.Event) {}, "allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := recordJudge(t, tt.cfg).again(t.Context(), recordedEvent(tt.change), []byte(recordedCall))
			if err != nil || got.String() != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestRefusalsElsewhereAreNotJudgedAgain(t *testing.T) {
	t.Parallel()
	j := recordJudge(t, access.Config{Inline: `permit (principal, action, resource);`})
	for id, want := range map[warder.ControlID]bool{"IAM-05": false, "NET-04": false, "CVM-01": true, "HIL-01": true} {
		e := recordedEvent(func(e *warder.Event) { e.Outcome, e.Control = warder.OutcomeRefused, id })
		if got := j.judges(e); got != want {
			t.Errorf("%s: judged again: %v, want %v", id, got, want)
		}
	}
}

func TestExplainAsksWithTheRecord(t *testing.T) {
	t.Parallel()
	j := recordJudge(t, access.Config{Inline: `@id("p") permit (principal, action, resource) when { context.zone == "office" && context.findings.count == 1 };`})
	e := recordedEvent(func(e *warder.Event) {
		e.Method, e.Target, e.Circumstances.Zone = "tools/list", "", "office"
		e.Findings = []warder.Finding{{Control: "INV-01", Rule: "a"}, {Control: "OUT-03", Rule: "b"}}
		e.Trail = []warder.Step{{Control: "INV-01", Phase: warder.PhaseRequest}, {Control: "OUT-03", Phase: warder.PhaseResponse}}
	})
	why, err := j.ask(t.Context(), e, []byte(recordedCall))
	if err != nil || !why.Decision.Allow {
		t.Errorf("decision %+v, %v", why.Decision, err)
	}
	if note := j.witness.incomplete(); note != "" {
		t.Errorf("note: %s", note)
	}
	e.Principal.Transport = ""
	if note := j.witness.incomplete(); note == "" {
		t.Error("an older record is not told from a complete one")
	}
}
