package admin

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/registry"
)

// table lists every operation.
func (a *API) table() []operation {
	return slices.Concat(a.aboutSelf(), a.aboutGrants(), a.aboutHolds(), a.aboutPlans(), a.aboutRevocations(), a.aboutAgents(),
		a.aboutDefinitions(), a.aboutLogins(), a.aboutKeys())
}

func (a *API) aboutSelf() []operation {
	glass := a.glass.available()
	breakGlass := op("break_glass.open", "POST /break-glass", "Open a session of an owner with a recovery code", glass,
		func(ctx context.Context, c *call, r GlassRequest) (GlassSession, error) {
			return a.glass.Open(ctx, c.by.Address, r)
		})
	breakGlass.open = true
	return []operation{
		op("status.get", "GET /status", "What an operator should know at a glance", true, func(ctx context.Context, _ *call, _ nothing) (Status, error) {
			return a.status(ctx)
		}),
		op("me.get", "GET /me", "How the API sees the caller", true, func(_ context.Context, c *call, _ nothing) (Me, error) {
			return Me{Name: c.by.Name(), Roles: c.by.Roles, Factor: c.by.Factor, From: c.by.Address}, nil
		}),
		breakGlass,
		op("break_glass.end", "POST /break-glass/end", "End every break-glass session", glass, func(ctx context.Context, _ *call, _ Reason) (nothing, error) {
			return nothing{}, a.glass.End(ctx, "")
		}),
		op("recovery_codes.create", "POST /recovery-codes", "Make new recovery codes for break-glass; those of before end", glass,
			func(ctx context.Context, _ *call, _ nothing) (RecoveryCodes, error) { return a.glass.Codes(ctx) }),
	}
}

// status joins what the gateway knows with what is loud.
func (a *API) status(ctx context.Context) (Status, error) {
	var s Status
	if a.deps.Status != nil {
		var err error
		if s, err = a.deps.Status(ctx); err != nil {
			return s, fmt.Errorf("status: %w", err)
		}
	}
	if !a.glass.available() {
		return s, nil
	}
	var err error
	if s.BreakGlass, err = a.glass.Sessions(ctx); err != nil {
		return s, err
	}
	if s.Recovery, err = a.glass.Left(ctx); err != nil {
		return s, err
	}
	for _, g := range s.BreakGlass {
		s.Warnings = append(s.Warnings, fmt.Sprintf("BREAK-GLASS is open until %s: %s", g.NotAfter.Format("15:04:05"), g.Reason))
	}
	if s.Recovery == 0 {
		s.Warnings = append(s.Warnings, "there is no recovery code: break-glass is not possible")
	}
	return s, nil
}

func (a *API) aboutGrants() []operation {
	g := a.deps.Grants
	there := g != nil
	get := func(ctx context.Context, c *call, _ nothing) (Grant, error) { return g.Get(ctx, c.path("id")) }
	approve := op("grants.approve", "POST /grants/{id}/approve", "Approve a grant that was asked for", there,
		func(ctx context.Context, c *call, _ Reason) (Grant, error) { return g.Approve(ctx, c.by, c.path("id")) })
	approve = sometimes(approve, func(ctx context.Context, c *call, _ Reason) (bool, error) {
		asked, err := g.Get(ctx, c.path("id"))
		return c.own(asked.RequestedBy, asked.Principal), err
	})
	return []operation{
		op("grants.list", "GET /grants", "List grants", there, func(ctx context.Context, _ *call, q GrantQuery) (Page[Grant], error) { return g.List(ctx, q) }),
		op("grants.get", "GET /grants/{id}", "Show a grant", there, get),
		op("grants.request", "POST /grants", "Ask for time-limited access", there, func(ctx context.Context, c *call, r GrantRequest) (Grant, error) {
			if r.Principal == "" {
				r.Principal = c.by.Name()
			}
			return g.Request(ctx, c.by, r)
		}),
		versioned(approve, get),
		versioned(op("grants.deny", "POST /grants/{id}/deny", "Refuse a grant that was asked for", there, func(ctx context.Context, c *call, r Reason) (Grant, error) {
			return g.Deny(ctx, c.by, c.path("id"), r.Reason)
		}), get),
		versioned(op("grants.revoke", "POST /grants/{id}/revoke", "End a grant", there, func(ctx context.Context, c *call, r Reason) (Grant, error) {
			return g.Revoke(ctx, c.by, c.path("id"), r.Reason)
		}), get),
	}
}

func (a *API) aboutHolds() []operation {
	h := a.deps.Holds
	there := h != nil
	decide := func(approve bool) func(context.Context, *call, HoldDecision) (Hold, error) {
		return func(ctx context.Context, c *call, d HoldDecision) (Hold, error) {
			return h.Decide(ctx, c.by, c.path("id"), approve, d)
		}
	}
	return []operation{
		op("holds.list", "GET /approvals", "List calls that wait for a person, without their parameters", there,
			func(ctx context.Context, _ *call, q HoldQuery) (Page[Hold], error) {
				page, err := h.List(ctx, q)
				for i := range page.Items {
					page.Items[i].Parameters, page.Items[i].Nonce = nil, ""
				}
				return page, err
			}),
		op("holds.get", "GET /approvals/{id}", "Show a call that waits, with its complete parameters", there,
			func(ctx context.Context, c *call, _ nothing) (Hold, error) { return h.Show(ctx, c.by, c.path("id")) }),
		sometimes(op("holds.approve", "POST /approvals/{id}/approve", "Let exactly this call pass, once", there, decide(true)),
			func(ctx context.Context, c *call, _ HoldDecision) (bool, error) {
				held, err := h.Get(ctx, c.path("id"))
				return c.own(held.Principal), err
			}),
		op("holds.deny", "POST /approvals/{id}/deny", "Refuse a call that waits", there, decide(false)),
	}
}

func (a *API) aboutPlans() []operation {
	p := a.deps.Plans
	there := p != nil
	get := func(ctx context.Context, c *call, _ nothing) (Plan, error) { return p.Get(ctx, c.path("id")) }
	approve := op("plans.approve", "POST /plans/{id}/approve", "Approve a workflow that was asked for", there,
		func(ctx context.Context, c *call, _ Reason) (Plan, error) { return p.Approve(ctx, c.by, c.path("id")) })
	approve = sometimes(approve, func(ctx context.Context, c *call, _ Reason) (bool, error) {
		asked, err := p.Get(ctx, c.path("id"))
		return c.own(asked.RequestedBy, asked.Principal), err
	})
	return []operation{
		op("plans.list", "GET /plans", "List workflows", there, func(ctx context.Context, _ *call, q PlanQuery) (Page[Plan], error) { return p.List(ctx, q) }),
		op("plans.get", "GET /plans/{id}", "Show a workflow", there, get),
		op("plans.request", "POST /plans", "Ask for a workflow of several steps", there, func(ctx context.Context, c *call, r PlanRequest) (Plan, error) {
			if r.Principal == "" {
				r.Principal = c.by.Name()
			}
			return p.Request(ctx, c.by, r)
		}),
		versioned(approve, get),
		versioned(op("plans.deny", "POST /plans/{id}/deny", "Refuse a workflow that was asked for", there, func(ctx context.Context, c *call, r Reason) (Plan, error) {
			return p.Deny(ctx, c.by, c.path("id"), r.Reason)
		}), get),
		versioned(op("plans.revoke", "POST /plans/{id}/revoke", "End a workflow and the grant of its step", there, func(ctx context.Context, c *call, r Reason) (Plan, error) {
			return p.Revoke(ctx, c.by, c.path("id"), r.Reason)
		}), get),
	}
}

func (a *API) aboutRevocations() []operation {
	r := a.deps.Revocations
	there := r != nil
	create := op("revocations.create", "POST /revocations", "Take rights away, on every replica at once", there,
		func(ctx context.Context, c *call, req RevocationRequest) (Revocation, error) {
			if req.TTLSeconds < 0 {
				return Revocation{}, invalid("ttl_seconds: want no negative number")
			}
			return r.Revoke(ctx, c.by, req)
		})
	return []operation{
		op("revocations.list", "GET /revocations", "List what is revoked", there, func(ctx context.Context, _ *call, q RevocationQuery) (Page[Revocation], error) { return r.List(ctx, q) }),
		sometimes(create, func(_ context.Context, _ *call, req RevocationRequest) (bool, error) {
			return req.Kind == "all" || req.Kind == "tenant" || req.Kind == "issuer", nil
		}),
		op("revocations.lift", "POST /revocations/lift", "Give rights back that were taken away", there, func(ctx context.Context, c *call, t RevocationTarget) (nothing, error) {
			return nothing{}, r.Lift(ctx, c.by, t.Kind, t.Value)
		}),
	}
}

func (a *API) aboutAgents() []operation {
	s := a.deps.Agents
	there := s != nil
	get := func(ctx context.Context, c *call, _ nothing) (Agent, error) { return s.Get(ctx, c.path("name")) }
	disable := func(disabled bool) func(context.Context, *call, Reason) (Agent, error) {
		return func(ctx context.Context, c *call, _ Reason) (Agent, error) {
			return s.Disable(ctx, c.by, c.path("name"), disabled)
		}
	}
	register := op("agents.register", "PUT /agents/{name}", "Register an agent, or replace its registration", there,
		func(ctx context.Context, c *call, r AgentRegistration) (Agent, error) {
			return s.Register(ctx, c.by, Agent{Name: c.path("name"), Owner: r.Owner, Roles: r.Roles, Clients: r.Clients, Tools: r.Tools, NotAfter: r.NotAfter})
		})
	register = sometimes(register, func(ctx context.Context, c *call, _ AgentRegistration) (bool, error) {
		_, err := s.Get(ctx, c.path("name"))
		if missing(err) {
			return false, nil
		}
		return true, err // what is replaced may have been narrower
	})
	return []operation{
		op("agents.list", "GET /agents", "List registered agents", there, func(ctx context.Context, _ *call, q AgentQuery) (Page[Agent], error) { return s.List(ctx, q) }),
		op("agents.get", "GET /agents/{name}", "Show a registered agent", there, get),
		versioned(register, get),
		versioned(op("agents.disable", "POST /agents/{name}/disable", "Refuse every call of an agent", there, disable(true)), get),
		versioned(op("agents.enable", "POST /agents/{name}/enable", "Let an agent act again", there, disable(false)), get),
	}
}

func (a *API) aboutDefinitions() []operation {
	d := a.deps.Definitions
	there := d != nil
	decide := func(f func(context.Context, registry.Request) error) func(context.Context, *call, DefinitionDecision) (nothing, error) {
		return func(ctx context.Context, c *call, in DefinitionDecision) (nothing, error) {
			req, err := request(&in, c.by)
			if err != nil {
				return nothing{}, err
			}
			return nothing{}, f(ctx, req)
		}
	}
	var approve, revoke func(context.Context, registry.Request) error
	if there {
		approve, revoke = d.Approve, d.Revoke
	}
	return []operation{
		op("tools.list", "GET /tools", "List definitions that servers sent, and what was decided about them", there,
			func(ctx context.Context, _ *call, q DefinitionQuery) (Page[Definition], error) {
				return listDefinitions(ctx, d, q)
			}),
		op("tools.approve", "POST /tools/approve", "Let exactly this definition be used", there, decide(approve)),
		op("tools.revoke", "POST /tools/revoke", "Take the approval of a definition back", there, decide(revoke)),
	}
}

// request reads a decision about a definition. Who decides is not part of it.
func request(in *DefinitionDecision, by *Operator) (registry.Request, error) {
	req := registry.Request{Key: registry.Key{Server: in.Server, Kind: in.Kind, Name: in.Name}, Who: by.who(), Labels: in.Labels, Note: in.Note, Keep: in.Keep}
	digest, err := hex.DecodeString(in.Digest)
	if err != nil || len(digest) != len(req.Digest) {
		return req, invalid("digest: want 64 hexadecimal digits")
	}
	copy(req.Digest[:], digest)
	if in.Effect != "" {
		if req.Effect, err = registry.ParseEffect(in.Effect); err != nil {
			return req, invalid("%v", err)
		}
	}
	return req, nil
}

func listDefinitions(ctx context.Context, d Definitions, q DefinitionQuery) (Page[Definition], error) {
	filter := registry.Filter{Server: q.Server}
	for _, s := range []warder.State{warder.Quarantined, warder.Approved, warder.Revoked} {
		if q.State == s.String() {
			filter.State = &s
		}
	}
	entries, err := d.List(ctx, filter)
	if err != nil {
		return Page[Definition]{}, err
	}
	all := make([]Definition, len(entries))
	for i := range entries {
		e := &entries[i]
		all[i] = Definition{
			Server: e.Server, Kind: e.Kind, Name: e.Name, Digest: hex.EncodeToString(e.Digest[:]), State: e.State.String(), Why: string(e.Reason),
			Latest: e.Latest, LastSeen: e.LastSeen,
		}
		if e.Approval != nil {
			all[i].Effect, all[i].Labels, all[i].DecidedBy, all[i].DecidedAt = e.Approval.Effect.String(), e.Approval.Labels, e.Approval.By, e.Approval.At
		}
	}
	return Cut(all, q.Paging, func(d *Definition) string { return d.Server + "/" + d.Kind + "/" + d.Name + "@" + d.Digest }), nil
}

func (a *API) aboutLogins() []operation {
	s, k, l, v := a.deps.Sessions, a.deps.Consents, a.deps.Links, a.deps.Credentials
	return []operation{
		op("sessions.list", "GET /sessions", "List logins at Warder's own authorization server", s != nil,
			func(ctx context.Context, _ *call, q SessionQuery) (Page[Session], error) { return s.List(ctx, q) }),
		op("sessions.end", "POST /sessions/{id}/end", "End a login; what was issued on it is refused", s != nil,
			func(ctx context.Context, c *call, r Reason) (nothing, error) {
				return nothing{}, s.End(ctx, c.by, c.path("id"), r.Reason)
			}),
		op("consents.list", "GET /consents", "List what users allowed clients", k != nil,
			func(ctx context.Context, _ *call, q ConsentQuery) (Page[Consent], error) { return k.List(ctx, q) }),
		op("consents.revoke", "POST /consents/{id}/revoke", "Take a consent back: the client must ask again", k != nil,
			func(ctx context.Context, c *call, _ Reason) (nothing, error) {
				return nothing{}, k.Revoke(ctx, c.by, c.path("id"))
			}),
		op("links.create", "POST /links", "Make a one-time link for the owner of a local account", l != nil,
			func(ctx context.Context, c *call, r LinkRequest) (Link, error) { return l.Create(ctx, c.by, r) }),
		op("credentials.list", "GET /credentials", "List credentials for servers, without their values", v != nil,
			func(ctx context.Context, _ *call, q CredentialQuery) (Page[Credential], error) { return v.List(ctx, q) }),
		op("credentials.remove", "DELETE /credentials/{id}", "Forget a credential for a server", v != nil,
			func(ctx context.Context, c *call, _ nothing) (nothing, error) {
				return nothing{}, v.Remove(ctx, c.by, c.path("id"))
			}),
	}
}

func (a *API) aboutKeys() []operation {
	k := a.deps.Keys
	list := func(keys []Key, err error) (KeyList, error) { return KeyList{Items: append([]Key{}, keys...)}, err }
	return []operation{
		op("keys.list", "GET /keys", "List the signing keys of Warder's own authorization server", k != nil,
			func(ctx context.Context, _ *call, _ nothing) (KeyList, error) { return list(k.List(ctx)) }),
		op("keys.rotate", "POST /keys/rotate", "Sign with a new key; tokens of the old one stay good until they end", k != nil,
			func(ctx context.Context, c *call, _ Reason) (KeyList, error) { return list(k.Rotate(ctx, c.by)) }),
		op("keys.emergency", "POST /keys/emergency", "Sign with a new key and stop trusting every other one at once", k != nil,
			func(ctx context.Context, c *call, r Reason) (KeyList, error) {
				return list(k.Emergency(ctx, c.by, r.Reason))
			}),
	}
}

// own reports whether the operator is one of those named, whatever client or agent came with the name.
func (c *call) own(names ...string) bool { return slices.Contains(names, c.by.Name()) }

// missing reports errors that say that there is no such thing.
func missing(err error) bool { return errors.Is(err, ErrNotFound) || errors.Is(err, state.ErrNotFound) }
