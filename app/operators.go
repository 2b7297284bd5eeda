package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/revocation"
)

// The services of the broker as the admin plane knows them.
type (
	grantAdmin struct {
		grants  *broker.Grants
		revoked *revocation.Set
	}
	holdAdmin struct{ holds *broker.Holds }
	planAdmin struct {
		plans  *broker.Plans
		grants grantAdmin
	}
	agentAdmin struct {
		agents  *broker.Agents
		revoked *revocation.Set
		now     func() time.Time
	}
)

var (
	_ admin.Grants = grantAdmin{}
	_ admin.Holds  = holdAdmin{}
	_ admin.Plans  = planAdmin{}
	_ admin.Agents = agentAdmin{}
)

// channel names the admin plane beside a decision.
const channel = "admin"

// person is an operator as the broker knows people.
func person(by *admin.Operator) broker.Person {
	return broker.Person{Issuer: by.Principal.Issuer, Subject: by.Principal.Subject, Groups: by.Principal.Groups, Operator: true}
}

// adminError gives an error of the broker the meaning it has for the admin plane.
func adminError(err error) error {
	if err == nil {
		return nil
	}
	for _, row := range []struct{ from, to error }{
		{broker.ErrNotFound, admin.ErrNotFound},
		{broker.ErrInvalid, admin.ErrInvalid},
		{broker.ErrForbidden, admin.ErrRefused},
		{broker.ErrDecided, admin.ErrRefused},
		{broker.ErrEnded, admin.ErrRefused},
		{broker.ErrNonce, admin.ErrRefused},
		{broker.ErrUsedUp, admin.ErrRefused},
	} {
		if errors.Is(err, row.from) {
			return fmt.Errorf("%w: %w", row.to, err)
		}
	}
	return err
}

// shown is the key of a principal as people read it: issuer|subject, then client and agent if the key
// names them.
func shown(key string) string {
	parts := strings.Split(key, "\x1f") // tenant, issuer, subject, client, agent
	if len(parts) != 5 {
		return key
	}
	return parts[1] + "|" + parts[2]
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// lasting is a number of seconds as a duration; more than a year is not acceptable to any service.
func lasting(n int64) time.Duration {
	const year = 366 * 24 * 3600
	return time.Duration(max(-1, min(n, year))) * time.Second
}

func boundsOf(in []admin.Bound) []warder.Bound {
	var out []warder.Bound
	for _, b := range in {
		bound := warder.Bound{Pointer: b.Pointer, Equals: b.Equals, Prefix: b.Prefix, Min: b.Min, Max: b.Max}
		for _, v := range b.OneOf {
			bound.OneOf = append(bound.OneOf, v)
		}
		out = append(out, bound)
	}
	return out
}

func shownBounds(in []warder.Bound) []admin.Bound {
	var out []admin.Bound
	for _, b := range in {
		bound := admin.Bound{Pointer: b.Pointer, Equals: b.Equals, Prefix: b.Prefix, Min: b.Min, Max: b.Max}
		for _, v := range b.OneOf {
			bound.OneOf = append(bound.OneOf, v)
		}
		out = append(out, bound)
	}
	return out
}

func shownVotes(in []broker.Vote) []admin.Vote {
	var out []admin.Vote
	for _, v := range in {
		out = append(out, admin.Vote{By: v.By, Channel: v.Channel, At: v.At})
	}
	return out
}

func shownGrant(g *broker.GrantRecord) admin.Grant {
	return admin.Grant{
		ID: g.ID, Status: string(g.Status), Principal: shown(g.Principal), Agent: g.Agent, Server: g.Server, Tools: g.Tools,
		Arguments: shownBounds(g.Arguments), Purpose: g.Purpose, Reason: g.Reason, RequestedBy: g.RequestedBy, RequestedAt: g.RequestedAt,
		TTLSeconds: seconds(g.TTL), NotBefore: g.NotBefore, NotAfter: g.NotAfter, Uses: g.Uses, Used: g.Used, Votes: shownVotes(g.Votes),
		EndedBy: g.EndedBy, EndedAt: g.EndedAt, Plan: g.Plan, Step: g.Step,
	}
}

// Request implements admin.Grants.
func (a grantAdmin) Request(ctx context.Context, by *admin.Operator, r admin.GrantRequest) (admin.Grant, error) {
	g, err := a.grants.Request(ctx, broker.GrantRequest{
		Principal: r.Principal, Agent: r.Agent, Server: r.Server, Tools: r.Tools, Arguments: boundsOf(r.Arguments), Purpose: r.Purpose,
		TTL: lasting(r.TTLSeconds), Uses: r.Uses, Reason: r.Reason, By: person(by),
	})
	return shownGrant(&g), adminError(err)
}

// Approve implements admin.Grants.
func (a grantAdmin) Approve(ctx context.Context, by *admin.Operator, id string) (admin.Grant, error) {
	g, err := a.grants.Approve(ctx, id, person(by), channel)
	return shownGrant(&g), adminError(err)
}

// Deny implements admin.Grants.
func (a grantAdmin) Deny(ctx context.Context, by *admin.Operator, id, reason string) (admin.Grant, error) {
	g, err := a.grants.Deny(ctx, id, person(by), reason)
	return shownGrant(&g), adminError(err)
}

// Revoke implements admin.Grants. What runs under the grant ends with it, on every replica (control JIT-04).
func (a grantAdmin) Revoke(ctx context.Context, by *admin.Operator, id, reason string) (admin.Grant, error) {
	cut := a.cut(ctx, by, id, reason)
	g, err := a.grants.Revoke(ctx, id, person(by), reason)
	if err == nil {
		err = cut
	}
	return shownGrant(&g), adminError(err)
}

// cut ends what runs under a grant. A grant that was not given, or is not there, has nothing running.
func (a grantAdmin) cut(ctx context.Context, by *admin.Operator, id, reason string) error {
	g, err := a.grants.Get(ctx, id)
	if err != nil || g.Status == broker.GrantPending || g.Status == broker.GrantDenied {
		return err
	}
	return a.revoked.Revoke(ctx, revocation.Entry{Kind: revocation.KindGrant, Value: id, NotAfter: g.NotAfter, Reason: reason, By: by.Name()})
}

// Get implements admin.Grants.
func (a grantAdmin) Get(ctx context.Context, id string) (admin.Grant, error) {
	g, err := a.grants.Get(ctx, id)
	return shownGrant(&g), adminError(err)
}

// List implements admin.Grants.
func (a grantAdmin) List(ctx context.Context, q admin.GrantQuery) (admin.Page[admin.Grant], error) {
	found, err := a.grants.List(ctx, broker.GrantQuery{Principal: q.Principal, Server: q.Server, Status: broker.GrantStatus(q.Status), After: q.After})
	all := make([]admin.Grant, len(found))
	for i := range found {
		all[i] = shownGrant(&found[i])
	}
	return admin.Cut(all, q.Paging, func(g *admin.Grant) string { return g.ID }), adminError(err)
}

func shownHold(h *broker.Hold) admin.Hold {
	return admin.Hold{
		ID: h.ID, Nonce: h.Nonce, Status: string(h.Status), Principal: shown(h.Principal), Agent: h.Agent, Server: h.Server, Tool: h.Tool,
		Method: h.Method, Digest: h.Digest, Effect: h.Effect.String(), Reversible: h.Reversible(), Purpose: h.Purpose, Risk: h.Risk,
		Urgency: h.Urgency, Why: h.Why, Exchange: h.Exchange, Approvers: h.Approvers, Needed: h.Needed, Opened: h.OpenedAt, Expires: h.Expires,
		Votes: shownVotes(h.Votes), DeniedBy: h.DeniedBy, DecidedAt: h.DecidedAt, Comment: h.Comment, Parameters: h.Parameters,
	}
}

// Decide implements admin.Holds.
func (a holdAdmin) Decide(ctx context.Context, by *admin.Operator, id string, approve bool, d admin.HoldDecision) (admin.Hold, error) {
	h, err := a.holds.Decide(ctx, broker.HoldDecision{Hold: id, Nonce: d.Nonce, Approve: approve, By: person(by), Channel: channel, Comment: d.Comment})
	return shownHold(&h), adminError(err)
}

// Show implements admin.Holds.
func (a holdAdmin) Show(ctx context.Context, by *admin.Operator, id string) (admin.Hold, error) {
	h, err := a.holds.Show(ctx, id, person(by))
	return shownHold(&h), adminError(err)
}

// Get implements admin.Holds.
func (a holdAdmin) Get(ctx context.Context, id string) (admin.Hold, error) {
	h, err := a.holds.Get(ctx, id)
	return shownHold(&h), adminError(err)
}

// List implements admin.Holds.
func (a holdAdmin) List(ctx context.Context, q admin.HoldQuery) (admin.Page[admin.Hold], error) {
	found, err := a.holds.List(ctx, broker.HoldStatus(q.Status))
	all := make([]admin.Hold, len(found))
	for i := range found {
		all[i] = shownHold(&found[i])
	}
	return admin.Cut(all, q.Paging, func(h *admin.Hold) string { return h.ID }), adminError(err)
}

func shownPlan(p *broker.PlanRecord) admin.Plan {
	out := admin.Plan{
		ID: p.ID, Status: string(p.Status), Principal: shown(p.Principal), Agent: p.Agent, At: p.At, Failures: p.Failures, Grant: p.Grant,
		TTLSeconds: seconds(p.TTL), NotAfter: p.NotAfter, Reason: p.Reason, RequestedBy: p.RequestedBy, RequestedAt: p.RequestedAt,
		Votes: shownVotes(p.Votes), EndedBy: p.EndedBy,
	}
	for _, s := range p.Steps {
		out.Steps = append(out.Steps, admin.Step{Server: s.Server, Tools: s.Tools, Arguments: shownBounds(s.Arguments), Purpose: s.Purpose})
	}
	return out
}

// Request implements admin.Plans.
func (a planAdmin) Request(ctx context.Context, by *admin.Operator, r admin.PlanRequest) (admin.Plan, error) {
	q := broker.PlanRequest{Principal: r.Principal, Agent: r.Agent, TTL: lasting(r.TTLSeconds), Reason: r.Reason, By: person(by)}
	for _, s := range r.Steps {
		q.Steps = append(q.Steps, broker.Step{Server: s.Server, Tools: s.Tools, Arguments: boundsOf(s.Arguments), Purpose: s.Purpose})
	}
	p, err := a.plans.Request(ctx, q)
	return shownPlan(&p), adminError(err)
}

// Approve implements admin.Plans.
func (a planAdmin) Approve(ctx context.Context, by *admin.Operator, id string) (admin.Plan, error) {
	p, err := a.plans.Approve(ctx, id, person(by), channel)
	return shownPlan(&p), adminError(err)
}

// Deny implements admin.Plans.
func (a planAdmin) Deny(ctx context.Context, by *admin.Operator, id, reason string) (admin.Plan, error) {
	p, err := a.plans.Deny(ctx, id, person(by), reason)
	return shownPlan(&p), adminError(err)
}

// Revoke implements admin.Plans. What runs under the grant of its step ends with it.
func (a planAdmin) Revoke(ctx context.Context, by *admin.Operator, id, reason string) (admin.Plan, error) {
	p, err := a.plans.Revoke(ctx, id, person(by), reason)
	if err == nil && p.Grant != "" {
		err = a.grants.cut(ctx, by, p.Grant, reason)
	}
	return shownPlan(&p), adminError(err)
}

// Get implements admin.Plans.
func (a planAdmin) Get(ctx context.Context, id string) (admin.Plan, error) {
	p, err := a.plans.Get(ctx, id)
	return shownPlan(&p), adminError(err)
}

// List implements admin.Plans.
func (a planAdmin) List(ctx context.Context, q admin.PlanQuery) (admin.Page[admin.Plan], error) {
	found, err := a.plans.List(ctx)
	all := make([]admin.Plan, len(found))
	for i := range found {
		all[i] = shownPlan(&found[i])
	}
	return admin.Cut(all, q.Paging, func(p *admin.Plan) string { return p.ID }), adminError(err)
}

func shownAgent(r *broker.AgentRecord) admin.Agent {
	return admin.Agent{Name: r.Name, Owner: r.Owner, Roles: r.Roles, Clients: r.Clients, Tools: r.Tools, NotAfter: r.NotAfter, Disabled: r.Disabled}
}

// Register implements admin.Agents.
func (a agentAdmin) Register(ctx context.Context, by *admin.Operator, in admin.Agent) (admin.Agent, error) {
	r, err := a.agents.Register(ctx, warder.Agent{
		Name: in.Name, Owner: in.Owner, Roles: in.Roles, Clients: in.Clients, Tools: in.Tools, NotAfter: in.NotAfter,
	}, person(by))
	return shownAgent(&r), adminError(err)
}

// Disable implements admin.Agents.
func (a agentAdmin) Disable(ctx context.Context, by *admin.Operator, name string, disabled bool) (admin.Agent, error) {
	r, err := a.agents.Disable(ctx, name, disabled, person(by))
	if err != nil || !disabled {
		return shownAgent(&r), adminError(err)
	}
	// Its next request is refused because it is disabled; this ends what runs, on every replica.
	return shownAgent(&r), a.revoked.Revoke(ctx, revocation.Entry{
		Kind: revocation.KindAgent, Value: name, NotAfter: a.now().Add(cutFor), Reason: "disabled", By: by.Name(),
	})
}

// cutFor is how long a revocation stands whose only purpose is to end what runs.
const cutFor = 10 * time.Second

// Get implements admin.Agents.
func (a agentAdmin) Get(ctx context.Context, name string) (admin.Agent, error) {
	r, err := a.agents.Get(ctx, name)
	return shownAgent(&r), adminError(err)
}

// List implements admin.Agents.
func (a agentAdmin) List(ctx context.Context, q admin.AgentQuery) (admin.Page[admin.Agent], error) {
	found, err := a.agents.List(ctx)
	var all []admin.Agent
	for i := range found {
		if q.Owner == "" || q.Owner == found[i].Owner {
			all = append(all, shownAgent(&found[i]))
		}
	}
	return admin.Cut(all, q.Paging, func(a *admin.Agent) string { return a.Name }), adminError(err)
}
