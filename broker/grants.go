package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/rar"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/wire"
)

// A GrantStatus says where a grant stands.
type GrantStatus string

// The statuses. Only an active grant allows anything.
const (
	GrantPending   GrantStatus = "pending"
	GrantActive    GrantStatus = "active"
	GrantDenied    GrantStatus = "denied"
	GrantRevoked   GrantStatus = "revoked"
	GrantUsedUp    GrantStatus = "used_up"
	GrantCollapsed GrantStatus = "collapsed" // its plan ended, or nobody used it
	GrantEnded     GrantStatus = "ended"     // its time is over, or nobody approved it in time
)

// A GrantRequest asks for access for a while. A grant without end cannot be asked for.
type GrantRequest struct {
	Principal string         // "issuer|subject", "group:NAME" or the key of a principal
	Agent     string         // registered agent; empty: any
	Server    string         // server name
	Tools     []string       // tool names; empty: every tool of the server
	Arguments []warder.Bound // every one must hold
	Purpose   string
	TTL       time.Duration // from approval on
	Uses      int           // 0: not bounded
	Reason    string        // why it is needed, for the one who decides
	By        Person        // who asks
}

// A GrantRecord is a grant with its history.
type GrantRecord struct {
	warder.Grant
	Status      GrantStatus   `json:"status"`
	TTL         time.Duration `json:"ttl"`
	Reason      string        `json:"reason,omitempty"`
	RequestedBy string        `json:"requested_by"`
	RequestedAt time.Time     `json:"requested_at"`
	Votes       []Vote        `json:"votes,omitempty"`
	Used        int           `json:"used"`
	UsedAt      time.Time     `json:"used_at,omitzero"` // first use
	EndedBy     string        `json:"ended_by,omitempty"`
	EndedAt     time.Time     `json:"ended_at,omitzero"`
}

// keepEnded is how long the history of a grant or plan can be listed after its end.
const keepEnded = 24 * time.Hour

// A Need is one call that needs a grant.
type Need struct {
	Principal *warder.Principal
	Server    string
	Tool      string
	Purpose   string // if not empty, a grant for another purpose does not fit
	// Fits judges the arguments by the grant's bounds; nil: a grant with bounds does not fit.
	Fits func(*warder.Grant) bool

	request *warder.Message // whose arguments are judged; set by Lookup
}

// bounded reports whether the arguments keep to the bounds of a grant.
func (n *Need) bounded(g *warder.Grant) bool {
	if n.request != nil {
		return rar.CheckBounds(g.Arguments, wire.At(n.request, n.request.Params.Get("arguments"))) == nil
	}
	return n.Fits != nil && n.Fits(g)
}

// Grants are time-limited access to tools. It is safe for concurrent use.
type Grants struct {
	b *Broker

	index atomic.Pointer[grantIndex] // active grants; replaced, never changed

	mu   sync.Mutex
	byID map[string]*grantEntry
}

// A grantKey is how a call finds its grants. tool is empty for every tool of the server.
type grantKey struct {
	holder
	server, tool string
}

type grantIndex struct {
	entries map[grantKey][]*grantEntry
	groups  map[string]int // groups that have grants, with their number
}

// A grantEntry is one grant; its state is replaced, so that the index stays when a use is counted.
type grantEntry struct {
	now atomic.Pointer[grantState]
}

type grantState struct {
	rec   GrantRecord
	exact bool // the principal is a whole key: client, agent and tenant must be equal too
	parts [5]string
	seq   int64
}

func newGrants(b *Broker) *Grants {
	g := &Grants{b: b, byID: map[string]*grantEntry{}}
	g.index.Store(&grantIndex{entries: map[grantKey][]*grantEntry{}, groups: map[string]int{}})
	return g
}

// Find returns the grant that allows a call, nil if there is none. Of several it prefers one that is not
// bounded in its uses, then the one that ends first. It reads a snapshot.
func (g *Grants) Find(need *Need) *warder.Grant {
	p := need.Principal
	ix := g.index.Load()
	if p == nil || len(ix.entries) == 0 {
		return nil
	}
	now := g.b.deps.Now()
	var best *grantState
	best = g.better(best, ix, grantKey{holder: holder{issuer: p.Issuer, subject: p.Subject}, server: need.Server}, need, now)
	if len(ix.groups) > 0 {
		best = g.ofGroups(best, ix, p.Groups, need, now)
		if p.Registered != nil {
			best = g.ofGroups(best, ix, p.Registered.Roles, need, now)
		}
	}
	if best == nil {
		return nil
	}
	return &best.rec.Grant
}

// Lookup is Find for the call of a tool that an exchange carries. A grant for another purpose does not
// fit, unless none is stated.
func (g *Grants) Lookup(x *warder.Exchange, purpose string) *warder.Grant {
	if x.Server == nil || x.Request == nil {
		return nil
	}
	need := Need{Principal: x.Principal, Server: x.Server.Name, Tool: x.Request.Target, Purpose: purpose, request: x.Request}
	return g.Find(&need)
}

// Resume is the grant of which the first leg of a request spent a use, used up or not; nil if it ended, was
// revoked, or does not cover the call. It reads a snapshot.
func (g *Grants) Resume(x *warder.Exchange, id string) *warder.Grant {
	s := g.state(id)
	if s == nil || x.Principal == nil || x.Server == nil || x.Request == nil || s.rec.Server != x.Server.Name {
		return nil
	}
	if s.rec.Status != GrantActive && s.rec.Status != GrantUsedUp || s.rec.Used == 0 {
		return nil
	}
	if len(s.rec.Tools) > 0 && !slices.Contains(s.rec.Tools, x.Request.Target) || !belongs(s.rec.Principal, x.Principal) {
		return nil
	}
	open := *s
	open.rec.Status, open.rec.Uses, open.rec.Left = GrantActive, 0, 0 // what the first leg spent is not asked for again
	need := Need{Principal: x.Principal, Server: x.Server.Name, Tool: x.Request.Target, request: x.Request}
	if !open.fits(&need, g.b.deps.Now(), g.b.config.Load()) {
		return nil
	}
	return &s.rec.Grant
}

// Age is how long ago the grants were last known to be current.
func (g *Grants) Age(now time.Time) time.Duration { return g.b.Age(now) }

func (g *Grants) ofGroups(best *grantState, ix *grantIndex, groups []string, need *Need, now time.Time) *grantState {
	for _, group := range groups {
		if ix.groups[group] > 0 {
			best = g.better(best, ix, grantKey{holder: holder{group: group}, server: need.Server}, need, now)
		}
	}
	return best
}

// better looks under one holder, for the tool and for every tool.
func (g *Grants) better(best *grantState, ix *grantIndex, k grantKey, need *Need, now time.Time) *grantState {
	for _, tool := range [...]string{need.Tool, ""} {
		k.tool = tool
		for _, e := range ix.entries[k] {
			s := e.now.Load()
			if s.fits(need, now, g.b.config.Load()) && s.before(best) {
				best = s
			}
		}
	}
	return best
}

// before orders grants that fit: unbounded ones cost nothing, then what ends first is used first.
func (s *grantState) before(best *grantState) bool {
	if best == nil {
		return true
	}
	if a, b := s.rec.Uses == 0, best.rec.Uses == 0; a != b {
		return a
	}
	return s.rec.NotAfter.Before(best.rec.NotAfter)
}

// fits reports whether the grant allows the call now. The start is tolerant by the skew of the replicas'
// clocks, the end is not.
func (s *grantState) fits(need *Need, now time.Time, cfg *Config) bool {
	r := &s.rec
	if !r.alive(now, &cfg.Grants) || now.Add(cfg.Grants.Skew).Before(r.NotBefore) {
		return false
	}
	p := need.Principal
	if s.exact && (s.parts[0] != p.Tenant || s.parts[3] != p.Client || s.parts[4] != p.Agent) {
		return false
	}
	if r.Agent != "" && (p.Registered == nil || p.Registered.Name != r.Agent) {
		return false
	}
	if need.Purpose != "" && r.Purpose != "" && need.Purpose != r.Purpose {
		return false
	}
	return len(r.Arguments) == 0 || need.bounded(&r.Grant)
}

// alive reports whether the grant has neither ended, nor been used up, nor lain unused for too long.
func (r *GrantRecord) alive(now time.Time, cfg *GrantConfig) bool {
	return r.Status == GrantActive && now.Before(r.NotAfter) && (r.Uses == 0 || r.Left > 0) &&
		(r.Used > 0 || now.Before(r.NotBefore.Add(cfg.Unused)))
}

// Use counts one use of a grant before the call is forwarded. A bounded grant, and the first use of any,
// is a compare-and-swap in the store. Errors are ErrUsedUp, ErrEnded, ErrNotFound, or that of the store;
// each denies.
func (g *Grants) Use(ctx context.Context, used *warder.Grant) error {
	if s := g.state(used.ID); s != nil && s.rec.Uses == 0 && s.rec.Used > 0 {
		if !s.rec.alive(g.b.deps.Now(), &g.b.config.Load().Grants) {
			return ErrEnded
		}
		return nil
	}
	r, err := g.change(ctx, used.ID, func(r *GrantRecord) error {
		now := g.b.deps.Now()
		switch {
		case r.Status == GrantUsedUp || r.Uses > 0 && r.Left <= 0:
			return ErrUsedUp
		case !r.alive(now, &g.b.config.Load().Grants):
			return ErrEnded
		}
		if r.Used++; r.Used == 1 {
			r.UsedAt = now
		}
		if r.Uses > 0 {
			if r.Left--; r.Left == 0 {
				r.Status = GrantUsedUp
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("use grant %s: %w", used.ID, err)
	}
	if r.Status == GrantUsedUp {
		return g.b.note(ctx, r.event("used_up", subjectEvent(r.Principal), ""))
	}
	return nil
}

func (g *Grants) state(id string) *grantState {
	g.mu.Lock()
	e := g.byID[id]
	g.mu.Unlock()
	if e == nil {
		return nil
	}
	return e.now.Load()
}

// Bounds of what is asked for.
const (
	maxTools  = 64
	maxBounds = 16
	maxUses   = 1_000_000
	maxWord   = 256
)

// Request asks for a grant, which waits for approval. Errors are ErrInvalid and those of store and trail.
func (g *Grants) Request(ctx context.Context, q GrantRequest) (GrantRecord, error) {
	cfg := g.b.config.Load()
	if err := q.check(cfg); err != nil {
		return GrantRecord{}, err
	}
	now := g.b.deps.Now().UTC()
	r := GrantRecord{
		Grant: warder.Grant{
			ID: warder.NewID(now), Principal: q.Principal, Agent: q.Agent, Server: q.Server, Tools: slices.Clone(q.Tools),
			Arguments: q.Arguments, Purpose: q.Purpose, NotAfter: now.Add(cfg.Grants.Pending), Uses: q.Uses, Left: q.Uses,
		},
		Status: GrantPending, TTL: q.TTL, Reason: cut(q.Reason), RequestedBy: q.By.String(), RequestedAt: now,
	}
	if err := g.b.record(ctx, r.event("requested", eventPrincipal(q.By), q.Reason)); err != nil {
		return GrantRecord{}, err
	}
	d, err := r.doc(0)
	if err != nil {
		return GrantRecord{}, err
	}
	if err := g.b.put(ctx, d); err != nil {
		return GrantRecord{}, fmt.Errorf("request grant: %w", err)
	}
	return r, nil
}

func (q *GrantRequest) check(cfg *Config) error {
	if _, _, err := holderOf(q.Principal); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	switch {
	case q.By.Subject == "":
		return fmt.Errorf("%w: nobody asks", ErrInvalid)
	case q.TTL <= 0:
		return fmt.Errorf("%w: a grant without end is not given; name a ttl", ErrInvalid)
	case q.TTL > cfg.Grants.MaxTTL:
		return fmt.Errorf("%w: ttl %v is longer than %v", ErrInvalid, q.TTL, cfg.Grants.MaxTTL)
	case q.Server == "" || len(q.Server) > maxWord || len(q.Purpose) > maxWord || len(q.Agent) > maxWord || len(q.Principal) > 4*maxWord:
		return fmt.Errorf("%w: no server, or a word longer than %d bytes", ErrInvalid, maxWord)
	case q.Uses < 0 || q.Uses > maxUses:
		return fmt.Errorf("%w: uses: %d is not between 0 and %d", ErrInvalid, q.Uses, maxUses)
	case len(q.Tools) > maxTools || len(q.Arguments) > maxBounds:
		return fmt.Errorf("%w: more than %d tools or %d bounds", ErrInvalid, maxTools, maxBounds)
	case slices.ContainsFunc(q.Tools, func(t string) bool { return t == "" || len(t) > maxWord }):
		return fmt.Errorf("%w: tools: an empty or very long name", ErrInvalid)
	}
	if err := rar.ValidateBounds(q.Arguments); err != nil {
		return fmt.Errorf("%w: arguments: %w", ErrInvalid, err)
	}
	return nil
}

func cut(s string) string { return s[:min(len(s), 1000)] }

// Approve gives one person's yes. When as many as configured agreed, the grant begins, for its ttl from
// now. Errors are ErrNotFound, ErrForbidden, ErrDecided, ErrEnded and those of store and trail.
func (g *Grants) Approve(ctx context.Context, id string, by Person, channel string) (GrantRecord, error) {
	return g.decide(ctx, id, by, func(r *GrantRecord, cfg *GrantConfig, now time.Time) (string, error) {
		if g.b.config.Load().voted(r.Votes, by) {
			return "", fmt.Errorf("%w: by the same person", ErrDecided)
		}
		r.Votes = append(r.Votes, Vote{By: by.String(), Channel: cut(channel), At: now})
		if len(r.Votes) < cfg.Needed {
			return "seconded", nil
		}
		r.Status, r.NotBefore, r.NotAfter = GrantActive, now, now.Add(min(r.TTL, cfg.MaxTTL))
		r.Approval = r.ID
		return "approved", nil
	})
}

// Deny refuses a request for good. Errors are as for Approve.
func (g *Grants) Deny(ctx context.Context, id string, by Person, reason string) (GrantRecord, error) {
	return g.decide(ctx, id, by, func(r *GrantRecord, _ *GrantConfig, now time.Time) (string, error) {
		r.Status, r.EndedBy, r.EndedAt = GrantDenied, by.String(), now
		return "denied", nil
	}, reason)
}

// decide changes a pending grant, audited before it takes effect.
func (g *Grants) decide(ctx context.Context, id string, by Person, fn func(*GrantRecord, *GrantConfig, time.Time) (string, error), why ...string) (GrantRecord, error) {
	return g.change(ctx, id, func(r *GrantRecord) error {
		all, now := g.b.config.Load(), g.b.deps.Now().UTC()
		cfg := &all.Grants
		if err := all.mayDecide(by, string(r.Status), r.NotAfter, now, r.RequestedBy, r.Principal); err != nil {
			return err
		}
		word, err := fn(r, cfg, now)
		if err != nil {
			return err
		}
		return g.b.record(ctx, r.event(word, eventPrincipal(by), strings.Join(why, " ")))
	})
}

// mayDecide says whether by may decide now a request for a grant or a plan:
// one that is pending and not over, of somebody else unless the
// configuration lets people approve their own.
func (c *Config) mayDecide(by Person, status string, notAfter, now time.Time, requestedBy, principal string) error {
	switch {
	case status != string(GrantPending): // a plan's word for it is the same
		return fmt.Errorf("%w: it is %s", ErrDecided, status)
	case !now.Before(notAfter):
		return ErrEnded
	case !by.may(orOperators(c.Grants.Approvers)):
		return ErrForbidden
	case !c.Grants.Self && (c.same(by, requestedBy) || c.same(by, personOf(principal))):
		return fmt.Errorf("%w: nobody approves the own request", ErrForbidden)
	}
	return nil
}

// Revoke ends a grant or a request at once, on every replica that follows the store. Ending what has
// ended is no error.
func (g *Grants) Revoke(ctx context.Context, id string, by Person, reason string) (GrantRecord, error) {
	return g.change(ctx, id, func(r *GrantRecord) error {
		if r.Status != GrantPending && r.Status != GrantActive {
			return nil
		}
		r.Status, r.EndedBy, r.EndedAt = GrantRevoked, by.String(), g.b.deps.Now().UTC()
		return g.b.record(ctx, r.event("revoked", eventPrincipal(by), reason))
	})
}

// tries bounds how often a compare-and-swap is repeated when others were faster.
const tries = 64

// change is compare-and-swap on one grant. fn may refuse with an error.
func (g *Grants) change(ctx context.Context, id string, fn func(*GrantRecord) error) (GrantRecord, error) {
	for range tries {
		d, err := g.b.deps.State.Get(ctx, kindGrant, id)
		if errors.Is(err, state.ErrNotFound) {
			return GrantRecord{}, fmt.Errorf("grant %q: %w", id, ErrNotFound)
		}
		if err != nil {
			return GrantRecord{}, err
		}
		r, err := decodeGrant(&d)
		if err != nil {
			return GrantRecord{}, err
		}
		if err := fn(&r); err != nil {
			g.apply(&d) // what the store says may be news
			return r, err
		}
		next, err := r.doc(d.Version)
		if err != nil {
			return r, err
		}
		err = g.b.put(ctx, next)
		if errors.Is(err, state.ErrConflict) {
			continue
		}
		return r, err
	}
	return GrantRecord{}, fmt.Errorf("grant %q: %w", id, state.ErrConflict)
}

// A GrantQuery selects grants; empty fields select all.
type GrantQuery struct {
	Principal string // as in GrantRequest
	Server    string
	Status    GrantStatus
	After     string // ids greater than this
	Limit     int    // at most 1000, which is the default
}

// List returns grants in order of their ids, those that ended within a day included.
func (g *Grants) List(ctx context.Context, q GrantQuery) ([]GrantRecord, error) {
	var out []GrantRecord
	limit := 1000
	if q.Limit > 0 {
		limit = min(limit, q.Limit)
	}
	now, cfg := g.b.deps.Now(), &g.b.config.Load().Grants
	for d, err := range state.All(ctx, g.b.deps.State, state.Query{Kind: kindGrant, Owner: q.Principal, Topic: q.Server, After: q.After}) {
		if err != nil {
			return nil, fmt.Errorf("list grants: %w", err)
		}
		r, err := decodeGrant(d)
		if err != nil {
			return nil, err
		}
		r.Status = r.statusAt(now, cfg)
		if q.Status != "" && q.Status != r.Status {
			continue
		}
		if out = append(out, r); len(out) == limit {
			break
		}
	}
	return out, nil
}

// Get returns one grant. The error is ErrNotFound or the store's.
func (g *Grants) Get(ctx context.Context, id string) (GrantRecord, error) {
	d, err := g.b.deps.State.Get(ctx, kindGrant, id)
	if errors.Is(err, state.ErrNotFound) {
		return GrantRecord{}, fmt.Errorf("grant %q: %w", id, ErrNotFound)
	}
	if err != nil {
		return GrantRecord{}, err
	}
	r, err := decodeGrant(&d)
	if err == nil {
		r.Status = r.statusAt(g.b.deps.Now(), &g.b.config.Load().Grants)
	}
	return r, err
}

// statusAt is the status with what time has done to it, which nobody writes down.
func (r *GrantRecord) statusAt(now time.Time, cfg *GrantConfig) GrantStatus {
	switch {
	case r.Status == GrantPending && !now.Before(r.NotAfter), r.Status == GrantActive && !now.Before(r.NotAfter):
		return GrantEnded
	case r.Status == GrantActive && !r.alive(now, cfg):
		return GrantCollapsed
	default:
		return r.Status
	}
}

func decodeGrant(d *state.Doc) (GrantRecord, error) {
	var r GrantRecord
	if err := json.Unmarshal(d.Body, &r); err != nil {
		return r, fmt.Errorf("grant %q: decode: %w", d.ID, err)
	}
	return r, nil
}

func (r *GrantRecord) doc(version int64) (state.Doc, error) {
	body, err := encode(r)
	return state.Doc{
		Kind: kindGrant, ID: r.ID, Owner: r.Principal, Topic: r.Server, Body: body,
		NotAfter: r.NotAfter.Add(keepEnded), Version: version,
	}, err
}

// event is a line of the trail. why is free text of a person.
func (r *GrantRecord) event(what string, who *warder.EventPrincipal, why string) warder.Event {
	detail := fmt.Sprintf("grant %s for %q, ttl %v, uses %d", r.ID, r.Principal, r.TTL, r.Uses)
	if r.Purpose != "" {
		detail += fmt.Sprintf(", purpose %.200q", r.Purpose)
	}
	if r.Plan != "" {
		detail += fmt.Sprintf(", step %d of plan %s", r.Step, r.Plan)
	}
	if why != "" {
		detail += fmt.Sprintf(": %.200q", why)
	}
	tools := strings.Join(r.Tools, " ")
	return warder.Event{
		Type: warder.EventGrant, Principal: who, Server: r.Server, Target: tools[:min(len(tools), maxWord)],
		Reason: warder.Reason(what), Detail: detail,
	}
}
