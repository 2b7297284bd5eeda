package access

import (
	"context"
	"fmt"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// steps keeps a workflow in its order: a tool of a plan is granted when its step is reached, which is
// when a call of the step before succeeded. Each step's grant is good for one call at a time, so running
// steps beside each other gains nothing.
// Control JIT-05. Phase Request, after the grant was found; Response completes a step; Complete gives a
// failed step back.
type steps struct{ deps Deps }

var (
	_ warder.Interceptor = (*steps)(nil)
	_ warder.Recorder    = (*steps)(nil)
)

// Control returns JIT-05.
func (*steps) Control() warder.ControlID { return "JIT-05" }

// Intercept refuses a step that was not reached, and moves the plan on when its call succeeded.
func (s *steps) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Response != nil {
		return s.complete(ctx, x)
	}
	switch {
	case x.Grant != nil && x.Grant.Plan != "":
		if s.deps.Plans == nil || !s.deps.Plans.Active(x.Grant) {
			return outOfOrder("plan_step_not_reached", "the plan stands at another step"), nil
		}
	case x.Grant == nil && callsTool(x):
		if plan := later(s.deps.Plans, x); plan != "" {
			return outOfOrder("plan_step_not_reached", fmt.Sprintf("plan %s stands at another step", plan)), nil
		}
	}
	return warder.Continue(), nil
}

func outOfOrder(reason warder.Reason, detail string) warder.Decision {
	return warder.Refuse(warder.CodeDenied, reason, detail).Tell("This step of the plan has not been reached.")
}

// later returns the plan of the principal in which the called tool stands in another step.
func later(plans Plans, x *warder.Exchange) string {
	if plans == nil || x.Principal == nil {
		return ""
	}
	return plans.Later(x.Principal, serverOf(x), x.Request.Target)
}

// complete grants the next step before the client learns that this one succeeded. When that cannot be
// written down, the answer is withheld: the plan then stands where it stood.
func (s *steps) complete(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Grant == nil || x.Grant.Plan == "" || s.deps.Plans == nil || !succeeded(x.Response) {
		return warder.Continue(), nil
	}
	if err := s.deps.Plans.Settle(ctx, x.Grant, true); err != nil {
		return warder.Decision{}, fmt.Errorf("plan %s: %w", x.Grant.Plan, err)
	}
	return warder.Continue(), nil
}

// settleWithin bounds the write after an exchange that ended without success.
const settleWithin = 5 * time.Second

// Record gives the step back if its call was forwarded and did not succeed. Settling a step that is
// complete changes nothing.
func (s *steps) Record(ctx context.Context, x *warder.Exchange) error {
	if x.Grant == nil || x.Grant.Plan == "" || s.deps.Plans == nil || !x.Forwarded {
		return nil
	}
	if x.Outcome == warder.OutcomeAllowed && (x.Response == nil || succeeded(x.Response)) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	return s.deps.Plans.Settle(ctx, x.Grant, false)
}

// succeeded reports whether a message is the final, good result of a tool call.
func succeeded(m *warder.Message) bool {
	if m == nil || m.Kind != warder.KindResult {
		return false
	}
	if kind := wire.ResultType(m); kind != "" && kind != "complete" {
		return false // input_required, or a task that only began
	}
	if m.Result.Get("task").Present() {
		return false
	}
	failed, isBool := wire.At(m, m.Result.Get("isError")).Bool()
	return !isBool || !failed
}
