package access

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/warder-mcp/warder"
)

// risk looks at the running score of the caller, its agent and the trace before anything else is decided:
// from configured scores on, a call needs a fresh login, needs a person, or is refused. What a call did
// and how it ended changes the score for the next.
// Control CVM-04; NIST SP 800-207 section 2.1 tenet 7. Phase Request; Review, with posture, policy and
// credential; Complete.
type risk struct {
	cfg    RiskConfig
	deps   Deps
	around *surroundings
	policy *everyMessage
}

var (
	_ warder.Interceptor = (*risk)(nil)
	_ warder.Recorder    = (*risk)(nil)
)

func newRisk(cfg RiskConfig, deps Deps, around *surroundings, policy *everyMessage) *risk {
	cfg.FreshLogin = cmp.Or(cfg.FreshLogin, defaultFreshLogin)
	return &risk{cfg: cfg, deps: deps, around: around, policy: policy}
}

// Control returns CVM-04.
func (*risk) Control() warder.ControlID { return "CVM-04" }

// Intercept sets x.Risk and what follows from it.
func (r *risk) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if r.deps.Risk == nil || x.Principal == nil {
		return warder.Continue(), nil
	}
	x.Risk = r.deps.Risk.Score(x.Principal, x.Trace.TraceID)
	switch {
	case r.reached(x.Risk, r.cfg.Deny):
		return tooRisky(x.Risk), nil
	case !callsTool(x):
	case r.reached(x.Risk, r.cfg.Hold):
		require(x, warder.Obligation{Kind: warder.ObligationApproval, Policy: "CVM-04"})
	case r.reached(x.Risk, r.cfg.StepUp):
		require(x, warder.Obligation{Kind: warder.ObligationMaxAge, Value: r.cfg.FreshLogin.String(), Policy: "CVM-04"})
	}
	return warder.Continue(), nil
}

func (*risk) reached(score, threshold float64) bool { return threshold > 0 && score >= threshold }

func tooRisky(score float64) warder.Decision {
	return warder.Refuse(warder.CodeDenied, "risk_too_high", fmt.Sprintf("the risk of this caller is %.0f", score))
}

// Record raises the score by what the exchange showed. Refusals for risk itself do not count, or a caller
// who keeps knocking would never come down again.
func (r *risk) Record(_ context.Context, x *warder.Exchange) error {
	if r.deps.Risk == nil || x.Principal == nil {
		return nil
	}
	for i := range x.Decisions {
		for j := range x.Decisions[i].Findings {
			switch x.Decisions[i].Findings[j].Severity {
			case warder.High:
				r.deps.Risk.Note("finding", x.Principal, x.Trace.TraceID)
			case warder.Critical:
				r.deps.Risk.Note("critical", x.Principal, x.Trace.TraceID)
			case warder.Info, warder.Low, warder.Medium:
			}
		}
	}
	f := x.Failure
	if x.Outcome != warder.OutcomeRefused || f == nil || f.Control == "" || f.Control == "CVM-04" {
		return nil
	}
	if signal := signalOf(f); signal != "" {
		r.deps.Risk.Note(signal, x.Principal, x.Trace.TraceID)
	}
	return nil
}

// signalOf is what a refusal says of the caller: something was used twice, something of it was revoked, or
// it asked for what it may not have. A client that must come back with more, and a gateway that failed, say
// nothing.
func signalOf(f *warder.Error) string {
	if strings.Contains(string(f.Reason), "replay") || f.Reason == "approval_used" { // proofs, assertions, states, signatures, approvals
		return "replay"
	}
	if f.Control == "JIT-04" && f.Reason == "revoked" {
		return "revoked"
	}
	switch f.Code {
	case warder.CodeDenied, warder.CodeNotFound, warder.CodeQuarantined, warder.CodeInsufficientScope, warder.CodeForbiddenOrigin:
		return "refused"
	default:
		return ""
	}
}

// reviewed judges an exchange that lasts again: the credential, the grant, the score, the circumstances
// that its effect requires, and policy. It changes nothing.
// Control CVM-04. Phase Review.
type reviewed struct{ *risk }

var _ warder.Interceptor = (*reviewed)(nil)

// Control returns CVM-04.
func (*reviewed) Control() warder.ControlID { return "CVM-04" }

// Intercept refuses what would not pass any more.
func (r *reviewed) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Principal == nil {
		return warder.Continue(), nil // a door without identity: nothing was decided about anybody
	}
	now := r.deps.Now()
	if end := x.Principal.NotAfter; !end.IsZero() && !now.Before(end) {
		return warder.Refuse(warder.CodeUnauthenticated, "credential_ended", "the credential ended while the exchange lasted"), nil
	}
	if x.Grant != nil && !now.Before(x.Grant.NotAfter) {
		return warder.Refuse(warder.CodeDenied, "grant_ended", "the grant ended while the exchange lasted"), nil
	}
	at := *x // what is known now, for this question only
	if r.deps.Risk != nil {
		at.Risk = r.deps.Risk.Score(x.Principal, x.Trace.TraceID)
		if r.reached(at.Risk, r.cfg.Deny) {
			return tooRisky(at.Risk), nil
		}
	}
	if name := r.around.lacking(&at); name != "" {
		return warder.Refuse(warder.CodeDenied, warder.Reason("attribute_"+name), "the circumstance changed while the exchange lasted"), nil
	}
	d, err := r.deps.Authorizer.Authorize(ctx, r.policy.ask(&at))
	if err != nil {
		return warder.Decision{}, err
	}
	if !d.Allow {
		refusal := warder.Refuse(warder.CodeDenied, d.Reason, "review: "+d.Detail)
		refusal.Policies = d.Policies
		return refusal, nil
	}
	return warder.Continue(), nil
}
