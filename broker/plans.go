package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
)

// A PlanStatus says where a plan stands.
type PlanStatus string

// The statuses.
const (
	PlanPending PlanStatus = "pending"
	PlanActive  PlanStatus = "active"
	PlanDone    PlanStatus = "done"
	PlanDenied  PlanStatus = "denied"
	PlanRevoked PlanStatus = "revoked"
	PlanFailed  PlanStatus = "failed" // a step failed too often
	PlanEnded   PlanStatus = "ended"  // its time is over
)

// A Step is one step of a plan: calls of these tools of this server.
type Step struct {
	Server    string         `json:"server"`
	Tools     []string       `json:"tools"` // at least one; a call of any completes the step
	Arguments []warder.Bound `json:"arguments,omitempty"`
	Purpose   string         `json:"purpose,omitempty"`
}

// A PlanRequest asks for a plan: access to one tool after the other.
type PlanRequest struct {
	Principal string // as in GrantRequest
	Agent     string
	Steps     []Step
	TTL       time.Duration // for the whole plan, from approval on
	Reason    string
	By        Person
}

// A PlanRecord is a plan with its history.
type PlanRecord struct {
	ID          string        `json:"id"`
	Principal   string        `json:"principal"`
	Agent       string        `json:"agent,omitempty"`
	Steps       []Step        `json:"steps"`
	At          int           `json:"at"`              // the step that is granted now, from 1; 0 before approval
	Grant       string        `json:"grant,omitempty"` // id of the grant of this step
	Failures    int           `json:"failures"`        // of this step
	Status      PlanStatus    `json:"status"`
	TTL         time.Duration `json:"ttl"`
	NotAfter    time.Time     `json:"not_after"`
	Reason      string        `json:"reason,omitempty"`
	RequestedBy string        `json:"requested_by"`
	RequestedAt time.Time     `json:"requested_at"`
	Votes       []Vote        `json:"votes,omitempty"`
	EndedBy     string        `json:"ended_by,omitempty"`
}

// Bounds of plans.
const (
	maxSteps    = 64
	maxFailures = 3 // failed calls of one step, after which the plan fails
)

// Plans are workflows whose steps are granted one after the other (JIT-05). Step n is granted when a
// call of step n-1 succeeded; each grant is good for one call, so neither order nor number can be
// cheated. It is safe for concurrent use.
type Plans struct {
	b *Broker

	steps atomic.Pointer[map[stepKey][]string] // ids of active plans by what their steps call; replaced, never changed

	mu   sync.Mutex
	byID map[string]planEntry
}

type stepKey struct{ server, tool string }

type planEntry struct {
	rec PlanRecord
	seq int64
}

// Request asks for a plan, which waits for approval. Errors are ErrInvalid and those of store and trail.
func (p *Plans) Request(ctx context.Context, q PlanRequest) (PlanRecord, error) {
	cfg := p.b.config.Load()
	if len(q.Steps) == 0 || len(q.Steps) > maxSteps {
		return PlanRecord{}, fmt.Errorf("%w: %d steps, want 1 to %d", ErrInvalid, len(q.Steps), maxSteps)
	}
	for i, s := range q.Steps {
		g := GrantRequest{Principal: q.Principal, Agent: q.Agent, Server: s.Server, Tools: s.Tools, Arguments: s.Arguments, Purpose: s.Purpose, TTL: q.TTL, Uses: 1, By: q.By}
		if err := g.check(cfg); err != nil {
			return PlanRecord{}, fmt.Errorf("step %d: %w", i+1, err)
		}
		if len(s.Tools) == 0 {
			return PlanRecord{}, fmt.Errorf("step %d: %w: no tools", i+1, ErrInvalid)
		}
	}
	now := p.b.deps.Now().UTC()
	r := PlanRecord{
		ID: warder.NewID(now), Principal: q.Principal, Agent: q.Agent, Steps: slices.Clone(q.Steps), Status: PlanPending, TTL: q.TTL,
		NotAfter: now.Add(cfg.Grants.Pending), Reason: cut(q.Reason), RequestedBy: q.By.String(), RequestedAt: now,
	}
	if err := p.b.record(ctx, r.event("plan_requested", eventPrincipal(q.By), q.Reason)); err != nil {
		return PlanRecord{}, err
	}
	d, err := r.doc(0)
	if err != nil {
		return PlanRecord{}, err
	}
	if err := p.b.put(ctx, d); err != nil {
		return PlanRecord{}, fmt.Errorf("request plan: %w", err)
	}
	return r, nil
}

// Approve gives one person's yes; when enough agreed, the first step is granted. Errors are as for
// Grants.Approve.
func (p *Plans) Approve(ctx context.Context, id string, by Person, channel string) (PlanRecord, error) {
	return p.change(ctx, id, func(r *PlanRecord) ([]state.Doc, error) {
		all, now := p.b.config.Load(), p.b.deps.Now().UTC()
		cfg := &all.Grants
		if err := all.mayDecide(by, string(r.Status), r.NotAfter, now, r.RequestedBy, r.Principal); err != nil {
			return nil, err
		}
		if all.voted(r.Votes, by) {
			return nil, fmt.Errorf("%w: by the same person", ErrDecided)
		}
		r.Votes = append(r.Votes, Vote{By: by.String(), Channel: cut(channel), At: now})
		if len(r.Votes) < cfg.Needed {
			return nil, p.b.record(ctx, r.event("plan_seconded", eventPrincipal(by), ""))
		}
		r.Status, r.NotAfter = PlanActive, now.Add(min(r.TTL, cfg.MaxTTL))
		d, err := r.grantNext(now)
		if err != nil {
			return nil, err
		}
		return []state.Doc{d}, p.b.record(ctx, r.event("plan_approved", eventPrincipal(by), ""))
	})
}

// Deny refuses a plan for good.
func (p *Plans) Deny(ctx context.Context, id string, by Person, reason string) (PlanRecord, error) {
	return p.change(ctx, id, func(r *PlanRecord) ([]state.Doc, error) {
		if err := p.b.config.Load().mayDecide(by, string(r.Status), r.NotAfter, p.b.deps.Now(), r.RequestedBy, r.Principal); err != nil {
			return nil, err
		}
		r.Status, r.EndedBy = PlanDenied, by.String()
		return nil, p.b.record(ctx, r.event("plan_denied", eventPrincipal(by), reason))
	})
}

// Revoke ends a plan and collapses its grant. Ending what has ended is no error.
func (p *Plans) Revoke(ctx context.Context, id string, by Person, reason string) (PlanRecord, error) {
	return p.change(ctx, id, func(r *PlanRecord) ([]state.Doc, error) {
		if r.Status != PlanPending && r.Status != PlanActive {
			return nil, nil
		}
		r.Status, r.EndedBy = PlanRevoked, by.String()
		docs, err := p.collapse(ctx, r)
		if err != nil {
			return nil, err
		}
		return docs, p.b.record(ctx, r.event("plan_revoked", eventPrincipal(by), reason))
	})
}

// Get returns a plan.
func (p *Plans) Get(ctx context.Context, id string) (PlanRecord, error) {
	r, _, err := p.get(ctx, id)
	return r, err
}

// List returns plans, those that ended within a day included.
func (p *Plans) List(ctx context.Context) ([]PlanRecord, error) {
	now := p.b.deps.Now()
	var out []PlanRecord
	for d, err := range state.All(ctx, p.b.deps.State, state.Query{Kind: kindPlan}) {
		if err != nil {
			return nil, fmt.Errorf("list plans: %w", err)
		}
		r, err := decodePlan(d)
		if err != nil {
			return nil, err
		}
		out = append(out, r.at(now))
	}
	return out, nil
}

// Active reports whether the grant is that of the step a plan stands at. It reads a snapshot; Use of the
// grant decides in the store.
func (p *Plans) Active(g *warder.Grant) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.byID[g.Plan]
	return ok && e.rec.Status == PlanActive && e.rec.At == g.Step && e.rec.Grant == g.ID && p.b.deps.Now().Before(e.rec.NotAfter)
}

// Later returns the id of an active plan of the principal in which the tool stands in a step that is not
// reached yet, or is not granted again, empty if there is none. It tells a caller who skips a step why there is no grant.
func (p *Plans) Later(who *warder.Principal, server, tool string) string {
	steps := p.steps.Load()
	if steps == nil {
		return ""
	}
	ids := (*steps)[stepKey{server, tool}]
	if len(ids) == 0 {
		return ""
	}
	now := p.b.deps.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		e, ok := p.byID[id]
		if !ok || e.rec.Status != PlanActive || !now.Before(e.rec.NotAfter) || !belongs(e.rec.Principal, who) {
			continue
		}
		for i, s := range e.rec.Steps {
			if i+1 != e.rec.At && s.Server == server && slices.Contains(s.Tools, tool) {
				return id
			}
		}
	}
	return ""
}

// belongs reports whether a grant's or plan's principal is this one.
func belongs(principal string, who *warder.Principal) bool {
	h, exact, err := holderOf(principal)
	switch {
	case err != nil:
		return false
	case h.group != "":
		return slices.Contains(who.Groups, h.group) || who.Registered != nil && slices.Contains(who.Registered.Roles, h.group)
	case exact:
		return principal == who.Key()
	default:
		return h.issuer == who.Issuer && h.subject == who.Subject
	}
}

// Settle says how the call of a step ended. Success grants the next step, or completes the plan; a failed
// call may be tried again, a few times. Settling a step twice changes nothing.
func (p *Plans) Settle(ctx context.Context, g *warder.Grant, success bool) error {
	_, err := p.change(ctx, g.Plan, func(r *PlanRecord) ([]state.Doc, error) {
		now := p.b.deps.Now().UTC()
		if r.Status != PlanActive || r.At != g.Step || r.Grant != g.ID {
			return nil, errSettled
		}
		if !now.Before(r.NotAfter) {
			return nil, errSettled
		}
		if !success {
			return p.again(ctx, r, now)
		}
		if r.At == len(r.Steps) {
			r.Status = PlanDone
			return nil, p.b.note(ctx, r.event("plan_done", subjectEvent(r.Principal), ""))
		}
		next, err := r.grantNext(now)
		if err != nil {
			return nil, err
		}
		return []state.Doc{next}, p.b.note(ctx, r.event("plan_step", subjectEvent(r.Principal), ""))
	})
	if errors.Is(err, errSettled) {
		return nil
	}
	return err
}

var errSettled = errors.New("settled already")

// again grants the same step once more after a failed call, or gives up.
func (p *Plans) again(ctx context.Context, r *PlanRecord, now time.Time) ([]state.Doc, error) {
	if r.Failures++; r.Failures >= maxFailures {
		r.Status = PlanFailed
		return nil, p.b.note(ctx, r.event("plan_failed", subjectEvent(r.Principal), ""))
	}
	failures := r.Failures
	r.At--
	d, err := r.grantNext(now)
	r.Failures = failures
	if err != nil {
		return nil, err
	}
	return []state.Doc{d}, p.b.note(ctx, r.event("plan_retry", subjectEvent(r.Principal), ""))
}

// grantNext moves on one step and makes its grant.
func (r *PlanRecord) grantNext(now time.Time) (state.Doc, error) {
	step := r.Steps[r.At]
	r.At++
	r.Failures = 0
	g := GrantRecord{
		Grant: warder.Grant{
			ID: warder.NewID(now), Principal: r.Principal, Agent: r.Agent, Server: step.Server, Tools: step.Tools, Arguments: step.Arguments,
			Purpose: step.Purpose, NotBefore: now, NotAfter: r.NotAfter, Uses: 1, Left: 1, Approval: r.ID, Plan: r.ID, Step: r.At,
		},
		Status: GrantActive, TTL: r.NotAfter.Sub(now), Reason: r.Reason, RequestedBy: r.RequestedBy, RequestedAt: r.RequestedAt, Votes: r.Votes,
	}
	r.Grant = g.ID
	return g.doc(0)
}

// collapse is the write that ends the grant of the current step, if it is still active.
func (p *Plans) collapse(ctx context.Context, r *PlanRecord) ([]state.Doc, error) {
	if r.Grant == "" {
		return nil, nil
	}
	d, err := p.b.deps.State.Get(ctx, kindGrant, r.Grant)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	g, err := decodeGrant(&d)
	if err != nil {
		return nil, err
	}
	if g.Status != GrantActive {
		return nil, nil
	}
	g.Status, g.EndedAt = GrantCollapsed, p.b.deps.Now().UTC()
	next, err := g.doc(d.Version)
	return []state.Doc{next}, err
}

func (p *Plans) get(ctx context.Context, id string) (PlanRecord, int64, error) {
	d, err := p.b.deps.State.Get(ctx, kindPlan, id)
	if errors.Is(err, state.ErrNotFound) {
		return PlanRecord{}, 0, fmt.Errorf("plan %q: %w", id, ErrNotFound)
	}
	if err != nil {
		return PlanRecord{}, 0, err
	}
	r, err := decodePlan(&d)
	return r.at(p.b.deps.Now()), d.Version, err
}

// change is compare-and-swap on one plan together with the grants that fn returns.
func (p *Plans) change(ctx context.Context, id string, fn func(*PlanRecord) ([]state.Doc, error)) (PlanRecord, error) {
	for range tries {
		r, version, err := p.get(ctx, id)
		if err != nil {
			return r, err
		}
		docs, err := fn(&r)
		if err != nil {
			return r, err
		}
		d, err := r.doc(version)
		if err != nil {
			return r, err
		}
		err = p.b.put(ctx, append([]state.Doc{d}, docs...)...)
		if errors.Is(err, state.ErrConflict) {
			continue
		}
		return r, err
	}
	return PlanRecord{}, fmt.Errorf("plan %q: %w", id, state.ErrConflict)
}

func (r PlanRecord) at(now time.Time) PlanRecord {
	if (r.Status == PlanPending || r.Status == PlanActive) && !now.Before(r.NotAfter) {
		r.Status = PlanEnded
	}
	return r
}

func decodePlan(d *state.Doc) (PlanRecord, error) {
	var r PlanRecord
	if err := json.Unmarshal(d.Body, &r); err != nil {
		return r, fmt.Errorf("plan %q: decode: %w", d.ID, err)
	}
	return r, nil
}

func (r *PlanRecord) doc(version int64) (state.Doc, error) {
	body, err := encode(r)
	return state.Doc{Kind: kindPlan, ID: r.ID, Owner: r.Principal, Body: body, NotAfter: r.NotAfter.Add(keepEnded), Version: version}, err
}

func (r *PlanRecord) event(what string, who *warder.EventPrincipal, why string) warder.Event {
	detail := fmt.Sprintf("plan %s for %q, step %d of %d", r.ID, r.Principal, r.At, len(r.Steps))
	if why != "" {
		detail += fmt.Sprintf(": %.200q", why)
	}
	e := warder.Event{Type: warder.EventGrant, Principal: who, Reason: warder.Reason(what), Detail: detail}
	if r.At > 0 {
		s := r.Steps[r.At-1]
		tools := strings.Join(s.Tools, " ")
		e.Server, e.Target = s.Server, tools[:min(len(tools), maxWord)]
	}
	return e
}

// replace makes the snapshot anew of all plans there are.
func (p *Plans) replace(docs []state.Doc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byID = make(map[string]planEntry, len(docs))
	for i := range docs {
		r, err := decodePlan(&docs[i])
		if err != nil {
			p.b.deps.Log.Error("a plan cannot be read", slog.String("plan", docs[i].ID))
			continue
		}
		p.byID[docs[i].ID] = planEntry{r, docs[i].Seq}
	}
	p.publish()
}

// apply keeps the plans that still mean something.
func (p *Plans) apply(d *state.Doc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byID == nil {
		p.byID = map[string]planEntry{}
	}
	if e, ok := p.byID[d.ID]; ok && e.seq >= d.Seq {
		return
	}
	if d.Deleted {
		delete(p.byID, d.ID)
		p.publish()
		return
	}
	r, err := decodePlan(d)
	if err != nil {
		p.b.deps.Log.Error("a plan cannot be read", slog.String("plan", d.ID))
		return
	}
	was := p.byID[d.ID].rec.Status
	p.byID[d.ID] = planEntry{r, d.Seq}
	if was != r.Status {
		p.publish()
	}
}

// publish makes a new index of the active plans. The caller holds the lock.
func (p *Plans) publish() {
	steps := map[stepKey][]string{}
	for id, e := range p.byID {
		if e.rec.Status != PlanActive {
			continue
		}
		for _, s := range e.rec.Steps {
			for _, tool := range s.Tools {
				k := stepKey{s.Server, tool}
				if !slices.Contains(steps[k], id) {
					steps[k] = append(steps[k], id)
				}
			}
		}
	}
	p.steps.Store(&steps)
}

// sweep forgets plans that ended.
func (p *Plans) sweep() {
	now, ended := p.b.deps.Now(), false
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, e := range p.byID {
		if !now.Before(e.rec.NotAfter.Add(time.Hour)) {
			delete(p.byID, id)
			ended = true
		}
	}
	if ended {
		p.publish()
	}
}
