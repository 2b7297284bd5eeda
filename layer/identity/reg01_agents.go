package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
)

// Agents is the registry of agents. It is safe for concurrent use and answers from memory: it is asked
// for every message. The same registration is the same pointer until it changes.
type Agents interface {
	// Resolve returns the agent that the principal comes through: by actor, client id or SPIFFE id.
	// Disabled and ended agents are returned, too.
	Resolve(p *warder.Principal) (*warder.Agent, bool)
}

// An AgentMode says what becomes of callers that are no registered agent.
type AgentMode string

// The modes.
const (
	AgentsOff      AgentMode = "off"      // the registry is not asked
	AgentsKnown    AgentMode = "known"    // they enter, without roles of an agent
	AgentsRequired AgentMode = "required" // they are refused
)

func (m AgentMode) check() error {
	if m == "" || m == AgentsOff || m == AgentsKnown || m == AgentsRequired {
		return nil
	}
	return fmt.Errorf("agents: %q: want off, known or required", m)
}

// RolePrefix stands before the roles of an agent among the groups of a principal, so that a role is
// never mistaken for a group that an issuer vouches for.
const RolePrefix = "agent:"

// registry resolves the caller to a registered agent and gives the principal the agent's roles. It
// refuses agents that are disabled or have ended and, if so configured, callers that are none.
// Control REG-01, first part. Phase Connect, when the principal is known.
type registry struct {
	agents  Agents
	mode    AgentMode
	now     func() time.Time
	resolve resolved
}

var _ warder.Interceptor = (*registry)(nil)

func newRegistry(cfg Config, agents Agents, now func() time.Time) *registry {
	r := &registry{agents: agents, mode: cfg.Agents, now: now}
	if r.mode == "" {
		r.mode = AgentsKnown
	}
	return r
}

// Control returns REG-01.
func (*registry) Control() warder.ControlID { return "REG-01" }

// Intercept sets the principal to one that knows its agent.
func (r *registry) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	p := x.Principal
	if p == nil || r.mode == AgentsOff {
		return warder.Continue(), nil // without a principal ZTA-01 refuses
	}
	if slices.ContainsFunc(p.Groups, func(g string) bool { return strings.HasPrefix(g, RolePrefix) }) {
		return warder.Refuse(warder.CodeDenied, "group_reserved", "the issuer vouches for a group that begins with "+RolePrefix+"; set its group_prefix"), nil
	}
	var agent *warder.Agent
	if r.agents != nil {
		agent, _ = r.agents.Resolve(p)
	}
	switch {
	case agent == nil && r.mode == AgentsRequired:
		return warder.Refuse(warder.CodeDenied, "agent_unregistered", "the caller is no registered agent").
			Tell("This client or agent is not registered here."), nil
	case agent == nil:
		return warder.Continue(), nil
	case agent.Disabled:
		return warder.Refuse(warder.CodeDenied, "agent_disabled", "agent "+agent.Name).Tell("This agent is disabled."), nil
	case !agent.NotAfter.IsZero() && !r.now().Before(agent.NotAfter):
		return warder.Refuse(warder.CodeDenied, "agent_expired", "agent "+agent.Name).Tell("The registration of this agent has ended."), nil
	}
	x.Principal = r.resolve.with(p, agent)
	return warder.Continue(), nil
}

// maxResolved bounds the remembered copies of principals.
const maxResolved = 1 << 14

// resolved remembers the copy of a principal with its agent, so that it is made once and not for
// every message. It is dropped whole at its bound.
type resolved struct {
	at    atomic.Pointer[sync.Map] // *warder.Principal as it was verified, to the copy
	count atomic.Int64
}

func (r *resolved) with(p *warder.Principal, agent *warder.Agent) *warder.Principal {
	m := r.at.Load()
	if m == nil {
		r.at.CompareAndSwap(nil, new(sync.Map))
		m = r.at.Load()
	}
	if found, ok := m.Load(p); ok {
		if c, ok := found.(*warder.Principal); ok && c.Registered == agent {
			return c
		}
	}
	c := *p
	c.Registered = agent
	c.Groups = slices.Clone(p.Groups)
	for _, role := range agent.Roles {
		c.Groups = append(c.Groups, RolePrefix+role)
	}
	m.Store(p, &c)
	if r.count.Add(1) >= maxResolved {
		r.count.Store(0)
		r.at.Store(new(sync.Map))
	}
	return &c
}

// agentTools refuses what the registered agent may not use, whoever it acts for.
// Control REG-01, second part. Phase Request.
type agentTools struct{}

var _ warder.Interceptor = (*agentTools)(nil)

// Control returns REG-01.
func (*agentTools) Control() warder.ControlID { return "REG-01" }

// Intercept compares the target with the patterns of the registration.
func (*agentTools) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Principal == nil || x.Principal.Registered == nil {
		return warder.Continue(), nil
	}
	subject := judged(x)
	kind, name := actsOn(subject.Request)
	if kind == onNothing || agentCovers(x.Principal.Registered, serverName(subject), kind, name) {
		return warder.Continue(), nil
	}
	return warder.Refuse(warder.CodeDenied, "agent_tool", "agent "+x.Principal.Registered.Name+" is not registered for it").
		Tell("This agent is not registered for this tool or method."), nil
}

// agentCovers reports whether a registration covers something of a server: a tool by a pattern
// "server/tool", anything else by "server/*". A caller without registration is not narrowed by one.
func agentCovers(a *warder.Agent, server, kind, name string) bool {
	if a == nil {
		return true
	}
	return slices.ContainsFunc(a.Tools, func(pattern string) bool {
		s, t, ok := strings.Cut(pattern, "/")
		return ok && (s == "*" || s == server) && (t == "*" || kind == onTool && t == name || kind == "instructions")
	})
}
