package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
)

// An AgentRecord is a registered agent with its history.
type AgentRecord struct {
	warder.Agent
	RegisteredBy string    `json:"registered_by"`
	RegisteredAt time.Time `json:"registered_at"`
	DisabledBy   string    `json:"disabled_by,omitempty"`
}

// Agents is the registry of agents (REG-01). It is safe for concurrent use.
type Agents struct {
	b *Broker

	byClient atomic.Pointer[map[string]*warder.Agent] // replaced, never changed

	mu     sync.Mutex
	byName map[string]agentEntry
}

type agentEntry struct {
	rec AgentRecord
	seq int64
}

// agentClient is the document that makes a client id belong to one agent only.
type agentClient struct {
	Agent string `json:"agent"`
}

func newAgents(b *Broker) *Agents {
	a := &Agents{b: b, byName: map[string]agentEntry{}}
	a.byClient.Store(&map[string]*warder.Agent{})
	return a
}

// Resolve returns the agent that acts for a principal, as it is registered: by the nearest actor if the
// credential names one, otherwise by the workload, otherwise by the OAuth client. It may be disabled or
// ended; the caller looks. The agent must not be changed.
func (a *Agents) Resolve(p *warder.Principal) (*warder.Agent, bool) {
	known := *a.byClient.Load()
	if p == nil || len(known) == 0 {
		return nil, false
	}
	for _, id := range [...]string{p.Agent, p.Workload, p.Client} {
		if id != "" {
			agent, ok := known[id]
			return agent, ok
		}
	}
	return nil, false
}

// Register adds an agent or replaces one of the same name. A client id belongs to one agent. Errors are
// ErrInvalid, ErrForbidden when a client id is another agent's, and those of store and trail.
func (a *Agents) Register(ctx context.Context, agent warder.Agent, by Person) (AgentRecord, error) {
	if err := checkAgent(&agent); err != nil {
		return AgentRecord{}, err
	}
	now := a.b.deps.Now().UTC()
	r := AgentRecord{Agent: agent, RegisteredBy: by.String(), RegisteredAt: now}
	err := a.write(ctx, &r, "registered", by)
	return r, err
}

var agentName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`)

func checkAgent(agent *warder.Agent) error {
	long := func(s string) bool { return s == "" || len(s) > 2*maxWord }
	switch {
	case !agentName.MatchString(agent.Name):
		return fmt.Errorf("%w: name: want letters, digits, . _ : / -, at most 128", ErrInvalid)
	case long(agent.Owner):
		return fmt.Errorf("%w: owner: somebody answers for an agent", ErrInvalid)
	case len(agent.Clients) == 0 || len(agent.Clients) > maxTools || slices.ContainsFunc(agent.Clients, long):
		return fmt.Errorf("%w: clients: want 1 to %d client ids, actor subjects or SPIFFE ids", ErrInvalid, maxTools)
	case len(agent.Tools) > 16*maxTools || slices.ContainsFunc(agent.Tools, long):
		return fmt.Errorf("%w: tools: too many, or an empty or long pattern", ErrInvalid)
	case len(agent.Roles) > maxTools || slices.ContainsFunc(agent.Roles, long):
		return fmt.Errorf("%w: roles: too many, or an empty or long one", ErrInvalid)
	}
	slices.Sort(agent.Clients)
	agent.Clients = slices.Compact(agent.Clients)
	return nil
}

// Disable stops an agent from acting, or lets it act again.
func (a *Agents) Disable(ctx context.Context, name string, disabled bool, by Person) (AgentRecord, error) {
	r, err := a.Get(ctx, name)
	if err != nil {
		return r, err
	}
	word := "enabled"
	if r.Disabled, r.DisabledBy = disabled, ""; disabled {
		r.DisabledBy, word = by.String(), "disabled"
	}
	return r, a.write(ctx, &r, word, by)
}

// Get returns a registered agent. The error is ErrNotFound or the store's.
func (a *Agents) Get(ctx context.Context, name string) (AgentRecord, error) {
	d, err := a.b.deps.State.Get(ctx, kindAgent, name)
	if errors.Is(err, state.ErrNotFound) {
		return AgentRecord{}, fmt.Errorf("agent %q: %w", name, ErrNotFound)
	}
	if err != nil {
		return AgentRecord{}, err
	}
	return decodeAgent(&d)
}

// List returns every registered agent in order of their names.
func (a *Agents) List(ctx context.Context) ([]AgentRecord, error) {
	var out []AgentRecord
	for d, err := range state.All(ctx, a.b.deps.State, state.Query{Kind: kindAgent}) {
		if err != nil {
			return nil, fmt.Errorf("list agents: %w", err)
		}
		r, err := decodeAgent(d)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// write stores an agent together with the ownership of its client ids, all or none.
func (a *Agents) write(ctx context.Context, r *AgentRecord, what string, by Person) error {
	e := warder.Event{
		Type: warder.EventAgent, Principal: eventPrincipal(by), Target: r.Name, Reason: warder.Reason(what),
		Detail: fmt.Sprintf("agent %q of %.200q, clients %.300q", r.Name, r.Owner, r.Clients),
	}
	if err := a.b.record(ctx, e); err != nil {
		return err
	}
	for range tries {
		docs, err := a.documents(ctx, r)
		if err != nil {
			return err
		}
		err = a.b.put(ctx, docs...)
		if errors.Is(err, state.ErrConflict) {
			continue
		}
		if err != nil {
			return fmt.Errorf("agent %q: %w", r.Name, err)
		}
		return nil
	}
	return fmt.Errorf("agent %q: %w", r.Name, state.ErrConflict)
}

// documents are the agent's own and one for each of its client ids. A client id that belonged to an agent
// which no longer claims it is free.
func (a *Agents) documents(ctx context.Context, r *AgentRecord) ([]state.Doc, error) {
	body, err := encode(r)
	if err != nil {
		return nil, err
	}
	own := state.Doc{Kind: kindAgent, ID: r.Name, Owner: r.Owner, Body: body}
	switch there, err := a.b.deps.State.Get(ctx, kindAgent, r.Name); {
	case err == nil:
		own.Version = there.Version
	case !errors.Is(err, state.ErrNotFound):
		return nil, err
	}
	docs := []state.Doc{own}
	claim, err := encode(agentClient{r.Name})
	if err != nil {
		return nil, err
	}
	for _, c := range r.Clients {
		d := state.Doc{Kind: kindAgentClient, ID: c, Owner: r.Name, Body: claim}
		there, err := a.b.deps.State.Get(ctx, kindAgentClient, c)
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return nil, err
		}
		if err == nil {
			if there.Owner != r.Name && a.claims(ctx, there.Owner, c) {
				return nil, fmt.Errorf("%w: client %.100q is that of agent %q", ErrForbidden, c, there.Owner)
			}
			d.Version = there.Version
		}
		docs = append(docs, d)
	}
	return docs, nil
}

// claims reports whether an agent says that a client id is its own. When nobody knows, it does.
func (a *Agents) claims(ctx context.Context, name, client string) bool {
	r, err := a.Get(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return false
	}
	return err != nil || slices.Contains(r.Clients, client)
}

func decodeAgent(d *state.Doc) (AgentRecord, error) {
	var r AgentRecord
	if err := json.Unmarshal(d.Body, &r); err != nil {
		return r, fmt.Errorf("agent %q: decode: %w", d.ID, err)
	}
	return r, nil
}

// replace makes the snapshot anew of all agents there are.
func (a *Agents) replace(docs []state.Doc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.byName = make(map[string]agentEntry, len(docs))
	next := make(map[string]*warder.Agent, len(docs))
	for i := range docs {
		r, err := decodeAgent(&docs[i])
		if err != nil {
			a.b.deps.Log.Error("an agent cannot be read", slog.String("agent", docs[i].ID))
			continue
		}
		a.byName[docs[i].ID] = agentEntry{r, docs[i].Seq}
		agent := r.Agent
		for _, c := range agent.Clients {
			next[c] = &agent
		}
	}
	a.byClient.Store(&next)
}

// apply puts one agent into the snapshot.
func (a *Agents) apply(d *state.Doc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	was, had := a.byName[d.ID]
	if had && was.seq >= d.Seq {
		return
	}
	next := maps.Clone(*a.byClient.Load())
	if had {
		for _, c := range was.rec.Clients {
			if next[c] != nil && next[c].Name == d.ID {
				delete(next, c)
			}
		}
	}
	delete(a.byName, d.ID)
	if !d.Deleted {
		r, err := decodeAgent(d)
		if err != nil {
			a.b.deps.Log.Error("an agent cannot be read", slog.String("agent", d.ID))
		} else {
			a.byName[d.ID] = agentEntry{r, d.Seq}
			agent := r.Agent
			for _, c := range agent.Clients {
				next[c] = &agent
			}
		}
	}
	a.byClient.Store(&next)
}
