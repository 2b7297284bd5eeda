package access

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// everyMessage asks policy about each message of a client, never about a session: a policy change
// takes effect on the next message of the same connection.
// Control CVM-01; NIST SP 800-207 section 2.1 tenets 3 and 6. Phase Request, last of the judging
// controls.
type everyMessage struct {
	deps   Deps
	around *surroundings
	needed effects // effects whose calls need a grant
}

var _ warder.Interceptor = (*everyMessage)(nil)

// Control returns CVM-01.
func (*everyMessage) Control() warder.ControlID { return "CVM-01" }

// Intercept decides on the inspected message.
func (e *everyMessage) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Principal == nil {
		return warder.Refuse(warder.CodeUnauthenticated, "principal_missing", ""), nil
	}
	r := e.ask(x)
	c := &r.Context
	x.Around = warder.Surroundings{
		Asked: true, Zone: c.Zone, Country: c.Country, Posture: c.Posture, Purpose: c.Purpose, Trust: c.Trust, Grant: c.Grant,
	}
	d, err := e.deps.Authorizer.Authorize(ctx, r)
	if err != nil {
		return warder.Decision{}, err // the runner denies
	}
	if !d.Allow {
		return e.deps.refuse(ctx, x, r, d), nil
	}
	x.Policies = d.Policies
	if len(d.Obligations) > 0 {
		x.Obligations = append(slices.Clip(x.Obligations), d.Obligations...)
	}
	if x.Grant != nil && !e.counts(x, &d) {
		x.Grant = nil // the call needs none: nothing is spent on it
	}
	return warder.Continue(), nil
}

// ask puts the message and its surroundings as a question to policy.
func (e *everyMessage) ask(x *warder.Exchange) *Request {
	r := requestOf(x, e.deps.Now())
	e.around.describe(x, &r.Context)
	return r
}

// counts reports whether the grant is why the call may pass.
func (e *everyMessage) counts(x *warder.Exchange, d *Decision) bool {
	return x.Grant.Plan != "" || d.Granted || e.needed.has(effectOf(x)) || obliged(d.Obligations, warder.ObligationGrant)
}

// refuse turns a denial into the decision the client sees.
func (d Deps) refuse(ctx context.Context, x *warder.Exchange, r *Request, no Decision) warder.Decision {
	if len(no.Scopes) > 0 && d.MetadataURL != nil && x.Door != warder.DoorStdio {
		// RFC 6750 section 3.1, with every scope of this operation at once (MCP authorization).
		return warder.Decision{
			Verdict: warder.Challenge, Code: warder.CodeInsufficientScope, Reason: "insufficient_scope",
			Detail: no.Detail, Policies: no.Policies,
			Ask: &warder.Ask{
				Scheme: "Bearer", Error: "insufficient_scope", Scopes: no.Scopes,
				ResourceMetadata: d.MetadataURL(x.Endpoint),
			},
		}
	}
	refusal := warder.Refuse(warder.CodeDenied, no.Reason, no.Detail)
	if d.hidden(ctx, r) {
		refusal.Code, refusal.Reason = warder.CodeNotFound, "not_found"
		if refusal.Detail == "" {
			refusal.Detail = string(no.Reason)
		}
	}
	refusal.Policies = no.Policies
	return refusal
}

// hidden reports whether the principal may not even connect to the server or group, which then answers
// like one that does not exist.
func (d Deps) hidden(ctx context.Context, r *Request) bool {
	if r.Resource.Kind != KindEndpoint && r.Resource.Kind != KindServer {
		return false // tools and prompts are hidden by MST-01; whether a URI exists is not known here
	}
	for _, hello := range []string{wire.MethodInitialize, wire.MethodDiscover} {
		probe := *r
		probe.Action = hello
		if yes, err := d.Authorizer.Possible(ctx, &probe); yes && err == nil {
			return false
		}
	}
	return true
}

// reassess asks policy again while an answer streams. It works on every message of the answer, but
// asks only when the interval has passed since it last did, so an ordinary answer costs one
// comparison.
// Control CVM-01; design section 3 (CVM-04 deepens it). Phase Response; Complete forgets.
type reassess struct {
	*everyMessage
	every time.Duration

	mu    sync.Mutex
	asked map[*warder.Exchange]time.Time // exchanges older than the interval only; removed by Record
}

var (
	_ warder.Interceptor = (*reassess)(nil)
	_ warder.Recorder    = (*reassess)(nil)
)

func newReassess(policy *everyMessage, every time.Duration) *reassess {
	return &reassess{everyMessage: policy, every: every, asked: map[*warder.Exchange]time.Time{}}
}

// Control returns CVM-01.
func (*reassess) Control() warder.ControlID { return "CVM-01" }

// Intercept passes until the interval is over, then decides anew.
func (a *reassess) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	now := a.deps.Now()
	if now.Sub(x.Received) < a.every || !a.due(x, now) {
		return warder.Continue(), nil
	}
	if x.Principal == nil {
		return warder.Refuse(warder.CodeUnauthenticated, "principal_missing", ""), nil
	}
	if end := x.Principal.NotAfter; !end.IsZero() && !now.Before(end) {
		return warder.Refuse(warder.CodeUnauthenticated, "credential_ended", "the credential ended while the answer was streaming"), nil
	}
	d, err := a.deps.Authorizer.Authorize(ctx, a.ask(x))
	if err != nil {
		return warder.Decision{}, err // the runner denies
	}
	if !d.Allow {
		refusal := warder.Refuse(warder.CodeDenied, d.Reason, "reassessment: "+d.Detail)
		refusal.Policies = d.Policies
		return refusal, nil
	}
	if !slices.Equal(x.Policies, d.Policies) {
		x.Policies = d.Policies
	}
	a.mu.Lock()
	a.asked[x] = now
	a.mu.Unlock()
	return warder.Continue(), nil
}

// due reports whether the exchange has to be asked about again. Only a permission is remembered, so
// after a denial every further message is asked about.
func (a *reassess) due(x *warder.Exchange, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	last, known := a.asked[x]
	return !known || now.Sub(last) >= a.every
}

// Record forgets a finished exchange.
func (a *reassess) Record(_ context.Context, x *warder.Exchange) error {
	if a.deps.Now().Sub(x.Received) < a.every {
		return nil // cannot have been remembered
	}
	a.mu.Lock()
	delete(a.asked, x)
	a.mu.Unlock()
	return nil
}
