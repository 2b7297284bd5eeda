package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/bounded"
	"github.com/warder-mcp/warder/internal/schema"
	"github.com/warder-mcp/warder/wire"
)

// Reasons why a definition may not be used.
const (
	ReasonUnapproved warder.Reason = "definition_unapproved" // nobody decided about its name
	ReasonChanged    warder.Reason = "definition_changed"    // another definition of its name was approved
	ReasonRevoked    warder.Reason = "definition_revoked"    // exactly this one was revoked
	ReasonInvalid    warder.Reason = "definition_invalid"    // approved once, but not usable as it is
)

// ErrStale says that the store could not be read for longer than [Config.MaxStale].
var ErrStale = errors.New("registry is out of date")

// Config tunes a registry. Zero fields mean the defaults.
type Config struct {
	Poll     time.Duration // how often the store is asked for changes; default 250ms
	MaxStale time.Duration // how long the last answer of the store may be used; default 10s
	Sighting time.Duration // how often a known definition is recorded as seen again; default 1m
	Keep     int           // undecided definitions kept per server; default 5000
}

func (c Config) orDefault() Config {
	if c.Poll <= 0 {
		c.Poll = 250 * time.Millisecond
	}
	if c.MaxStale <= 0 {
		c.MaxStale = 10 * time.Second
	}
	if c.Sighting <= 0 {
		c.Sighting = time.Minute
	}
	if c.Keep <= 0 {
		c.Keep = 5000
	}
	return c
}

// Deps is what a registry works with.
type Deps struct {
	Store  Store
	Record func(context.Context, warder.Event) error // audit trail; nil records nothing
	Log    *slog.Logger                              // nil logs nothing
	Now    func() time.Time                          // nil means time.Now
}

// Bounds of what is remembered in memory; a peer chooses the keys.
const (
	keepParsed  = 16_384
	keepSchemas = 4096
	maxPending  = 10_000
)

// A Registry answers what was decided about a definition. It is safe for concurrent use.
type Registry struct {
	cfg    Config
	store  Store
	record func(context.Context, warder.Event) error
	log    *slog.Logger
	now    func() time.Time

	decided atomic.Pointer[snapshot]
	checked atomic.Int64 // when the snapshot was last known to be current, Unix nanoseconds
	parsed  *bounded.Cache[[sha256.Size]byte, *sighting]
	schemas *schema.Cache

	mu      sync.Mutex
	pending map[Key]Definition // seen but not yet recorded
	flush   sync.Mutex         // one writes sightings at a time, so that who waits finds them written
	reload  sync.Mutex         // one loads the snapshot at a time

	stop    context.CancelFunc
	workers sync.WaitGroup
}

// A sighting is a parsed definition, or why it cannot be one, and when it was last recorded as seen.
type sighting struct {
	tool *warder.Tool
	err  error
	at   atomic.Int64 // Unix nanoseconds
}

// A snapshot is every decision at one moment. It is not changed, except that tools fills up.
type snapshot struct {
	generation uint64
	byKey      map[Key]*decision
	subjects   map[Subject]bool // true if a definition of the subject is approved
	headers    map[Subject][]warder.Header
}

// A decision is an approval and the tool it makes usable, made when it is first asked for.
type decision struct {
	Approval
	tool atomic.Pointer[warder.Tool]
}

// New loads every decision and begins to watch the store. Close must be called.
func New(ctx context.Context, cfg Config, deps Deps) (*Registry, error) {
	if deps.Store == nil {
		return nil, errors.New("registry: no store")
	}
	r := &Registry{
		cfg: cfg.orDefault(), store: deps.Store, record: deps.Record, log: deps.Log, now: deps.Now,
		parsed:  bounded.New[[sha256.Size]byte, *sighting](keepParsed),
		schemas: schema.NewCache(keepSchemas, schema.Options{}),
		pending: map[Key]Definition{},
	}
	if r.record == nil {
		r.record = func(context.Context, warder.Event) error { return nil }
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	if err := r.load(ctx); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	r.workers.Go(func() { r.every(watch, "read decisions", readTimeout, r.poll) })
	r.workers.Go(func() { r.every(watch, "record definitions", writeTimeout, r.Flush) })
	return r, nil
}

// Close stops watching, records what was seen last, and waits for both. The store stays open.
func (r *Registry) Close() error {
	r.stop()
	r.workers.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	return r.Flush(ctx)
}

// Bounds of one access to the store in the background. Reading and recording do not wait for each
// other: a slow audit trail must not make decisions look old.
const (
	readTimeout  = 2 * time.Second
	writeTimeout = 30 * time.Second
)

// every does work at each poll until ctx ends, and logs when it begins and ceases to fail.
func (r *Registry) every(ctx context.Context, what string, limit time.Duration, work func(context.Context) error) {
	tick := time.NewTicker(r.cfg.Poll)
	defer tick.Stop()
	healthy := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		limited, cancel := context.WithTimeout(ctx, limit)
		err := work(limited)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil && healthy {
			r.log.ErrorContext(ctx, "registry cannot use its store", slog.String("task", what), slog.String("error", err.Error()))
		}
		if err == nil && !healthy {
			r.log.InfoContext(ctx, "registry uses its store again", slog.String("task", what))
		}
		healthy = err == nil
	}
}

// poll asks whether any process changed a decision.
func (r *Registry) poll(ctx context.Context) error {
	asked := r.now()
	generation, err := r.store.Generation(ctx)
	if err != nil {
		return err
	}
	if generation != r.decided.Load().generation {
		return r.load(ctx)
	}
	r.fresh(asked)
	return nil
}

// Refresh reads the decisions of other processes now instead of at the next poll.
func (r *Registry) Refresh(ctx context.Context) error { return r.load(ctx) }

// load replaces the snapshot. What was decided as before keeps its compiled tool.
func (r *Registry) load(ctx context.Context) error {
	r.reload.Lock()
	defer r.reload.Unlock()
	asked := r.now()
	approvals, generation, err := r.store.Approvals(ctx)
	if err != nil {
		return err
	}
	s := &snapshot{
		generation: generation,
		byKey:      make(map[Key]*decision, len(approvals)),
		subjects:   make(map[Subject]bool, len(approvals)),
		headers:    map[Subject][]warder.Header{},
	}
	var before map[Key]*decision
	if old := r.decided.Load(); old != nil {
		before = old.byKey
	}
	for i := range approvals {
		s.add(&approvals[i], before)
	}
	r.decided.Store(s)
	r.fresh(asked)
	return nil
}

// add puts one approval into a snapshot that nobody reads yet.
func (s *snapshot) add(a *Approval, before map[Key]*decision) {
	s.subjects[a.Subject()] = s.subjects[a.Subject()] || a.State == warder.Approved
	if a.State != warder.Approved {
		a.Canonical = nil
	} else if a.Kind == KindTool && bytes.Contains(a.Canonical, []byte(wire.HeaderAnnotation)) {
		list, err := wire.AnnotatedHeaders(wire.Parse(a.Canonical).Get("inputSchema").Raw())
		if err == nil && len(list) > 0 { // a definition with wrong ones is not usable at all
			s.headers[a.Subject()] = list
		}
	}
	if same, ok := before[a.Key]; ok && same.equal(a) {
		s.byKey[a.Key] = same
		return
	}
	s.byKey[a.Key] = &decision{Approval: *a}
}

// equal reports whether a decision says the same of the same definition.
func (a *Approval) equal(b *Approval) bool {
	return a.Key == b.Key && a.State == b.State && a.Effect == b.Effect && slices.Equal(a.Labels, b.Labels) &&
		a.By == b.By && a.At.Equal(b.At) && a.Note == b.Note && bytes.Equal(a.Canonical, b.Canonical)
}

// Annotations returns the x-mcp-header annotations of the approved definition of a tool; nil if there
// are none. The slice must not be changed. It takes no lock.
func (r *Registry) Annotations(server, tool string) []warder.Header {
	return r.decided.Load().headers[Subject{server, KindTool, tool}]
}

// fresh notes that the snapshot was current at a moment, unless a later one is known.
func (r *Registry) fresh(at time.Time) {
	for {
		old := r.checked.Load()
		if old >= at.UnixNano() || r.checked.CompareAndSwap(old, at.UnixNano()) {
			return
		}
	}
}

// snapshot returns the decisions, or ErrStale when they may be out of date.
func (r *Registry) snapshot() (*snapshot, error) {
	age := time.Duration(r.now().UnixNano() - r.checked.Load())
	if age > r.cfg.MaxStale || age < -r.cfg.MaxStale {
		return nil, fmt.Errorf("%w: last read %s ago", ErrStale, age.Truncate(time.Millisecond))
	}
	return r.decided.Load(), nil
}

// Resolve returns the definition that raw is, quarantined, and remembers that it was seen. The same
// bytes are parsed once. Errors wrap [ErrInvalid].
func (r *Registry) Resolve(server, kind string, raw []byte) (*warder.Tool, error) {
	key := rawKey(server, kind, raw)
	s, ok := r.parsed.Get(key)
	if !ok {
		tool, err := parse(server, kind, raw)
		s = r.parsed.Add(key, &sighting{tool: tool, err: err})
	}
	if s.err == nil {
		r.sight(s)
	}
	return s.tool, s.err
}

// rawKey is a collision-free name for definition bytes as a server sent them.
func rawKey(server, kind string, raw []byte) [sha256.Size]byte {
	h := sha256.New()
	_, _ = h.Write([]byte(server + "\x00" + kind + "\x00")) // a hash never fails
	_, _ = h.Write(raw)
	var key [sha256.Size]byte
	h.Sum(key[:0])
	return key
}

// sight queues a definition to be recorded as seen, unless that was done lately. A full queue forgets
// the sighting, not the quarantine; it is seen again at the next list.
func (r *Registry) sight(s *sighting) {
	now := r.now()
	last := s.at.Load()
	if age := time.Duration(now.UnixNano() - last); last != 0 && age >= 0 && age < r.cfg.Sighting {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pending) < maxPending {
		r.pending[KeyOf(s.tool)] = seenNow(s.tool, now)
		s.at.Store(now.UnixNano())
	}
}

func seenNow(tool *warder.Tool, now time.Time) Definition {
	now = now.UTC().Truncate(time.Millisecond)
	return Definition{Key: KeyOf(tool), Canonical: tool.Definition, FirstSeen: now, LastSeen: now}
}

// KeyOf returns the key of a definition.
func KeyOf(tool *warder.Tool) Key {
	return Key{Server: tool.Server, Kind: tool.Kind, Name: tool.Name, Digest: tool.Digest}
}

// Flush records what was seen since the last time. The registry does so by itself at every poll.
func (r *Registry) Flush(ctx context.Context) error {
	r.flush.Lock()
	defer r.flush.Unlock()
	r.mu.Lock()
	pending := r.pending
	r.pending = map[Key]Definition{}
	r.mu.Unlock()
	if len(pending) == 0 {
		return nil
	}
	batch := make([]Definition, 0, len(pending))
	for _, d := range pending {
		batch = append(batch, d)
	}
	fresh, err := r.store.Sight(ctx, batch, r.cfg.Keep)
	if err != nil {
		r.requeue(pending)
		return err
	}
	return r.announce(ctx, fresh)
}

func (r *Registry) requeue(batch map[Key]Definition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, d := range batch {
		if _, newer := r.pending[key]; !newer && len(r.pending) < maxPending {
			r.pending[key] = d
		}
	}
}

// announce writes one event for every definition that was never seen before.
func (r *Registry) announce(ctx context.Context, fresh []Key) error {
	s := r.decided.Load()
	return r.recordAll(ctx, fresh, func(key Key) warder.Event {
		return warder.Event{
			Time: r.now().UTC(), Type: warder.EventDefinition, Server: key.Server,
			Target: cutTarget(key.Kind + " " + key.Name), Digest: hex.EncodeToString(key.Digest[:]),
			Reason: s.why(key), Detail: "seen for the first time",
		}
	})
}

// recorders is how many events wait for the audit trail at once. It commits those that wait together,
// so the first list of a large server takes a few commits and not thousands.
const recorders = 64

// recordAll writes one event for each key, in no order, and returns the first error.
func (r *Registry) recordAll(ctx context.Context, keys []Key, event func(Key) warder.Event) error {
	var g errgroup.Group
	g.SetLimit(recorders)
	for _, key := range keys {
		g.Go(func() error { return r.record(ctx, event(key)) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// cutTarget bounds a name for the audit trail.
func cutTarget(s string) string { return s[:min(len(s), 256)] }

// why says why a definition may not be used; empty if it may.
func (s *snapshot) why(key Key) warder.Reason {
	if d, ok := s.byKey[key]; ok {
		if d.State == warder.Approved {
			return ""
		}
		return ReasonRevoked
	}
	if s.subjects[key.Subject()] {
		return ReasonChanged
	}
	return ReasonUnapproved
}

// Current returns the definition of that digest as it may be used now. If it is approved, it comes
// complete, with effect, labels and compiled schemas; if not, it has its names, digest and state
// only, and the reason says why. An error wraps [ErrStale]: nothing is known.
//
// One map look-up, no lock; it allocates when an approved definition is used for the first time and
// when it may not be used.
func (r *Registry) Current(server, kind, name string, digest warder.Digest) (*warder.Tool, warder.Reason, error) {
	s, err := r.snapshot()
	if err != nil {
		return nil, "", err
	}
	key := Key{Server: server, Kind: kind, Name: name, Digest: digest}
	d, ok := s.byKey[key]
	if !ok {
		return key.tool(warder.Quarantined), s.why(key), nil
	}
	if d.State != warder.Approved {
		return key.tool(warder.Revoked), ReasonRevoked, nil
	}
	if now := d.tool.Load(); now != nil {
		return now, "", nil
	}
	now := r.approved(&d.Approval)
	if now == nil {
		return key.tool(warder.Quarantined), ReasonInvalid, nil
	}
	d.tool.Store(now)
	return now, "", nil
}

// tool returns a definition that may not be used: its names and its state.
func (k Key) tool(state warder.State) *warder.Tool {
	return &warder.Tool{Kind: k.Kind, Server: k.Server, Name: k.Name, Digest: k.Digest, State: state}
}

// approved makes the usable form of an approved definition from what the store kept; nil if it cannot
// be used, which the log says: [Registry.Approve] refuses such definitions, so the store was changed
// or an older version accepted it.
func (r *Registry) approved(a *Approval) *warder.Tool {
	tool, err := parse(a.Server, a.Kind, a.Canonical)
	if err == nil && KeyOf(tool) != a.Key {
		err = ErrTampered
	}
	var made *compiled
	if err == nil {
		made, err = compile(tool, r.schemas.Compile)
	}
	if err != nil {
		r.log.Error("approved definition cannot be used", slog.String("definition", a.Subject().String()), slog.String("error", err.Error()))
		return nil
	}
	now := made.complete(tool)
	now.State, now.Effect, now.Labels = warder.Approved, a.Effect, a.Labels
	now.ApprovedBy, now.ApprovedAt = a.By, a.At
	return now
}
