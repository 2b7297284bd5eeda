package issuer

import (
	"cmp"
	"context"

	"github.com/warder-mcp/warder"
)

// event begins an event of this server.
func (is *Issuer) event(reason warder.Reason, outcome warder.Outcome) warder.Event {
	now := is.deps.Now()
	return warder.Event{ID: warder.NewID(now), Time: now.UTC(), Type: warder.EventToken, Reason: reason, Outcome: outcome}
}

// why is the stable reason of a fault.
func (f *fault) why() warder.Reason { return cmp.Or(f.reason, warder.Reason(f.code)) }

// enforce runs a control's judgement in the control's mode: off does not judge, monitor records a
// refusal and goes on, enforce makes it the fault that the client sees. about is what was judged, for
// the record. A refusal is recorded by whoever answers the request.
func (is *Issuer) enforce(ctx context.Context, control warder.ControlID, code, about string, judge func() warder.Decision) *fault {
	mode := is.deps.Mode(control)
	if mode == Off {
		return nil
	}
	d := judge()
	if d.Verdict == warder.Pass {
		return nil
	}
	if mode == Monitor {
		d.Control, d.Observed = control, true
		e := is.event(d.Reason, warder.OutcomeAllowed)
		e.Control, e.Detail, e.Target = control, "monitored: "+d.Detail, cut(about, 256)
		e.Decisions = []warder.Decision{d}
		if err := is.deps.Record(ctx, e); err != nil {
			return undecided(err)
		}
		return nil
	}
	f := refuse(code, cmp.Or(d.Public, "Denied by policy.")).because(d.Reason, d.Detail)
	f.ctrl = control
	return f
}
