package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/state"
)

// Deps are what a broker needs from outside.
type Deps struct {
	State state.Store // required
	// Box seals the parameters of calls that wait. Required.
	Box *seal.Box
	// Record writes what a person decided to the audit trail, durably. Required.
	Record func(context.Context, warder.Event) error
	// Note writes what happened on the path of a call, durably too, but without waiting for more than that;
	// nil for Record.
	Note func(context.Context, warder.Event) error
	// Notify is told of calls that wait for a person, such as by a webhook; it must not block. May be nil.
	Notify func(Hold)
	Now    func() time.Time // nil for time.Now
	Log    *slog.Logger     // nil for none
}

// Kinds of documents.
const (
	kindGrant       = "grant"
	kindPlan        = "plan"
	kindHold        = "hold"
	kindAgent       = "agent"
	kindAgentClient = "agent.client"
	kindPosture     = "posture"
	kindRisk        = "risk"
)

// A Broker keeps grants, plans, holds, agents and risk. It is safe for concurrent use.
type Broker struct {
	Grants  *Grants
	Plans   *Plans
	Holds   *Holds
	Agents  *Agents
	Risk    *Risk
	Posture *Postures

	deps   Deps
	config atomic.Pointer[Config]

	after   int64        // sequence number up to which changes were followed; of the follower only
	seen    atomic.Int64 // highest sequence number of anything read or written here
	current atomic.Int64 // when the feed was last known to be followed, in nanoseconds of Unix time

	stop context.CancelFunc
	done sync.WaitGroup
}

// Times of the follower: how often the feed is asked without a hint, and what has timed out is looked for.
const (
	followEvery  = time.Second
	followWithin = 10 * time.Second // for the questions of one round to the store
	reread       = 30 * time.Minute // after so long without an answer everything is read anew
)

// New reads what the store knows and follows its changes until Close.
func New(ctx context.Context, cfg Config, deps Deps) (*Broker, error) {
	if deps.State == nil || deps.Record == nil || deps.Box == nil {
		return nil, errors.New("broker: no store, no seal or no audit trail")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Note == nil {
		deps.Note = deps.Record
	}
	b := &Broker{deps: deps}
	if err := b.Reload(cfg); err != nil {
		return nil, err
	}
	b.Grants = newGrants(b)
	b.Plans = &Plans{b: b}
	b.Holds = newHolds(b)
	b.Agents = newAgents(b)
	b.Risk = newRisk(b)
	b.Posture = newPostures(b)
	if err := b.load(ctx); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	follow, stop := context.WithCancel(context.WithoutCancel(ctx))
	b.stop = stop
	b.done.Go(func() { b.follow(follow) })
	return b, nil
}

// Reload replaces the configuration. What was decided before keeps its end.
func (b *Broker) Reload(cfg Config) error {
	filled, err := cfg.fill()
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	b.config.Store(&filled)
	return nil
}

// Close stops following the store.
func (b *Broker) Close() error {
	b.stop()
	b.done.Wait()
	return nil
}

// Age is how long ago the snapshots were last known to be current.
func (b *Broker) Age(now time.Time) time.Duration {
	return max(0, now.Sub(time.Unix(0, b.current.Load())))
}

// load reads every document and replaces the snapshots. What is written after the beginning has a higher
// sequence number, so the feed is followed from there and nothing is missed.
func (b *Broker) load(ctx context.Context) error {
	began := b.deps.Now()
	latest, err := b.deps.State.Latest(ctx)
	if err != nil {
		return fmt.Errorf("read the latest change: %w", err)
	}
	read := map[string][]state.Doc{}
	for _, kind := range []string{kindGrant, kindPlan, kindHold, kindAgent, kindPosture, kindRisk} {
		for d, err := range state.All(ctx, b.deps.State, state.Query{Kind: kind}) {
			if err != nil {
				return fmt.Errorf("read %s: %w", kind, err)
			}
			read[kind] = append(read[kind], *d)
		}
	}
	b.Grants.replace(read[kindGrant])
	b.Plans.replace(read[kindPlan])
	b.Holds.replace(read[kindHold])
	b.Agents.replace(read[kindAgent])
	b.Posture.replace(read[kindPosture])
	for i := range read[kindRisk] { // scores only rise
		b.Risk.apply(&read[kindRisk][i])
	}
	b.after = latest
	b.seen.Store(latest)
	b.current.Store(began.UnixNano())
	return b.catchUp(ctx)
}

// restored reads everything anew when the store is not the one that was followed: its latest change is
// older than one that was seen, as after the restoration of a backup. What the backup does not know, such
// as a grant that was given since, is gone.
func (b *Broker) restored(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, followWithin)
	defer cancel()
	seen := b.seen.Load() // before the question: what is written meanwhile is later than both
	latest, err := b.deps.State.Latest(ctx)
	if err != nil || latest >= seen {
		return err
	}
	b.deps.Log.WarnContext(ctx, "the state was restored from an earlier time; grants and approvals are read anew",
		slog.Int64("seen", seen), slog.Int64("latest", latest))
	return b.load(ctx)
}

// follow applies what was written, by this replica or another, and ends what has timed out.
func (b *Broker) follow(ctx context.Context) {
	hint := b.deps.State.Watch(ctx)
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		timed := false
		select {
		case <-ctx.Done():
			return
		case <-hint:
		case <-tick.C:
			timed = true
		case r := <-b.Risk.rises:
			b.Risk.tell(ctx, r)
			continue
		}
		var err error
		if b.Age(b.deps.Now()) > reread { // deletions may have been forgotten meanwhile
			err = b.load(ctx)
		} else {
			err = b.catchUp(ctx)
		}
		if err == nil && timed {
			err = b.restored(ctx)
		}
		if err != nil {
			if ctx.Err() == nil {
				b.deps.Log.WarnContext(ctx, "the changes of grants and approvals cannot be read", slog.Any("error", err))
			}
			continue
		}
		if timed {
			b.Holds.expire(ctx)
			b.Grants.sweep()
			b.Plans.sweep()
		}
	}
}

// batch is how many changes are read at once.
const batch = 500

func (b *Broker) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, followWithin)
	defer cancel()
	for {
		began := b.deps.Now()
		docs, err := b.deps.State.Changes(ctx, b.after, batch)
		if err != nil {
			return err
		}
		for i := range docs {
			b.apply(&docs[i])
			b.after = max(b.after, docs[i].Seq)
		}
		if len(docs) < batch {
			b.current.Store(began.UnixNano())
			return nil
		}
	}
}

// apply puts one document into the snapshots. It may come twice and late: older ones are ignored.
func (b *Broker) apply(d *state.Doc) {
	for seen := b.seen.Load(); d.Seq > seen && !b.seen.CompareAndSwap(seen, d.Seq); seen = b.seen.Load() {
	}
	switch d.Kind {
	case kindGrant:
		b.Grants.apply(d)
	case kindPlan:
		b.Plans.apply(d)
	case kindHold:
		b.Holds.apply(d)
	case kindAgent:
		b.Agents.apply(d)
	case kindPosture:
		b.Posture.apply(d)
	case kindRisk:
		b.Risk.apply(d)
	}
}

// put writes documents and applies them here at once.
func (b *Broker) put(ctx context.Context, docs ...state.Doc) error {
	out, err := b.deps.State.Put(ctx, docs...)
	if err != nil {
		return err
	}
	for i := range out {
		b.apply(&out[i])
	}
	return nil
}

// record writes an event of this package.
func (b *Broker) record(ctx context.Context, e warder.Event) error {
	e.ID, e.Time = warder.NewID(b.deps.Now()), b.deps.Now().UTC()
	if err := b.deps.Record(ctx, e); err != nil {
		return fmt.Errorf("write the audit trail: %w", err)
	}
	return nil
}

// note writes an event of the path of a call.
func (b *Broker) note(ctx context.Context, e warder.Event) error {
	e.ID, e.Time = warder.NewID(b.deps.Now()), b.deps.Now().UTC()
	if err := b.deps.Note(ctx, e); err != nil {
		return fmt.Errorf("write the audit trail: %w", err)
	}
	return nil
}

func encode(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return body, nil
}
