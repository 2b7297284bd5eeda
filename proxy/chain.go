package proxy

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/warder-mcp/warder"
)

// A Mode says what the runner does with a control's refusal.
type Mode string

// The modes of a control. The zero value enforces.
const (
	Enforce Mode = "enforce"
	Monitor Mode = "monitor" // record what would have been refused, and go on
	Off     Mode = "off"     // do not run the control
)

// An Observer is told of every exchange and every decision. It must not block and must be safe for concurrent use.
type Observer interface {
	Started(x *warder.Exchange)
	Decided(x *warder.Exchange, phase warder.Phase, d *warder.Decision, took time.Duration)
}

// accessLayer is the layer after which nothing may rewrite a request; upstreamLayer chooses the
// credential that a server is shown, for requests of Warder's own too.
const (
	accessLayer   = "access"
	upstreamLayer = "upstream"
)

// A step is one control at its place in a phase.
type step struct {
	control warder.ControlID
	run     warder.Interceptor
	monitor bool
	sealed  bool      // runs after access: a rewritten request is refused
	off     bool      // does not run
	until   time.Time // end of monitor or off, from which the control enforces; zero means never
}

// now returns the step as it is at this moment, nil if it does not run.
func (s *step) now() *step {
	if s.until.IsZero() || time.Now().Before(s.until) {
		if s.off {
			return nil
		}
		return s
	}
	enforced := *s
	enforced.monitor, enforced.off = false, false
	return &enforced
}

// A Chain runs the layers over exchanges. It alone owns order, panic, mode, observation and
// fail-closed; a control cannot forget to call the next one. It is immutable and safe for
// concurrent use.
type Chain struct {
	connect, request, response, review []step

	attach   []step // the part of request that chooses credentials
	complete []warder.Recorder
	observer Observer
	base     time.Time // steps are timed from here: one reading of the clock each
}

// NewChain builds the runner over layers given in path order. modes names the controls that do not
// enforce.
func NewChain(layers []warder.Layer, modes map[warder.ControlID]Mode, observer Observer) *Chain {
	c := &Chain{observer: observer, base: time.Now()}
	sealed := false
	for _, l := range layers {
		c.connect = appendSteps(c.connect, l.Connect, modes, false)
		c.request = appendSteps(c.request, l.Request, modes, sealed)
		c.review = appendSteps(c.review, l.Review, modes, true)
		if l.Name == upstreamLayer {
			c.attach = appendSteps(c.attach, l.Request, modes, true)
		}
		sealed = sealed || l.Name == accessLayer
	}
	for _, l := range slices.Backward(layers) {
		c.response = appendSteps(c.response, l.Response, modes, false)
		c.complete = append(c.complete, l.Complete...)
	}
	return c
}

func appendSteps(steps []step, controls []warder.Interceptor, modes map[warder.ControlID]Mode, sealed bool) []step {
	for _, ic := range controls {
		id := ic.Control()
		mode := modes[id]
		steps = append(steps, step{control: id, run: ic, monitor: mode == Monitor, off: mode == Off, sealed: sealed})
	}
	return steps
}

// Until names the moments at which exceptions end: from then on the control enforces, without a
// reload. It is for the one who builds the chain, before it is used.
func (c *Chain) Until(ends map[warder.ControlID]time.Time) *Chain {
	for _, steps := range [][]step{c.connect, c.request, c.response, c.review, c.attach} {
		for i := range steps {
			steps[i].until = ends[steps[i].control]
		}
	}
	return c
}

// Controls lists the controls that run in a phase, in order.
func (c *Chain) Controls(phase warder.Phase) []warder.ControlID {
	steps := c.steps(phase)
	ids := make([]warder.ControlID, 0, len(steps))
	for i := range steps {
		if s := steps[i].now(); s != nil {
			ids = append(ids, s.control)
		}
	}
	return ids
}

func (c *Chain) steps(phase warder.Phase) []step {
	switch phase {
	case warder.PhaseConnect:
		return c.connect
	case warder.PhaseRequest:
		return c.request
	case warder.PhaseResponse:
		return c.response
	case warder.PhaseReview:
		return c.review
	case warder.PhaseComplete:
	}
	return nil
}

// Connect judges the connection: headers only, no message yet. Every exchange begins here.
func (c *Chain) Connect(ctx context.Context, x *warder.Exchange) *warder.Error {
	return c.run(ctx, x, warder.PhaseConnect, c.connect)
}

// Request judges the decoded message of x.
func (c *Chain) Request(ctx context.Context, x *warder.Exchange) *warder.Error {
	return c.run(ctx, x, warder.PhaseRequest, c.request)
}

// Review judges an exchange that lasts, on a copy of it as it was forwarded.
func (c *Chain) Review(ctx context.Context, x *warder.Exchange) *warder.Error {
	return c.run(ctx, x, warder.PhaseReview, c.review)
}

// Attach chooses the credential for a request of Warder's own on behalf of x, whose own request has not
// come that far yet.
func (c *Chain) Attach(ctx context.Context, x *warder.Exchange) *warder.Error {
	return c.run(ctx, x, warder.PhaseReview, c.attach)
}

// Response judges one message of the answer and returns it as the client may see it.
func (c *Chain) Response(ctx context.Context, x *warder.Exchange, m *warder.Message) (*warder.Message, *warder.Error) {
	x.Response = m
	if err := c.run(ctx, x, warder.PhaseResponse, c.response); err != nil {
		return nil, err
	}
	return x.Response, nil
}

// Complete lets every recorder see the finished exchange. Each runs, whatever the others do; the
// first error is returned.
func (c *Chain) Complete(ctx context.Context, x *warder.Exchange) error {
	var first error
	for _, r := range c.complete {
		if err := record(ctx, x, r); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func record(ctx context.Context, x *warder.Exchange, r warder.Recorder) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("recorder panicked: %v", p)
		}
	}()
	return r.Record(ctx, x)
}

// run calls the controls of a phase in order until one refuses.
func (c *Chain) run(ctx context.Context, x *warder.Exchange, phase warder.Phase, steps []step) *warder.Error {
	if len(steps) == 0 {
		return nil
	}
	start := time.Since(c.base)
	var d warder.Decision // one for the whole phase: it escapes to the observer
	for i := range steps {
		s := &steps[i]
		if s.monitor || s.off {
			if s = s.now(); s == nil {
				continue
			}
		}
		before, answer := x.Request, x.Response
		var err error
		d, err = intercept(ctx, x, s.run)
		if s.monitor {
			x.Request, x.Response = before, answer // a control that only observes changes nothing
		}
		if s.sealed && x.Request != before {
			x.Request = before
			d = warder.Refuse(warder.CodeInternal, "rewritten_after_access", "a control changed the request after policy had decided")
		}
		refusal := c.settle(ctx, x, s, phase, &d, err, &start)
		if refusal != nil {
			return refusal
		}
	}
	return nil
}

// maxDecisions bounds what an exchange remembers of decisions that were no plain pass.
const maxDecisions = 256

// settle records what one control decided and turns a refusal into the error the client sees.
func (c *Chain) settle(ctx context.Context, x *warder.Exchange, s *step, phase warder.Phase, d *warder.Decision, err error, start *time.Duration) *warder.Error {
	if err == nil && ctx.Err() != nil && d.Verdict == warder.Pass {
		err = context.Cause(ctx) // a verdict that came too late is no verdict
	}
	if err != nil {
		*d = undecided(ctx, err)
	}
	if err == nil || d.Control == "" {
		d.Control = s.control
	}
	d.Observed = s.monitor && d.Verdict != warder.Pass
	now := time.Since(c.base)
	took := now - *start
	*start = now
	if len(x.Trail) < maxTrail { // a stream runs the Response controls for every message, as long as it lasts
		x.Trail = append(x.Trail, warder.Step{Control: s.control, Phase: phase, Verdict: d.Verdict, Took: took})
	}
	if c.observer != nil && phase != warder.PhaseReview {
		c.observer.Decided(x, phase, d, took)
	}
	if d.Verdict == warder.Pass && len(d.Findings) == 0 && len(d.Policies) == 0 {
		return nil
	}
	for i := range d.Findings {
		d.Findings[i].Control = s.control
	}
	if len(x.Decisions) < maxDecisions {
		x.Decisions = append(x.Decisions, *d)
	} else {
		x.Decisions[maxDecisions-1] = *d // the one that decides is always there
	}
	if d.Verdict == warder.Pass || d.Observed {
		return nil
	}
	return refusal(d, err)
}

// refusal turns a decision that does not pass into the error the client sees.
func refusal(d *warder.Decision, cause error) *warder.Error {
	code := d.Code
	if code == "" {
		switch d.Verdict {
		case warder.Challenge:
			code = warder.CodeUnauthenticated
		case warder.Hold:
			code = warder.CodeHeld
		case warder.Deny, warder.Pass:
			code = warder.CodeDenied
		}
	}
	if cause == nil && d.Detail != "" {
		cause = fmt.Errorf("%s", d.Detail)
	}
	return &warder.Error{Code: code, Reason: d.Reason, Control: d.Control, Public: d.Public, Ask: d.Ask, Err: cause}
}

// intercept calls one control; a panic is an error like any other.
func intercept(ctx context.Context, x *warder.Exchange, ic warder.Interceptor) (d warder.Decision, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("control panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return ic.Intercept(ctx, x)
}

// undecided is the decision for a control that could not decide. Where what it needed waits for a person,
// so does the exchange, in the name of the control that holds it. Where the exchange was cut in the
// meantime, why it was cut is the reason.
func undecided(ctx context.Context, err error) warder.Decision {
	if e, ok := errors.AsType[*warder.Error](context.Cause(ctx)); ok {
		return warder.Decision{Control: e.Control, Verdict: warder.Deny, Code: e.Code, Reason: e.Reason, Public: e.Public, Ask: e.Ask, Detail: e.Error()}
	}
	if e, ok := errors.AsType[*warder.Error](err); ok && e.Code == warder.CodeHeld && e.Ask != nil {
		return warder.Decision{Control: e.Control, Verdict: warder.Hold, Reason: e.Reason, Public: e.Public, Ask: e.Ask, Detail: err.Error()}
	}
	return warder.Refuse(warder.CodeUnavailable, "control_unavailable", err.Error())
}
