package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/rar"
	"github.com/warder-mcp/warder/internal/spiffe"
)

// Chain says which delegation chains are accepted.
type Chain struct {
	MaxDepth     int      `yaml:"max_depth"`     // actors in a token at most, 1 to 8; zero means 4; -1 accepts no delegated token
	Registered   bool     `yaml:"registered"`    // true wants every actor to be a registered agent
	TrustDomains []string `yaml:"trust_domains"` // SPIFFE trust domains that workloads may be of; empty: any
}

// Bounds of delegation chains. What is deeper than maxActors is not even read.
const defaultDepth = 4

func (c Chain) check() error {
	var err error
	if c.MaxDepth < -1 || c.MaxDepth > maxActors {
		err = fmt.Errorf("chain.max_depth: %d is not between -1 and %d", c.MaxDepth, maxActors)
	}
	for _, d := range c.TrustDomains {
		if fault := spiffe.CheckDomain(d); fault != nil {
			err = errors.Join(err, fmt.Errorf("chain.trust_domains: %q: %w", d, fault))
		}
	}
	return err
}

// delegation refuses a token whose chain of actors is too long, goes in a circle, has actors that are
// not what they must be, or hands on more than the one before had.
// Control AUT-09; RFC 8693 sections 4.1 and 4.4, SPIFFE-ID section 2. Phase Connect, when the
// principal is known.
type delegation struct {
	cfg    Chain
	depth  int
	agents Agents
	givers map[string][]string // scope to those that include it
}

var _ warder.Interceptor = (*delegation)(nil)

func newDelegation(cfg Config, agents Agents) *delegation {
	d := &delegation{cfg: cfg.Chain, depth: cfg.Chain.MaxDepth, agents: agents, givers: inclusion(cfg.Implies)}
	switch d.depth {
	case 0:
		d.depth = defaultDepth
	case -1:
		d.depth = 0
	}
	return d
}

// Control returns AUT-09.
func (*delegation) Control() warder.ControlID { return "AUT-09" }

// Intercept judges the chain of the principal.
func (d *delegation) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	p := x.Principal
	if p == nil || len(p.Chain) == 0 && len(p.Actors) == 0 && p.Workload == "" {
		return warder.Continue(), nil
	}
	if reason, detail := d.fault(p); reason != "" {
		return warder.Refuse(warder.CodeDenied, reason, detail).Tell("The delegation chain of the credential is not accepted."), nil
	}
	return warder.Continue(), nil
}

// fault says what is wrong with the chain, nothing if it is sound.
func (d *delegation) fault(p *warder.Principal) (reason warder.Reason, detail string) {
	switch {
	case len(p.Chain) != len(p.Actors):
		return "chain_incomplete", "the chain lacks what its hops were given"
	case len(p.Chain) > d.depth:
		return "chain_too_deep", fmt.Sprintf("%d actors, at most %d are accepted", len(p.Chain), d.depth)
	case p.MayAct != nil && len(p.Chain) > 0 && !sameActor(*p.MayAct, p.Chain[0], p.Issuer):
		return "actor_not_allowed", "may_act names another actor"
	case !d.workload(p.Workload):
		return "workload_invalid", "the workload's SPIFFE id is malformed or of another trust domain"
	}
	for i, a := range p.Chain {
		switch {
		case !d.workload(a.Subject):
			return "workload_invalid", fmt.Sprintf("actor %d: SPIFFE id is malformed or of another trust domain", i+1)
		case d.repeats(p, i):
			return "chain_cyclic", fmt.Sprintf("actor %d stands in the chain twice", i+1)
		case d.cfg.Registered && !d.known(p, a):
			return "actor_unregistered", fmt.Sprintf("actor %d is no registered agent", i+1)
		}
	}
	return d.widened(p)
}

// workload accepts whatever is no SPIFFE id, and SPIFFE ids that are sound.
func (d *delegation) workload(id string) bool {
	if len(id) < len("spiffe:") || !strings.EqualFold(id[:len("spiffe:")], "spiffe:") {
		return true
	}
	domain, ok := spiffe.TrustDomain(id)
	return ok && (len(d.cfg.TrustDomains) == 0 || slices.Contains(d.cfg.TrustDomains, domain))
}

// repeats reports whether actor i is the subject or stands further on in the chain.
func (d *delegation) repeats(p *warder.Principal, i int) bool {
	self := warder.Actor{Issuer: p.Issuer, Subject: p.Subject}
	return sameActor(self, p.Chain[i], p.Issuer) ||
		slices.ContainsFunc(p.Chain[i+1:], func(b warder.Actor) bool { return sameActor(p.Chain[i], b, p.Issuer) })
}

// sameActor compares issuer and subject; an actor without issuer is one of the token's.
func sameActor(a, b warder.Actor, issuer string) bool {
	of := func(a warder.Actor) string {
		if a.Issuer == "" {
			return issuer
		}
		return a.Issuer
	}
	return a.Subject == b.Subject && of(a) == of(b)
}

// known asks the registry for an actor of the chain.
func (d *delegation) known(p *warder.Principal, a warder.Actor) bool {
	if d.agents == nil {
		return false
	}
	q := warder.Principal{Issuer: a.Issuer, Subject: a.Subject, Tenant: p.Tenant, Client: a.Client, Agent: a.Subject}
	if q.Issuer == "" {
		q.Issuer = p.Issuer
	}
	if strings.HasPrefix(a.Subject, "spiffe://") {
		q.Workload = a.Subject
	}
	agent, ok := d.agents.Resolve(&q)
	return ok && agent != nil && !agent.Disabled
}

// widened walks from the token outwards: what each hop holds must be within what the next hop that
// says so held before it.
func (d *delegation) widened(p *warder.Principal) (reason warder.Reason, detail string) {
	scopes, details := p.Scopes, p.Details
	for i, a := range p.Chain {
		if a.Scopes != nil {
			for _, s := range scopes {
				if !d.gives(a.Scopes, s) {
					return "chain_widens_scope", fmt.Sprintf("actor %d did not hold all the scopes that were handed on", i+1)
				}
			}
			scopes = a.Scopes
		}
		if len(a.Details) > 0 {
			if !rar.Narrower(a.Details, details) {
				return "chain_widens_details", fmt.Sprintf("actor %d did not hold all the authorization details that were handed on", i+1)
			}
			details = a.Details
		}
	}
	return "", ""
}

func (d *delegation) gives(held []string, scope string) bool {
	return slices.Contains(held, scope) || slices.ContainsFunc(d.givers[scope], func(g string) bool { return slices.Contains(held, g) })
}

// readChain reads nested act claims, nearest actor first, and may_act.
func readChain(c jose.Claims) (chain []warder.Actor, mayAct *warder.Actor, ref *refusal) {
	permitted, err := c.Object("may_act")
	if err != nil {
		return nil, nil, refused(err)
	}
	if permitted != nil {
		a, ref := readActor(permitted)
		if ref != nil {
			return nil, nil, ref
		}
		mayAct = &a
	}
	for {
		act, err := c.Object("act")
		switch {
		case err != nil:
			return nil, nil, refused(err)
		case act == nil:
			return chain, mayAct, nil
		case len(chain) == maxActors:
			return nil, nil, &refusal{"actor_chain_too_long", ""}
		}
		a, ref := readActor(act)
		if ref != nil {
			return nil, nil, ref
		}
		chain = append(chain, a)
		c = act
	}
}

// readActor reads one act or may_act object.
func readActor(c jose.Claims) (a warder.Actor, ref *refusal) {
	var errs [4]error
	a.Subject, errs[0] = c.Text("sub")
	a.Issuer, errs[1] = c.Text("iss")
	a.Client, errs[2] = c.Text("client_id")
	if _, stated := c["scope"]; stated {
		a.Scopes, errs[3] = c.Words("scope")
		if a.Scopes == nil {
			a.Scopes = []string{}
		}
	}
	if err := errors.Join(errs[:]...); err != nil {
		return a, refused(err)
	}
	if a.Subject == "" {
		a.Subject = a.Client
	}
	if a.Subject == "" {
		return a, &refusal{"actor_malformed", "act claim without subject"}
	}
	var held warder.Principal
	ref = authority(c, &held)
	a.Details = held.Details
	return a, ref
}
