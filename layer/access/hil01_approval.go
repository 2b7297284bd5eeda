package access

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/warder-mcp/warder"
)

// approved holds a call until a person approved exactly it: this principal, these parameters, this
// definition of the tool, once. It waits a while for the decision; then the client is told to come back
// with the same call. Whoever changes a parameter asks anew; an approval that was used is gone.
// Control HIL-01; OWASP AISVS 9.2. Phase Request, after every other judgement.
type approved struct {
	approval
	gone *revoked
}

var _ warder.Interceptor = (*approved)(nil)

func newApproved(cfg ApprovalConfig, deps Deps, around *surroundings, gone *revoked) *approved {
	cfg.Wait = cmp.Or(cfg.Wait, defaultWait)
	return &approved{newApproval(cfg, deps, around), gone}
}

// Control returns HIL-01.
func (*approved) Control() warder.ControlID { return "HIL-01" }

// Intercept sets x.Approval.
func (a *approved) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	approvers, wanted := a.wanted(x)
	if !wanted {
		return warder.Continue(), nil
	}
	if x.Principal == nil {
		return warder.Refuse(warder.CodeUnauthenticated, "principal_missing", ""), nil
	}
	if a.deps.Holds == nil {
		return warder.Refuse(warder.CodeUnavailable, "approval_unavailable", "nothing puts calls to people"), nil
	}
	c := a.pending(x, approvers)
	if x.Continues.Approval != "" {
		return a.goOn(x, c), nil
	}
	held := a.deps.Holds.Find(c)
	if held.State == HoldNone {
		var err error
		if held, err = a.open(ctx, x, c); errors.Is(err, ErrTooLarge) {
			return warder.Refuse(warder.CodeTooLarge, "approval_too_large", err.Error()).
				Tell("A person must approve this call, and its parameters are too large to be judged."), nil
		} else if err != nil {
			return warder.Decision{}, err
		}
	}
	for left := a.cfg.Wait; held.State == HoldPending && left > 0; left -= waitSlice {
		var err error
		if held, err = a.deps.Holds.Wait(ctx, held.ID, min(left, waitSlice)); err != nil {
			return warder.Decision{}, err
		}
		if d, err := a.gone.Intercept(ctx, x); err != nil || d.Verdict != warder.Pass {
			return d, err
		}
	}
	return a.settle(ctx, x, c, held)
}

// goOn lets a request pass whose first leg a person approved: the server asked the client something, and
// this is the same call with the answer. The verified state says so; the approval must have been used by
// exactly this call, and every circumstance that it was bound to must still hold.
func (a *approved) goOn(x *warder.Exchange, c *Pending) warder.Decision {
	if !a.deps.Holds.Spent(x.Continues.Approval, c) {
		return warder.Refuse(warder.CodeDenied, "approval_not_continued", "hold "+x.Continues.Approval+": the circumstances changed since it was approved").
			Tell("What was approved has changed. Send the request again without requestState.")
	}
	x.Approval = x.Continues.Approval
	return warder.Continue()
}

// waitSlice is how long a call waits for a person before it is asked whether the caller was revoked.
const waitSlice = time.Second

func (a *approved) open(ctx context.Context, x *warder.Exchange, c *Pending) (Held, error) {
	var err error
	if c.Parameters, err = parameters(x.Request); err != nil {
		return Held{}, err
	}
	return a.deps.Holds.Open(ctx, c)
}

// settle uses an approval, or says why there is none.
func (a *approved) settle(ctx context.Context, x *warder.Exchange, c *Pending, held Held) (warder.Decision, error) {
	switch held.State {
	case HoldApproved:
		if err := a.deps.Holds.Consume(ctx, held.ID, c); errors.Is(err, ErrSpent) {
			return warder.Refuse(warder.CodeDenied, "approval_used", err.Error()), nil
		} else if err != nil {
			return warder.Decision{}, err
		}
		x.Approval = held.ID
		return warder.Continue(), nil
	case HoldPending:
		ask := &warder.Ask{Hold: held.ID, Message: "A person must approve this call. Repeat it when it is approved."}
		if a.deps.ApprovalURL != nil {
			ask.URL = a.deps.ApprovalURL(held.ID)
		}
		return warder.Decision{Verdict: warder.Hold, Code: warder.CodeHeld, Reason: "approval_pending", Detail: "hold " + held.ID, Ask: ask}, nil
	case HoldDenied:
		return warder.Refuse(warder.CodeDenied, "approval_denied", "hold "+held.ID).Tell("A person denied this call."), nil
	case HoldExpired, HoldNone:
	}
	return warder.Refuse(warder.CodeDenied, "approval_timeout", "hold "+held.ID).Tell("Nobody approved this call in time."), nil
}
