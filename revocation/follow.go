package revocation

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/warder-mcp/warder/internal/state"
)

const (
	pollEvery  = 250 * time.Millisecond
	pollWithin = 5 * time.Second // for one question to the store
	pruneEvery = 10 * time.Minute
	// reread is the pause after which all is read instead of the changes: well within the time for
	// which the store knows of deletions.
	reread = state.Tombstones / 2
)

// follow keeps the memory current until ctx ends.
func (s *Set) follow(ctx context.Context, hints <-chan struct{}) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	pruned := s.deps.Now()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-hints:
		case <-tick.C:
		}
		err := s.sync(ctx)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil && !failed:
			s.deps.Log.LogAttrs(ctx, slog.LevelError, "cannot follow revocations", slog.Any("error", err))
		case err == nil && failed:
			s.deps.Log.LogAttrs(ctx, slog.LevelInfo, "following revocations again")
		}
		failed = err != nil
		if now := s.deps.Now(); now.Sub(pruned) >= pruneEvery {
			pruned = now
			s.prune(now)
		}
	}
}

// sync takes over what the store has now.
func (s *Set) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pollWithin)
	defer cancel()
	asked := s.deps.Now()
	latest, err := s.deps.State.Latest(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	after := s.after
	s.mu.Unlock()
	if latest < after { // the store was put back to an earlier state: what it does not have is not revoked
		return s.load(ctx, false)
	}
	if s.Age(asked) > reread {
		return s.load(ctx, true)
	}
	for after < latest {
		docs, err := s.deps.State.Changes(ctx, after, 0)
		if err != nil {
			return err
		}
		if len(docs) == 0 { // swept since
			after = latest
		} else {
			after = docs[len(docs)-1].Seq
		}
		s.apply(docs, after)
	}
	s.known(asked)
	return nil
}

// known notes that the memory was complete at a moment.
func (s *Set) known(at time.Time) {
	for {
		last := s.fresh.Load()
		if at.UnixNano() <= last || s.fresh.CompareAndSwap(last, at.UnixNano()) {
			return
		}
	}
}

// load reads everything. With keep, what this gateway wrote while it read stays.
func (s *Set) load(ctx context.Context, keep bool) error {
	asked := s.deps.Now()
	latest, err := s.deps.State.Latest(ctx)
	if err != nil {
		return err
	}
	docs := map[string]*remembered{}
	if err := s.each(ctx, func(d *state.Doc) error {
		docs[d.ID] = s.remember(d)
		return nil
	}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.docs {
		if keep && r.seq > latest && (docs[id] == nil || docs[id].seq < r.seq) {
			docs[id] = r
		}
	}
	s.docs, s.after = docs, latest
	s.publish()
	s.known(asked)
	return nil
}

// remember reads an entry. One that cannot be read revokes everything until somebody looks: it was
// meant to revoke something.
func (s *Set) remember(d *state.Doc) *remembered {
	e, err := decode(d)
	if err != nil {
		s.deps.Log.LogAttrs(context.Background(), slog.LevelError, "everything is revoked, because a revocation cannot be read", slog.Any("error", err))
		e = Entry{Kind: KindAll, Value: "*", At: s.deps.Now(), NotAfter: d.NotAfter, Reason: err.Error(), By: "revocation"}
	}
	return &remembered{e, d.Seq}
}

// each reads all entries of the store.
func (s *Set) each(ctx context.Context, do func(*state.Doc) error) error {
	for q := (state.Query{Kind: docKind}); ; {
		docs, err := s.deps.State.List(ctx, q)
		if err != nil {
			return err
		}
		for i := range docs {
			if err := do(&docs[i]); err != nil {
				return err
			}
		}
		if len(docs) < state.MaxList {
			return nil
		}
		q.After = docs[len(docs)-1].ID
	}
}

func decode(d *state.Doc) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(d.Body, &e); err != nil {
		return e, fmt.Errorf("entry %s: %w", d.ID, err)
	}
	if err := e.check(); err != nil {
		return e, fmt.Errorf("entry %s: %w", d.ID, err)
	}
	return e, nil
}

// apply takes over documents, in whatever order they come: only what is newer than what is known. after
// is the sequence number up to which they are complete, 0 if they are single ones.
func (s *Set) apply(docs []state.Doc, after int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := false
	for i := range docs {
		d := &docs[i]
		if d.Kind != docKind || d.Seq <= s.after {
			continue
		}
		if old := s.docs[d.ID]; old != nil && old.seq >= d.Seq {
			continue
		}
		changed = true
		if d.Deleted {
			delete(s.docs, d.ID)
			continue
		}
		s.docs[d.ID] = s.remember(d)
	}
	s.after = max(s.after, after)
	if changed {
		s.publish()
	}
}

// publish makes what is known current. The caller holds mu.
func (s *Set) publish() {
	old := s.current.Load()
	s.current.Store(build(s.docs, old.generation+1))
	close(old.changed)
}

// prune forgets what has ended. It changes no answer.
func (s *Set) prune(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.docs)
	for id, r := range s.docs {
		if r.entry.ended(now) {
			delete(s.docs, id)
		}
	}
	if len(s.docs) != before {
		s.publish()
	}
}
