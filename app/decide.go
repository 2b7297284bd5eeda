package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/revocation"
)

// brokerConfig is the part of the access section that the broker keeps to, and who has two names: people who
// log in here through a provider, and also come with tokens of that provider itself.
func brokerConfig(cfg *config.Config) broker.Config {
	c := cfg.Access
	var aliases []broker.Alias
	for i := range cfg.Issuer.Login.Providers {
		p := &cfg.Issuer.Login.Providers[i]
		aliases = append(aliases, broker.Alias{Begins: cfg.Issuer.URL + "|" + p.Name + ":", Is: p.Issuer + "|"})
	}
	return broker.Config{
		Aliases: aliases,
		Grants: broker.GrantConfig{
			MaxTTL: c.Grants.MaxTTL, Pending: c.Grants.Pending, Skew: c.Grants.Skew, Unused: c.Grants.Unused,
			Approvers: c.Grants.Approvers, Needed: c.Grants.Needed, Self: c.Grants.Self,
		},
		Approvals: broker.ApprovalConfig{
			Approvers: c.Approval.Approvers, Needed: c.Approval.Needed, Self: c.Approval.Self, Timeout: c.Approval.Timeout,
			UseWithin: c.Approval.UseWithin, Retention: c.Approval.Retention, Pending: c.Approval.Rate.Pending,
			PerHour: c.Approval.Rate.PerHour, Queue: c.Approval.Rate.Queue, Critical: c.Approval.Rate.Critical,
		},
		Risk: broker.RiskConfig{HalfLife: c.Risk.HalfLife, Weights: c.Risk.Weights, Fresh: c.Risk.Fresh},
	}
}

// decides gives the access layer what the broker and the revocations know.
func (s *services) decides(d access.Deps) access.Deps {
	d.Revoked = revokedNow{s.revoked}
	d.Grants, d.Plans, d.Holds = grantsNow{s.broker.Grants}, s.broker.Plans, holdsNow{s.broker.Holds}
	d.Risk, d.Posture = s.broker.Risk, s.broker.Posture
	return d
}

type (
	revokedNow struct{ set *revocation.Set }
	grantsNow  struct{ *broker.Grants }
	holdsNow   struct{ holds *broker.Holds }
)

// Check implements access.Revoked.
func (r revokedNow) Check(p *warder.Principal, server, tool string, g *warder.Grant) (what string, credential, revoked bool) {
	e, revoked := r.set.Check(p, server, tool, g)
	if !revoked {
		return "", false, false
	}
	credential = e.Kind == revocation.KindToken || e.Kind == revocation.KindSession || !e.Before.IsZero()
	return fmt.Sprintf("%s revoked by %.100q: %.200q", e.Kind, e.By, e.Reason), credential, true
}

// Age implements access.Revoked.
func (r revokedNow) Age(now time.Time) time.Duration { return r.set.Age(now) }

// spent gives the broker's word for what is used up or over the meaning it has for the layer.
func spent(err error) error {
	if errors.Is(err, broker.ErrUsedUp) || errors.Is(err, broker.ErrEnded) || errors.Is(err, broker.ErrForbidden) || errors.Is(err, broker.ErrNotFound) {
		return fmt.Errorf("%w: %w", access.ErrSpent, err)
	}
	return err
}

// Use implements access.Grants.
func (g grantsNow) Use(ctx context.Context, grant *warder.Grant) error {
	return spent(g.Grants.Use(ctx, grant))
}

func callOf(p *access.Pending) *broker.Call {
	return &broker.Call{
		Principal: p.Principal, Agent: p.Agent, Server: p.Server, Tool: p.Tool, Method: p.Method, Digest: p.Digest, Context: p.Context,
		Parameters: p.Parameters, Effect: p.Effect, Purpose: p.Purpose, Risk: p.Risk, Why: p.Why, Exchange: p.Exchange,
		Rule: broker.Rule{All: p.Approvers},
	}
}

func heldOf(h *broker.Hold) access.Held {
	out := access.Held{ID: h.ID}
	switch h.Status {
	case broker.HoldPending:
		out.State = access.HoldPending
	case broker.HoldApproved:
		out.State = access.HoldApproved
	case broker.HoldDenied:
		out.State = access.HoldDenied
	case broker.HoldExpired, broker.HoldConsumed:
		out.State = access.HoldExpired
	}
	return out
}

// Find implements access.Holds.
func (h holdsNow) Find(c *access.Pending) access.Held {
	hold, ok := h.holds.Find(callOf(c))
	if !ok {
		return access.Held{}
	}
	return heldOf(&hold)
}

// Admit implements access.Holds.
func (h holdsNow) Admit(c *access.Pending) error {
	err := h.holds.Admit(callOf(c))
	if errors.Is(err, broker.ErrTooManyPending) || errors.Is(err, broker.ErrTooManyAsked) || errors.Is(err, broker.ErrQueueFull) {
		return fmt.Errorf("%w: %w", access.ErrFlood, err)
	}
	return err
}

// Open implements access.Holds.
func (h holdsNow) Open(ctx context.Context, c *access.Pending) (access.Held, error) {
	hold, err := h.holds.Open(ctx, callOf(c))
	if errors.Is(err, broker.ErrTooLarge) {
		err = fmt.Errorf("%w: %w", access.ErrTooLarge, err)
	}
	return heldOf(&hold), err
}

// Wait implements access.Holds.
func (h holdsNow) Wait(ctx context.Context, id string, most time.Duration) (access.Held, error) {
	hold, err := h.holds.Wait(ctx, id, most)
	return heldOf(&hold), err
}

// Spent implements access.Holds.
func (h holdsNow) Spent(id string, c *access.Pending) bool { return h.holds.Spent(id, callOf(c)) }

// Consume implements access.Holds.
func (h holdsNow) Consume(ctx context.Context, id string, c *access.Pending) error {
	_, err := h.holds.Consume(ctx, id, callOf(c))
	return spent(err)
}
