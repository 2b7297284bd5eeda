package access

import (
	"context"
	"errors"

	"github.com/warder-mcp/warder"
)

// prompts keeps people from being worn out: how many calls of one caller wait, how many are put to people
// in an hour, and how long a queue may grow are bounded; part of the queue is kept for what is critical. A
// call that waits already, or is approved, costs nothing.
// Control HIL-02; MITRE ATT&CK T1621. Phase Request, before HIL-01.
type prompts struct{ approval }

var _ warder.Interceptor = (*prompts)(nil)

func newPrompts(cfg ApprovalConfig, deps Deps, around *surroundings) *prompts {
	return &prompts{newApproval(cfg, deps, around)}
}

// Control returns HIL-02.
func (*prompts) Control() warder.ControlID { return "HIL-02" }

// Intercept refuses a call that must not be put to people now.
func (p *prompts) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	approvers, wanted := p.wanted(x)
	if !wanted || p.deps.Holds == nil || x.Principal == nil || x.Continues.Approval != "" {
		return warder.Continue(), nil // HIL-01 refuses, or nobody is asked
	}
	err := p.deps.Holds.Admit(p.pending(x, approvers))
	switch {
	case err == nil:
		return warder.Continue(), nil
	case errors.Is(err, ErrFlood):
		return warder.Refuse(warder.CodeRateLimited, "approval_flood", err.Error()).
			Tell("Too many calls wait for approval. Nobody was asked about this one; try again later."), nil
	default:
		return warder.Decision{}, err
	}
}
