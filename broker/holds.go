package broker

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/state"
)

// Errors of Admit: why no further call is put to people.
var (
	ErrTooManyPending = errors.New("this caller has too many calls waiting for approval")
	ErrTooManyAsked   = errors.New("this caller asked for too many approvals within the hour")
	ErrQueueFull      = errors.New("too many calls are waiting for these approvers")
	ErrTooLarge       = errors.New("the parameters are too large for a person to judge")
)

// Holds are the calls that wait for a person. It is safe for concurrent use.
type Holds struct {
	b *Broker

	mu       sync.Mutex
	byID     map[string]*holdEntry
	byCall   map[callKey]*holdEntry         // the youngest of each call
	byPerson map[string]map[*holdEntry]bool // of "issuer|subject", opened within the hour or still waiting
	reserved map[callKey]reservation        // admitted, not yet opened
}

type holdEntry struct {
	hold    Hold
	seq     int64
	changed chan struct{} // closed when the hold changes
}

type reservation struct {
	person, rule string
	until        time.Time
}

// reserve is how long an admitted call may take to be opened.
const reserve = 5 * time.Second

func newHolds(b *Broker) *Holds {
	return &Holds{
		b: b, byID: map[string]*holdEntry{}, byCall: map[callKey]*holdEntry{},
		byPerson: map[string]map[*holdEntry]bool{}, reserved: map[callKey]reservation{},
	}
}

// Find returns the hold of a call that still means something: it is pending, approved and unused, or it
// was denied so recently that asking again would only wear people out.
func (h *Holds) Find(c *Call) (Hold, bool) {
	now := h.b.deps.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.find(c.key(), now)
}

func (h *Holds) find(k callKey, now time.Time) (Hold, bool) {
	e := h.byCall[k]
	if e == nil {
		return Hold{}, false
	}
	hold := e.hold.at(now)
	switch hold.Status {
	case HoldPending, HoldApproved:
		return hold, true
	case HoldDenied:
		return hold, now.Before(hold.DecidedAt.Add(h.b.config.Load().Approvals.Timeout))
	case HoldExpired, HoldConsumed:
	}
	return Hold{}, false
}

// rule is who decides on a call: somebody of each list.
func (c *Call) rule(cfg *ApprovalConfig) Rule {
	r := Rule{Needed: min(maxNeeded, max(c.Rule.Needed, cfg.Needed))}
	for _, list := range c.Rule.All {
		if len(list) == 0 {
			list = orOperators(cfg.Approvers)
		}
		r.All = append(r.All, list)
	}
	if len(r.All) == 0 {
		r.All = [][]string{orOperators(cfg.Approvers)}
	}
	return r
}

// approvers is everybody a rule names.
func (r *Rule) approvers() []string {
	var out []string
	for _, list := range r.All {
		for _, a := range list {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// agreed reports whether enough people agreed, of each list at least one.
func (b *holdBody) agreed() bool {
	if len(b.Votes) < b.Needed {
		return false
	}
	for i := range b.All {
		if !slices.ContainsFunc(b.Votes, func(v Vote) bool { return slices.Contains(v.Lists, i) }) {
			return false
		}
	}
	return true
}

// covers says which lists a person is on.
func (p Person) covers(all [][]string) []int {
	var out []int
	for i, list := range all {
		if p.may(list) {
			out = append(out, i)
		}
	}
	return out
}

// Admit decides whether a further call may be put to people (HIL-02): one caller has a bounded number
// waiting and a bounded number in an hour, and one group of approvers a bounded queue, of which a fifth
// is kept for what is critical, so a flood of the harmless buries nothing. A call that waits already
// costs nothing. Errors are ErrTooManyPending, ErrTooManyAsked and ErrQueueFull.
func (h *Holds) Admit(c *Call) error {
	cfg, now := &h.b.config.Load().Approvals, h.b.deps.Now()
	person, rule, key := personOf(c.Principal), c.ruleKey(cfg), c.key()
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, waits := h.find(key, now); waits {
		return nil
	}
	pending, hour := h.load(person, now)
	queue := 0
	for _, e := range h.byID {
		if e.hold.at(now).Status == HoldPending && ruleKey(e.hold.Approvers) == rule {
			queue++
		}
	}
	for k, r := range h.reserved {
		switch {
		case !now.Before(r.until):
			delete(h.reserved, k)
		case k == key:
			return nil
		default:
			if r.person == person {
				pending, hour = pending+1, hour+1
			}
			if r.rule == rule {
				queue++
			}
		}
	}
	room := cfg.Queue
	if urgency(c) < cfg.Critical {
		room -= cfg.Queue / 5
	}
	switch {
	case pending >= cfg.Pending:
		return ErrTooManyPending
	case hour >= cfg.PerHour:
		return ErrTooManyAsked
	case queue >= max(1, room):
		return ErrQueueFull
	}
	h.reserved[key] = reservation{person, rule, now.Add(reserve)}
	return nil
}

// load counts what a person has waiting and what it asked for within the hour.
func (h *Holds) load(person string, now time.Time) (pending, hour int) {
	for e := range h.byPerson[person] {
		if e.hold.at(now).Status == HoldPending {
			pending++
		}
		if now.Sub(e.hold.OpenedAt) < time.Hour {
			hour++
		}
	}
	return pending, hour
}

func ruleKey(approvers []string) string { return strings.Join(approvers, "\x1f") }

func (c *Call) ruleKey(cfg *ApprovalConfig) string {
	r := c.rule(cfg)
	return ruleKey(r.approvers())
}

// Open puts a call to people, or finds that it has been put already. Errors are ErrTooLarge and those of
// store and trail.
func (h *Holds) Open(ctx context.Context, c *Call) (Hold, error) {
	if hold, ok := h.Find(c); ok {
		return hold, nil
	}
	if len(c.Parameters) > MaxParameters {
		return Hold{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(c.Parameters), MaxParameters)
	}
	cfg, now := &h.b.config.Load().Approvals, h.b.deps.Now().UTC()
	rule := c.rule(cfg)
	body := holdBody{
		Hold: Hold{
			ID: strings.ToLower(rand.Text()), Nonce: rand.Text(), Status: HoldPending,
			Principal: c.Principal, Agent: c.Agent, Server: c.Server, Tool: c.Tool, Method: c.Method,
			Digest: hex.EncodeToString(c.Digest[:]), Context: hex.EncodeToString(c.Context[:]),
			Effect: c.Effect, Purpose: c.Purpose, Risk: c.Risk, Urgency: urgency(c), Why: cut(c.Why), Exchange: c.Exchange,
			Approvers: rule.approvers(), All: rule.All, Needed: rule.Needed, OpenedAt: now, Expires: now.Add(cfg.Timeout),
		},
		Keep: now.Add(cfg.Timeout + cfg.Retention),
	}
	var err error
	body.Sealed, err = h.b.deps.Box.Seal(seal.Claims{Purpose: "hold", Principal: c.Principal, Digest: c.Digest, NotAfter: body.Keep, ID: body.ID}, c.Parameters)
	if err != nil {
		return Hold{}, fmt.Errorf("hold: %w", err)
	}
	if err := h.b.note(ctx, body.event("opened", subjectEvent(c.Principal), "")); err != nil {
		return Hold{}, err
	}
	d, err := body.doc(0)
	if err != nil {
		return Hold{}, err
	}
	if err := h.b.put(ctx, d); err != nil {
		return Hold{}, fmt.Errorf("hold: %w", err)
	}
	if h.b.deps.Notify != nil {
		h.b.deps.Notify(body.Hold)
	}
	return body.Hold, nil
}

// A HoldDecision is what a person says about a call.
type HoldDecision struct {
	Hold    string // id
	Nonce   string // of the asking that the person saw
	Approve bool
	By      Person
	Channel string // "cli", "admin", "webhook", "page"
	Comment string
}

// Decide takes a person's decision. Errors are ErrNotFound, ErrNonce, ErrForbidden, ErrDecided, ErrEnded
// and those of store and trail.
func (h *Holds) Decide(ctx context.Context, in HoldDecision) (Hold, error) {
	return h.change(ctx, in.Hold, func(b *holdBody, now time.Time) error {
		all := h.b.config.Load()
		cfg, current := &all.Approvals, b.at(now)
		switch {
		case subtle.ConstantTimeCompare([]byte(b.Nonce), []byte(in.Nonce)) != 1:
			return ErrNonce
		case current.Status == HoldExpired:
			return ErrEnded
		case current.Status != HoldPending:
			return fmt.Errorf("%w: it is %s", ErrDecided, current.Status)
		case !in.By.may(b.Approvers):
			return ErrForbidden
		case !cfg.Self && all.same(in.By, personOf(b.Principal)):
			return fmt.Errorf("%w: nobody approves the own call", ErrForbidden)
		case all.voted(b.Votes, in.By):
			return fmt.Errorf("%w: by the same person", ErrDecided)
		}
		word := "seconded"
		b.Comment = cut(in.Comment)
		if in.Approve {
			b.Votes = append(b.Votes, Vote{By: in.By.String(), Channel: cut(in.Channel), At: now, Lists: in.By.covers(b.All)})
			if b.agreed() {
				word, b.Status, b.DecidedAt, b.Expires = "approved", HoldApproved, now, now.Add(cfg.UseWithin)
				b.Keep = b.Expires.Add(cfg.Retention)
			}
		} else {
			word, b.Status, b.DecidedAt, b.DeniedBy = "denied", HoldDenied, now, in.By.String()
			b.Keep = now.Add(max(cfg.Retention, cfg.Timeout))
		}
		return h.b.record(ctx, b.event(word, eventPrincipal(in.By), in.Comment))
	})
}

// Consume spends the approval of a call: of many who try, exactly one succeeds. Errors are ErrNotFound,
// ErrUsedUp, ErrEnded, ErrForbidden and those of store and trail; each denies the call.
func (h *Holds) Consume(ctx context.Context, id string, c *Call) (Hold, error) {
	hold, err := h.change(ctx, id, func(b *holdBody, now time.Time) error {
		current := b.at(now)
		key, ok := b.key()
		switch {
		case !ok || key != c.key():
			return fmt.Errorf("%w: it was given for another call", ErrForbidden)
		case current.Status == HoldConsumed:
			return ErrUsedUp
		case current.Status != HoldApproved:
			return ErrEnded
		}
		b.Status = HoldConsumed
		return nil
	})
	if err != nil {
		return hold, fmt.Errorf("use approval %s: %w", id, err)
	}
	return hold, h.b.note(ctx, hold.event("used", subjectEvent(hold.Principal), ""))
}

// Spent reports whether the approval was used by exactly this call, circumstances included, not long ago. It
// reads a snapshot.
func (h *Holds) Spent(id string, c *Call) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.byID[id]
	if e == nil || e.hold.Status != HoldConsumed {
		return false
	}
	key, ok := e.hold.key()
	return ok && key == c.key()
}

// change is compare-and-swap on one hold.
func (h *Holds) change(ctx context.Context, id string, fn func(*holdBody, time.Time) error) (Hold, error) {
	for range tries {
		d, err := h.b.deps.State.Get(ctx, kindHold, id)
		if errors.Is(err, state.ErrNotFound) {
			return Hold{}, fmt.Errorf("hold %q: %w", id, ErrNotFound)
		}
		if err != nil {
			return Hold{}, err
		}
		b, err := decodeHold(&d)
		if err != nil {
			return Hold{}, err
		}
		if err := fn(&b, h.b.deps.Now().UTC()); err != nil {
			h.apply(&d) // what the store says may be news
			return b.Hold, err
		}
		next, err := b.doc(d.Version)
		if err != nil {
			return b.Hold, err
		}
		err = h.b.put(ctx, next)
		if errors.Is(err, state.ErrConflict) {
			continue
		}
		return b.Hold, err
	}
	return Hold{}, fmt.Errorf("hold %q: %w", id, state.ErrConflict)
}

// Wait returns the hold when it was decided or has ended, at the latest after most. It wakes for decisions
// made on other replicas. The error is ErrNotFound or that of ctx.
func (h *Holds) Wait(ctx context.Context, id string, most time.Duration) (Hold, error) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	for {
		h.mu.Lock()
		e := h.byID[id]
		if e == nil {
			h.mu.Unlock()
			return Hold{}, fmt.Errorf("hold %q: %w", id, ErrNotFound)
		}
		hold, changed := e.hold.at(h.b.deps.Now()), e.changed
		h.mu.Unlock()
		if hold.Status != HoldPending {
			return hold, nil
		}
		select {
		case <-ctx.Done():
			return hold, context.Cause(ctx)
		case <-timer.C:
			return hold, nil
		case <-changed:
		}
	}
}

// Get returns a hold without its parameters.
func (h *Holds) Get(ctx context.Context, id string) (Hold, error) {
	b, err := h.get(ctx, id)
	return b.at(h.b.deps.Now()), err
}

func (h *Holds) get(ctx context.Context, id string) (holdBody, error) {
	d, err := h.b.deps.State.Get(ctx, kindHold, id)
	if errors.Is(err, state.ErrNotFound) {
		return holdBody{}, fmt.Errorf("hold %q: %w", id, ErrNotFound)
	}
	if err != nil {
		return holdBody{}, err
	}
	return decodeHold(&d)
}

// Show returns a hold with its canonical parameters, to a person who may decide on it. Errors are
// ErrNotFound, ErrForbidden and those of store and seal.
func (h *Holds) Show(ctx context.Context, id string, to Person) (Hold, error) {
	b, err := h.get(ctx, id)
	if err != nil {
		return Hold{}, err
	}
	if !to.may(b.Approvers) {
		return Hold{}, ErrForbidden
	}
	return h.reveal(&b)
}

// A Batch is equal calls that wait: the same tool with the same parameters, of one or several callers.
type Batch struct {
	Urgency int
	Holds   []Hold // oldest first
}

// Queue lists what waits for a person's decision, the most urgent first, equal calls together.
func (h *Holds) Queue(by Person) []Batch {
	now := h.b.deps.Now()
	type same struct{ server, digest string }
	found := map[same]*Batch{}
	h.mu.Lock()
	for _, e := range h.byID {
		hold := e.hold.at(now)
		if hold.Status != HoldPending || !by.may(hold.Approvers) {
			continue
		}
		k := same{hold.Server, hold.Digest}
		if found[k] == nil {
			found[k] = &Batch{}
		}
		found[k].Holds = append(found[k].Holds, hold)
		found[k].Urgency = max(found[k].Urgency, hold.Urgency)
	}
	h.mu.Unlock()
	out := make([]Batch, 0, len(found))
	for _, b := range found {
		slices.SortFunc(b.Holds, func(x, y Hold) int { return cmp.Or(x.OpenedAt.Compare(y.OpenedAt), cmp.Compare(x.ID, y.ID)) })
		out = append(out, *b)
	}
	slices.SortFunc(out, func(x, y Batch) int {
		return cmp.Or(cmp.Compare(y.Urgency, x.Urgency), x.Holds[0].OpenedAt.Compare(y.Holds[0].OpenedAt), cmp.Compare(x.Holds[0].ID, y.Holds[0].ID))
	})
	return out
}

// List returns holds of a status, or of every status, those decided within the retention included.
func (h *Holds) List(ctx context.Context, status HoldStatus) ([]Hold, error) {
	now := h.b.deps.Now()
	var out []Hold
	for d, err := range state.All(ctx, h.b.deps.State, state.Query{Kind: kindHold}) {
		if err != nil {
			return nil, fmt.Errorf("list approvals: %w", err)
		}
		b, err := decodeHold(d)
		if err != nil {
			return nil, err
		}
		if hold := b.at(now); status == "" || hold.Status == status {
			out = append(out, hold)
		}
	}
	return out, nil
}

// replace makes the snapshot anew of all holds there are, and wakes who waits.
func (h *Holds) replace(docs []state.Doc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.byID
	h.byID, h.byCall, h.byPerson = make(map[string]*holdEntry, len(docs)), map[callKey]*holdEntry{}, map[string]map[*holdEntry]bool{}
	for i := range docs {
		h.take(&docs[i])
	}
	for _, e := range before {
		close(e.changed)
	}
}

// apply puts one hold into the snapshot and wakes who waits for it.
func (h *Holds) apply(d *state.Doc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.take(d)
}

// take is apply; the caller holds the lock.
func (h *Holds) take(d *state.Doc) {
	e := h.byID[d.ID]
	if e != nil && e.seq >= d.Seq {
		return
	}
	if d.Deleted {
		if e != nil {
			h.forget(e)
		}
		return
	}
	b, err := decodeHold(d)
	key, ok := b.key()
	if err != nil || !ok {
		h.b.deps.Log.Error("an approval cannot be read", slog.String("hold", d.ID))
		return
	}
	if e == nil {
		e = &holdEntry{}
		h.byID[d.ID] = e
	} else {
		close(e.changed)
	}
	e.hold, e.seq, e.changed = b.Hold, d.Seq, make(chan struct{})
	delete(h.reserved, key)
	if was := h.byCall[key]; was == nil || !was.hold.OpenedAt.After(e.hold.OpenedAt) {
		h.byCall[key] = e
	}
	person := personOf(b.Principal)
	if h.byPerson[person] == nil {
		h.byPerson[person] = map[*holdEntry]bool{}
	}
	h.byPerson[person][e] = true
}

// forget removes a hold from the snapshot. The caller holds the lock.
func (h *Holds) forget(e *holdEntry) {
	delete(h.byID, e.hold.ID)
	if key, ok := e.hold.key(); ok && h.byCall[key] == e {
		delete(h.byCall, key)
	}
	person := personOf(e.hold.Principal)
	delete(h.byPerson[person], e)
	if len(h.byPerson[person]) == 0 {
		delete(h.byPerson, person)
	}
	close(e.changed)
	e.changed = make(chan struct{})
}

// expire denies what nobody decided in time, once over all replicas, and forgets what nobody needs to
// remember here.
func (h *Holds) expire(ctx context.Context) {
	now := h.b.deps.Now()
	var late []string
	h.mu.Lock()
	for id, e := range h.byID {
		switch {
		case e.hold.Status != HoldExpired && e.hold.at(now).Status == HoldExpired:
			late = append(late, id)
		case e.hold.Status != HoldPending && e.hold.Status != HoldApproved && now.Sub(e.hold.OpenedAt) > max(time.Hour, 2*h.b.config.Load().Approvals.Timeout):
			h.forget(e)
		}
	}
	h.mu.Unlock()
	for _, id := range late {
		hold, err := h.change(ctx, id, func(b *holdBody, now time.Time) error {
			if b.at(now).Status != HoldExpired || b.Status == HoldExpired {
				return ErrDecided
			}
			if b.Status == HoldPending {
				b.DecidedAt = now
			}
			b.Status = HoldExpired
			return nil
		})
		switch {
		case errors.Is(err, ErrDecided), errors.Is(err, ErrNotFound):
			continue // another replica was faster
		case err == nil:
			err = h.b.note(ctx, hold.event("timeout", nil, ""))
		}
		if err != nil {
			h.b.deps.Log.ErrorContext(ctx, "a call that nobody decided on cannot be closed", slog.String("hold", id), slog.Any("error", err))
		}
	}
}
