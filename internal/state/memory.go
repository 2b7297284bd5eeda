package state

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// maxList is the most documents one List returns.
const maxList = 1000

// tombstones are kept this long.
const tombstones = time.Hour

// A Memory is a store in this process: nothing survives it.
type Memory struct {
	now func() time.Time

	mu       sync.Mutex
	seq      int64
	docs     map[[2]string]Doc
	deleted  map[[2]string]time.Time
	watchers map[chan struct{}]struct{}
	seen     map[string]time.Time // ids of Add, with their end
	swept    time.Time
}

var (
	_ Store   = (*Memory)(nil)
	_ Replays = (*Memory)(nil)
)

// NewMemory returns an empty store. now is the clock, nil for time.Now.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	return &Memory{
		now: now, docs: map[[2]string]Doc{}, deleted: map[[2]string]time.Time{},
		watchers: map[chan struct{}]struct{}{}, seen: map[string]time.Time{},
	}
}

// live returns a document that exists at this moment.
func (m *Memory) live(kind, id string) (Doc, bool) {
	d, ok := m.docs[[2]string{kind, id}]
	if !ok || d.Deleted || !d.NotAfter.IsZero() && !m.now().Before(d.NotAfter) {
		return Doc{}, false
	}
	d.Body = bytes.Clone(d.Body)
	return d, true
}

// Get implements Store.
func (m *Memory) Get(_ context.Context, kind, id string) (Doc, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.live(kind, id)
	if !ok {
		return Doc{}, fmt.Errorf("%s %q: %w", kind, id, ErrNotFound)
	}
	return d, nil
}

// Put implements Store.
func (m *Memory) Put(_ context.Context, docs ...Doc) ([]Doc, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range docs {
		d := &docs[i]
		if d.Kind == "" || d.ID == "" || len(d.Body) > MaxBody {
			return nil, fmt.Errorf("%s %q: no kind, no id or a body over %d bytes", d.Kind, d.ID, MaxBody)
		}
		if there, _ := m.live(d.Kind, d.ID); there.Version != d.Version {
			return nil, fmt.Errorf("%s %q: %w", d.Kind, d.ID, ErrConflict)
		}
	}
	out := slices.Clone(docs)
	for i := range out {
		d := &out[i]
		m.seq++
		d.Seq, d.Deleted, d.Body = m.seq, false, bytes.Clone(d.Body)
		d.Version++
		m.docs[[2]string{d.Kind, d.ID}] = *d
	}
	m.hint()
	return out, nil
}

// Take implements Store.
func (m *Memory) Take(_ context.Context, kind, id string) (Doc, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.live(kind, id)
	if !ok {
		return Doc{}, fmt.Errorf("%s %q: %w", kind, id, ErrNotFound)
	}
	m.remove(kind, id)
	return d, nil
}

// Delete implements Store.
func (m *Memory) Delete(_ context.Context, kind, id string, version int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.live(kind, id)
	switch {
	case !ok:
		return fmt.Errorf("%s %q: %w", kind, id, ErrNotFound)
	case version != 0 && version != d.Version:
		return fmt.Errorf("%s %q: %w", kind, id, ErrConflict)
	}
	m.remove(kind, id)
	return nil
}

// remove leaves a tombstone, and sweeps old ones.
func (m *Memory) remove(kind, id string) {
	now := m.now()
	key := [2]string{kind, id}
	m.seq++
	d := m.docs[key]
	m.docs[key] = Doc{Kind: kind, ID: id, Owner: d.Owner, Topic: d.Topic, Seq: m.seq, Deleted: true}
	m.deleted[key] = now.Add(tombstones)
	for k, end := range m.deleted {
		if now.Before(end) {
			continue
		}
		if m.docs[k].Deleted {
			delete(m.docs, k)
		}
		delete(m.deleted, k)
	}
	m.hint()
}

// List implements Store.
func (m *Memory) List(_ context.Context, q Query) ([]Doc, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Doc
	for key := range m.docs {
		d, ok := m.live(key[0], key[1])
		if ok && d.Kind == q.Kind && d.ID > q.After && (q.Owner == "" || d.Owner == q.Owner) && (q.Topic == "" || d.Topic == q.Topic) {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b Doc) int { return cmp.Compare(a.ID, b.ID) })
	limit := maxList
	if q.Limit > 0 {
		limit = min(limit, q.Limit)
	}
	return out[:min(len(out), limit)], nil
}

// Changes implements Store.
func (m *Memory) Changes(_ context.Context, after int64, limit int) ([]Doc, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Doc
	for _, d := range m.docs {
		if d.Seq > after {
			d.Body = bytes.Clone(d.Body)
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b Doc) int { return cmp.Compare(a.Seq, b.Seq) })
	return out[:min(len(out), limit)], nil
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	m.mu.Lock()
	m.watchers[c] = struct{}{}
	m.mu.Unlock()
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		delete(m.watchers, c)
		m.mu.Unlock()
	})
	return c
}

func (m *Memory) hint() {
	for c := range m.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Add implements Replays.
func (m *Memory) Add(_ context.Context, id string, until time.Time) (bool, error) {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if end, known := m.seen[id]; known && now.Before(end) {
		return false, nil
	}
	if now.Sub(m.swept) > time.Minute {
		m.swept = now
		for k, end := range m.seen {
			if !now.Before(end) {
				delete(m.seen, k)
			}
		}
	}
	m.seen[id] = until
	return true, nil
}
