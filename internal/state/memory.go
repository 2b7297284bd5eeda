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

// sweepEvery is how often a Memory forgets what has ended.
const sweepEvery = time.Minute

// A Memory is a store in this process: nothing survives it.
type Memory struct {
	now func() time.Time

	mu       sync.Mutex
	seq      int64
	docs     map[[2]string]Doc
	watchers map[chan struct{}]struct{}
	seen     map[string]time.Time // ids of Add, with their end
	forgot   time.Time
	swept    time.Time
	gone     map[[2]string]time.Time // when deleted and ended documents are forgotten
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
		now: now, docs: map[[2]string]Doc{}, gone: map[[2]string]time.Time{},
		watchers: map[chan struct{}]struct{}{}, seen: map[string]time.Time{},
	}
}

// live returns a document that exists at this moment.
func (m *Memory) live(kind, id string) (Doc, bool) {
	d, ok := m.docs[[2]string{kind, id}]
	if !ok || d.Ended(m.now()) {
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
	if err := CheckAll(docs); err != nil {
		return nil, err
	}
	for i := range docs {
		d := &docs[i]
		if there, _ := m.live(d.Kind, d.ID); there.Version != d.Version {
			return nil, fmt.Errorf("%s %q: %w", d.Kind, d.ID, ErrConflict)
		}
	}
	m.sweep()
	out := slices.Clone(docs)
	for i := range out {
		d := &out[i]
		m.seq++
		d.Seq, d.Version, d.Deleted, d.Body = m.seq, m.seq, false, bytes.Clone(d.Body)
		key := [2]string{d.Kind, d.ID}
		m.docs[key] = cloned(*d)
		delete(m.gone, key)
		if !d.NotAfter.IsZero() {
			m.gone[key] = d.NotAfter.Add(Tombstones)
		}
	}
	if len(out) > 0 {
		m.hint()
	}
	return out, nil
}

func cloned(d Doc) Doc {
	d.Body = bytes.Clone(d.Body)
	return d
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

// remove leaves a tombstone.
func (m *Memory) remove(kind, id string) {
	m.sweep()
	key := [2]string{kind, id}
	m.seq++
	d := m.docs[key]
	m.docs[key] = Doc{Kind: kind, ID: id, Owner: d.Owner, Topic: d.Topic, Version: m.seq, Seq: m.seq, Deleted: true}
	m.gone[key] = m.now().Add(Tombstones)
	m.hint()
}

// sweep forgets what was deleted or has ended long ago.
func (m *Memory) sweep() {
	now := m.now()
	if now.Sub(m.forgot) < sweepEvery {
		return
	}
	m.forgot = now
	for key, end := range m.gone {
		if !now.Before(end) {
			delete(m.docs, key)
			delete(m.gone, key)
		}
	}
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
	return out[:min(len(out), bounded(q.Limit))], nil
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
	return out[:min(len(out), bounded(limit))], nil
}

// bounded is the number of documents of an answer for the limit that was asked for.
func bounded(limit int) int {
	if limit <= 0 || limit > MaxList {
		return MaxList
	}
	return limit
}

// Latest implements Store.
func (m *Memory) Latest(context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seq, nil
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
	if end, known := m.seen[id]; known && now.Before(end) || !now.Before(until) {
		return false, nil
	}
	if now.Sub(m.swept) >= sweepEvery {
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
